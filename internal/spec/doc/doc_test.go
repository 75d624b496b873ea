// SPDX-License-Identifier: Apache-2.0

package doc

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestPlaces(t *testing.T) {
	t.Parallel()
	v, err := ParseJSON([]byte("\xef\xbb\xbf// comment\n{\n \"a\": [1, {\"b c\": /* 2\n */ \"x\\u00e9\"}],\n \"n\": null}"))
	if err != nil {
		t.Fatal(err)
	}
	w := v.Get("a").Items[1].Get("b c")
	if w.Text != "xé" || w.Path != `$.a[1]["b c"]` || w.Line != 4 {
		t.Errorf("%+v", w)
	}
	var at *Error
	if err := w.Errorf("wrong"); !errors.As(err, &at) || err.Error() != `$.a[1]["b c"] (line 4): wrong` {
		t.Errorf("error %v", err)
	}
	long, err := ParseJSON([]byte(`{"uſer": 1, "\u212A": 2}`))
	if err != nil || long.Fold("user") != nil || long.Fold("k") == nil {
		t.Errorf("folding goes beyond lower case: %+v, %v", long, err)
	}
	if !v.Get("n").IsNull() || v.Fold("A") == nil || v.Get("A") != nil || v.Get("x").Get("y") != nil {
		t.Error("members are not found as they should be")
	}
}

// TestLongPaths: paths do not grow with the document.
func TestLongPaths(t *testing.T) {
	t.Parallel()
	key := `{"` + strings.Repeat("k", 300) + `":`
	v, err := ParseJSON([]byte(strings.Repeat(key, 50) + "[[1]]" + strings.Repeat("}", 50)))
	if err != nil {
		t.Fatal(err)
	}
	for v.Kind == Object {
		v = v.Members[0].Value
	}
	if path := v.Items[0].Items[0].Path; len(path) > 2*maxPath || !strings.Contains(path, "…") {
		t.Errorf("path of %d bytes: %.20s", len(path), path)
	}
}

func TestJSONRefusals(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"":                                "ends where a value",
		"{":                               "expected a key",
		`{"a":1,"A":2}`:                   `key "A" is given twice`,
		`{"a" 1}`:                         "expected a colon",
		`{"a":1 "b":2}`:                   "expected a comma",
		`{"a":1,}`:                        "expected a key",
		`[1,]`:                            "unexpected character",
		`[1 2]`:                           "expected a comma",
		`01`:                              `"01" is no number`,
		`1.`:                              "is no number",
		`"a`:                              "not closed",
		"\"a\nb\"":                        "not closed on its line",
		`"\ud800"`:                        "half of a surrogate pair",
		`"\x"`:                            "not valid",
		`nul`:                             "unexpected character",
		`1 2`:                             "something follows",
		"/* open":                         "unexpected character",
		"\"\xff\"":                        "not UTF-8",
		strings.Repeat("[", MaxDepth+2):   "nested more than",
		strings.Repeat(" ", MaxBytes+1):   "longer than",
		"[" + strings.Repeat("1,", 2e5+1): "more than 200000 values",
	} {
		if _, err := ParseJSON([]byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.40q: error %v, want one with %q", text, err, want)
		}
	}
}

func TestYAML(t *testing.T) {
	t.Parallel()
	docs, err := ParseYAML([]byte("---\n# nothing\n---\nbase: &b {x: 1, y: two}\nc:\n  <<: *b\n  x: \"3\"\n---\nz: yes\n"))
	if err != nil || len(docs) != 2 {
		t.Fatalf("%d documents, %v", len(docs), err)
	}
	c := docs[0].Get("c")
	if c.Get("x").Text != "3" || c.Get("x").Kind != String || c.Get("x").Plain || c.Get("y").Text != "two" || !c.Get("y").Plain {
		t.Errorf("%+v", c)
	}
	if z := docs[1].Get("z"); z.Kind != String || !z.Plain || z.Line != 9 {
		t.Errorf("%+v", z)
	}
}

func TestYAMLRefusals(t *testing.T) {
	t.Parallel()
	bomb := "a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n"
	for _, n := range "123456789" {
		previous := string(n - 1)
		bomb += "a" + string(n) + ": &a" + string(n) + " [" + strings.TrimSuffix(strings.Repeat("*a"+previous+",", 10), ",") + "]\n"
	}
	for text, want := range map[string]string{
		"a: 1\na: 2":       `key "a" is given twice`,
		"? [a]\n: 1":       "key is not a string",
		"a: !!binary eA==": "tag !!binary is not supported",
		"a: [":             "reading YAML",
		"<<: 3":            "only mappings can be merged",
		"a: &x [*x]":       "nested more than",
		bomb:               "more than 200000 values",
		strings.Repeat("---\na: 1\n", maxDocuments+1): "more than 1000 documents",
	} {
		if _, err := ParseYAML([]byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.40q: error %v, want one with %q", text, err, want)
		}
	}
}

// plain turns a tree into what encoding/json makes.
func plain(v *Value) any {
	switch v.Kind {
	case Bool:
		return v.True
	case Number:
		return json.Number(v.Text)
	case String:
		return v.Text
	case Array:
		out := []any{}
		for _, w := range v.Items {
			out = append(out, plain(w))
		}
		return out
	case Object:
		out := map[string]any{}
		for _, m := range v.Members {
			out[m.Key] = plain(m.Value)
		}
		return out
	}
	return nil
}

// TestAgreesWithTheStandardLibrary compares with encoding/json on documents that it writes.
func TestAgreesWithTheStandardLibrary(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		leaf := rapid.OneOf(
			rapid.Custom(func(t *rapid.T) any { return rapid.String().Draw(t, "s") }),
			rapid.Custom(func(t *rapid.T) any { return rapid.Int64().Draw(t, "n") }),
			rapid.Custom(func(t *rapid.T) any { return rapid.Bool().Draw(t, "b") }),
		)
		key := rapid.StringMatching(`[a-z. \[]{0,6}`)
		in := rapid.MapOf(key, rapid.Custom(func(t *rapid.T) any { return rapid.SliceOfN(leaf, 0, 4).Draw(t, "l") })).Draw(t, "in")
		data, err := json.Marshal(in)
		if err != nil {
			t.Fatal(err)
		}
		v, err := ParseJSON(data)
		if err != nil {
			t.Fatalf("%s: %v", data, err)
		}
		again, err := json.Marshal(plain(v))
		if err != nil || string(again) != string(data) {
			t.Fatalf("%s became %s, %v", data, again, err)
		}
	})
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{`{"a":[1,"x",null]}`, "a: &x [1]\nb: *x\n", "// c\n[true]", "<<: {a: 1}", "\"\\ud83d\\ude00\""} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if v, err := ParseJSON(data); err == nil && json.Valid(data) {
			text, err := json.Marshal(plain(v))
			if err != nil {
				t.Fatal(err)
			}
			if w, err := ParseJSON(text); err != nil || !equalPlain(plain(v), plain(w)) {
				t.Errorf("%q does not survive: %v", text, err)
			}
		}
		_, _ = ParseYAML(data) // must not fail otherwise than by an error
	})
}

func equalPlain(a, b any) bool {
	x, errX := json.Marshal(a)
	y, errY := json.Marshal(b)
	return errX == nil && errY == nil && string(x) == string(y)
}
