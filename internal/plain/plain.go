// SPDX-License-Identifier: Apache-2.0

// Package plain makes text fit for any terminal: ASCII pictures, commands whose words can be told apart, and foreign
// text without control characters.
//
// It trusts none of the text that it is given and never adds an escape sequence.
package plain

import (
	"strconv"
	"strings"
)

var drawing = strings.NewReplacer(
	"└─", "`-", "├─", "|-", "│", "|", "…", "...", "·", "-", "✓", "[ok]", "✗", "[NO]",
)

// Drawing replaces the drawing characters of a verdict's picture by ASCII ones.
func Drawing(s string) string { return drawing.Replace(s) }

// Command writes a command so that its words can be told apart, as a shell would take it.
func Command(words []string) string {
	out := make([]string, len(words))
	for i, w := range words {
		out[i] = w
		if w == "" || strings.ContainsAny(w, " \t\n\"'\\$;&|<>*?()`#") {
			out[i] = strconv.Quote(w)
		}
	}
	return strings.Join(out, " ")
}

// Printable replaces control characters: what a guest or an image says may hold anything, and it goes to a terminal.
func Printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r >= 0x80 && r < 0xa0 {
			return '?'
		}
		return r
	}, s)
}

// Text is Printable for text of several lines.
func Text(s string) string {
	lines := strings.Split(s, "\n")
	for i, line := range lines {
		lines[i] = Printable(strings.ReplaceAll(line, "\t", "    "))
	}
	return strings.Join(lines, "\n")
}
