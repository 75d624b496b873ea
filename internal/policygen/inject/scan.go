// SPDX-License-Identifier: Apache-2.0

package inject

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// maxDepth bounds nesting, and with it recursion.
const maxDepth = 100

// step is one part of a path: the name of a member, or the index of an item if the name is empty.
type step struct {
	name  string
	index int
}

// parsePath reads $.name, ["name"] and [0], in any sequence.
func parsePath(path string) ([]step, error) {
	bad := fmt.Errorf("%q is not a path from $", path)
	rest, ok := strings.CutPrefix(path, "$")
	if !ok {
		return nil, bad
	}
	var steps []step
	for rest != "" {
		var s step
		switch {
		case strings.HasPrefix(rest, `["`):
			quoted, err := strconv.QuotedPrefix(rest[1:])
			if err != nil {
				return nil, bad
			}
			s.name, err = strconv.Unquote(quoted)
			if err != nil || s.name == "" {
				return nil, bad
			}
			rest, ok = strings.CutPrefix(rest[1+len(quoted):], "]")
		case rest[0] == '[':
			var digits string
			digits, rest, ok = strings.Cut(rest[1:], "]")
			n, err := strconv.ParseUint(digits, 10, 31)
			if err != nil {
				return nil, bad
			}
			s.index = int(n)
		case rest[0] == '.':
			end := strings.IndexAny(rest[1:], ".[")
			if end < 0 {
				end = len(rest) - 1
			}
			s.name, rest = rest[1:1+end], rest[1+end:]
			ok = s.name != ""
		default:
			ok = false
		}
		if !ok {
			return nil, bad
		}
		steps = append(steps, s)
	}
	return steps, nil
}

// scanner walks through JSON with comments.
type scanner struct {
	data []byte
	pos  int
}

func (s *scanner) errorf(format string, args ...any) error {
	line := 1 + bytes.Count(s.data[:min(s.pos, len(s.data))], []byte("\n"))
	return fmt.Errorf("line %d: %s", line, fmt.Sprintf(format, args...))
}

func (s *scanner) peek() byte {
	if s.pos < len(s.data) {
		return s.data[s.pos]
	}
	return 0
}

// space skips white space and comments.
func (s *scanner) space() error {
	for s.pos < len(s.data) {
		rest := s.data[s.pos:]
		switch {
		case bytes.IndexByte([]byte(" \t\r\n"), rest[0]) >= 0:
			s.pos++
		case bytes.HasPrefix(rest, []byte("//")):
			if n := bytes.IndexByte(rest, '\n'); n >= 0 {
				s.pos += n
			} else {
				s.pos = len(s.data)
			}
		case bytes.HasPrefix(rest, []byte("/*")):
			n := bytes.Index(rest[2:], []byte("*/"))
			if n < 0 {
				return s.errorf("a comment does not end")
			}
			s.pos += n + 4
		default:
			return nil
		}
	}
	return nil
}

// take skips space and one character that must be there.
func (s *scanner) take(c byte) error {
	if err := s.space(); err != nil {
		return err
	}
	if s.peek() != c {
		return s.errorf("expected %q", c)
	}
	s.pos++
	return s.space()
}

// text reads a string.
func (s *scanner) text() (string, error) {
	start := s.pos
	if s.peek() != '"' {
		return "", s.errorf("expected a string")
	}
	for s.pos++; s.pos < len(s.data); s.pos++ {
		switch s.data[s.pos] {
		case '\\':
			s.pos++
		case '"':
			s.pos++
			var v string
			if err := json.Unmarshal(s.data[start:s.pos], &v); err != nil {
				return "", s.errorf("%v", err)
			}
			return v, nil
		}
	}
	return "", s.errorf("a string does not end")
}

// skip passes over one value.
func (s *scanner) skip(depth int) error {
	if depth > maxDepth {
		return s.errorf("nested more than %d deep", maxDepth)
	}
	switch c := s.peek(); c {
	case '"':
		_, err := s.text()
		return err
	case '{', '[':
		return s.each(func(string, int) (bool, error) { return false, s.skip(depth + 1) })
	}
	start := s.pos
	for s.pos < len(s.data) && bytes.IndexByte([]byte(",]} \t\r\n/"), s.data[s.pos]) < 0 {
		s.pos++
	}
	if !json.Valid(s.data[start:s.pos]) {
		return s.errorf("expected a value")
	}
	return nil
}

// errStop ends a walk at the value that was searched.
var errStop = errors.New("found")

// each visits what an object or a list holds. The visitor stands at a value and passes over it, unless it stops.
func (s *scanner) each(visit func(name string, index int) (stop bool, err error)) error {
	object := s.peek() == '{'
	end := byte(']')
	if object {
		end = '}'
	}
	s.pos++
	for i := 0; ; i++ {
		if err := s.space(); err != nil {
			return err
		}
		if s.peek() == end && i == 0 {
			break
		}
		name := ""
		if object {
			var err error
			if name, err = s.text(); err != nil {
				return err
			}
			if err = s.take(':'); err != nil {
				return err
			}
		}
		stop, err := visit(name, i)
		if err != nil {
			return err
		}
		if stop {
			return errStop
		}
		if err := s.space(); err != nil {
			return err
		}
		if s.peek() == end {
			break
		}
		if s.peek() != ',' {
			return s.errorf("expected a comma or %q", end)
		}
		s.pos++
	}
	s.pos++
	return nil
}

// member moves from an object to the value of its member, if it has one.
func (s *scanner) member(name string) (bool, error) {
	if s.peek() != '{' {
		return false, s.errorf("expected an object with %s", name)
	}
	err := s.each(func(key string, _ int) (bool, error) {
		if strings.EqualFold(key, name) {
			return true, nil
		}
		return false, s.skip(0)
	})
	if errors.Is(err, errStop) {
		return true, nil
	}
	return false, err
}

// enter moves along one step of a path.
func (s *scanner) enter(step step) error {
	if err := s.space(); err != nil {
		return err
	}
	if step.name != "" {
		found, err := s.member(step.name)
		if err == nil && !found {
			err = s.errorf("there is no %s", step.name)
		}
		return err
	}
	if s.peek() != '[' {
		return s.errorf("expected a list")
	}
	err := s.each(func(_ string, i int) (bool, error) {
		if i == step.index {
			return true, nil
		}
		return false, s.skip(0)
	})
	if errors.Is(err, errStop) {
		return nil
	}
	if err == nil {
		err = s.errorf("the list has no item %d", step.index)
	}
	return err
}

// span returns where the value at hand begins and ends.
func (s *scanner) span() (start, end int, err error) {
	start = s.pos
	err = s.skip(0)
	return start, s.pos, err
}
