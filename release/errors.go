// SPDX-License-Identifier: Apache-2.0

package release

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"
	"unicode"
)

// Errors that callers tell apart with errors.Is. The first three match an *Error by its status, whichever server it is of.
var (
	// ErrUnauthorized says that a server does not know who asks: the access token is missing, expired or for others.
	ErrUnauthorized = errors.New("the server does not know who asks")
	// ErrForbidden says that whoever asks may not have it, or that a policy refused the evidence.
	ErrForbidden = errors.New("the server refused")
	// ErrNotFound says that the server has no such key.
	ErrNotFound = errors.New("the server has no such thing")
	// ErrUnavailable says that a server could not be asked, or could not answer now.
	ErrUnavailable = errors.New("the server is not available")
	// ErrAnswer says that a server's answer is not what it has to be: badly formed, wrongly signed, or for another request.
	ErrAnswer = errors.New("the server's answer does not hold")
	// ErrEvidence says that the guest's evidence could not be had.
	ErrEvidence = errors.New("no evidence of the guest")
	// ErrRequest says that what was asked for is not well-formed. No server was asked.
	ErrRequest = errors.New("the request is not well-formed")
)

// Server names which of the servers an error is about.
type Server string

// The servers.
const (
	AttestationService Server = "attestation service"
	KeyVault           Server = "key vault"
	IdentityProvider   Server = "identity provider"
)

// Error is a server's refusal, as it told it.
type Error struct {
	// Server and Host say who refused.
	Server Server
	Host   string
	// Status is the HTTP status.
	Status int
	// Code, Inner and Message are what the server said, cut to some hundred bytes. They are empty when it said nothing.
	Code, Inner, Message string
	// Release is the ID under which the operator of the vault of this module finds why a release was refused; else empty.
	Release string

	wait time.Duration
}

// Error returns who refused, and how.
func (e *Error) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s answered %d", e.Server, e.Host, e.Status)
	for _, s := range []string{e.Code, e.Inner, e.Message} {
		if s != "" {
			b.WriteString(": " + s)
		}
	}
	if e.Release != "" {
		b.WriteString(" (release " + e.Release + ")")
	}
	return b.String()
}

// Is matches the errors above by the status.
func (e *Error) Is(target error) bool {
	switch target {
	case ErrUnauthorized:
		return e.Status == http.StatusUnauthorized
	case ErrForbidden:
		return e.Status == http.StatusForbidden || e.Status == http.StatusBadRequest && e.Server == AttestationService
	case ErrNotFound:
		return e.Status == http.StatusNotFound
	case ErrUnavailable:
		return e.Status == http.StatusTooManyRequests || e.Status >= http.StatusInternalServerError
	}
	return false
}

// maxText bounds what is taken over of a server's words, in bytes.
const maxText = 500

// clean makes a server's words safe to print: in one line, without control characters, and not endless.
func clean(s string) string {
	s = strings.Map(func(r rune) rune {
		if r == '\n' || r == '\t' {
			return ' '
		}
		if !unicode.IsPrint(r) {
			return -1
		}
		return r
	}, s[:min(len(s), maxText)])
	return strings.ToValidUTF8(s, "")
}

func wrong(format string, args ...any) error {
	return fmt.Errorf("%w: "+format, append([]any{ErrAnswer}, args...)...)
}

func malformed(format string, args ...any) error {
	return fmt.Errorf("%w: "+format, append([]any{ErrRequest}, args...)...)
}
