// SPDX-License-Identifier: Apache-2.0

package doc

import (
	"bytes"
	"encoding/json"
	"errors"
	"strconv"
	"strings"
	"unicode/utf8"
)

// ParseJSON reads one JSON value. Comments in the manner of C are skipped, as ARM templates have them. Keys of an object
// must differ by more than their case: the formats that are written in JSON do not tell them apart.
func ParseJSON(data []byte) (*Value, error) {
	data = bytes.TrimPrefix(data, []byte("\xef\xbb\xbf"))
	switch {
	case len(data) > MaxBytes:
		return nil, errTooLong
	case !utf8.Valid(data):
		return nil, errors.New("document is not UTF-8")
	}
	p := jsonParser{data: data, line: 1}
	p.space()
	v, err := p.value("$", 0)
	if err != nil {
		return nil, err
	}
	p.space()
	if p.pos < len(p.data) {
		return nil, p.errorf("$", "something follows the document")
	}
	return v, nil
}

var errTooLong = errors.New("document is longer than " + strconv.Itoa(MaxBytes) + " bytes")

type jsonParser struct {
	data   []byte
	pos    int
	line   int
	values int
}

func (p *jsonParser) errorf(path, format string, args ...any) error {
	return (&Value{Path: path, Line: p.line}).Errorf(format, args...)
}

// space skips white space and comments.
func (p *jsonParser) space() {
	for p.pos < len(p.data) {
		rest := p.data[p.pos:]
		switch {
		case rest[0] == '\n':
			p.line++
			p.pos++
		case rest[0] == ' ' || rest[0] == '\t' || rest[0] == '\r':
			p.pos++
		case bytes.HasPrefix(rest, []byte("//")):
			end := bytes.IndexByte(rest, '\n')
			if end < 0 {
				end = len(rest)
			}
			p.pos += end
		case bytes.HasPrefix(rest, []byte("/*")):
			end := bytes.Index(rest[2:], []byte("*/"))
			if end < 0 {
				return // reported as an unexpected character
			}
			p.line += bytes.Count(rest[:end+4], []byte("\n"))
			p.pos += end + 4
		default:
			return
		}
	}
}

func (p *jsonParser) peek() byte {
	if p.pos < len(p.data) {
		return p.data[p.pos]
	}
	return 0
}

func (p *jsonParser) value(path string, depth int) (*Value, error) {
	p.values++
	switch {
	case depth > MaxDepth:
		return nil, p.errorf(path, "nested more than %d deep", MaxDepth)
	case p.values > MaxValues:
		return nil, p.errorf(path, "document has more than %d values", MaxValues)
	case p.pos >= len(p.data):
		return nil, p.errorf(path, "document ends where a value was expected")
	}
	v := &Value{Path: path, Line: p.line}
	switch c := p.peek(); {
	case c == '{':
		return v, p.object(v, depth)
	case c == '[':
		return v, p.array(v, depth)
	case c == '"':
		s, err := p.str(path)
		v.Kind, v.Text = String, s
		return v, err
	case c == '-' || c >= '0' && c <= '9':
		return v, p.number(v)
	}
	for word, w := range map[string]Value{"null": {}, "true": {Kind: Bool, True: true}, "false": {Kind: Bool}} {
		if bytes.HasPrefix(p.data[p.pos:], []byte(word)) {
			p.pos += len(word)
			v.Kind, v.True = w.Kind, w.True
			return v, nil
		}
	}
	r, _ := utf8.DecodeRune(p.data[p.pos:])
	return nil, p.errorf(path, "unexpected character %q", r)
}

func (p *jsonParser) object(v *Value, depth int) error {
	v.Kind = Object
	p.pos++
	seen := map[string]bool{}
	for p.space(); p.peek() != '}'; p.space() {
		if len(v.Members) > 0 {
			if p.peek() != ',' {
				return p.errorf(v.Path, "expected a comma or a closing brace")
			}
			p.pos++
			p.space()
		}
		line := p.line
		if p.peek() != '"' {
			return p.errorf(v.Path, "expected a key in quotation marks")
		}
		key, err := p.str(v.Path)
		if err != nil {
			return err
		}
		lower := strings.ToLower(key)
		if seen[lower] {
			return p.errorf(v.Path, "key %q is given twice", key)
		}
		seen[lower] = true
		p.space()
		if p.peek() != ':' {
			return p.errorf(v.Path, "expected a colon after key %q", key)
		}
		p.pos++
		p.space()
		w, err := p.value(memberPath(v.Path, key), depth+1)
		if err != nil {
			return err
		}
		v.Members = append(v.Members, Member{Key: key, Value: w, Line: line})
	}
	p.pos++
	return nil
}

func (p *jsonParser) array(v *Value, depth int) error {
	v.Kind = Array
	p.pos++
	for p.space(); p.peek() != ']'; p.space() {
		if len(v.Items) > 0 {
			if p.peek() != ',' {
				return p.errorf(v.Path, "expected a comma or a closing bracket")
			}
			p.pos++
			p.space()
		}
		w, err := p.value(itemPath(v.Path, len(v.Items)), depth+1)
		if err != nil {
			return err
		}
		v.Items = append(v.Items, w)
	}
	p.pos++
	return nil
}

func (p *jsonParser) str(path string) (string, error) {
	end := p.pos + 1
	for ; end < len(p.data) && p.data[end] != '"'; end++ {
		switch p.data[end] {
		case '\\':
			end++
		case '\n':
			return "", p.errorf(path, "a string is not closed on its line")
		}
	}
	if end >= len(p.data) {
		return "", p.errorf(path, "a string is not closed")
	}
	raw := p.data[p.pos : end+1]
	var s string
	if err := json.Unmarshal(raw, &s); err != nil {
		return "", p.errorf(path, "a string is not valid: %w", err)
	}
	lower := bytes.ToLower(raw)
	if strings.ContainsRune(s, utf8.RuneError) && !bytes.Contains(raw, []byte("\ufffd")) && !bytes.Contains(lower, []byte(`\ufffd`)) {
		return "", p.errorf(path, "a string holds half of a surrogate pair")
	}
	p.pos = end + 1
	return s, nil
}

func (p *jsonParser) number(v *Value) error {
	end := p.pos
	for end < len(p.data) && strings.IndexByte("+-.eE0123456789", p.data[end]) >= 0 {
		end++
	}
	text := p.data[p.pos:end]
	if !json.Valid(text) {
		return p.errorf(v.Path, "%q is no number", text)
	}
	p.pos = end
	v.Kind, v.Text = Number, string(text)
	return nil
}
