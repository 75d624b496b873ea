// SPDX-License-Identifier: Apache-2.0

package armexpr

import (
	"encoding/base64"
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"unicode/utf8"

	"cofferdam.dev/internal/spec/doc"
)

// text makes a function of one string.
func text(f func(string) (string, error)) func([]*doc.Value) (*doc.Value, error) {
	return func(a []*doc.Value) (*doc.Value, error) {
		s, err := stringOf(a[0])
		if err != nil {
			return nil, err
		}
		s, err = f(s)
		return doc.Str(s), err
	}
}

func toLower(s string) (string, error)  { return strings.ToLower(s), nil }
func toUpper(s string) (string, error)  { return strings.ToUpper(s), nil }
func trim(s string) (string, error)     { return strings.TrimSpace(s), nil }
func toBase64(s string) (string, error) { return base64.StdEncoding.EncodeToString([]byte(s)), nil }

func fromBase64(s string) (string, error) {
	data, err := base64.StdEncoding.Strict().DecodeString(s)
	switch {
	case err != nil:
		return "", errors.New("the text is no base64")
	case !utf8.Valid(data):
		return "", errors.New("the text is not UTF-8")
	}
	return string(data), nil
}

func base64ToJSON(a []*doc.Value) (*doc.Value, error) {
	s, err := stringOf(a[0])
	if err != nil {
		return nil, err
	}
	if s, err = fromBase64(s); err != nil {
		return nil, err
	}
	return parseJSON(s)
}

func uriComponent(s string) (string, error) {
	var b strings.Builder
	for _, c := range []byte(s) {
		if c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.IndexByte("-_.~", c) >= 0 {
			b.WriteByte(c)
		} else {
			fmt.Fprintf(&b, "%%%02X", c)
		}
	}
	return b.String(), nil
}

func uriComponentToString(s string) (string, error) {
	out, err := url.PathUnescape(s)
	switch {
	case err != nil:
		return "", errors.New("the text is no URI component")
	case !utf8.ValidString(out):
		return "", errors.New("the text is not UTF-8")
	}
	return out, nil
}

func uriFunc(a []*doc.Value) (*doc.Value, error) {
	list, err := stringsOf(a)
	if err != nil {
		return nil, err
	}
	base, err := url.Parse(list[0])
	if err != nil || base.Scheme == "" || base.Host == "" {
		return nil, errors.New("the first text is no absolute URI")
	}
	rel, err := url.Parse(list[1])
	if err != nil {
		return nil, errors.New("the second text is no relative URI")
	}
	return doc.Str(base.ResolveReference(rel).String()), nil
}

func replace(a []*doc.Value) (*doc.Value, error) {
	s, err := stringsOf(a)
	if err != nil {
		return nil, err
	}
	if s[1] == "" {
		return nil, errors.New("the text to replace is empty")
	}
	if n := strings.Count(s[0], s[1]); len(s[0])+n*len(s[2]) > maxOutput {
		return nil, errors.New("the text is too long")
	}
	return doc.Str(strings.ReplaceAll(s[0], s[1], s[2])), nil
}

// split has one delimiter or several.
func split(a []*doc.Value) (*doc.Value, error) {
	s, err := stringOf(a[0])
	if err != nil {
		return nil, err
	}
	delimiters, err := stringsOf(doc.List(a[1]).Items)
	if a[1].Kind == doc.Array {
		delimiters, err = stringsOf(a[1].Items)
	}
	if err != nil {
		return nil, err
	}
	out := doc.List()
	for start, i := 0, 0; ; {
		if i >= len(s) {
			out.Items = append(out.Items, doc.Str(s[start:]))
			return out, nil
		}
		n := 0
		for _, d := range delimiters {
			if d != "" && strings.HasPrefix(s[i:], d) {
				n = len(d)
				break
			}
		}
		if n > 0 {
			out.Items = append(out.Items, doc.Str(s[start:i]))
			i += n
			start = i
		} else {
			i++
		}
	}
}

