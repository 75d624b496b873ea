// SPDX-License-Identifier: Apache-2.0

package authority

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"cofferdam.dev/internal/token"
)

var now = time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)

const issuer = "https://attest.example"

type claimSet map[string]any

func good() claimSet {
	return claimSet{
		"iss": issuer, "exp": now.Add(time.Hour).Unix(), "nbf": now.Unix(), "iat": now.Unix(), "jti": "7",
		"x-ms-runtime": map[string]any{"keys": []any{map[string]any{"kty": "RSA", "kid": "k"}}},
	}
}

func (c claimSet) with(more claimSet) claimSet {
	out := maps.Clone(c)
	for name, v := range more {
		if out[name] = v; v == nil {
			delete(out, name)
		}
	}
	return out
}

func newKey(t testing.TB, alg token.Algorithm) *token.Key {
	t.Helper()
	k, err := token.Generate(alg, "test", now, now.Add(time.Hour), now.Add(2*time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func sign(t testing.TB, k *token.Key, c claimSet, header map[string]any) string {
	t.Helper()
	s, err := k.Sign(c, header)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func newSet(t testing.TB, list ...Authority) *Set {
	t.Helper()
	s, err := NewSet(list...)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestVerify(t *testing.T) {
	t.Parallel()
	k := newKey(t, token.RS256)
	st, err := newSet(t, Authority{Issuer: issuer, Keys: Static{k.Public()}}).Verify(t.Context(), sign(t, k, good(), nil), now)
	if err != nil {
		t.Fatal(err)
	}
	if st.Issuer != issuer || st.ID != "7" || !st.Issued.Equal(now) || !st.Expires.Equal(now.Add(time.Hour)) || st.Simulated {
		t.Errorf("the statement is %+v", st)
	}
	if keys := st.WrappingKeys(); len(keys) != 1 || !strings.Contains(string(keys[0]), `"RSA"`) {
		t.Errorf("wrapping keys are %s", keys)
	}
}

func encode(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return base64.RawURLEncoding.EncodeToString(b)
}

// forge signs with a key of the attacker's, under any header.
func forge(t testing.TB, alg jose.SignatureAlgorithm, key any, c claimSet, opts *jose.SignerOptions) string {
	t.Helper()
	s, err := jose.NewSigner(jose.SigningKey{Algorithm: alg, Key: key}, opts)
	if err != nil {
		t.Fatal(err)
	}
	b, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	o, err := s.Sign(b)
	if err != nil {
		t.Fatal(err)
	}
	compact, err := o.CompactSerialize()
	if err != nil {
		t.Fatal(err)
	}
	return compact
}

// TestAttacks has one token for each way to be let in without the right.
func TestAttacks(t *testing.T) {
	t.Parallel()
	rs, es, other := newKey(t, token.RS256), newKey(t, token.ES256), newKey(t, token.RS256)
	otherIssuer := newKey(t, token.RS256)
	evil, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	evilEC, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	asked := 0
	set := newSet(t,
		Authority{Issuer: issuer, Keys: Static{rs.Public(), es.Public()}},
		Authority{Issuer: issuer + "/simulated", Keys: Static{rs.Public()}, Simulated: true},
		Authority{Issuer: "https://other.example", Keys: Static{otherIssuer.Public()}, Algorithms: []token.Algorithm{token.RS256}},
		Authority{Issuer: "https://strict.example", Keys: Static{rs.Public(), es.Public()}, Algorithms: []token.Algorithm{token.ES256}, MaxAge: time.Minute, Audience: "vault"},
		Authority{Issuer: "https://down.example", Keys: Func(func(context.Context) ([]token.PublicKey, error) { asked++; return nil, errors.New("down") })},
		Authority{Issuer: "https://empty.example", Keys: Static{}},
	)
	draft, err := token.Draft(good())
	if err != nil {
		t.Fatal(err)
	}
	valid := sign(t, rs, good(), nil)
	parts := strings.Split(valid, ".")
	kid := func(k *token.Key) *jose.SignerOptions {
		return (&jose.SignerOptions{}).WithHeader("kid", k.Public().ID)
	}
	hs := func(secret []byte) string {
		signed := encode(map[string]any{"alg": "HS256", "kid": rs.Public().ID}) + "." + encode(good())
		mac := hmac.New(sha256.New, secret)
		_, _ = mac.Write([]byte(signed))
		return signed + "." + base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
	}
	strict := claimSet{"iss": "https://strict.example", "aud": "vault"}
	for name, c := range map[string]struct {
		token string
		want  error // nil is any error
	}{
		"nothing":                  {"", token.ErrMalformed},
		"no token":                 {"x.y.z", token.ErrMalformed},
		"large":                    {valid + strings.Repeat("A", token.MaxSize), token.ErrMalformed},
		"draft":                    {draft, token.ErrMalformed},
		"alg none with signature":  {encode(map[string]any{"alg": "none", "kid": rs.Public().ID}) + "." + parts[1] + "." + parts[2], token.ErrMalformed},
		"signature cut off":        {parts[0] + "." + parts[1] + ".", token.ErrSignature},
		"other claims":             {parts[0] + "." + encode(good().with(claimSet{"x": 1})) + "." + parts[2], token.ErrSignature},
		"other header":             {encode(map[string]any{"alg": "RS256", "kid": rs.Public().ID, "x": 1}) + "." + parts[1] + "." + parts[2], token.ErrSignature},
		"public key as HMAC key":   {hs(rs.Public().Certificate), token.ErrMalformed},
		"unknown key":              {sign(t, other, good(), nil), token.ErrUnknownKey},
		"another's kid":            {forge(t, jose.RS256, evil, good(), kid(rs)), token.ErrSignature},
		"no kid":                   {forge(t, jose.RS256, evil, good(), nil), token.ErrUnknownKey},
		"key in the header":        {forge(t, jose.RS256, evil, good(), &jose.SignerOptions{EmbedJWK: true}), token.ErrUnknownKey},
		"jku elsewhere":            {forge(t, jose.RS256, evil, good(), kid(rs).WithHeader("jku", "https://evil.example/certs")), token.ErrSignature},
		"RS256 key with PS256":     {forge(t, jose.PS256, evil, good(), kid(rs)), token.ErrMalformed},
		"RS256 key with ES256":     {forge(t, jose.ES256, evilEC, good(), kid(rs)), token.ErrUnknownKey},
		"critical header":          {forge(t, jose.RS256, evil, good(), kid(rs).WithHeader("crit", []string{"x"}).WithHeader("x", 1)), nil},
		"unknown issuer":           {sign(t, rs, good().with(claimSet{"iss": "https://evil.example"}), nil), ErrUnknownIssuer},
		"issuer with slash":        {sign(t, rs, good().with(claimSet{"iss": issuer + "/"}), nil), ErrUnknownIssuer},
		"issuer in other case":     {sign(t, rs, good().with(claimSet{"iss": "https://ATTEST.example"}), nil), ErrUnknownIssuer},
		"no issuer":                {sign(t, rs, good().with(claimSet{"iss": nil}), nil), ErrUnknownIssuer},
		"issuer as list":           {sign(t, rs, good().with(claimSet{"iss": []string{issuer}}), nil), token.ErrMalformed},
		"other issuer's key":       {sign(t, otherIssuer, good(), nil), token.ErrUnknownKey},
		"for the other issuer":     {sign(t, rs, good().with(claimSet{"iss": "https://other.example"}), nil), token.ErrUnknownKey},
		"expired":                  {sign(t, rs, good().with(claimSet{"exp": now.Add(-2 * time.Minute).Unix()}), nil), token.ErrTime},
		"no expiry":                {sign(t, rs, good().with(claimSet{"exp": nil}), nil), token.ErrTime},
		"not yet valid":            {sign(t, rs, good().with(claimSet{"nbf": now.Add(2 * time.Minute).Unix()}), nil), token.ErrTime},
		"issued in the future":     {sign(t, rs, good().with(claimSet{"iat": now.Add(2 * time.Minute).Unix()}), nil), token.ErrTime},
		"expiry as text":           {sign(t, rs, good().with(claimSet{"exp": "9999999999"}), nil), token.ErrMalformed},
		"for an audience":          {sign(t, rs, good().with(claimSet{"aud": "somebody"}), nil), token.ErrAudience},
		"simulated":                {sign(t, rs, good().with(claimSet{"x-cofferdam-simulated": true}), nil), ErrSimulated},
		"simulated in text":        {sign(t, rs, good().with(claimSet{"x-cofferdam-simulated": "true"}), nil), ErrSimulated},
		"hardware as simulated":    {sign(t, rs, good().with(claimSet{"iss": issuer + "/simulated"}), nil), nil},
		"strict: algorithm":        {sign(t, rs, good().with(strict), nil), token.ErrMalformed},
		"strict: audience":         {sign(t, es, good().with(strict).with(claimSet{"aud": "other"}), nil), token.ErrAudience},
		"strict: old":              {sign(t, es, good().with(strict).with(claimSet{"iat": now.Add(-3 * time.Minute).Unix()}), nil), ErrOld},
		"strict: no time of issue": {sign(t, es, good().with(strict).with(claimSet{"iat": nil, "nbf": nil}), nil), ErrOld},
		"issuer is down":           {sign(t, rs, good().with(claimSet{"iss": "https://down.example"}), nil), ErrUnavailable},
		"issuer without keys":      {sign(t, rs, good().with(claimSet{"iss": "https://empty.example"}), nil), ErrUnavailable},
	} {
		st, err := set.Verify(t.Context(), c.token, now)
		if err == nil || c.want != nil && !errors.Is(err, c.want) {
			t.Errorf("%s: %v (%v), want %v", name, err, st, c.want)
		}
		if err != nil && len(c.token) > 100 && strings.Contains(err.Error(), c.token[len(c.token)-40:]) {
			t.Errorf("%s: the error shows the token: %v", name, err)
		}
	}
	if asked != 1 {
		t.Errorf("the issuer that is down was asked %d times", asked)
	}
	for name, c := range map[string]struct {
		k *token.Key
		c claimSet
	}{
		"simulated where it is asked for": {rs, good().with(claimSet{"iss": issuer + "/simulated", "x-cofferdam-simulated": true})},
		"strict":                          {es, good().with(strict)},
		"plainly not simulated":           {rs, good().with(claimSet{"x-cofferdam-simulated": false})},
	} {
		if _, err := set.Verify(t.Context(), sign(t, c.k, c.c, nil), now); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	var none *Set
	for _, s := range []*Set{none, {}} {
		if _, err := s.Verify(t.Context(), valid, now); !errors.Is(err, ErrUnknownIssuer) {
			t.Errorf("nobody is believed: %v", err)
		}
	}
}

func TestNewSetRefuses(t *testing.T) {
	t.Parallel()
	for name, list := range map[string][]Authority{
		"no issuer": {{Keys: Static{}}}, "no keys": {{Issuer: issuer}},
		"twice": {{Issuer: issuer, Keys: Static{}}, {Issuer: issuer, Keys: Static{}}},
		"age":   {{Issuer: issuer, Keys: Static{}, MaxAge: -1}},
	} {
		if _, err := NewSet(list...); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	s := newSet(t, Authority{Issuer: issuer, Keys: Static{}})
	if got := fmt.Sprint(s.Issuers()); got != "["+issuer+"]" {
		t.Errorf("issuers are %s", got)
	}
}
