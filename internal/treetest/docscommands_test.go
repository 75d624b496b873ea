// SPDX-License-Identifier: Apache-2.0

package treetest

import (
	"regexp"
	"slices"
	"strings"
	"testing"
)

// command is a command of the program, as its reference page describes it. That page is made from the program, which a
// test of the program compares.
type command struct {
	flags map[string]bool // name with its dashes, and whether a value follows
	// early says that flags end at the first word that is none: what follows belongs to somebody else's command.
	early bool
}

var (
	flagLine = regexp.MustCompile(`(?m)^ {2,6}(?:(-[a-zA-Z]), )?(--[a-z0-9-]+)(?: ([a-zA-Z]+))? {2,}`)
	section  = regexp.MustCompile(`(?m)^### (cofferdam [a-z ]+)$`)
)

// commandTree reads the reference page.
func commandTree(t *testing.T) map[string]command {
	t.Helper()
	text := page(t, "docs/reference/cli.md")
	general, _, _ := strings.Cut(text, "\n### ")
	common := flagsOf(general)
	common["--help"], common["-h"] = false, false
	tree := map[string]command{}
	at := section.FindAllStringSubmatchIndex(text, -1)
	for i, m := range at {
		end := len(text)
		if i+1 < len(at) {
			end = at[i+1][0]
		}
		body := text[m[1]:end]
		c := command{flags: flagsOf(body), early: strings.Contains(body, " [flags] ")}
		for name, value := range common {
			c.flags[name] = value
		}
		tree[text[m[2]:m[3]]] = c
	}
	if len(tree) < 15 || len(tree["cofferdam run"].flags) < 20 || !tree["cofferdam run"].early {
		t.Fatalf("found %d commands: the reference page is not read right", len(tree))
	}
	return tree
}

func flagsOf(text string) map[string]bool {
	flags := map[string]bool{}
	for _, m := range flagLine.FindAllStringSubmatch(text, -1) {
		flags[m[2]] = m[3] != ""
		if m[1] != "" {
			flags[m[1]] = m[3] != ""
		}
	}
	return flags
}

// fault says what is wrong with a command line of the program, and is empty when nothing is.
func fault(tree map[string]command, words []string) string {
	name, rest := "", words
	for n := min(4, len(words)); n > 1; n-- {
		if _, ok := tree[strings.Join(words[:n], " ")]; ok {
			name, rest = strings.Join(words[:n], " "), words[n:]
			break
		}
	}
	if name == "" {
		return "there is no such command"
	}
	c := tree[name]
	for i := 0; i < len(rest); i++ {
		w := rest[i]
		switch {
		case w == "--" || c.early && !strings.HasPrefix(w, "-"):
			return ""
		case w == "-" || !strings.HasPrefix(w, "-"):
		case strings.HasPrefix(w, "--"):
			flag, _, given := strings.Cut(w, "=")
			value, ok := c.flags[flag]
			if !ok {
				return name + " has no flag " + flag
			}
			if value && !given {
				i++
			}
		default:
			for j, letter := range w[1:] {
				value, ok := c.flags["-"+string(letter)]
				if !ok {
					return name + " has no flag -" + string(letter)
				}
				if value && j == len(w)-2 {
					i++
				}
				if value {
					break
				}
			}
		}
		if i >= len(rest) {
			return name + ": " + w + lacksValue
		}
	}
	return ""
}

const (
	lacksValue = " lacks its value"
	// measuredText is in the simulated launch digest, and only looks like a command.
	measuredText = "cofferdam simulated vcpu v1"
)

var (
	fence    = regexp.MustCompile("(?ms)^```(sh|console)\n(.*?)^```$")
	inline   = regexp.MustCompile("`((?:bin/)?cofferdam [^`\n]+)`")
	quoted   = regexp.MustCompile(`'[^']*'|"[^"]*"`)
	comment  = regexp.MustCompile(`(?m)(^| )#.*$`)
	boundary = regexp.MustCompile(`\|\||&&|[|;()\n]`)
	redirect = regexp.MustCompile(`[0-9]?[<>]+ ?[^ ]*`)
)

