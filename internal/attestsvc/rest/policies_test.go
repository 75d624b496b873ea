// SPDX-License-Identifier: Apache-2.0

package rest

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"math/big"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"cofferdam.dev/internal/attestsvc"
)

// signer is somebody who signs policies.
type signer struct {
	key *rsa.PrivateKey
	der []byte
}

// signers are made once: their keys take a while.
var signers = sync.OnceValues(func() ([]signer, error) {
	var list []signer
	for i := range 2 {
		key, err := rsa.GenerateKey(rand.Reader, 2048)
		if err != nil {
			return nil, err
		}
		template := &x509.Certificate{
			SerialNumber: big.NewInt(int64(i) + 1), Subject: pkix.Name{CommonName: "policy signer"},
			NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		}
		der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
		if err != nil {
			return nil, err
		}
		list = append(list, signer{key, der})
	}
	return list, nil
})

func twoSigners(t testing.TB) (a, b signer) {
	t.Helper()
	list, err := signers()
	if err != nil {
		t.Fatal(err)
	}
	return list[0], list[1]
}

// sign makes a token by hand, so that the test does not rest on the library that reads it.
func (s signer) sign(t testing.TB, body string) string {
	t.Helper()
	header := `{"alg":"RS256","x5c":["` + base64.StdEncoding.EncodeToString(s.der) + `"]}`
	input := b64([]byte(header)) + "." + b64([]byte(body))
	sum := sha256.Sum256([]byte(input))
	sig, err := rsa.SignPKCS1v15(rand.Reader, s.key, crypto.SHA256, sum[:])
	if err != nil {
		t.Fatal(err)
	}
	return input + "." + b64(sig)
}

func (s signer) policy(t testing.TB, text string) string {
	t.Helper()
	return s.sign(t, `{"AttestationPolicy":"`+b64([]byte(text))+`"}`)
}

func (s signer) vouch(t testing.TB, other signer) string {
	t.Helper()
	return s.sign(t, `{"policyCertificate":{"kty":"RSA","x5c":["`+base64.StdEncoding.EncodeToString(other.der)+`"]}}`)
}

const (
	version     = "?api-version=2022-08-01"
	permitAll   = "version=1.0; authorizationrules{ => permit(); }; issuancerules{};"
	snpPolicy   = "/policies/SevSnpVm" + version
	snpReset    = "/policies/SevSnpVm:reset" + version
	certificate = "/certificates" + version
)

