// SPDX-License-Identifier: Apache-2.0

package rest_test

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/google/go-cmp/cmp"

	"cofferdam.dev/internal/auth"
	"cofferdam.dev/internal/token"
	"cofferdam.dev/internal/vault/rest"
	"cofferdam.dev/internal/vault/wrap"
)

// target returns a token of the attestation service over the guest's key.
func (w *world) target(t testing.TB, change func(claims object)) string {
	t.Helper()
	keys, err := sharedKeys()
	if err != nil {
		t.Fatal(err)
	}
	key := keys.guest
	now := w.clock.Now()
	claims := object{
		"iss": attestURL, "iat": now.Unix(), "exp": now.Add(time.Hour).Unix(), "jti": rand.Text(), "a": "b",
		"x-ms-runtime": object{"keys": []object{{
			"kty": "RSA", "kid": "guest-key", "key_ops": []string{"encrypt"}, "n": b64(key.N.Bytes()), "e": b64(big.NewInt(int64(key.E)).Bytes()),
		}}},
	}
	if change != nil {
		change(claims)
	}
	signed, err := w.issuer.Sign(claims, map[string]any{"jku": attestURL + "/certs"})
	if err != nil {
		t.Fatal(err)
	}
	return signed
}

// open verifies an answer to a release, and returns its payload.
func (w *world) open(t testing.TB, a answer) string {
	t.Helper()
	jws, err := jose.ParseSignedCompact(a.get("value"), []jose.SignatureAlgorithm{jose.RS256})
	if err != nil {
		t.Fatalf("%v in %s", err, a.body)
	}
	chains, err := jws.Signatures[0].Protected.Certificates(x509.VerifyOptions{DNSName: "test.vault.example", Roots: w.root, CurrentTime: w.clock.Now()})
	if err != nil {
		t.Fatal(err)
	}
	payload, err := jws.Verify(chains[0][0].PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	return string(payload)
}

// unwrap opens the wrapped key at a path of a payload.
func unwrap(t testing.TB, payload, path, enc string) []byte {
	t.Helper()
	keys, err := sharedKeys()
	if err != nil {
		t.Fatal(err)
	}
	key := keys.guest
	inner, err := base64.RawURLEncoding.DecodeString(answer{body: payload}.get(path))
	if err != nil {
		t.Fatal(err)
	}
	in := answer{body: string(inner)}
	if in.get("header.kid") != "guest-key" || in.get("header.alg") != "dir" || in.get("header.enc") != enc || in.get("schema_version") != "1.0" {
		t.Errorf("key_hsm is %s", inner)
	}
	sealed, err := base64.RawURLEncoding.DecodeString(in.get("ciphertext"))
	if err != nil {
		t.Fatal(err)
	}
	got, err := wrap.OpenRSA(wrap.Enc(enc), key, sealed)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

var exportable = object{"exportable": true}

// TestRelease holds answers to recorded ones of both services: members, their order, and what they hold.
func TestRelease(t *testing.T) {
	t.Parallel()
	for managed, want := range map[bool][]string{
		false: {
			"request", "request.api-version", "request.enc", "request.kid", "request.nonce", "response", "response.key", "response.key.key", "response.key.key.kid",
			"response.key.key.kty", "response.key.key.key_ops", "response.key.key.n", "response.key.key.e", "response.key.key.key_hsm", "response.key.attributes",
			"response.key.attributes.enabled", "response.key.attributes.created", "response.key.attributes.updated", "response.key.attributes.recoveryLevel",
			"response.key.attributes.recoverableDays", "response.key.attributes.exportable", "response.key.release_policy", "response.key.release_policy.data",
		},
		true: {
			"request", "request.api-version", "request.enc", "request.kid", "request.nonce", "response", "response.key", "response.key.attributes",
			"response.key.attributes.created", "response.key.attributes.enabled", "response.key.attributes.exportable", "response.key.attributes.recoverableDays",
			"response.key.attributes.recoveryLevel", "response.key.attributes.updated", "response.key.key", "response.key.key.e", "response.key.key.key_hsm",
			"response.key.key.key_ops", "response.key.key.kid", "response.key.key.kty", "response.key.key.n", "response.key.release_policy",
			"response.key.release_policy.contentType", "response.key.release_policy.data",
		},
	} {
		w := newWorld(t, setup{managed: managed})
		created := w.must(t, "POST", "/keys/k/create", object{"kty": "RSA-HSM", "attributes": exportable, "release_policy": policy()})
		version := strings.TrimPrefix(created.get("key.kid"), vaultURL+"/keys/k/")
		for _, c := range []struct{ path, kid, enc string }{
			{"/keys/k//release?api-version=7.4", "/keys/k", ""}, {"/keys/k/release?api-version=7.3", "/keys/k", "CKM_RSA_AES_KEY_WRAP"},
			{"/keys/k/" + version + "/release?api%2Dversion=2025-07-01", "/keys/k/" + version, "RSA_AES_KEY_WRAP_256"},
			{"/keys/K/release?api-version=7.4", "/keys/k", "RSA_AES_KEY_WRAP_384"},
		} {
			body := object{"target": w.target(t, nil), "nonce": "once"}
			enc := "CKM_RSA_AES_KEY_WRAP"
			if c.enc != "" {
				body["enc"], enc = c.enc, c.enc
			}
			a := w.must(t, "POST", c.path, body)
			payload := w.open(t, a)
			if diff := cmp.Diff(want, keyOrder(t, payload)); diff != "" {
				t.Errorf("managed %v: %s", managed, diff)
			}
			p := answer{body: payload}
			kty := map[bool]string{false: "RSA-HSM", true: "RSA"}[managed]
			if p.get("request.kid") != vaultURL+c.kid || p.get("request.enc") != enc || p.get("request.nonce") != "once" ||
				p.get("response.key.key.kid") != created.get("key.kid") || p.get("response.key.key.kty") != kty || p.get("response.key.release_policy.data") != created.get("release_policy.data") {
				t.Errorf("managed %v, %s: %s", managed, c.path, payload)
			}
			key, err := x509.ParsePKCS8PrivateKey(unwrap(t, payload, "response.key.key.key_hsm", enc))
			if err != nil {
				t.Fatal(err)
			}
			if private, ok := key.(*rsa.PrivateKey); !ok || b64(private.N.Bytes()) != created.get("key.n") {
				t.Errorf("managed %v: the key that was released is a %T, or another", managed, key)
			}
			if a.header.Get(rest.ReleaseHeader) == "" {
				t.Error("the release has no ID")
			}
		}
		// Without a nonce there is none in the answer, and without a body there is nothing.
		if p := w.open(t, w.must(t, "POST", "/keys/k/release", object{"target": w.target(t, nil)})); strings.Contains(p, "nonce") {
			t.Errorf("managed %v: %s", managed, p)
		}
		if w.audited(t)["key.release allow"] != 5 {
			t.Errorf("managed %v: the audit log has %v", managed, w.audited(t))
		}
	}
}

// TestReleaseErrors is the table of what releases are refused with. A caller never learns why a policy refused.
func TestReleaseErrors(t *testing.T) {
	t.Parallel()
	w := newWorld(t, setup{})
	w.must(t, "POST", "/keys/k/create", object{"kty": "EC-HSM", "attributes": exportable, "release_policy": policy()})
	w.must(t, "POST", "/keys/plain/create", object{"kty": "EC"})
	w.must(t, "POST", "/keys/off/create", object{"kty": "EC-HSM", "attributes": object{"exportable": true, "enabled": false}, "release_policy": policy()})
	good := w.target(t, nil)
	now := w.clock.Now()
	other, err := token.Generate(token.RS256, "other", now, now.Add(time.Hour), now.Add(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	forged, err := other.Sign(object{"iss": attestURL, "exp": now.Add(time.Hour).Unix(), "a": "b"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	draft, err := token.Draft(object{"iss": attestURL, "exp": now.Add(time.Hour).Unix(), "a": "b"})
	if err != nil {
		t.Fatal(err)
	}
	denied := func(claim string, value any) string {
		return w.target(t, func(c object) {
			c[claim] = value
			if value == nil {
				delete(c, claim)
			}
		})
	}
	for name, c := range map[string]struct {
		path    string
		body    any
		status  int
		code    string
		inner   string
		message string
		reason  string // which the operator finds
	}{
		"no body":         {"/keys/k/release", nil, 400, "BadParameter", "", "no body", ""},
		"no target":       {"/keys/k/release", object{}, 400, "BadParameter", "", "target", ""},
		"unknown enc":     {"/keys/k/release", object{"target": good, "enc": "ROT13"}, 400, "BadParameter", "", "ROT13", ""},
		"a long nonce":    {"/keys/k/release", object{"target": good, "nonce": strings.Repeat("n", 1025)}, 400, "BadParameter", "", "nonce", ""},
		"nonce no text":   {"/keys/k/release", object{"target": good, "nonce": 7}, 400, "BadParameter", "", "nonce", ""},
		"an old version":  {"/keys/k/release?api-version=7.2", object{"target": good}, 400, "BadParameter", "", "7.3", ""},
		"no key":          {"/keys/x/release", object{"target": good}, 404, "KeyNotFound", "", "(name/id) x", ""},
		"no version":      {"/keys/k/" + strings.Repeat("0", 32) + "/release", object{"target": good}, 404, "KeyNotFound", "", "", ""},
		"disabled":        {"/keys/off/release", object{"target": good}, 403, "Forbidden", "KeyDisabled", "disabled", ""},
		"not exportable":  {"/keys/plain/release", object{"target": good}, 403, "Forbidden", "AccessDenied", "cannot be verified", "not-exportable"},
		"no token":        {"/keys/k/release", object{"target": "x"}, 403, "Forbidden", "AccessDenied", "cannot be verified", "token"},
		"another's key":   {"/keys/k/release", object{"target": forged}, 403, "Forbidden", "AccessDenied", "cannot be verified", "token"},
		"unsigned":        {"/keys/k/release", object{"target": draft}, 403, "Forbidden", "AccessDenied", "cannot be verified", "token"},
		"another issuer":  {"/keys/k/release", object{"target": denied("iss", "https://evil.example")}, 403, "Forbidden", "AccessDenied", "cannot be verified", "token"},
		"expired":         {"/keys/k/release", object{"target": denied("exp", now.Add(-time.Hour).Unix())}, 403, "Forbidden", "AccessDenied", "cannot be verified", "token"},
		"for another":     {"/keys/k/release", object{"target": denied("aud", "other")}, 403, "Forbidden", "AccessDenied", "cannot be verified", "token"},
		"simulated":       {"/keys/k/release", object{"target": denied("x-cofferdam-simulated", true)}, 403, "Forbidden", "AccessDenied", "cannot be verified", "token"},
		"policy":          {"/keys/k/release", object{"target": denied("a", "c")}, 403, "Forbidden", "AccessDenied", "cannot be verified", "policy"},
		"a missing claim": {"/keys/k/release", object{"target": denied("a", nil)}, 403, "Forbidden", "AccessDenied", "cannot be verified", "policy"},
		"no wrapping key": {"/keys/k/release", object{"target": denied("x-ms-runtime", object{"keys": []object{}})}, 403, "Forbidden", "AccessDenied", "cannot be verified", "wrapping-key"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := w.send(t.Context(), "operator", "POST", c.path, c.body)
			if a.status != c.status || a.code() != c.code || a.inner() != c.inner || !strings.Contains(a.get("error.message"), c.message) {
				t.Fatalf("%d %s\nwant %d %s %s %s", a.status, a.body, c.status, c.code, c.inner, c.message)
			}
			id := a.header.Get(rest.ReleaseHeader)
			if (id != "") != (c.reason != "") {
				t.Fatalf("the decision is %q", id)
			}
			if id == "" {
				return
			}
			for _, word := range []string{"\"a\"", "actual", "expected", "issuer", "evil", "simulated"} {
				if strings.Contains(a.body, word) {
					t.Errorf("the answer tells why: %s", a.body)
				}
			}
			d := w.must(t, "GET", "/releases/"+id, nil)
			if d.get("reason") != c.reason || d.get("allowed") != "false" || d.get("by") == "" || strings.Contains(d.body, good) {
				t.Errorf("the decision is %s", d.body)
			}
		})
	}
	if a := w.send(t.Context(), "operator", "GET", "/releases/"+strings.Repeat("0", 32), nil); a.status != 404 {
		t.Errorf("an unknown decision: %d %s", a.status, a.body)
	}
}

// TestReleaseRoles lets in who may ask, which is not who may read keys.
func TestReleaseRoles(t *testing.T) {
	t.Parallel()
	for managed, c := range map[bool][2]auth.Role{
		false: {"Key Vault Crypto Service Release User/keys/k", "Key Vault Crypto User"},
		true:  {"Managed HSM Crypto Service Release User", "Managed HSM Crypto User"},
	} {
		w := newWorld(t, setup{managed: managed})
		w.tokens["may"], w.tokens["may not"] = []auth.Role{c[0]}, []auth.Role{c[1]}
		w.must(t, "POST", "/keys/k/create", object{"kty": "oct-HSM", "attributes": exportable, "release_policy": policy()})
		body := object{"target": w.target(t, nil), "enc": "RSA_AES_KEY_WRAP_256"}
		if a := w.send(t.Context(), "may", "POST", "/keys/k/release", body); a.status != 200 {
			t.Errorf("managed %v: %d %s", managed, a.status, a.body)
		} else if got := unwrap(t, w.open(t, a), "response.key.key.key_hsm", "RSA_AES_KEY_WRAP_256"); len(got) != 32 {
			t.Errorf("managed %v: an oct key of %d bytes", managed, len(got))
		}
		if a := w.send(t.Context(), "may not", "POST", "/keys/k/release", body); a.status != 403 {
			t.Errorf("managed %v: %d %s", managed, a.status, a.body)
		}
		if a := w.send(t.Context(), "may", "GET", "/releases/"+strings.Repeat("0", 32), nil); a.status != 403 {
			t.Errorf("managed %v: decisions are told: %d", managed, a.status)
		}
	}
}

// TestPolicyForms has the forms in which recorded vaults and managed HSMs keep one and the same policy.
func TestPolicyForms(t *testing.T) {
	t.Parallel()
	const sent = `{"anyOf":[{"anyOf":[{"claim":"sdk-test","equals":"true"}],"authority":"https://attest.example/"}],"version":"1.0"}`
	for managed, want := range map[bool]string{
		false: `{"version":"1.0","anyOf":[{"authority":"https://attest.example","anyOf":[{"claim":"sdk-test","equals":"true"}]}]}`,
		true:  `{"anyOf":[{"anyOf":[{"claim":"sdk-test","equals":"true"}],"authority":"https://attest.example/"}],"version":"1.0.0"}`,
	} {
		w := newWorld(t, setup{managed: managed})
		a := w.must(t, "POST", "/keys/k/create", object{"kty": "EC-HSM", "attributes": exportable, "release_policy": object{"data": b64([]byte(sent))}})
		got, err := base64.RawURLEncoding.DecodeString(a.get("release_policy.data"))
		if err != nil || string(got) != want {
			t.Errorf("managed %v: %s, %v\nwant %s", managed, got, err, want)
		}
		for _, bad := range []string{"", "{}", `"` + sent + `"`, b64([]byte(sent))} {
			a := w.send(t.Context(), "operator", "POST", "/keys/bad/create", object{"kty": "EC-HSM", "attributes": exportable, "release_policy": object{"data": b64([]byte(bad))}})
			if a.status != 400 {
				t.Errorf("managed %v: the policy %q: %d %s", managed, bad, a.status, a.body)
			}
		}
		// A boolean that is true is equal to the text, as recorded.
		body := object{"target": w.target(t, func(c object) { c["sdk-test"] = true })}
		w.must(t, "POST", "/keys/k/release", body)
	}
}
