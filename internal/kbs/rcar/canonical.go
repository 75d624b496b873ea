// SPDX-License-Identifier: Apache-2.0

package rcar

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"unicode/utf16"
	"unicode/utf8"
)

// maxInteger is the largest integer that every reader of JSON takes to be the same (RFC 7493 section 2.2).
const maxInteger = 1<<53 - 1

// Canonical returns the one form of a value under the JSON Canonicalization Scheme (RFC 8785). It takes what encoding/json
// makes of JSON, with integers as int64; fractions have no place in this protocol and are an error.
func Canonical(v any) ([]byte, error) {
	b, err := appendCanonical(nil, v)
	if err != nil {
		return nil, fmt.Errorf("making canonical JSON: %w", err)
	}
	return b, nil
}

func appendCanonical(b []byte, v any) ([]byte, error) {
	switch v := v.(type) {
	case nil:
		return append(b, "null"...), nil
	case bool:
		return strconv.AppendBool(b, v), nil
	case int64:
		if v > maxInteger || v < -maxInteger {
			return nil, fmt.Errorf("the number %d is not within 53 bits", v)
		}
		return strconv.AppendInt(b, v, 10), nil
	case string:
		return appendString(b, v)
	case []any:
		return appendArray(b, v)
	case map[string]any:
		return appendObject(b, v)
	}
	return nil, fmt.Errorf("a %T has no form", v)
}

func appendArray(b []byte, list []any) ([]byte, error) {
	b = append(b, '[')
	for i, v := range list {
		if i > 0 {
			b = append(b, ',')
		}
		var err error
		if b, err = appendCanonical(b, v); err != nil {
			return nil, err
		}
	}
	return append(b, ']'), nil
}

// appendObject sorts the members by the UTF-16 code units of their names (RFC 8785 section 3.2.3).
func appendObject(b []byte, o map[string]any) ([]byte, error) {
	names := slices.SortedFunc(maps.Keys(o), func(x, y string) int {
		return slices.Compare(utf16.Encode([]rune(x)), utf16.Encode([]rune(y)))
	})
	b = append(b, '{')
	for i, name := range names {
		if i > 0 {
			b = append(b, ',')
		}
		var err error
		if b, err = appendString(b, name); err != nil {
			return nil, err
		}
		if b, err = appendCanonical(append(b, ':'), o[name]); err != nil {
			return nil, err
		}
	}
	return append(b, '}'), nil
}

// appendString escapes as little as possible, in the shortest way (RFC 8785 section 3.2.2.2).
func appendString(b []byte, s string) ([]byte, error) {
	if !utf8.ValidString(s) {
		return nil, errors.New("a string is not UTF-8")
	}
	const short = "\b\t\n\f\r"
	const names = "btnfr"
	b = append(b, '"')
	for i := range len(s) {
		c := s[i]
		switch {
		case c == '"' || c == '\\':
			b = append(b, '\\', c)
		case c >= ' ':
			b = append(b, c)
		default:
			at := slices.Index([]byte(short), c)
			if at >= 0 {
				b = append(b, '\\', names[at])
			} else {
				b = fmt.Appendf(b, `\u%04x`, c)
			}
		}
	}
	return append(b, '"'), nil
}
