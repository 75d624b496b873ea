// SPDX-License-Identifier: Apache-2.0

// Package config reads what the sidecars are told in the form that container groups on Azure have for it: JSON, which
// templates and variables usually carry in base64.
//
// It trusts nothing of what it reads, bounds it, takes no JSON of which two readers could see different things, and never
// says in an error what it has read.
package config

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"cofferdam.dev/internal/strictjson"
)

// Read reads a configuration into v: base64, of either alphabet and possibly in lines, or the JSON itself, of at most limit
// bytes. A member that v has no place for is an error: it would do nothing.
func Read(text string, limit int, v any) error {
	b := []byte(strings.TrimSpace(text))
	if len(b) == 0 {
		return errors.New("it is empty")
	}
	if b[0] != '{' {
		var err error
		if b, err = Base64(strings.Join(strings.Fields(text), "")); err != nil {
			return errors.New("it is neither JSON nor base64")
		}
	}
	if len(b) > limit {
		return fmt.Errorf("it has more than %d bytes", limit)
	}
	if _, err := strictjson.Parse(b); err != nil {
		return err
	}
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.DisallowUnknownFields()
	return dec.Decode(v)
}

// Base64 takes base64 and base64url, each with and without padding: clients of all four exist.
func Base64(s string) ([]byte, error) {
	trimmed := strings.TrimRight(s, "=")
	encoding := base64.RawURLEncoding
	if strings.ContainsAny(trimmed, "+/") {
		encoding = base64.RawStdEncoding
	}
	b, err := encoding.Strict().DecodeString(trimmed)
	if err != nil || len(s)-len(trimmed) > 2 || strings.ContainsAny(s, "\r\n") {
		return nil, errors.New("it is neither base64 nor base64url")
	}
	return b, nil
}
