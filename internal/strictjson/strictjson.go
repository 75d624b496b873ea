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
	"slices"
	"unicode/utf8"
)

// maxDepth bounds the nesting of what is read.
const maxDepth = 16

// Object is one JSON object: its values by their exact keys, each still as JSON.
type Object map[string]json.RawMessage

// Parse reads exactly one object. No object within it may repeat a key, at any depth. The values share the memory of data.
func Parse(data []byte) (Object, error) {
	o, err := parse(data)
	if err != nil {
		return nil, fmt.Errorf("reading JSON: %w", err)
	}
	return o, nil
}

func parse(data []byte) (Object, error) {
	if !utf8.Valid(data) {
		return nil, errors.New("it is not UTF-8")
	}
	s := scanner{b: data}
	if s.space(); s.peek() != '{' {
		return nil, errors.New("it is no object")
	}
	o := Object{}
	if err := s.object(0, o); err != nil {
		return nil, fmt.Errorf("at byte %d: %w", s.i, err)
	}
	if s.space(); s.i != len(data) {
		return nil, errors.New("something follows the value")
	}
	return o, nil
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
	if len(raw) < 2 || raw[0] != '"' {
		return "", fmt.Errorf("%q is not there, or not a string", key)
	}
	s, err := unquote(raw)
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