// shellLines are the lines that a person types: all of a block of shell, and those behind the prompt of a session.
func shellLines(text string) []string {
	var lines []string
	for _, m := range fence.FindAllStringSubmatch(text, -1) {
		block := strings.ReplaceAll(m[2], "\\\n", " ")
		for line := range strings.Lines(block) {
			line = strings.TrimSpace(line)
			if m[1] == "console" {
				typed, ok := strings.CutPrefix(line, "$ ")
				if !ok {
					continue
				}
				line = typed
			}
			lines = append(lines, line)
		}
	}
	return lines
}

// invocations returns the program's invocations in a line of shell, in words. A quoted text is one word, except that the
// commands within are found, too.
func invocations(line string) [][]string {
	var found [][]string
	for _, q := range regexp.MustCompile(`\$\(([^)]*)\)`).FindAllStringSubmatch(line, -1) {
		found = append(found, invocations(q[1])...)
	}
	line = quoted.ReplaceAllString(regexp.MustCompile(`\$\([^)]*\)`).ReplaceAllString(line, "SUBSTITUTE"), "QUOTED")
	line = comment.ReplaceAllString(line, "")
	for _, part := range boundary.Split(line, -1) {
		words := strings.Fields(redirect.ReplaceAllString(part, " "))
		i := slices.IndexFunc(words, func(w string) bool { return !strings.Contains(w, "=") })
		if i < 0 || words[i] != "cofferdam" && words[i] != "bin/cofferdam" {
			continue
		}
		found = append(found, append([]string{"cofferdam"}, words[i+1:]...))
	}
	return found
}

// TestDocsCommands parses every command of the program that the documentation shows.
func TestDocsCommands(t *testing.T) {
	tree := commandTree(t)
	seen := 0
	for _, s := range sources(t, ".md") {
		for _, line := range shellLines(string(s.data)) {
			for _, words := range invocations(line) {
				seen++
				if why := fault(tree, words); why != "" {
					t.Errorf("%s: %s: %s", s.path, line, why)
				}
			}
		}
		for _, m := range inline.FindAllStringSubmatch(string(s.data), -1) {
			words := strings.Fields(quoted.ReplaceAllString(m[1], "QUOTED"))
			words[0] = "cofferdam"
			if isPlaceholder(words[1]) || m[1] == measuredText {
				continue
			}
			seen++
			why := fault(tree, words)
			if why != "" && !strings.HasSuffix(why, lacksValue) { // a sentence may name a flag alone
				t.Errorf("%s: `%s`: %s", s.path, m[1], why)
			}
		}
	}
	if seen < 100 {
		t.Errorf("found %d commands: the documentation is not read right", seen)
	}
}

// isPlaceholder reports a word that stands for a command: NOUN, an ellipsis.
func isPlaceholder(word string) bool { return strings.Trim(word, "abcdefghijklmnopqrstuvwxyz") != "" }

// TestDocsCommandsBite makes sure that the parser refuses what it should.
func TestDocsCommandsBite(t *testing.T) {
	tree := commandTree(t)
	for line, want := range map[string]string{
		"cofferdam run --rm -it oci:x -- sh --nonsense":                 "",
		"cofferdam run -e A=b -p 1:2 --policy p.rego oci:x sh -q":       "",
		"cofferdam policy generate oci:x | cofferdam policy hash -":     "",
		"A=b cofferdam verify - --nonce \"$(cat nonce)\" -o json < e":   "",
		"cofferdam group stop db && cofferdam group rm db # -x":         "",
		"cofferdam guest frobnicate":                                    "there is no such command",
		"cofferdam run --nonsense oci:x":                                "cofferdam run has no flag --nonsense",
		"cofferdam run -itq oci:x":                                      "cofferdam run has no flag -q",
		"cofferdam verify e --nonce":                                    "cofferdam verify: --nonce lacks its value",
		"cofferdam group ps; cofferdam group exec --memory 1 db -- x":   "cofferdam group exec has no flag --memory",
		"echo \"$(cofferdam guest measure --tea simulated)\" > file":    "cofferdam guest measure has no flag --tea",
		"cofferdam policy generate oci:x --hash # part of the command ": "",
	} {
		got := ""
		calls := invocations(line)
		for _, words := range calls {
			if got == "" {
				got = fault(tree, words)
			}
		}
		if len(calls) == 0 || got != want {
			t.Errorf("%s: %d commands, fault %q, want %q", line, len(calls), got, want)
		}
	}
}
