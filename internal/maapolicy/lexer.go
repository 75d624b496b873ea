// SPDX-License-Identifier: Apache-2.0

package maapolicy

import (
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Position is a place in a policy's text, both from 1. Columns count characters.
type Position struct {
	Line   int `json:"line"`
	Column int `json:"column"`
}

// String returns line and column with a colon between them.
func (p Position) String() string { return fmt.Sprintf("%d:%d", p.Line, p.Column) }

// SyntaxError says where a policy is not one, and why.
type SyntaxError struct {
	Position
	Message string
}

// Error implements error.
func (e *SyntaxError) Error() string { return fmt.Sprintf("%s: %s", e.Position, e.Message) }

func syntaxError(at Position, format string, args ...any) error {
	return &SyntaxError{at, fmt.Sprintf(format, args...)}
}

type tokenKind int

const (
	tokenEnd tokenKind = iota
	tokenName
	tokenString
	tokenNumber
	tokenSymbol
)

// token is one word of a policy. Text is the name, the symbol, the digits, or the string without quotes and escapes.
type token struct {
	kind tokenKind
	text string
	at   Position
}

func (t token) String() string {
	switch t.kind {
	case tokenEnd:
		return "the end of the policy"
	case tokenString:
		return "the string " + StringValue(t.text).String()
	case tokenName, tokenNumber, tokenSymbol:
	}
	return strconv.Quote(t.text)
}

// lexer splits a policy into tokens. It looks at bytes, and counts columns in characters.
type lexer struct {
	text string
	at   Position
}

// symbols, longer ones first.
var symbols = []string{"=>", "==", "!=", "<=", ">=", "&&", "=", "<", ">", "!", "[", "]", "{", "}", "(", ")", ",", ";", ":", "."}

func (l *lexer) advance(n int) {
	for _, r := range l.text[:n] {
		if l.at.Column++; r == '\n' {
			l.at = Position{l.at.Line + 1, 1}
		}
	}
	l.text = l.text[n:]
}

func (l *lexer) skipSpace() {
	for {
		n := len(l.text) - len(strings.TrimLeft(l.text, " \t\r\n"))
		if strings.HasPrefix(l.text[n:], "//") {
			if end := strings.IndexByte(l.text[n:], '\n'); end >= 0 {
				n += end
			} else {
				n = len(l.text)
			}
		}
		if n == 0 {
			return
		}
		l.advance(n)
	}
}

func (l *lexer) next() (token, error) {
	l.skipSpace()
	at := l.at
	if l.text == "" {
		return token{tokenEnd, "", at}, nil
	}
	if c := l.text[0]; c == '"' {
		return l.quoted()
	} else if n := span(l.text, isNameByte); n > 0 && !isDigit(c) {
		return l.take(tokenName, n, at), nil
	} else if isDigit(c) || c == '-' && len(l.text) > 1 && isDigit(l.text[1]) {
		n := 1 + span(l.text[1:], isDigit)
		if n < len(l.text) && isNameByte(l.text[n]) {
			return token{}, syntaxError(at, "%q is no number", l.text[:n+span(l.text[n:], isNameByte)])
		}
		return l.take(tokenNumber, n, at), nil
	}
	for _, s := range symbols {
		if strings.HasPrefix(l.text, s) {
			return l.take(tokenSymbol, len(s), at), nil
		}
	}
	r, _ := utf8.DecodeRuneInString(l.text)
	if r == '“' || r == '”' {
		return token{}, syntaxError(at, "%q is a typographic quotation mark; strings stand between plain ones (\")", r)
	}
	return token{}, syntaxError(at, "%q has no meaning here", r)
}

func (l *lexer) take(kind tokenKind, n int, at Position) token {
	t := token{kind, l.text[:n], at}
	l.advance(n)
	return t
}

// quoted reads a string. A backslash makes a quotation mark or a backslash stand for itself.
func (l *lexer) quoted() (token, error) {
	at := l.at
	var b strings.Builder
	for i := 1; i < len(l.text); i++ {
		switch c := l.text[i]; c {
		case '"':
			l.advance(i + 1)
			return token{tokenString, b.String(), at}, nil
		case '\n':
			return token{}, syntaxError(at, "the string does not end on its line")
		case '\\':
			i++
			if i == len(l.text) || l.text[i] != '"' && l.text[i] != '\\' {
				l.advance(i - 1)
				return token{}, syntaxError(l.at, `a backslash in a string stands before " or \ only`)
			}
			b.WriteByte(l.text[i])
		default:
			b.WriteByte(c)
		}
	}
	return token{}, syntaxError(at, "the string does not end")
}

func span(s string, in func(byte) bool) int {
	n := 0
	for n < len(s) && in(s[n]) {
		n++
	}
	return n
}

func isDigit(c byte) bool { return '0' <= c && c <= '9' }

func isNameByte(c byte) bool {
	return c == '_' || isDigit(c) || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z'
}
