// SPDX-License-Identifier: Apache-2.0

package compose

import (
	"fmt"
	"regexp"
	"strings"

	"cofferdam.dev/internal/spec/doc"
)

// text reads a string, or a whole number as one, and puts variables in; empty if there is none.
func (r *reader) text(v *doc.Value, key string) (string, error) {
	w := v.Get(key)
	if w.IsNull() {
		return "", nil
	}
	return r.str(w)
}

var wholeNumber = regexp.MustCompile(`^(?:0|-?[1-9][0-9]*)$`)

func (r *reader) str(w *doc.Value) (string, error) {
	switch {
	case w.Kind == doc.Number && wholeNumber.MatchString(w.Text):
		return w.Text, nil
	case w.Kind != doc.String:
		return "", w.Errorf("%s stands where a string is expected: put it in quotation marks", w.Kind)
	}
	s, err := r.interpolate(w.Text, 0)
	if err != nil {
		return "", w.Errorf("%w", err)
	}
	return s, nil
}

// texts reads a list of strings; a string alone is a list of one.
func (r *reader) texts(v *doc.Value, key string) ([]string, error) {
	w := v.Get(key)
	if w.IsNull() {
		return nil, nil
	}
	list := w.Items
	if w.Kind != doc.Array {
		return nil, w.Errorf("%s is %s, expected a list", key, w.Kind)
	}
	var out []string
	for _, item := range list {
		s, err := r.str(item)
		if err != nil {
			return nil, err
		}
		out = append(out, s)
	}
	return out, nil
}

func truth(v *doc.Value, key string) (bool, error) {
	w := v.Get(key)
	switch {
	case w.IsNull():
		return false, nil
	case w.Kind != doc.Bool:
		return false, w.Errorf("%s is %s, expected true or false", key, w.Kind)
	}
	return w.True, nil
}

var (
	variableName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*`)
	operators    = []string{":-", "-", ":?", "?", ":+", "+"}
)

// maxDefaults bounds variables in the defaults of variables.
const maxDefaults = 10

// maxText bounds a string with its variables put in.
const maxText = 1 << 20

// interpolate puts variables in for $NAME and ${NAME}, with the operators of a shell; $$ stands for $. A variable that
// is not set and has no default is an error: nobody means an empty string by it.
func (r *reader) interpolate(s string, depth int) (string, error) {
	if depth > maxDefaults {
		return "", fmt.Errorf("variables are nested more than %d deep", maxDefaults)
	}
	var b strings.Builder
	for s != "" {
		before, rest, found := strings.Cut(s, "$")
		b.WriteString(before)
		if !found {
			break
		}
		var value string
		var err error
		switch {
		case strings.HasPrefix(rest, "$"):
			value, s = "$", rest[1:]
		case strings.HasPrefix(rest, "{"):
			end := closing(rest)
			if end < 0 {
				return "", fmt.Errorf("${ is not closed in %q", s)
			}
			value, err = r.reference(rest[1:end], depth)
			s = rest[end+1:]
		default:
			name := variableName.FindString(rest)
			if name == "" {
				return "", fmt.Errorf("a lone $ in %q: write $$ for a dollar sign", s)
			}
			value, err = r.reference(name, depth)
			s = rest[len(name):]
		}
		if err != nil {
			return "", err
		}
		if b.WriteString(value); b.Len() > maxText {
			return "", fmt.Errorf("the text is longer than %d bytes", maxText)
		}
	}
	return b.String(), nil
}

// closing finds the brace that closes the first one.
func closing(s string) int {
	depth := 0
	for i := range len(s) {
		switch s[i] {
		case '{':
			depth++
		case '}':
			if depth--; depth == 0 {
				return i
			}
		}
	}
	return -1
}

func (r *reader) reference(s string, depth int) (string, error) {
	name := variableName.FindString(s)
	if name == "" {
		return "", fmt.Errorf("${%s} names no variable", s)
	}
	value, set := "", false
	if r.options.Variable != nil {
		value, set = r.options.Variable(name)
	}
	rest := s[len(name):]
	if rest == "" {
		if !set {
			return "", fmt.Errorf("variable %s is not set here; write $$ where the dollar sign is the container's", name)
		}
		return value, nil
	}
	for _, op := range operators {
		word, ok := strings.CutPrefix(rest, op)
		if !ok {
			continue
		}
		usable := set && (value != "" || op[0] != ':')
		switch op[len(op)-1] {
		case '-':
			if usable {
				return value, nil
			}
			return r.interpolate(word, depth+1)
		case '+':
			if !usable {
				return "", nil
			}
			return r.interpolate(word, depth+1)
		default:
			if !usable {
				return "", fmt.Errorf("variable %s is not set: %s", name, word)
			}
			return value, nil
		}
	}
	return "", fmt.Errorf("${%s} is no form of a variable", s)
}
