// SPDX-License-Identifier: Apache-2.0

package client

import (
	"encoding/json"
	"fmt"
	"net/http"
	"regexp"
	"strings"
	"unicode"
)

// Error is a vault's refusal.
type Error struct {
	// Status is the HTTP status.
	Status int
	// Code, Inner and Message are what the vault said; empty when it said nothing.
	Code, Inner, Message string
	// Release is the ID of a release that was denied, under which an operator finds why.
	Release string
	// Authorization and Resource say where the vault wants tokens to be from, and for what, when there was none.
	Authorization, Resource string
}

// Error returns what the vault said.
func (e *Error) Error() string {
	if e.Code == "" {
		return fmt.Sprintf("the vault answers %d %s", e.Status, http.StatusText(e.Status))
	}
	return fmt.Sprintf("the vault refuses: %s: %s", e.Code, e.Message)
}

var (
	challenge = regexp.MustCompile(`(authorization|resource)="([^"]{1,512})"`)
	releaseID = regexp.MustCompile(`^[0-9a-f]{32}$`)
)

// readError reads a refusal: {"error":{code,message,innererror{code}}}, and the challenge of a 401.
func readError(resp *http.Response, body []byte) *Error {
	e := &Error{Status: resp.StatusCode}
	var wire struct {
		Error struct {
			Code    string `json:"code"`
			Message string `json:"message"`
			Inner   struct {
				Code string `json:"code"`
			} `json:"innererror"`
		} `json:"error"`
	}
	if json.Unmarshal(body, &wire) == nil {
		e.Code, e.Message, e.Inner = clean(wire.Error.Code), clean(wire.Error.Message), clean(wire.Error.Inner.Code)
	}
	if id := resp.Header.Get(ReleaseHeader); releaseID.MatchString(id) {
		e.Release = id
	}
	for _, m := range challenge.FindAllStringSubmatch(resp.Header.Get("WWW-Authenticate"), 2) {
		if m[1] == "resource" {
			e.Resource = clean(m[2])
		} else {
			e.Authorization = clean(m[2])
		}
	}
	return e
}

// maxText bounds what is taken over of a vault's words in bytes.
const maxText = 1000

// clean makes a vault's words safe to print: in one line, without control characters, and not endless.
func clean(s string) string {
	s = strings.ToValidUTF8(s[:min(len(s), maxText)], "")
	return strings.Map(func(r rune) rune {
		if unicode.IsSpace(r) {
			return ' '
		}
		if !unicode.IsPrint(r) {
			return -1
		}
		return r
	}, s)
}