func join(a []*doc.Value) (*doc.Value, error) {
	if err := sameKind(doc.Array, a[0]); err != nil {
		return nil, err
	}
	delimiter, err := stringOf(a[1])
	if err != nil {
		return nil, err
	}
	var parts []string
	size := 0
	for _, v := range a[0].Items {
		s, err := asText(v)
		if err != nil {
			return nil, err
		}
		if size += len(s) + len(delimiter); size > maxOutput {
			return nil, errors.New("the text is too long")
		}
		parts = append(parts, s)
	}
	return doc.Str(strings.Join(parts, delimiter)), nil
}

func substring(a []*doc.Value) (*doc.Value, error) {
	s, err := stringOf(a[0])
	if err != nil {
		return nil, err
	}
	u := units(s)
	start, err := integer(a[1])
	if err != nil {
		return nil, err
	}
	count := int64(len(u)) - start
	if len(a) == 3 {
		if count, err = integer(a[2]); err != nil {
			return nil, err
		}
	}
	if start < 0 || count < 0 || start > int64(len(u)) || count > int64(len(u))-start {
		return nil, fmt.Errorf("%d characters from %d are asked of a string of %d", count, start, len(u))
	}
	return fromUnits(u[start : start+count])
}

// affix is startsWith or endsWith; case does not matter.
func affix(prefix bool) func([]*doc.Value) (*doc.Value, error) {
	return func(a []*doc.Value) (*doc.Value, error) {
		list, err := stringsOf(a)
		if err != nil {
			return nil, err
		}
		s, part := strings.ToLower(list[0]), strings.ToLower(list[1])
		if prefix {
			return doc.Boolean(strings.HasPrefix(s, part)), nil
		}
		return doc.Boolean(strings.HasSuffix(s, part)), nil
	}
}

func padLeft(a []*doc.Value) (*doc.Value, error) {
	s, err := asText(a[0])
	if err != nil {
		return nil, err
	}
	width, err := integer(a[1])
	if err != nil {
		return nil, err
	}
	pad := " "
	if len(a) == 3 {
		if pad, err = stringOf(a[2]); err != nil {
			return nil, err
		}
	}
	const widest = 1 << 16
	if len(units(pad)) != 1 || width < 0 || width > widest {
		return nil, fmt.Errorf("cannot pad to %d with %q", width, pad)
	}
	return doc.Str(strings.Repeat(pad, max(0, int(width)-len(units(s)))) + s), nil
}

// format fills {0} and {0:D2}; {{ and }} stand for braces. Other formats depend on the service's culture.
func format(a []*doc.Value) (*doc.Value, error) {
	in, err := stringOf(a[0])
	if err != nil {
		return nil, err
	}
	var b strings.Builder
	for i := 0; i < len(in); i++ {
		switch {
		case strings.HasPrefix(in[i:], "{{") || strings.HasPrefix(in[i:], "}}"):
			b.WriteByte(in[i])
			i++
		case in[i] == '{':
			end := strings.IndexByte(in[i:], '}')
			if end < 0 {
				return nil, errors.New("a brace is not closed")
			}
			s, err := placeholder(in[i+1:i+end], a[1:])
			if err != nil {
				return nil, err
			}
			b.WriteString(s)
			i += end
		case in[i] == '}':
			return nil, errors.New("a closing brace stands alone")
		default:
			b.WriteByte(in[i])
		}
		if b.Len() > maxOutput {
			return nil, errors.New("the text is too long")
		}
	}
	return doc.Str(b.String()), nil
}

func placeholder(inner string, args []*doc.Value) (string, error) {
	index, spec, formatted := strings.Cut(inner, ":")
	i, err := strconv.ParseUint(index, 10, 16)
	if err != nil || int(i) >= len(args) {
		return "", fmt.Errorf("placeholder {%s} names none of the %d arguments", inner, len(args))
	}
	if !formatted {
		return asText(args[i])
	}
	n, err := integer(args[i])
	digits, ok := strings.CutPrefix(strings.ToUpper(spec), "D")
	width, widthErr := strconv.ParseUint("0"+digits, 10, 8)
	if err != nil || !ok || widthErr != nil {
		return "", fmt.Errorf("format {%s} is not supported", inner)
	}
	sign := ""
	s := strconv.FormatInt(n, 10)
	if n < 0 {
		sign, s = "-", s[1:]
	}
	return sign + strings.Repeat("0", max(0, int(width)-len(s))) + s, nil
}