// TestPolicyLife has a tenant's policies set, read, signed, guarded and reset; another tenant sees none of it.
func TestPolicyLife(t *testing.T) {
	t.Parallel()
	f := newFixture(t, nil)
	a, b := twoSigners(t)
	const tenant = "/tenants/contoso"
	state := func(method, path string, body any) map[string]any {
		t.Helper()
		return claims(t, f.do(t, method, tenant+path, adminToken, body).token(t))
	}
	refused := func(method, path string, body any, code, want string) {
		t.Helper()
		e := f.do(t, method, tenant+path, adminToken, body).failure(t)
		if e.Code != code || !strings.Contains(e.Message, want) {
			t.Errorf("%s %s: %s %q; want %s %q", method, path, e.Code, e.Message, code, want)
		}
	}
	unsigned := policyToken(permitAll)
	sum := sha256.Sum256([]byte(unsigned))
	got := state(http.MethodPut, snpPolicy, unsigned)
	if got["x-ms-policy-result"] != "Updated" || got["x-ms-policy-token-hash"] != b64(sum[:]) || got["x-ms-policy-signer"] != nil || got["iss"] != issuer+tenant {
		t.Errorf("set: %v", got)
	}
	if got := state(http.MethodPut, "/policies/sevsnpvm"+version, `"`+unsigned+`"`); got["x-ms-policy-token-hash"] != b64(sum[:]) {
		t.Errorf("set as a JSON string: %v", got)
	}
	if got := state(http.MethodGet, snpPolicy, nil); got["x-ms-policy"] != unsigned {
		t.Errorf("get: %v", got)
	}
	if got := claims(t, f.do(t, http.MethodGet, snpPolicy, "", nil).token(t)); got["x-ms-policy"] == unsigned {
		t.Errorf("another tenant has it: %v", got)
	}
	if got := state(http.MethodGet, certificate, nil); len(keysOf(got)) != 0 {
		t.Errorf("signers of nobody: %v", got)
	}
	refused(http.MethodPost, "/certificates:add"+version, a.vouch(t, b), codeOperation, "signs itself in")
	if got := state(http.MethodPost, "/certificates:add"+version, map[string]string{"policyCertificateToAdd": a.vouch(t, a)}); got["x-ms-certificate-result"] != "IsPresent" ||
		got["x-ms-policycertificates-result"] != "IsPresent" || len(got["x-ms-certificate-thumbprint"].(string)) != 40 {
		t.Errorf("add: %v", got)
	}
	refused(http.MethodPut, snpPolicy, unsigned, codeOperation, "must be signed")
	refused(http.MethodPut, snpPolicy, b.policy(t, permitAll), codeOperation, "must be signed")
	refused(http.MethodPost, snpReset, "eyJhbGciOiJub25lIn0..", codeOperation, "must be signed")
	refused(http.MethodPost, "/certificates:add"+version, b.vouch(t, b), codeOperation, "must be signed")
	if got := state(http.MethodPut, snpPolicy, a.policy(t, permitAll)); got["x-ms-policy-signer"] == nil {
		t.Errorf("signed: %v", got)
	}
	token := f.do(t, http.MethodPost, tenant+attestSNP, "", theWorld(t).body(t, runtimeJSON)).token(t)
	if got := claims(t, token); got["x-ms-policy-hash"] != attestsvc.PolicyHash(permitAll) || got["x-ms-policy-signer"] == nil {
		t.Errorf("attested: %v", got)
	}
	state(http.MethodPost, "/certificates:add"+version, `"`+a.vouch(t, b)+`"`)
	if got := state(http.MethodGet, certificate, nil); len(keysOf(got)) != 2 {
		t.Errorf("signers: %v", got)
	}
	if got := state(http.MethodPost, "/certificates:remove"+version, map[string]string{"policyCertificateToRemove": b.vouch(t, a)}); got["x-ms-certificate-result"] != "IsAbsent" {
		t.Errorf("remove: %v", got)
	}
	refused(http.MethodPost, "/certificates:remove"+version, b.vouch(t, a), codeParameter, "not one of")
	refused(http.MethodPost, "/certificates:remove"+version, b.vouch(t, b), codeParameter, "last")
	refused(http.MethodPost, snpReset, a.sign(t, "{}"), codeOperation, "must be signed")
	if got := state(http.MethodPost, snpReset, b.sign(t, "{}")); got["x-ms-policy-result"] != "Removed" {
		t.Errorf("reset: %v", got)
	}
}

func keysOf(claims map[string]any) []any {
	set, _ := claims["x-ms-policy-certificates"].(map[string]any)
	keys, _ := set["keys"].([]any)
	return keys
}

