// SPDX-License-Identifier: Apache-2.0

package releasepolicy

import (
	"encoding/json"
	"strings"
	"testing"
)

// TestLongClaims shows claims that are as long as a token can be: the same as if all of them was encoded, and in no time.
func TestLongClaims(t *testing.T) {
	t.Parallel()
	for _, r := range []string{"x", "é", "€", "𝄞", "\"", "<"} {
		for skip := range 4 {
			v := strings.Repeat("y", skip) + strings.Repeat(r, 1<<16)
			b, err := json.Marshal(v)
			if err != nil {
				t.Fatal(err)
			}
			if got, want := shorten(v), strings.ToValidUTF8(string(b[:maxActual]), "")+"…"; got != want {
				t.Errorf("%q after %d: %q, want %q", r, skip, got, want)
			}
		}
	}
}

// TestSpellings has claims that mean, or nearly mean, something else than how they are spelt. None may satisfy what it is
// held to.
func TestSpellings(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ condition, claims string }{
		"number as text, not equal":     {`{"claim":"a","notEquals":1}`, `{"a":"1.0"}`},
		"longer number, not equal":      {`{"claim":"a","notEquals":"1.10"}`, `{"a":1.10}`},
		"negative zero, not equal":      {`{"claim":"a","notEquals":0}`, `{"a":"-0"}`},
		"boolean as text, not equal":    {`{"claim":"a","notEquals":true}`, `{"a":"true"}`},
		"exponent, not equal":           {`{"claim":"a","notEquals":1}`, `{"a":1e0}`},
		"exponent, greater":             {`{"claim":"a","greater":1}`, `{"a":1e9}`},
		"long number, greater":          {`{"claim":"a","greater":1}`, `{"a":` + strings.Repeat("9", 60) + `}`},
		"list with it, equal":           {`{"claim":"a","equals":"x"}`, `{"a":["x"]}`},
		"list, not equal":               {`{"claim":"a","notEquals":"x"}`, `{"a":["y"]}`},
		"object, not equal":             {`{"claim":"a","notEquals":"x"}`, `{"a":{"b":"y"}}`},
		"null, not equal":               {`{"claim":"a","notEquals":"x"}`, `{"a":null}`},
		"null, equal to its text":       {`{"claim":"a","equals":"null"}`, `{"a":null}`},
		"missing, not equal":            {`{"claim":"a.b","notEquals":"x"}`, `{"a":{}}`},
		"missing, less":                 {`{"claim":"a","less":5}`, `{}`},
		"null exists":                   {`{"claim":"a","exists":true}`, `{"a":null}`},
		"other case":                    {`{"claim":"a","equals":"x"}`, `{"A":"x"}`},
		"other case of the value":       {`{"claim":"a","equals":"x"}`, `{"a":"X"}`},
		"spaces":                        {`{"claim":"a","equals":"x"}`, `{"a":" x"}`},
		"a dot in the name":             {`{"claim":"a.b","equals":"x"}`, `{"a.b":"x"}`},
		"index of a list":               {`{"claim":"a.0","equals":"x"}`, `{"a":["x"]}`},
		"true is no number":             {`{"claim":"a","greaterOrEquals":0}`, `{"a":true}`},
		"hexadecimal":                   {`{"claim":"a","greater":1}`, `{"a":"0x10"}`},
		"Unicode that looks like it":    {`{"claim":"a","equals":"x"}`, `{"a":"х"}`},
		"composed in another way":       {`{"claim":"a","equals":"é"}`, `{"a":"e\u0301"}`},
		"through a text":                {`{"claim":"a.b","equals":"x"}`, `{"a":"{\"b\":\"x\"}"}`},
		"combination with itself empty": {`{"anyOf":[{"allOf":[{"claim":"a","equals":"x"}]}]}`, `{}`},
	} {
		claims, err := ParseClaims([]byte(c.claims))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if mustParse(t, one(c.condition)).Evaluate(issuer, claims).Satisfied {
			t.Errorf("%s: %s satisfies %s", name, c.claims, c.condition)
		}
	}
	for _, bad := range []string{`{"a":1,"a":2}`, `{"a":{"b":1,"\u0062":2}}`, `[]`, `null`, `{"a":1}{}`, `{"a":NaN}`, "{\"a\":\"\xff\"}"} {
		if c, err := ParseClaims([]byte(bad)); err == nil {
			t.Errorf("%s was read as %v", bad, c)
		}
	}
}
