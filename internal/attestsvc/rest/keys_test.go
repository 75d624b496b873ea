// SPDX-License-Identifier: Apache-2.0

package rest

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/lestrrat-go/jwx/v3/jwa"
	"github.com/lestrrat-go/jwx/v3/jwk"
	"github.com/lestrrat-go/jwx/v3/jws"

	"cofferdam.dev/evidence"
	"cofferdam.dev/internal/attestsvc"
	"cofferdam.dev/internal/audit"
	"cofferdam.dev/internal/serve"
	"cofferdam.dev/internal/store"
	"cofferdam.dev/internal/token"
	"cofferdam.dev/verify"
	"cofferdam.dev/verify/amd"
	"cofferdam.dev/verify/anchor"
)

// TestKeys reads the key set as a relying party does, and asks again.
func TestKeys(t *testing.T) {
	t.Parallel()
	f := newFixture(t, nil)
	var first string
	for _, path := range []string{"/certs", "//certs/", "/CERTS", "/tenants/contoso/certs", "/simulated/certs", "/tenants/contoso/simulated/certs"} {
		a := f.do(t, http.MethodGet, path, "", nil)
		var set struct{ Keys []map[string]any }
		if err := json.Unmarshal(a.body, &set); err != nil || a.status != http.StatusOK || len(set.Keys) != 2 {
			t.Fatalf("%s: %d %s", path, a.status, a.body)
		}
		for _, k := range set.Keys {
			if x5c, _ := k["x5c"].([]any); k["kid"] == "" || k["kty"] == "" || k["use"] != "sig" || len(x5c) != 1 || k["d"] != nil {
				t.Errorf("%v", k)
			}
		}
		if tag := a.header.Get("Etag"); first == "" {
			first = tag
		} else if tag != first {
			t.Errorf("%s: tag is %q, not %q", path, tag, first)
		}
		if c := a.header.Get("Cache-Control"); c != "public, max-age=300" || keysAge >= attestsvc.KeysAhead {
			t.Errorf("kept for %q", c)
		}
	}
	for given, want := range map[string]int{first: 304, "W/" + first: 304, `"x", ` + first: 304, "*": 304, `"x"`: 200} {
		r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/certs", nil)
		r.Header.Set("If-None-Match", given)
		w := httptest.NewRecorder()
		if f.ServeHTTP(w, r); w.Code != want || (want == 304) != (w.Body.Len() == 0) {
			t.Errorf("%s: %d with %d bytes", given, w.Code, w.Body.Len())
		}
	}
}

// TestMetadata has an issuer name itself where it is found.
func TestMetadata(t *testing.T) {
	t.Parallel()
	f := newFixture(t, nil)
	for _, below := range []string{"", "/simulated", "/tenants/contoso", "/tenants/contoso/simulated"} {
		a := f.do(t, http.MethodGet, below+"/.well-known/openid-configuration", "", nil)
		var m map[string]any
		if err := json.Unmarshal(a.body, &m); err != nil {
			t.Fatal(err)
		}
		if m["issuer"] != issuer+below || m["jwks_uri"] != issuer+below+"/certs" || a.header.Get("Cache-Control") != "public, max-age=3600" {
			t.Errorf("%s: %v", below, m)
		}
		for _, name := range []string{"response_types_supported", "id_token_signing_alg_values_supported", "claims_supported", "subject_types_supported"} {
			if l, _ := m[name].([]any); len(l) == 0 {
				t.Errorf("%s has no %s", below, name)
			}
		}
	}
}

// TestPaths has what is no endpoint, and methods that an endpoint does not take.
func TestPaths(t *testing.T) {
	t.Parallel()
	f := newFixture(t, nil)
	hardware := newFixture(t, func(o *attestsvc.Options, _ *Options) { o.Baseline.AllowSimulated = false })
	for _, c := range []struct {
		f            *fixture
		method, path string
		status       int
		allow        string
	}{
		{f, "GET", "/", 404, ""}, {f, "GET", "/certs/x", 404, ""}, {f, "GET", "/tenants", 404, ""}, {f, "GET", "/tenants/contoso", 404, ""},
		{f, "GET", "/tenants/contoso/tenants/contoso/certs", 404, ""}, {f, "GET", "/simulated/simulated/certs", 404, ""},
		{f, "GET", "/policies", 404, ""}, {f, "GET", "/policies/SevSnpVm:other", 404, ""}, {f, "GET", "/../certs", 404, ""}, {f, "GET", "/./certs", 404, ""},
		{f, "GET", "/policies/x", 400, ""},
		{f, "POST", "/certs", 405, "GET"}, {f, "GET", "/attest/SevSnpVm", 405, "POST"}, {f, "DELETE", "/policies/SevSnpVm", 405, "GET, PUT"},
		{f, "GET", "/policies/SevSnpVm:reset", 405, "POST"}, {f, "PUT", "/challenge", 405, "GET, POST"}, {f, "POST", "/certificates", 405, "GET"},
		{f, "BREW", "/certs", 405, "GET"},
		{f, "GET", "/attest/self", 404, ""},
		{hardware, "GET", "/simulated/certs", 404, ""}, {hardware, "GET", "/certs", 200, ""},
	} {
		a := c.f.do(t, c.method, c.path, "", nil)
		if a.status != c.status || a.header.Get("Allow") != c.allow {
			t.Errorf("%s %s: %d, %q", c.method, c.path, a.status, a.header.Get("Allow"))
		}
		if c.status != http.StatusOK {
			a.failure(t)
		}
	}
}

