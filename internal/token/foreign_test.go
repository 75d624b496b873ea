// SPDX-License-Identifier: Apache-2.0

package token_test

import (
	"encoding/json"
	"strings"
	"testing"

	"cofferdam.dev/internal/token"
)

// set returns the key set of keys, with changes to the members of each.
func set(t testing.TB, change map[string]any, keys ...*token.Key) []byte {
	t.Helper()
	var public []token.PublicKey
	for _, k := range keys {
		public = append(public, k.Public())
	}
	b, err := token.JWKS(public, now)
	if err != nil {
		t.Fatal(err)
	}
	var doc struct {
		Keys []map[string]any `json:"keys"`
	}
	if err := json.Unmarshal(b, &doc); err != nil {
		t.Fatal(err)
	}
	for _, k := range doc.Keys {
		for name, v := range change {
			if k[name] = v; v == nil {
				delete(k, name)
			}
		}
	}
	if b, err = json.Marshal(doc); err != nil {
		t.Fatal(err)
	}
	return b
}

// TestParseJWKS says which keys of another issuer's set are taken, and that tokens by them verify.
func TestParseJWKS(t *testing.T) {
	t.Parallel()
	rs, es, es384 := newKey(t, token.RS256), newKey(t, token.ES256), newKey(t, token.ES384)
	type change = map[string]any
	for name, c := range map[string]struct {
		set  []byte
		want int // -1 is an error
	}{
		"all":               {set(t, nil, rs, es, es384), 3},
		"without alg":       {set(t, change{"alg": nil}, rs, es384), 2},
		"without use":       {set(t, change{"use": nil}, rs), 1},
		"certificate alone": {set(t, change{"n": nil, "e": nil}, rs), 1},
		"no certificate":    {set(t, change{"x5c": nil, "x5t#S256": nil}, rs), 1},
		"own name":          {set(t, change{"kid": "MAA/1="}, rs), 1},
		"no name":           {set(t, change{"kid": nil}, rs), 0},
		"for encryption":    {set(t, change{"use": "enc"}, rs), 0},
		"other algorithm":   {set(t, change{"alg": "PS256"}, rs), 0},
		"none":              {set(t, change{"alg": "none"}, rs), 0},
		"HMAC":              {[]byte(`{"keys":[{"kty":"oct","kid":"a","k":"AAAA","alg":"HS256"}]}`), 0},
		"small":             {[]byte(`{"keys":[{"kty":"RSA","kid":"a","n":"AQAB","e":"AQAB"}]}`), 0},
		"other certificate": {set(t, change{"x5c": []string{"AAAA"}}, rs), 0},
		"two of a name":     {set(t, change{"kid": "a"}, rs, es), -1},
		"no keys":           {[]byte(`{"keys":[]}`), 0},
		"nothing":           {[]byte(`{}`), 0},
		"no JSON":           {[]byte(`x`), -1},
		"too many":          {[]byte(`{"keys":[` + strings.TrimSuffix(strings.Repeat(`{},`, token.MaxKeys+1), ",") + `]}`), -1},
		"large":             {[]byte(`{"keys":[]` + strings.Repeat(" ", token.MaxSetSize) + `}`), -1},
	} {
		keys, err := token.ParseJWKS(c.set)
		if (err != nil) != (c.want < 0) || err == nil && len(keys) != c.want {
			t.Errorf("%s: %d keys, %v, want %d", name, len(keys), err, c.want)
		}
	}
	keys, err := token.ParseJWKS(set(t, nil, rs, es, es384))
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range []*token.Key{rs, es, es384} {
		e := token.Expect{Keys: keys, Algorithms: []token.Algorithm{k.Public().Algorithm}, Issuer: "https://here", Now: now}
		if _, err := token.Verify(sign(t, k, good()), e); err != nil {
			t.Errorf("%s: %v", k, err)
		}
		other := newKey(t, k.Public().Algorithm)
		if _, err := token.Verify(sign(t, other, good()), e); err == nil {
			t.Errorf("%s: another key's token was taken", k)
		}
	}
}

func FuzzParseJWKS(f *testing.F) {
	f.Add([]byte(`{"keys":[{"kty":"EC","crv":"P-256","kid":"a","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"}]}`))
	f.Add([]byte(`{"keys":[{"kty":"RSA","kid":"a","x5c":["AAAA"]}]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		keys, err := token.ParseJWKS(b)
		if err != nil {
			return
		}
		for _, k := range keys {
			if k.ID == "" || k.Algorithm == "" {
				t.Errorf("%+v of %q", k, b)
			}
		}
	})
}
