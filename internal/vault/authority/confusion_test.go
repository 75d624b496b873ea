// SPDX-License-Identifier: Apache-2.0

package authority

import (
	"encoding/json"
	"testing"
	"time"

	"cofferdam.dev/internal/token"
)

// TestAlike refuses authorities that a release policy can not tell apart: tokens over simulated evidence would open what
// was meant for real hardware.
func TestAlike(t *testing.T) {
	t.Parallel()
	k := Static{newKey(t, token.ES256).Public()}
	for _, other := range []string{issuer + "/", "attest.example", "HTTPS://ATTEST.example", "https://Attest.Example//", issuer} {
		if _, err := NewSet(Authority{Issuer: issuer, Keys: k}, Authority{Issuer: other, Keys: k, Simulated: true}); err == nil {
			t.Errorf("%q was taken beside %q", other, issuer)
		}
	}
	for _, other := range []string{issuer + "/simulated", "http://attest.example", issuer + ":8443"} {
		if _, err := NewSet(Authority{Issuer: issuer, Keys: k}, Authority{Issuer: other, Keys: k, Simulated: true}); err != nil {
			t.Errorf("%q: %v", other, err)
		}
	}
}

// TestSpelling has claims whose names differ from registered ones by case: a policy of an attestation service may issue
// them, and they must not take the place of the service's.
func TestSpelling(t *testing.T) {
	t.Parallel()
	k := newKey(t, token.ES256)
	set := newSet(t, Authority{Issuer: issuer, Keys: Static{k.Public()}, MaxAge: 10 * time.Minute})
	old := now.Add(-time.Hour).Unix()
	// The names are in such an order that encoding/json would let the wrong one win.
	for name, payload := range map[string]any{
		"an age of its own":  json.RawMessage(`{"iss":"` + issuer + `","exp":` + at(now.Add(time.Hour)) + `,"iat":` + at(now.Add(-time.Hour)) + `,"iAT":` + at(now) + `}`),
		"an end of its own":  json.RawMessage(`{"iss":"` + issuer + `","exp":` + at(now.Add(-time.Hour)) + `,"iat":` + at(now) + `,"eXP":` + at(now.Add(time.Hour)) + `}`),
		"another's":          json.RawMessage(`{"iss":"https://other","iat":` + at(now) + `,"exp":` + at(now.Add(time.Hour)) + `,"iSS":"` + issuer + `"}`),
		"a begin of its own": json.RawMessage(`{"iss":"` + issuer + `","iat":` + at(now) + `,"exp":` + at(now.Add(time.Hour)) + `,"nbf":` + at(now.Add(time.Minute*30)) + `,"nBF":` + at(now) + `}`),
		"no end":             json.RawMessage(`{"iss":"` + issuer + `","iat":` + at(now) + `,"eXP":` + at(now.Add(time.Hour)) + `}`),
		"the end as text":    claimSet{"iss": issuer, "iat": now.Unix(), "exp": "4102444800"},
		"old":                good().with(claimSet{"iat": old, "nbf": old}),
	} {
		s, err := k.Sign(payload, nil)
		if err != nil {
			t.Fatal(err)
		}
		if st, err := set.Verify(t.Context(), s, now); err == nil {
			t.Errorf("%s: believed, as %+v", name, st)
		}
	}
}

func at(t time.Time) string {
	b, _ := json.Marshal(t.Unix()) // a number always encodes
	return string(b)
}
