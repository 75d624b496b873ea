// SPDX-License-Identifier: Apache-2.0

package spec

import (
	"errors"
	"strings"
)

// SplitWords splits a command as a shell does: at spaces, with quotes and backslashes, and without any expansion.
func SplitWords(s string) ([]string, error) {
	var words []string
	var word strings.Builder
	var quote rune // open quotation mark
	inWord, escaped := false, false
	for _, r := range s {
		switch {
		case escaped:
			if quote == '"' && r != '"' && r != '\\' {
				word.WriteByte('\\')
			}
			word.WriteRune(r)
			escaped = false
		case r == '\\' && quote != '\'':
			escaped, inWord = true, true
		case r == quote:
			quote = 0
		case quote == 0 && (r == '\'' || r == '"'):
			quote, inWord = r, true
		case quote == 0 && (r == ' ' || r == '\t' || r == '\n'):
			if inWord {
				words = append(words, word.String())
				word.Reset()
			}
			inWord = false
		default:
			word.WriteRune(r)
			inWord = true
		}
	}
	switch {
	case quote != 0:
		return nil, errors.New("a quotation is not closed")
	case escaped:
		return nil, errors.New("a backslash is last")
	case inWord:
		words = append(words, word.String())
	}
	return words, nil
}