// verifier takes tokens as a relying party does that trusts one issuer, by a library that the service does not use.
func (f *fixture) verifier(t testing.TB) func(compact string, alg jwa.SignatureAlgorithm, issuer string) error {
	t.Helper()
	set, err := jwk.Parse(f.do(t, http.MethodGet, "/certs", "", nil).body)
	if err != nil {
		t.Fatal(err)
	}
	return func(compact string, alg jwa.SignatureAlgorithm, issuer string) error {
		m, err := jws.Parse([]byte(compact))
		if err != nil {
			return err
		}
		kid, _ := m.Signatures()[0].ProtectedHeaders().KeyID()
		key, ok := set.LookupKeyID(kid)
		if !ok {
			return errors.New("the key is unknown")
		}
		payload, err := jws.Verify([]byte(compact), jws.WithKey(alg, key))
		if err != nil {
			return err
		}
		var c struct{ Iss string }
		if err := json.Unmarshal(payload, &c); err != nil || c.Iss != issuer {
			return errors.New("the issuer is " + c.Iss)
		}
		return nil
	}
}

// TestTokens has a second library take what it should, and nothing of what attackers make of it.
func TestTokens(t *testing.T) {
	t.Parallel()
	w := theWorld(t)
	f := newFixture(t, nil)
	other := newFixture(t, nil)
	take := f.verifier(t)
	const ours = issuer + "/simulated"
	attest := func(f *fixture, path string) string {
		t.Helper()
		return f.do(t, http.MethodPost, path, "", w.body(t, runtimeJSON)).token(t)
	}
	good := attest(f, attestSNP)
	parts := strings.Split(good, ".")
	for path, alg := range map[string]jwa.SignatureAlgorithm{
		"": jwa.RS256(), "&form=maa-es256": jwa.ES256(), "&form=ear": jwa.ES256(), "&form=oidc&audience=x": jwa.ES256(),
	} {
		if err := take(attest(f, attestSNP+path), alg, ours); err != nil {
			t.Errorf("%q: %v", path, err)
		}
	}
	if err := take(f.do(t, http.MethodGet, snpPolicy, "", nil).token(t), jwa.RS256(), issuer); err != nil {
		t.Errorf("a policy: %v", err)
	}
	body := w.body(t, runtimeJSON)
	body["draftPolicyForAttestation"] = permitAll
	draft := f.do(t, http.MethodPost, attestSNP, "", body).token(t)
	keys, err := f.service.Keys(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for name, bad := range map[string]string{
		"a draft":               draft,
		"another tenant's":      attest(f, "/tenants/contoso"+attestSNP),
		"another service's":     attest(other, attestSNP),
		"alg none":              b64([]byte(`{"alg":"none"}`)) + "." + parts[1] + ".",
		"alg none, known key":   b64(header(t, parts[0], "alg", "none")) + "." + parts[1] + ".",
		"no signature":          parts[0] + "." + parts[1] + ".",
		"HS256, the public key": confused(t, keys, parts),
		"foreign kid":           b64(header(t, parts[0], "kid", "x")) + "." + parts[1] + "." + parts[2],
		"kid of the other key":  b64(header(t, parts[0], "kid", otherKey(t, keys, parts[0]))) + "." + parts[1] + "." + parts[2],
		"foreign jku":           b64(header(t, parts[0], "jku", "https://evil.example/certs")) + "." + parts[1] + "." + parts[2],
		"other claims":          parts[0] + "." + b64(append([]byte(`{"x":1,`), decoded(t, parts[1])[1:]...)) + "." + parts[2],
	} {
		if take(bad, jwa.RS256(), ours) == nil {
			t.Errorf("%s: the other library takes it", name)
		}
		if _, err := token.Verify(bad, token.Expect{Keys: keys, Algorithms: []token.Algorithm{token.RS256}, Issuer: ours, Now: time.Now()}); err == nil {
			t.Errorf("%s: ours takes it", name)
		}
	}
	for name, at := range map[string]time.Time{"expired": time.Now().Add(9 * time.Hour), "not yet valid": time.Now().Add(-time.Hour)} {
		if _, err := token.Verify(good, token.Expect{Keys: keys, Algorithms: []token.Algorithm{token.RS256}, Issuer: ours, Now: at}); !errors.Is(err, token.ErrTime) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func decoded(t *testing.T, s string) []byte {
	t.Helper()
	b, err := base64.RawURLEncoding.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// header returns a token's header with one member changed.
func header(t *testing.T, part, name, value string) []byte {
	t.Helper()
	var h map[string]any
	if err := json.Unmarshal(decoded(t, part), &h); err != nil {
		t.Fatal(err)
	}
	h[name] = value
	return asJSON(t, h)
}

func otherKey(t *testing.T, keys []token.PublicKey, part string) string {
	t.Helper()
	i := slices.IndexFunc(keys, func(k token.PublicKey) bool { return !bytes.Contains(decoded(t, part), []byte(k.ID)) })
	if i < 0 {
		t.Fatal("there is one key")
	}
	return keys[i].ID
}

// confused signs with HMAC, keyed with what everybody knows of the RSA key.
func confused(t *testing.T, keys []token.PublicKey, parts []string) string {
	t.Helper()
	i := slices.IndexFunc(keys, func(k token.PublicKey) bool { return k.Algorithm == token.RS256 })
	input := b64(header(t, parts[0], "alg", "HS256")) + "." + parts[1]
	h := hmac.New(sha256.New, keys[i].Certificate)
	_, _ = h.Write([]byte(input))
	return input + "." + b64(h.Sum(nil))
}

// TestSelf appraises what the service says about the machine that it runs in.
func TestSelf(t *testing.T) {
	t.Parallel()
	w := theWorld(t)
	f := newFixture(t, func(_ *attestsvc.Options, o *Options) { o.Self = attester{w.guest} })
	nonce := []byte("sixteen bytes...")
	a := f.do(t, http.MethodGet, "/attest/self?nonce="+b64(nonce), "", nil)
	doc, err := evidence.ParseDocument(a.body)
	if err != nil {
		t.Fatalf("%d %s: %v", a.status, a.body, err)
	}
	var bound selfClaims
	if err := json.Unmarshal(doc.RuntimeData, &bound); err != nil || len(bound.Keys) != 2 || bound.Issuer != issuer {
		t.Errorf("%s: %v", doc.RuntimeData, err)
	}
	signed := decoded(t, strings.Split(f.do(t, http.MethodPost, attestSNP, "", w.body(t, runtimeJSON)).token(t), ".")[0])
	if !slices.ContainsFunc(bound.Keys, func(kid string) bool { return bytes.Contains(signed, []byte(kid)) }) {
		t.Errorf("%s names none of %q", signed, bound.Keys)
	}
	// A key that whoever holds the store has put there is not the service's.
	other, err := attestsvc.New(t.Context(), f.opts)
	if err != nil {
		t.Fatal(err)
	}
	if doc, err = evidence.ParseDocument(f.do(t, http.MethodGet, "/attest/self?nonce="+b64(nonce), "", nil).body); err != nil {
		t.Fatal(err)
	}
	for _, kid := range other.OwnKeys() {
		if strings.Contains(string(doc.RuntimeData), kid) {
			t.Errorf("%s vouches for another's key %s", doc.RuntimeData, kid)
		}
	}
	v := verify.Appraise(t.Context(), doc, verify.Options{
		Roots: []anchor.Root{w.root}, AllowSimulated: true, Now: time.Now(), Nonce: nonce, Source: evidence.SourceWorkload,
		SNP: amd.Policy{MinimumTCB: amd.DefaultMinimumTCB()}, Measurements: [][]byte{w.measured[:]}, HostData: [][32]byte{w.hostData},
	})
	if v.Outcome != verify.Accepted {
		t.Errorf("%+v", v.Failures())
	}
	for _, q := range []string{"", "?nonce=", "?nonce=AAAA", "?nonce=!", "?nonce=" + strings.Repeat("A", 200)} {
		if a := f.do(t, http.MethodGet, "/attest/self"+q, "", nil); a.status != http.StatusBadRequest {
			t.Errorf("%q: %d", q, a.status)
		}
	}
}

// TestClassify has errors that are not the client's, none of which tells what failed.
func TestClassify(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		err    error
		status int
		code   string
	}{
		"store":     {store.ErrUnavailable, 503, codeUnavailable},
		"conflict":  {store.ErrConflict, 503, codeUnavailable},
		"audit":     {audit.ErrClosed, 503, codeUnavailable},
		"large":     {&http.MaxBytesError{Limit: 7}, 413, serve.CodeTooLarge},
		"else":      {errors.New("a secret"), 500, codeInternal},
		"signature": {attestsvc.ErrSigner, 400, codeOperation},
	} {
		if f := classify(c.err); f.status != c.status || f.Code != c.code || strings.Contains(f.Message, "secret") {
			t.Errorf("%s: %+v", name, f)
		}
	}
	w := httptest.NewRecorder()
	Error(w, nil, http.StatusTooManyRequests, serve.CodeTooMany, "slower")
	if w.Code != 429 || w.Body.String() != `{"error":{"code":"TooManyRequests","message":"slower"}}`+"\n" {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}

// TestNew has what a handler can not be made of.
func TestNew(t *testing.T) {
	t.Parallel()
	f := newFixture(t, nil)
	if _, err := New(Options{}); err == nil {
		t.Error("without a service")
	}
	if _, err := New(Options{Service: f.service, Tenants: []string{"A/b"}}); err == nil {
		t.Error("with a bad tenant")
	}
}
