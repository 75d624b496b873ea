// SPDX-License-Identifier: Apache-2.0

package lockfile

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"
)

// maxDepth is deeper than either file can be.
const maxDepth = 8

// strict reads one JSON value: UTF-8, of bounded size, without unknown keys, and without keys that are given twice or
// differ by case alone. Objects at the depth of references have references as keys, which case does tell apart.
func strict(data []byte, references int, to any) error {
	switch {
	case len(data) > MaxSize:
		return fmt.Errorf("file has %d bytes, at most %d are allowed", len(data), MaxSize)
	case !utf8.Valid(data):
		return errors.New("file is not UTF-8")
	}
	if err := uniqueKeys(json.NewDecoder(bytes.NewReader(data)), references, "", 0); err != nil {
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return err
	}
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if err := d.Decode(to); err != nil {
		return err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return errors.New("something follows the document")
	}
	return nil
}

// uniqueKeys walks through one value. The place is for messages.
func uniqueKeys(d *json.Decoder, references int, place string, depth int) error {
	if depth > maxDepth {
		return fmt.Errorf("%s: nested more than %d deep", place, maxDepth)
	}
	t, err := d.Token()
	if err != nil {
		return err
	}
	open, ok := t.(json.Delim)
	if !ok {
		return nil
	}
	seen := map[string]bool{}
	for d.More() {
		inner := place + "[]"
		if open == '{' {
			key, err := d.Token()
			if err != nil {
				return err
			}
			name, _ := key.(string) // the decoder gives no other keys
			inner = strings.TrimPrefix(place+"."+name, ".")
			if depth != references {
				name = strings.ToLower(name)
			}
			if seen[name] {
				return fmt.Errorf("%s is given twice", inner)
			}
			seen[name] = true
		}
		if err := uniqueKeys(d, references, inner, depth+1); err != nil {
			return err
		}
	}
	_, err = d.Token()
	return err
}
