// SPDX-License-Identifier: Apache-2.0

package armexpr

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// expr is a node of an expression: a literal, a call, or a member of another.
type expr struct {
	kind exprKind

	text string // of a string, or the name of a function or member
	n    int64  // of a number
	args []*expr

	base  *expr // whose member or item this is
	index *expr
}

type exprKind uint8

const (
	stringExpr exprKind = iota
	numberExpr
	callExpr
	memberExpr
	indexExpr
)

type parser struct {
	in    string
	pos   int
	depth int
}

func parse(in string) (*expr, error) {
	if len(in) > MaxLength {
		return nil, fmt.Errorf("longer than %d characters", MaxLength)
	}
	p := parser{in: in}
	e, err := p.expression()
	if err != nil {
		return nil, err
	}
	if p.space(); p.pos < len(p.in) {
		return nil, p.unexpected("the end")
	}
	return e, nil
}

func (p *parser) space() {
	for p.pos < len(p.in) && strings.IndexByte(" \t\r\n", p.in[p.pos]) >= 0 {
		p.pos++
	}
}

// take skips a character if it comes next.
func (p *parser) take(c byte) bool {
	p.space()
	if p.pos < len(p.in) && p.in[p.pos] == c {
		p.pos++
		return true
	}
	return false
}

func (p *parser) unexpected(want string) error {
	p.space()
	if p.pos >= len(p.in) {
		return fmt.Errorf("ends where %s was expected", want)
	}
	return fmt.Errorf("character %d is %q, expected %s", p.pos+1, p.in[p.pos], want)
}

func (p *parser) expression() (*expr, error) {
	if p.depth++; p.depth > maxDepth {
		return nil, fmt.Errorf("nested more than %d deep", maxDepth)
	}
	defer func() { p.depth-- }()
	e, err := p.primary()
	for err == nil {
		switch {
		case p.take('.'):
			name := p.identifier()
			if name == "" {
				return nil, p.unexpected("the name of a property")
			}
			e = &expr{kind: memberExpr, base: e, text: name}
		case p.take('['):
			var index *expr
			if index, err = p.expression(); err != nil {
				return nil, err
			}
			if !p.take(']') {
				return nil, p.unexpected("a closing bracket")
			}
			e = &expr{kind: indexExpr, base: e, index: index}
		default:
			return e, nil
		}
	}
	return nil, err
}

func (p *parser) primary() (*expr, error) {
	p.space()
	if p.pos >= len(p.in) {
		return nil, p.unexpected("an expression")
	}
	switch c := p.in[p.pos]; {
	case c == '\'':
		s, err := p.str()
		return &expr{kind: stringExpr, text: s}, err
	case c == '-' || c >= '0' && c <= '9':
		return p.number()
	}
	name := p.identifier()
	for name != "" && p.pos < len(p.in) && p.in[p.pos] == '.' { // a function of a namespace
		p.pos++
		part := p.identifier()
		if part == "" {
			return nil, p.unexpected("a name")
		}
		name += "." + part
	}
	switch {
	case name == "":
		return nil, p.unexpected("an expression")
	case !p.take('('):
		return nil, p.unexpected("an opening parenthesis after " + name)
	}
	return p.call(name)
}

func (p *parser) call(name string) (*expr, error) {
	e := &expr{kind: callExpr, text: name}
	if p.take(')') {
		return e, nil
	}
	for {
		arg, err := p.expression()
		if err != nil {
			return nil, err
		}
		e.args = append(e.args, arg)
		switch {
		case p.take(')'):
			return e, nil
		case !p.take(','):
			return nil, p.unexpected("a comma or a closing parenthesis")
		}
	}
}

func (p *parser) identifier() string {
	start := p.pos
	for p.pos < len(p.in) {
		c := p.in[p.pos]
		letter := c == '_' || c == '$' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
		if !letter && (p.pos == start || c < '0' || c > '9') {
			break
		}
		p.pos++
	}
	return p.in[start:p.pos]
}

// str reads a string; two apostrophes stand for one.
func (p *parser) str() (string, error) {
	var b strings.Builder
	for p.pos++; p.pos < len(p.in); p.pos++ {
		if p.in[p.pos] != '\'' {
			b.WriteByte(p.in[p.pos])
			continue
		}
		p.pos++
		if p.pos >= len(p.in) || p.in[p.pos] != '\'' {
			return b.String(), nil
		}
		b.WriteByte('\'')
	}
	return "", errors.New("a string is not closed")
}

func (p *parser) number() (*expr, error) {
	start := p.pos
	if p.in[p.pos] == '-' {
		p.pos++
	}
	for p.pos < len(p.in) && p.in[p.pos] >= '0' && p.in[p.pos] <= '9' {
		p.pos++
	}
	text := p.in[start:p.pos]
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return nil, fmt.Errorf("%q is no whole number", text)
	}
	return &expr{kind: numberExpr, n: n}, nil
}
