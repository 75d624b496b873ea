// SPDX-License-Identifier: Apache-2.0

package armexpr

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"

	"cofferdam.dev/internal/spec/doc"
)

func arrayFunc(a []*doc.Value) (*doc.Value, error) {
	if a[0].Kind == doc.Array {
		return a[0], nil
	}
	return doc.List(a[0]), nil
}

func createObject(a []*doc.Value) (*doc.Value, error) {
	if len(a)%2 != 0 {
		return nil, errors.New("a key has no value")
	}
	o := &doc.Value{Kind: doc.Object}
	for i := 0; i < len(a); i += 2 {
		key, err := stringOf(a[i])
		if err != nil {
			return nil, err
		}
		if o.Fold(key) != nil {
			return nil, fmt.Errorf("key %q is given twice", key)
		}
		o.Members = append(o.Members, doc.Member{Key: key, Value: a[i+1]})
	}
	return o, nil
}

func rangeFunc(a []*doc.Value) (*doc.Value, error) {
	start, err := integer(a[0])
	if err != nil {
		return nil, err
	}
	count, err := integer(a[1])
	if err != nil {
		return nil, err
	}
	const far = 1 << 31
	if count < 0 || count > maxRange || start < -far || start > far {
		return nil, fmt.Errorf("a range of %d from %d, at most %d are allowed", count, start, maxRange)
	}
	v := doc.List()
	for i := range count {
		v.Items = append(v.Items, doc.Int(start+i))
	}
	return v, nil
}

func flatten(a []*doc.Value) (*doc.Value, error) {
	out := doc.List()
	for _, v := range a[0].Items {
		if v.Kind != doc.Array {
			return nil, fmt.Errorf("%s stands where a list is needed", v.Kind)
		}
		out.Items = append(out.Items, v.Items...)
	}
	return out, sameKind(doc.Array, a[0])
}

func sameKind(k doc.Kind, list ...*doc.Value) error {
	for _, v := range list {
		if v.Kind != k {
			return fmt.Errorf("%s stands where %s is needed", v.Kind, k)
		}
	}
	return nil
}

func union(a []*doc.Value) (*doc.Value, error) {
	if a[0].Kind == doc.Array {
		out := doc.List()
		for _, v := range a {
			if err := sameKind(doc.Array, v); err != nil {
				return nil, err
			}
			for _, item := range v.Items {
				if !holds(out, item) {
					out.Items = append(out.Items, item)
				}
			}
		}
		return out, nil
	}
	out := &doc.Value{Kind: doc.Object}
	for _, v := range a {
		var err error
		if out, err = merge(out, v); err != nil {
			return nil, err
		}
	}
	return out, nil
}

func holds(list, item *doc.Value) bool {
	return slices.ContainsFunc(list.Items, func(v *doc.Value) bool { return equal(v, item) })
}

// merge lets b's members win over a's; objects within are merged too. What becomes of two lists under one key is not
// documented.
func merge(a, b *doc.Value) (*doc.Value, error) {
	if err := sameKind(doc.Object, a, b); err != nil {
		return nil, err
	}
	out := &doc.Value{Kind: doc.Object, Members: slices.Clone(a.Members)}
	for _, m := range b.Members {
		i := slices.IndexFunc(out.Members, func(o doc.Member) bool { return strings.EqualFold(o.Key, m.Key) })
		if i < 0 {
			out.Members = append(out.Members, m)
			continue
		}
		old := out.Members[i]
		value := m.Value
		switch {
		case old.Key != m.Key:
			return nil, fmt.Errorf("keys %q and %q differ only in case", old.Key, m.Key)
		case old.Value.Kind == doc.Array && value.Kind == doc.Array && !equal(old.Value, value):
			return nil, fmt.Errorf("how two lists under the key %q are united is not known", m.Key)
		case old.Value.Kind == doc.Object && value.Kind == doc.Object:
			var err error
			if value, err = merge(old.Value, value); err != nil {
				return nil, err
			}
		}
		out.Members[i].Value = value
	}
	return out, nil
}

func intersection(a []*doc.Value) (*doc.Value, error) {
	out := &doc.Value{Kind: a[0].Kind}
	if out.Kind != doc.Array && out.Kind != doc.Object {
		return nil, fmt.Errorf("%s stands where a list or an object is needed", out.Kind)
	}
	if err := sameKind(out.Kind, a...); err != nil {
		return nil, err
	}
	for _, item := range a[0].Items {
		missing := func(v *doc.Value) bool { return !holds(v, item) }
		if !slices.ContainsFunc(a[1:], missing) && !holds(out, item) {
			out.Items = append(out.Items, item)
		}
	}
	for _, m := range a[0].Members {
		differs := func(v *doc.Value) bool { w := v.Get(m.Key); return w == nil || !equal(w, m.Value) }
		if !slices.ContainsFunc(a[1:], differs) {
			out.Members = append(out.Members, m)
		}
	}
	return out, nil
}

