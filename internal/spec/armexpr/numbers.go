// SPDX-License-Identifier: Apache-2.0

package armexpr

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"strconv"
	"strings"

	"cofferdam.dev/internal/spec/doc"
)

var (
	errDivision = errors.New("division by zero")
	errOverflow = errors.New("the result does not fit into 64 bits")
)

func arithmetic(operator string) func([]*doc.Value) (*doc.Value, error) {
	return func(a []*doc.Value) (*doc.Value, error) {
		x, err := integer(a[0])
		if err != nil {
			return nil, err
		}
		y, err := integer(a[1])
		if err != nil {
			return nil, err
		}
		p, q, r := big.NewInt(x), big.NewInt(y), new(big.Int)
		switch {
		case operator == "+":
			r.Add(p, q)
		case operator == "-":
			r.Sub(p, q)
		case operator == "*":
			r.Mul(p, q)
		case y == 0:
			return nil, errDivision
		case operator == "/":
			r.Quo(p, q)
		default:
			r.Rem(p, q)
		}
		if !r.IsInt64() {
			return nil, errOverflow
		}
		return doc.Int(r.Int64()), nil
	}
}

// extremum is min or max, of its arguments or of a list.
func extremum(sign int) func([]*doc.Value) (*doc.Value, error) {
	return func(a []*doc.Value) (*doc.Value, error) {
		if len(a) == 1 && a[0].Kind == doc.Array {
			a = a[0].Items
		}
		if len(a) == 0 {
			return nil, errors.New("the list is empty")
		}
		best, err := integer(a[0])
		if err != nil {
			return nil, err
		}
		for _, v := range a[1:] {
			n, err := integer(v)
			if err != nil {
				return nil, err
			}
			if compare(n, best) == sign {
				best = n
			}
		}
		return doc.Int(best), nil
	}
}

func intFunc(a []*doc.Value) (*doc.Value, error) {
	if a[0].Kind == doc.String {
		n, err := strconv.ParseInt(a[0].Text, 10, 64)
		if err != nil {
			return nil, errors.New("the text is no whole number") // which may be a secret: not in the message
		}
		return doc.Int(n), nil
	}
	n, err := integer(a[0])
	return doc.Int(n), err
}

func boolFunc(a []*doc.Value) (*doc.Value, error) {
	v := a[0]
	switch {
	case v.Kind == doc.Bool:
		return v, nil
	case v.Kind == doc.String && (strings.EqualFold(v.Text, "true") || v.Text == "1"):
		return doc.Boolean(true), nil
	case v.Kind == doc.String && (strings.EqualFold(v.Text, "false") || v.Text == "0"):
		return doc.Boolean(false), nil
	case v.Kind == doc.Number:
		n, err := integer(v)
		return doc.Boolean(n != 0), err
	}
	return nil, fmt.Errorf("%s is neither true nor false", v.Kind)
}

func stringFunc(a []*doc.Value) (*doc.Value, error) {
	s, err := asText(a[0])
	return doc.Str(s), err
}

// asText is what string(), concat() and format() make of a value.
func asText(v *doc.Value) (string, error) {
	switch v.Kind {
	case doc.String:
		return v.Text, nil
	case doc.Number:
		_, err := integer(v)
		return v.Text, err
	case doc.Bool:
		if v.True {
			return "True", nil
		}
		return "False", nil
	case doc.Array, doc.Object:
		var b bytes.Buffer
		err := writeJSON(&b, v)
		return b.String(), err
	}
	return "", errors.New("null has no text")
}

// writeJSON writes a value without white space.
func writeJSON(b *bytes.Buffer, v *doc.Value) error {
	switch v.Kind {
	case doc.Array:
		b.WriteByte('[')
		for i, w := range v.Items {
			if i > 0 {
				b.WriteByte(',')
			}
			if err := writeJSON(b, w); err != nil {
				return err
			}
		}
		b.WriteByte(']')
	case doc.Object:
		b.WriteByte('{')
		for i, m := range v.Members {
			if i > 0 {
				b.WriteByte(',')
			}
			if err := writeString(b, m.Key); err != nil {
				return err
			}
			b.WriteByte(':')
			if err := writeJSON(b, m.Value); err != nil {
				return err
			}
		}
		b.WriteByte('}')
	case doc.String:
		return writeString(b, v.Text)
	case doc.Number:
		b.WriteString(v.Text)
	case doc.Bool:
		b.WriteString(strconv.FormatBool(v.True))
	default:
		b.WriteString("null")
	}
	if b.Len() > maxOutput {
		return errors.New("the text is too long")
	}
	return nil
}

func writeString(b *bytes.Buffer, s string) error {
	e := json.NewEncoder(b)
	e.SetEscapeHTML(false)
	if err := e.Encode(s); err != nil {
		return err
	}
	b.Truncate(b.Len() - 1) // the newline
	return nil
}

func jsonFunc(a []*doc.Value) (*doc.Value, error) {
	s, err := stringOf(a[0])
	if err != nil {
		return nil, err
	}
	return parseJSON(s)
}

func parseJSON(s string) (*doc.Value, error) {
	v, err := doc.ParseJSON([]byte(s))
	if err != nil {
		return nil, fmt.Errorf("the text is no JSON: %w", err)
	}
	return v, nil
}
