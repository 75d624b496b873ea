// SPDX-License-Identifier: Apache-2.0

// Package inject puts a policy into the ARM template that it was made from, and leaves every other byte as it is:
// comments, order, indentation and line ends belong to the template's author.
//
// It works on the template's text alone and trusts nothing of it: what it does not understand is an error, and the
// result is what was asked for or nothing. It evaluates no expression and writes no file.
package inject

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
)

// The properties on the way from a container group to its policy.
const (
	properties   = "properties"
	confidential = "confidentialComputeProperties"
	ccePolicy    = "ccePolicy"
)

// ErrExpression reports that the template computes the policy, so that there is no place to write to.
var ErrExpression = errors.New("the template computes ccePolicy with an expression")

// Policy returns the template with value, a base64 text, as the ccePolicy of the resource at path. The path is of the
// form $.resources[0]; names are compared without case, as the service does. Properties that are missing on the way to
// ccePolicy are added.
func Policy(template []byte, path, value string) ([]byte, error) {
	out, err := inject(template, path, value)
	if err != nil {
		return nil, fmt.Errorf("writing the policy of %s: %w", path, err)
	}
	return out, nil
}

func inject(template []byte, path, value string) ([]byte, error) {
	if strings.Trim(value, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/=") != "" {
		return nil, errors.New("the policy is not in base64")
	}
	steps, err := parsePath(path)
	if err != nil {
		return nil, err
	}
	s := scanner{data: template}
	s.pos = len(template) - len(bytes.TrimPrefix(template, []byte("\xef\xbb\xbf")))
	for _, step := range steps {
		if err := s.enter(step); err != nil {
			return nil, err
		}
	}
	// From here on a missing property is added: the innermost that exists gets the rest.
	for i, name := range []string{properties, confidential, ccePolicy} {
		object := s.pos
		found, err := s.member(name)
		if err != nil {
			return nil, err
		}
		if !found {
			return s.add(object, missing(i, value))
		}
	}
	start, end, err := s.span()
	if err != nil {
		return nil, err
	}
	old := string(template[start:end])
	switch {
	case strings.HasPrefix(old, `"[`) && !strings.HasPrefix(old, `"[[`):
		return nil, fmt.Errorf("%w, %s: write to where its value comes from", ErrExpression, old)
	case old[0] != '"' && old != "null":
		return nil, fmt.Errorf("ccePolicy is %.20s, expected a string", old)
	}
	return splice(template, start, end, `"`+value+`"`), nil
}

// missing is the text of the properties from the given one inwards.
func missing(from int, value string) string {
	text := `"` + ccePolicy + `": "` + value + `"`
	if from < 2 {
		text = `"` + confidential + `": {` + text + `}`
	}
	if from < 1 {
		text = `"` + properties + `": {` + text + `}`
	}
	return text
}

func splice(data []byte, start, end int, text string) []byte {
	out := make([]byte, 0, len(data)-(end-start)+len(text))
	out = append(out, data[:start]...)
	out = append(out, text...)
	return append(out, data[end:]...)
}

// add puts a member first into the object that begins at pos, laid out like the one that is first now.
func (s *scanner) add(pos int, text string) ([]byte, error) {
	s.pos = pos + 1
	if err := s.space(); err != nil {
		return nil, err
	}
	if s.peek() == '}' {
		return splice(s.data, pos+1, pos+1, text), nil
	}
	layout := s.data[pos+1 : s.pos]
	if bytes.ContainsAny(layout, "/") { // a comment: repeat the indentation alone
		if i := bytes.LastIndexByte(layout, '\n'); i >= 0 {
			layout = layout[i:]
		} else {
			layout = nil
		}
	}
	return splice(s.data, pos+1, pos+1, string(layout)+text+","), nil
}