// TestPolicyErrors has each way in which a policy is not taken.
func TestPolicyErrors(t *testing.T) {
	t.Parallel()
	f := newFixture(t, nil)
	a, _ := twoSigners(t)
	signed := a.policy(t, permitAll)
	for name, c := range map[string]struct{ body, code, want string }{
		"empty":              {"", codeParameter, "three parts"},
		"no token":           {"version=1.0;", codeParameter, "three parts"},
		"a bad JSON string":  {`"abc`, codeParameter, "JSON string"},
		"syntax":             {policyToken("version=1.0;\n  authorizationrules{ permit };"), codePolicyParsing, "2:30"},
		"no claim":           {b64([]byte(`{"alg":"none"}`)) + "." + b64([]byte(`{}`)) + ".", codeParameter, "AttestationPolicy"},
		"no base64":          {b64([]byte(`{"alg":"none"}`)) + "." + b64([]byte(`{"AttestationPolicy":"!"}`)) + ".", codeParameter, "base64url"},
		"none, signed":       {policyToken(permitAll) + "AAAA", codeParameter, "not signed"},
		"HS256":              {b64([]byte(`{"alg":"HS256"}`)) + "." + b64([]byte(`{}`)) + ".AAAA", codeParameter, "HS256"},
		"no certificate":     {b64([]byte(`{"alg":"RS256"}`)) + "." + b64([]byte(`{}`)) + ".AAAA", codeParameter, "x5c"},
		"changed":            {signed[:len(signed)-4] + "AAAA", codeParameter, "does not verify"},
		"too large":          {strings.Repeat("a", 600<<10), codeParameter, "bytes"},
		"our own token":      {f.do(t, http.MethodGet, snpPolicy, "", nil).token(t), codeParameter, "x5c"},
		"another's evidence": {f.do(t, http.MethodPost, attestSNP, "", theWorld(t).body(t, runtimeJSON)).token(t), codeParameter, "x5c"},
	} {
		a := f.do(t, http.MethodPut, snpPolicy, adminToken, c.body)
		if e := a.failure(t); a.status != http.StatusBadRequest || e.Code != c.code || !strings.Contains(e.Message, c.want) {
			t.Errorf("%s: %d %s %q; want %s %q", name, a.status, e.Code, e.Message, c.code, c.want)
		}
	}
}

// TestWhoMay has every endpoint asked by everybody.
func TestWhoMay(t *testing.T) {
	t.Parallel()
	f := newFixture(t, nil)
	token := f.do(t, http.MethodPost, attestSNP, "", theWorld(t).body(t, runtimeJSON)).token(t)
	const open, admin, reader = "open", "admin", "reader"
	for _, c := range []struct{ method, path, who string }{
		{"GET", snpPolicy, open}, {"GET", "/certs", open}, {"HEAD", "/certs", open}, {"GET", "/.well-known/openid-configuration", open},
		{"GET", "/challenge", open}, {"PUT", snpPolicy, admin}, {"POST", snpReset, admin}, {"GET", certificate, reader},
		{"POST", "/certificates:add" + version, admin}, {"POST", "/certificates:remove" + version, admin},
	} {
		for _, tenant := range []string{"", "/tenants/contoso", "/tenants/fabrikam", "/simulated"} {
			for _, bearer := range []string{"", adminToken, readerToken, oneToken, "nonsense", token, "unavailable"} {
				may := c.who == open || bearer == adminToken || bearer == oneToken && tenant == "/tenants/contoso" || bearer == readerToken && c.who == reader
				want := map[bool]int{true: 0, false: http.StatusForbidden}[may]
				switch {
				case may:
				case bearer == "unavailable":
					want = http.StatusServiceUnavailable
				case bearer == "" || bearer == "nonsense" || bearer == token:
					want = http.StatusUnauthorized
				}
				a := f.do(t, c.method, tenant+c.path, bearer, "x")
				refused := a.status == http.StatusUnauthorized || a.status == http.StatusForbidden || a.status == http.StatusServiceUnavailable
				if refused != (want != 0) || refused && a.status != want {
					t.Errorf("%s %s%s with %.10q: %d, not %d", c.method, tenant, c.path, bearer, a.status, want)
				}
				if refused {
					a.failure(t)
				}
				if a.status == http.StatusUnauthorized && a.header.Get("WWW-Authenticate") == "" {
					t.Error("401 without a challenge")
				}
			}
		}
	}
	nobody := newFixture(t, func(_ *attestsvc.Options, o *Options) { o.Auth = nil })
	if a := nobody.do(t, http.MethodPut, snpPolicy, adminToken, policyToken(permitAll)); a.status != http.StatusUnauthorized {
		t.Errorf("without an authenticator: %d", a.status)
	}
}
