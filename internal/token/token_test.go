// SPDX-License-Identifier: Apache-2.0

package token_test

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/lestrrat-go/jwx/v3/jwk"
	"github.com/lestrrat-go/jwx/v3/jws"

	"cofferdam.dev/internal/token"
)

var now = time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)

func newKey(t testing.TB, alg token.Algorithm) *token.Key {
	t.Helper()
	k, err := token.Generate(alg, "test", now, now.Add(time.Hour), now.Add(2*time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

type claims map[string]any

func good() claims {
	return claims{"iss": "https://here", "exp": now.Add(time.Hour).Unix(), "nbf": now.Unix(), "iat": now.Unix(), "x": 1}
}

func sign(t testing.TB, k *token.Key, c claims) string {
	t.Helper()
	s, err := k.Sign(c, nil)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// TestAlgorithms signs with each algorithm, and verifies with this package and with another library.
func TestAlgorithms(t *testing.T) {
	t.Parallel()
	for _, alg := range []token.Algorithm{token.RS256, token.ES256, token.ES384} {
		t.Run(string(alg), func(t *testing.T) {
			t.Parallel()
			k := newKey(t, alg)
			s, err := k.Sign(good(), map[string]any{"jku": "https://here/certs"})
			if err != nil {
				t.Fatal(err)
			}
			payload, err := token.Verify(s, token.Expect{
				Keys: []token.PublicKey{k.Public()}, Algorithms: []token.Algorithm{alg}, Issuer: "https://here", Now: now,
			})
			if err != nil {
				t.Fatal(err)
			}
			set, err := token.JWKS([]token.PublicKey{k.Public()}, now)
			if err != nil {
				t.Fatal(err)
			}
			theirs, err := jwk.Parse(set)
			if err != nil {
				t.Fatal(err)
			}
			again, err := jws.Verify([]byte(s), jws.WithKeySet(theirs))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(payload), string(again)); diff != "" {
				t.Error(diff)
			}
			var header map[string]any
			decode(t, strings.Split(s, ".")[0], &header)
			want := map[string]any{"alg": string(alg), "kid": k.Public().ID, "typ": "JWT", "jku": "https://here/certs"}
			if diff := cmp.Diff(want, header); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func decode(t testing.TB, part string, v any) {
	t.Helper()
	b, err := base64.RawURLEncoding.DecodeString(part)
	if err != nil {
		t.Fatal(err)
	}
	if err = json.Unmarshal(b, v); err != nil {
		t.Fatal(err)
	}
}

func part(v string) string { return base64.RawURLEncoding.EncodeToString([]byte(v)) }

// TestAttacks is the table of tokens that must not be taken.
func TestAttacks(t *testing.T) {
	t.Parallel()
	k, other, p384 := newKey(t, token.ES256), newKey(t, token.ES256), newKey(t, token.ES384)
	whole := sign(t, k, good())
	parts := strings.Split(whole, ".")
	with := func(name string, value any) claims {
		c := good()
		if c[name] = value; value == nil {
			delete(c, name)
		}
		return c
	}
	header := func(h string) string { return part(h) + "." + parts[1] + "." + parts[2] }
	kid := k.Public().ID
	cert, err := x509.ParseCertificate(k.Public().Certificate)
	if err != nil {
		t.Fatal(err)
	}
	mac := hmac.New(sha256.New, cert.RawSubjectPublicKeyInfo)
	hs := part(fmt.Sprintf(`{"alg":"HS256","kid":%q}`, kid)) + "." + parts[1]
	mac.Write([]byte(hs))
	draft, err := token.Draft(good())
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		token string
		want  error
	}{
		"none":                     {draft, token.ErrMalformed},
		"none with our kid":        {part(fmt.Sprintf(`{"alg":"none","kid":%q}`, kid)) + "." + parts[1] + ".", token.ErrMalformed},
		"NONE":                     {header(fmt.Sprintf(`{"alg":"NONE","kid":%q}`, kid)), token.ErrMalformed},
		"HMAC with the public key": {hs + "." + base64.RawURLEncoding.EncodeToString(mac.Sum(nil)), token.ErrMalformed},
		"foreign key":              {sign(t, other, good()), token.ErrUnknownKey},
		"foreign key, our kid":     {foreign(t, other, kid), token.ErrSignature},
		"key in the header":        {header(`{"alg":"ES256","jwk":{"kty":"EC","crv":"P-256","x":"AA","y":"AA"}}`), nil},
		"no kid":                   {header(`{"alg":"ES256"}`), token.ErrUnknownKey},
		"jku elsewhere":            {header(`{"alg":"ES256","kid":"other","jku":"https://evil/certs"}`), token.ErrUnknownKey},
		"crit":                     {header(fmt.Sprintf(`{"alg":"ES256","kid":%q,"crit":["x"],"x":1}`, kid)), nil},
		"other header":             {header(fmt.Sprintf(`{"alg":"ES256","kid":%q}`, kid)), token.ErrSignature},
		"algorithm not taken":      {sign(t, p384, good()), token.ErrMalformed},
		"changed claims":           {parts[0] + "." + part(`{"iss":"https://here","exp":99999999999}`) + "." + parts[2], token.ErrSignature},
		"without signature":        {parts[0] + "." + parts[1] + ".", nil},
		"two parts":                {parts[0] + "." + parts[1], token.ErrMalformed},
		"four parts":               {whole + ".x", token.ErrMalformed},
		"JSON form":                {`{"payload":"","signatures":[]}`, token.ErrMalformed},
		"too long":                 {whole + strings.Repeat("A", token.MaxSize), token.ErrMalformed},
		"another issuer":           {sign(t, k, with("iss", "https://there")), token.ErrIssuer},
		"no issuer":                {sign(t, k, with("iss", nil)), token.ErrIssuer},
		"issuer with slash":        {sign(t, k, with("iss", "https://here/")), token.ErrIssuer},
		"audience":                 {sign(t, k, with("aud", "someone")), token.ErrAudience},
		"expired":                  {sign(t, k, with("exp", now.Add(-2*time.Minute).Unix())), token.ErrTime},
		"no expiry":                {sign(t, k, with("exp", nil)), token.ErrTime},
		"expiry is text":           {sign(t, k, with("exp", "99999999999")), token.ErrMalformed},
		"expiry before all time":   {sign(t, k, with("exp", -1e300)), token.ErrTime},
		"not yet":                  {sign(t, k, with("nbf", now.Add(2*time.Minute).Unix())), token.ErrTime},
		"issued later":             {sign(t, k, with("iat", now.Add(2*time.Minute).Unix())), token.ErrTime},
		"claims are a list":        {raw(t, k, []int{1}), token.ErrMalformed},
		"expiry in another case":   {sign(t, k, claims{"iss": "https://here", "exp": now.Add(-time.Hour).Unix(), "eXP": now.Add(time.Hour).Unix()}), token.ErrTime},
		"issuer in another case":   {sign(t, k, claims{"ISS": "https://here", "exp": now.Add(time.Hour).Unix()}), token.ErrIssuer},
		"expiry twice":             {raw(t, k, json.RawMessage(fmt.Sprintf(`{"iss":"https://here","exp":1,"exp":%d}`, now.Add(time.Hour).Unix()))), token.ErrMalformed},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := token.Verify(c.token, token.Expect{
				Keys: []token.PublicKey{k.Public(), p384.Public()}, Algorithms: []token.Algorithm{token.ES256}, Issuer: "https://here", Now: now,
			})
			if err == nil || c.want != nil && !errors.Is(err, c.want) {
				t.Errorf("error %v, want %v", err, c.want)
			}
		})
	}
	// Every flipped bit of the token's text makes it another token.
	for i := range whole {
		changed := []byte(whole)
		changed[i] ^= 1
		_, err := token.Verify(string(changed), token.Expect{
			Keys: []token.PublicKey{k.Public()}, Algorithms: []token.Algorithm{token.ES256}, Issuer: "https://here", Now: now,
		})
		if err == nil {
			t.Errorf("byte %d can be changed", i)
		}
	}
}

func raw(t testing.TB, k *token.Key, v any) string {
	t.Helper()
	s, err := k.Sign(v, nil)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// foreign signs with a key and names another in the header.
func foreign(t testing.TB, k *token.Key, kid string) string {
	t.Helper()
	s, err := k.Sign(good(), map[string]any{"kid": kid})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// TestExpect has the verifier itself say too little.
func TestExpect(t *testing.T) {
	t.Parallel()
	k := newKey(t, token.ES256)
	s := sign(t, k, good())
	whole := token.Expect{Keys: []token.PublicKey{k.Public()}, Algorithms: []token.Algorithm{token.ES256}, Issuer: "https://here", Now: now}
	mislabelled := k.Public()
	mislabelled.Algorithm = token.RS256
	for name, change := range map[string]func(*token.Expect){
		"zero":              func(e *token.Expect) { *e = token.Expect{} },
		"no keys":           func(e *token.Expect) { e.Keys = nil },
		"no algorithms":     func(e *token.Expect) { e.Algorithms = nil },
		"no issuer":         func(e *token.Expect) { e.Issuer = "" },
		"no time":           func(e *token.Expect) { e.Now = time.Time{} },
		"key of another":    func(e *token.Expect) { e.Keys = []token.PublicKey{newKey(t, token.ES256).Public()} },
		"mislabelled key":   func(e *token.Expect) { e.Keys = []token.PublicKey{mislabelled} },
		"expired key":       func(e *token.Expect) { e.Now = now.Add(3 * time.Hour) },
		"audience expected": func(e *token.Expect) { e.Audience = "me" },
	} {
		e := whole
		change(&e)
		if _, err := token.Verify(s, e); err == nil {
			t.Errorf("%s: it is taken", name)
		}
	}
	c := good()
	c["aud"] = []string{"you", "me"}
	whole.Audience = "me"
	if _, err := token.Verify(sign(t, k, c), whole); err != nil {
		t.Error(err)
	}
}

func TestDraft(t *testing.T) {
	t.Parallel()
	s, err := token.Draft(claims{"a": 1})
	if err != nil || s != part(`{"alg":"none","typ":"JWT"}`)+"."+part(`{"a":1}`)+"." {
		t.Errorf("%q, %v", s, err)
	}
}

func TestNoSecretIsPrinted(t *testing.T) {
	t.Parallel()
	k := newKey(t, token.ES256)
	shown := "ES256 key " + k.Public().ID
	for format, got := range map[string]string{
		"Sprint": fmt.Sprint(k), "v": fmt.Sprintf("%v", k), "+v": fmt.Sprintf("%+v", k), "#v": fmt.Sprintf("%#v", k),
	} {
		if got != shown {
			t.Errorf("%s: %q, not %q", format, got, shown)
		}
	}
}

// published is what a ring published.
type published struct {
	mu   sync.Mutex
	keys []token.PublicKey
	fail error
}

func (p *published) publish(_ context.Context, k token.PublicKey) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.fail == nil {
		p.keys = append(p.keys, k)
	}
	return p.fail
}

// TestRotation steps through days: every token verifies by what was published Ahead before it was signed, and for as long
// as it lives; keys follow each other; the key set does not grow without end.
func TestRotation(t *testing.T) {
	t.Parallel()
	var p published
	clock := now
	const life, ahead = 30 * time.Minute, 10 * time.Minute
	r, err := token.NewRing(t.Context(), token.RingOptions{
		Algorithms: []token.Algorithm{token.ES256, token.ES384}, Name: "test", Signs: 2 * time.Hour, TokenLife: life, Ahead: ahead,
		Publish: p.publish, Now: func() time.Time { return clock },
	})
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	var known []token.PublicKey
	for step := range 24 * 12 {
		if step%2 == 0 { // whoever caches the key set for Ahead
			known = append([]token.PublicKey{}, p.keys...)
		}
		if err := r.Rotate(t.Context()); err != nil {
			t.Fatal(err)
		}
		for _, alg := range []token.Algorithm{token.ES256, token.ES384} {
			s, err := r.Sign(alg, claims{"iss": "i", "exp": clock.Add(life).Unix()}, "https://here/certs")
			if err != nil {
				t.Fatal(err)
			}
			for _, at := range []time.Time{clock, clock.Add(life)} {
				_, err := token.Verify(s, token.Expect{Keys: known, Algorithms: []token.Algorithm{alg}, Issuer: "i", Now: at})
				if err != nil {
					t.Fatalf("step %d: %v", step, err)
				}
			}
			var h struct{ Kid string }
			decode(t, strings.Split(s, ".")[0], &h)
			seen[h.Kid] = true
		}
		clock = clock.Add(5 * time.Minute)
	}
	if len(seen) < 20 || len(seen) > 40 {
		t.Errorf("%d keys signed in a day", len(seen))
	}
	set, err := token.JWKS(p.keys, clock)
	if err != nil {
		t.Fatal(err)
	}
	theirs, err := jwk.Parse(set)
	if err != nil || theirs.Len() > 6 {
		t.Errorf("the key set has %d keys, %v", theirs.Len(), err)
	}
	p.fail = errors.New("no")
	clock = clock.Add(24 * time.Hour)
	if err := r.Rotate(t.Context()); !errors.Is(err, p.fail) {
		t.Errorf("a publication that fails: %v", err)
	}
	if _, err := r.Sign(token.ES256, claims{}, ""); err == nil {
		t.Error("a key signed after its time")
	}
	if _, err := r.Sign(token.RS256, claims{}, ""); err == nil {
		t.Error("signed without a key")
	}
}

func BenchmarkSign(b *testing.B) {
	for _, alg := range []token.Algorithm{token.RS256, token.ES256} {
		var p published
		r, err := token.NewRing(b.Context(), token.RingOptions{
			Algorithms: []token.Algorithm{alg}, Name: "b", Signs: time.Hour, TokenLife: time.Hour, Publish: p.publish,
		})
		if err != nil {
			b.Fatal(err)
		}
		b.Run(string(alg), func(b *testing.B) {
			for b.Loop() {
				if _, err := r.Sign(alg, good(), "https://here/certs"); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
