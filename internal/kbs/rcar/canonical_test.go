// SPDX-License-Identifier: Apache-2.0

package rcar

import (
	"bytes"
	"crypto/sha512"
	"encoding/hex"
	"encoding/json"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// TestCanonical has the rules of RFC 8785, and the digest that the protocol's reference implementation publishes for one
// document.
func TestCanonical(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		value any
		want  string
	}{
		"nothing":    {nil, `null`},
		"booleans":   {[]any{true, false}, `[true,false]`},
		"integers":   {[]any{int64(0), int64(-1), int64(maxInteger), int64(-maxInteger)}, `[0,-1,9007199254740991,-9007199254740991]`},
		"no members": {map[string]any{}, `{}`},
		"escapes":    {"\u20ac$\u000f\nA'B\"\\\\\"/\b\t\f\r\u007f\u2028<>&", "\"\u20ac$\\u000f\\nA'B\\\"\\\\\\\\\\\"/\\b\\t\\f\\r\u007f\u2028<>&\""},
		// RFC 8785 section 3.2.3, by UTF-16 code units: a surrogate pair sorts before U+FB33.
		"order": {
			map[string]any{"\u20ac": "", "\r": "", "\ufb33": "", "1": "", "\U0001F600": "", "\u0080": "", "\u00f6": ""},
			"{\"\\r\":\"\",\"1\":\"\",\"\u0080\":\"\",\"\u00f6\":\"\",\"\u20ac\":\"\",\"\U0001F600\":\"\",\"\ufb33\":\"\"}",
		},
		"nested": {map[string]any{"b": []any{map[string]any{"d": "", "c": nil}}, "a": "x"}, `{"a":"x","b":[{"c":null,"d":""}]}`},
	} {
		got, err := Canonical(c.value)
		if err != nil || string(got) != c.want {
			t.Errorf("%s: %q, want %q (%v)", name, got, c.want, err)
		}
	}
	doc, err := Canonical(map[string]any{"b": int64(1), "a": "test", "c": map[string]any{"d": "e"}})
	if err != nil {
		t.Fatal(err)
	}
	sum := sha512.Sum384(doc)
	const want = "e71ce8e70d814ba6639c3612ebee0ff1f76f650f8dbb5e47157e0f3f525cd22c4597480a186427c813ca941da78870c3"
	if got := hex.EncodeToString(sum[:]); got != want {
		t.Errorf("the digest of %s is %s", doc, got)
	}
	for name, v := range map[string]any{
		"fraction": 1.5, "float": 1.0, "int": 1, "large": int64(maxInteger + 1), "small": int64(-maxInteger - 1), "not UTF-8": "\xff",
		"name not UTF-8": map[string]any{"\xff": ""}, "within": []any{map[string]any{"a": []any{2.5}}},
	} {
		if got, err := Canonical(v); err == nil {
			t.Errorf("%s: %s", name, got)
		}
	}
}

// TestCanonicalMeansTheSame reads what was written, with another reader, and writes it again.
func TestCanonicalMeansTheSame(t *testing.T) {
	t.Parallel()
	leaf := rapid.OneOf(rapid.Just[any](nil), rapid.Map(rapid.Bool(), func(v bool) any { return v }), rapid.Map(rapid.String(), func(v string) any { return v }),
		rapid.Map(rapid.Int64Range(-maxInteger, maxInteger), func(v int64) any { return v }))
	value := rapid.OneOf(leaf, rapid.Map(rapid.SliceOf(leaf), func(v []any) any { return v }),
		rapid.Map(rapid.MapOf(rapid.String(), leaf), func(v map[string]any) any { return v }))
	rapid.Check(t, func(t *rapid.T) {
		v := value.Draw(t, "value")
		b, err := Canonical(v)
		if err != nil {
			t.Fatal(err)
		}
		dec := json.NewDecoder(bytes.NewReader(b))
		dec.UseNumber()
		var got any
		if err := dec.Decode(&got); err != nil {
			t.Fatalf("%s: %v", b, err)
		}
		got = integers(t, got)
		if diff := cmp.Diff(v, got, cmp.Comparer(func(x, y []any) bool { return cmp.Equal(append([]any{}, x...), append([]any{}, y...)) })); diff != "" {
			t.Fatal(diff)
		}
		again, err := Canonical(got)
		if err != nil || !bytes.Equal(again, b) {
			t.Fatalf("%s became %s (%v)", b, again, err)
		}
	})
}

func integers(t *rapid.T, v any) any {
	switch v := v.(type) {
	case json.Number:
		n, err := v.Int64()
		if err != nil {
			t.Fatal(err)
		}
		return n
	case []any:
		for i := range v {
			v[i] = integers(t, v[i])
		}
	case map[string]any:
		for k := range v {
			v[k] = integers(t, v[k])
		}
	}
	return v
}
