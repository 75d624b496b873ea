// SPDX-License-Identifier: Apache-2.0

// Package strictjson reads JSON of which every reader must see the same: a key counts only as it is spelt, twice the
// same key is an error, and so is anything after the value.
//
// The decoder of encoding/json folds case and lets the last of several equal keys win, so that two readers can see two
// documents in the same bytes. The package trusts nothing, bounds depth, and never decides what a document means.
package strictjson

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"unicode/utf8"
)

// maxDepth bounds the nesting of what is read.
const maxDepth = 16

// Object is one JSON object: its values by their exact keys, each still as JSON.
type Object map[string]json.RawMessage

// Parse reads exactly one object. No object within it may repeat a key, at any depth.
func Parse(data []byte) (Object, error) {
	if !utf8.Valid(data) {
		return nil, errors.New("reading JSON: it is not UTF-8")
	}
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.UseNumber()
	err := walk(dec, 0)
	if err == nil {
		if _, err = dec.Token(); errors.Is(err, io.EOF) {
			err = nil
		} else {
			err = errors.New("something follows the value")
		}
	}
	if err != nil {
		return nil, fmt.Errorf("reading JSON: %w", err)
	}
	var o Object
	err = json.Unmarshal(data, &o)
	if err == nil && o == nil {
		err = errors.New("it is null")
	}
	if err != nil {
		return nil, fmt.Errorf("reading JSON object: %w", err)
	}
	return o, nil
}

// walk reads one value and refuses repeated keys and deep nesting.
func walk(dec *json.Decoder, depth int) error {
	tok, err := dec.Token()
	if err != nil {
		return err
	}
	open, ok := tok.(json.Delim)
	if !ok {
		return nil
	}
	if depth >= maxDepth {
		return fmt.Errorf("it is nested deeper than %d", maxDepth)
	}
	seen := map[string]bool{}
	for dec.More() {
		if open == '{' {
			key, err := dec.Token()
			if err != nil {
				return err
			}
			name, ok := key.(string)
			if !ok || seen[name] {
				return fmt.Errorf("key %q occurs twice", key)
			}
			seen[name] = true
		}
		if err := walk(dec, depth+1); err != nil {
			return err
		}
	}
	_, err = dec.Token() // the closing delimiter
	return err
}

// Only returns an error when the object has a key that is none of these.
func (o Object) Only(keys ...string) error {
	for key := range o {
		if !slices.Contains(keys, key) {
			return fmt.Errorf("key %q is unknown", key)
		}
	}
	return nil
}

// Has tells whether the object has a key.
func (o Object) Has(key string) bool {
	_, ok := o[key]
	return ok
}

// Text returns the string under a key that must be there.
func (o Object) Text(key string) (string, error) {
	raw := bytes.TrimSpace(o[key])
	if len(raw) == 0 || raw[0] != '"' {
		return "", fmt.Errorf("%q is not there, or not a string", key)
	}
	var s string
	err := json.Unmarshal(raw, &s)
	if err != nil {
		return "", fmt.Errorf("%q: %w", key, err)
	}
	return s, nil
}

// Object returns the object under a key that must be there.
func (o Object) Object(key string) (Object, error) {
	if !o.Has(key) {
		return nil, fmt.Errorf("%q is not there", key)
	}
	inner, err := Parse(o[key])
	if err != nil {
		return nil, fmt.Errorf("%q: %w", key, err)
	}
	return inner, nil
}

// List returns the elements of the array under a key that must be there, at most limit.
func (o Object) List(key string, limit int) ([]json.RawMessage, error) {
	var list []json.RawMessage
	if raw := bytes.TrimSpace(o[key]); len(raw) == 0 || raw[0] != '[' {
		return nil, fmt.Errorf("%q is not there, or not an array", key)
	}
	err := json.Unmarshal(o[key], &list)
	if err == nil && len(list) > limit {
		err = fmt.Errorf("it has %d elements, at most %d are allowed", len(list), limit)
	}
	if err != nil {
		return nil, fmt.Errorf("%q: %w", key, err)
	}
	return list, nil
}
