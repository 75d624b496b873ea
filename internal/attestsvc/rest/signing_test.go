// SPDX-License-Identifier: Apache-2.0

package rest

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"net/http"
	"strings"
	"testing"
)

// with makes a token with a header of its own, signed by the signer's key.
func (s signer) with(t *testing.T, header, body string) string {
	t.Helper()
	input := b64([]byte(header)) + "." + b64([]byte(body))
	sum := sha256.Sum256([]byte(input))
	sig, err := rsa.SignPKCS1v15(rand.Reader, s.key, crypto.SHA256, sum[:])
	if err != nil {
		t.Fatal(err)
	}
	return input + "." + b64(sig)
}

// TestPolicySigningAttacks has somebody who administers, but has none of the tenant's signing keys, try to change policies.
func TestPolicySigningAttacks(t *testing.T) {
	t.Parallel()
	f := newFixture(t, nil)
	a, b := twoSigners(t)
	do := func(path, body string) answer {
		method := http.MethodPost
		if path == snpPolicy {
			method = http.MethodPut
		}
		return f.do(t, method, path, adminToken, body)
	}
	const add, remove = "/certificates:add" + version, "/certificates:remove" + version
	do(add, a.vouch(t, a)).token(t)
	set := a.policy(t, permitAll)
	do(snpPolicy, set).token(t)
	body := `{"AttestationPolicy":"` + b64([]byte(permitAll)) + `"}`
	chain := func(list ...signer) string {
		var x5c []string
		for _, s := range list {
			x5c = append(x5c, `"`+base64.StdEncoding.EncodeToString(s.der)+`"`)
		}
		return strings.Join(x5c, ",")
	}
	for name, c := range map[string]struct{ path, token string }{
		"what was signed to set, to reset":         {snpReset, set},
		"what was signed to add, to reset":         {snpReset, a.vouch(t, a)},
		"not signed, to reset":                     {snpReset, ""},
		"a stranger's, whose chain has a signer":   {snpPolicy, b.with(t, `{"alg":"RS256","x5c":[`+chain(b, a)+`]}`, body)},
		"a stranger's signature by a signer's x5c": {snpPolicy, b.with(t, `{"alg":"RS256","x5c":[`+chain(a)+`]}`, body)},
		"a signer's x5c, then another":             {snpPolicy, b.with(t, `{"alg":"RS256","x5c":[`+chain(a)+`],"X5C":[`+chain(b)+`]}`, body)},
		"none beside RS256":                        {snpPolicy, b.with(t, `{"alg":"RS256","Alg":"none","x5c":[`+chain(a)+`]}`, body)},
		"a key in the header":                      {snpPolicy, b.with(t, `{"alg":"RS256","x5c":[`+chain(a)+`],"jwk":{"kty":"RSA","n":"`+b64(b.key.N.Bytes())+`","e":"AQAB"}}`, body)},
		"an unknown critical header":               {snpPolicy, a.with(t, `{"alg":"RS256","x5c":[`+chain(a)+`],"crit":["exp"],"exp":1}`, body)},
		"an unencoded body":                        {snpPolicy, a.with(t, `{"alg":"RS256","x5c":[`+chain(a)+`],"crit":["b64"],"b64":false}`, body)},
		"a stranger adds themselves":               {add, b.vouch(t, b)},
		"a stranger removes the signer":            {remove, b.vouch(t, a)},
		"PS256":                                    {snpPolicy, b.with(t, `{"alg":"PS256","x5c":[`+chain(a)+`]}`, body)},
	} {
		if got := do(c.path, c.token); got.status != http.StatusBadRequest {
			t.Errorf("%s: %d %s", name, got.status, got.body)
		}
	}
	// Nothing of that changed anything.
	if got := claims(t, f.do(t, http.MethodGet, snpPolicy, "", nil).token(t)); got["x-ms-policy"] != set {
		t.Errorf("the policy is %v", got["x-ms-policy"])
	}
	if got := claims(t, f.do(t, http.MethodGet, certificate, adminToken, nil).token(t)); len(keysOf(got)) != 1 {
		t.Errorf("signers: %v", got)
	}
	// An empty token of the signer's resets.
	do(snpReset, a.sign(t, "")).token(t)
}
