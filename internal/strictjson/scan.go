// SPDX-License-Identifier: Apache-2.0

package strictjson

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
)

// scanner reads JSON (RFC 8259) in one pass and without copying, where encoding/json reads each byte several times: most
// of what is read is a few long strings that hold evidence. A test compares it with that package.
type scanner struct {
	b []byte
	i int
}

var errEnd = errors.New("it ends too early")

// peek returns the next byte, or zero at the end.
func (s *scanner) peek() byte {
	if s.i == len(s.b) {
		return 0
	}
	return s.b[s.i]
}

func (s *scanner) space() {
	for s.i < len(s.b) {
		switch s.b[s.i] {
		case ' ', '\t', '\r', '\n':
			s.i++
		default:
			return
		}
	}
}

// take reads one byte that must be there.
func (s *scanner) take(c byte) error {
	if s.peek() != c {
		return fmt.Errorf("want %q", c)
	}
	s.i++
	return nil
}

// value reads any value.
func (s *scanner) value(depth int) error {
	switch c := s.peek(); {
	case c == '{':
		return s.object(depth, Object{})
	case c == '[':
		return s.array(depth)
	case c == '"':
		_, err := s.text()
		return err
	case c == '-' || '0' <= c && c <= '9':
		return s.number()
	}
	for _, word := range []string{"true", "false", "null"} {
		if bytes.HasPrefix(s.b[s.i:], []byte(word)) {
			s.i += len(word)
			return nil
		}
	}
	return errors.New("want a value")
}

// object reads an object into o.
func (s *scanner) object(depth int, o Object) error {
	if depth >= maxDepth {
		return fmt.Errorf("it is nested deeper than %d", maxDepth)
	}
	s.i++ // the brace
	if s.space(); s.peek() == '}' {
		s.i++
		return nil
	}
	for {
		s.space()
		name, err := s.name()
		if err != nil {
			return err
		}
		if _, twice := o[name]; twice {
			return fmt.Errorf("key %q occurs twice", name)
		}
		s.space()
		if err := s.take(':'); err != nil {
			return err
		}
		s.space()
		begin := s.i
		if err := s.value(depth + 1); err != nil {
			return err
		}
		o[name] = json.RawMessage(s.b[begin:s.i:s.i])
		if s.space(); s.peek() == ',' {
			s.i++
			continue
		}
		return s.take('}')
	}
}

func (s *scanner) array(depth int) error {
	if depth >= maxDepth {
		return fmt.Errorf("it is nested deeper than %d", maxDepth)
	}
	s.i++ // the bracket
	if s.space(); s.peek() == ']' {
		s.i++
		return nil
	}
	for {
		s.space()
		if err := s.value(depth + 1); err != nil {
			return err
		}
		if s.space(); s.peek() == ',' {
			s.i++
			continue
		}
		return s.take(']')
	}
}

// name reads the name of a member.
func (s *scanner) name() (string, error) {
	if s.peek() != '"' {
		return "", errors.New("want a name")
	}
	raw, err := s.text()
	if err != nil {
		return "", err
	}
	return unquote(raw)
}

// unquote returns what a string means, which is given with its quotes and has no others but in escapes.
func unquote(raw []byte) (string, error) {
	if bytes.IndexByte(raw, '\\') < 0 {
		return string(raw[1 : len(raw)-1]), nil
	}
	var v string
	err := json.Unmarshal(raw, &v)
	return v, err
}

// text reads a string, and returns it with its quotes.
func (s *scanner) text() ([]byte, error) {
	begin := s.i
	for s.i++; s.i < len(s.b); s.i++ {
		switch c := s.b[s.i]; {
		case c == '"':
			s.i++
			return s.b[begin:s.i], nil
		case c < ' ':
			return nil, errors.New("a control character is in a string")
		case c == '\\':
			if err := s.escape(); err != nil {
				return nil, err
			}
		}
	}
	return nil, errEnd
}

// escape reads an escape but for its last byte.
func (s *scanner) escape() error {
	if s.i++; s.i == len(s.b) {
		return errEnd
	}
	switch c := s.b[s.i]; {
	case strings.IndexByte(`"\/bfnrt`, c) >= 0:
		return nil
	case c != 'u' || s.i+4 >= len(s.b):
		return errors.New("an escape is malformed")
	}
	for range 4 {
		s.i++
		if c := s.b[s.i]; (c < '0' || c > '9') && (c < 'a' || c > 'f') && (c < 'A' || c > 'F') {
			return errors.New("an escape is malformed")
		}
	}
	return nil
}

// number reads a number.
func (s *scanner) number() error {
	if s.peek() == '-' {
		s.i++
	}
	if s.peek() == '0' {
		s.i++
	} else if err := s.digits(); err != nil {
		return err
	}
	if s.peek() == '.' {
		s.i++
		if err := s.digits(); err != nil {
			return err
		}
	}
	if c := s.peek(); c == 'e' || c == 'E' {
		s.i++
		if c := s.peek(); c == '+' || c == '-' {
			s.i++
		}
		return s.digits()
	}
	return nil
}

func (s *scanner) digits() error {
	begin := s.i
	for c := s.peek(); '0' <= c && c <= '9'; c = s.peek() {
		s.i++
	}
	if s.i == begin {
		return errors.New("want a digit")
	}
	return nil
}