// items lists the members of an object, ordered by key.
func items(a []*doc.Value) (*doc.Value, error) {
	if err := sameKind(doc.Object, a[0]); err != nil {
		return nil, err
	}
	members := slices.Clone(a[0].Members)
	for _, m := range members {
		if !plainText(strings.ToLower(m.Key)) {
			return nil, fmt.Errorf("the order of keys such as %q is not known offline", m.Key)
		}
	}
	slices.SortFunc(members, func(x, y doc.Member) int { return cmp.Compare(strings.ToLower(x.Key), strings.ToLower(y.Key)) })
	out := doc.List()
	for _, m := range members {
		out.Items = append(out.Items, &doc.Value{Kind: doc.Object, Members: []doc.Member{
			{Key: "key", Value: doc.Str(m.Key)}, {Key: "value", Value: m.Value},
		}})
	}
	return out, nil
}

func concat(a []*doc.Value) (*doc.Value, error) {
	if len(a) > 0 && a[0].Kind == doc.Array {
		out := doc.List()
		for _, v := range a {
			if err := sameKind(doc.Array, v); err != nil {
				return nil, err
			}
			out.Items = append(out.Items, v.Items...)
		}
		return out, nil
	}
	var b strings.Builder
	for _, v := range a {
		if v.Kind == doc.Array || v.Kind == doc.Object {
			return nil, fmt.Errorf("%s stands among strings", v.Kind)
		}
		s, err := asText(v)
		if err != nil {
			return nil, err
		}
		b.WriteString(s)
	}
	return doc.Str(b.String()), nil
}

func contains(a []*doc.Value) (*doc.Value, error) {
	switch a[0].Kind {
	case doc.Array:
		return doc.Boolean(holds(a[0], a[1])), nil
	case doc.Object:
		key, err := stringOf(a[1])
		return doc.Boolean(a[0].Fold(key) != nil), err
	}
	in, err := stringOf(a[0])
	if err != nil {
		return nil, err
	}
	s, err := asText(a[1])
	return doc.Boolean(strings.Contains(in, s)), err
}

func empty(a []*doc.Value) (*doc.Value, error) {
	switch v := a[0]; v.Kind {
	case doc.Null, doc.String, doc.Array, doc.Object:
		return doc.Boolean(v.Text == "" && len(v.Items) == 0 && len(v.Members) == 0), nil
	default:
		return nil, fmt.Errorf("%s is neither empty nor full", v.Kind)
	}
}

func length(a []*doc.Value) (*doc.Value, error) {
	switch v := a[0]; v.Kind {
	case doc.String:
		return doc.Int(int64(len(units(v.Text)))), nil
	case doc.Array:
		return doc.Int(int64(len(v.Items))), nil
	case doc.Object:
		return doc.Int(int64(len(v.Members))), nil
	default:
		return nil, fmt.Errorf("%s has no length", v.Kind)
	}
}

// units are those in which the service counts characters.
func units(s string) []uint16 { return utf16.Encode([]rune(s)) }

func fromUnits(u []uint16) (*doc.Value, error) {
	s := string(utf16.Decode(u))
	if strings.ContainsRune(s, utf8.RuneError) {
		return nil, errors.New("a character would be cut in half")
	}
	return doc.Str(s), nil
}

func end(first bool) func([]*doc.Value) (*doc.Value, error) {
	return func(a []*doc.Value) (*doc.Value, error) {
		v := a[0]
		switch v.Kind {
		case doc.Array:
			if len(v.Items) == 0 {
				return &doc.Value{}, nil
			}
			if first {
				return v.Items[0], nil
			}
			return v.Items[len(v.Items)-1], nil
		case doc.String:
			u := units(v.Text)
			switch {
			case len(u) == 0:
				return v, nil
			case first:
				return fromUnits(u[:1])
			}
			return fromUnits(u[len(u)-1:])
		}
		return nil, fmt.Errorf("%s has no first or last", v.Kind)
	}
}

// part is take or skip.
func part(take bool) func([]*doc.Value) (*doc.Value, error) {
	return func(a []*doc.Value) (*doc.Value, error) {
		n, err := integer(a[1])
		if err != nil {
			return nil, err
		}
		n = max(n, 0)
		v := a[0]
		switch v.Kind {
		case doc.Array:
			n = min(n, int64(len(v.Items)))
			if take {
				return doc.List(v.Items[:n]...), nil
			}
			return doc.List(v.Items[n:]...), nil
		case doc.String:
			u := units(v.Text)
			n = min(n, int64(len(u)))
			if take {
				return fromUnits(u[:n])
			}
			return fromUnits(u[n:])
		}
		return nil, fmt.Errorf("%s has no parts", v.Kind)
	}
}

// indexOf compares items of a list with regard to case, and strings without.
func indexOf(last bool) func([]*doc.Value) (*doc.Value, error) {
	return func(a []*doc.Value) (*doc.Value, error) {
		var n int
		var matches func(int) bool
		if a[0].Kind == doc.Array {
			n = len(a[0].Items)
			matches = func(i int) bool { return equal(a[0].Items[i], a[1]) }
		} else {
			list, err := stringsOf(a)
			if err != nil {
				return nil, err
			}
			in, s := folded(list[0]), folded(list[1])
			n = max(0, len(in)-len(s)+1)
			matches = func(i int) bool { return slices.Equal(in[i:i+len(s)], s) }
		}
		for i := range n {
			if last {
				i = n - 1 - i
			}
			if matches(i) {
				return doc.Int(int64(i)), nil
			}
		}
		return doc.Int(-1), nil
	}
}

func folded(s string) []uint16 {
	return utf16.Encode([]rune(strings.Map(unicode.ToLower, s)))
}
