// SPDX-License-Identifier: Apache-2.0

package rest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"cofferdam.dev/attest"
	"cofferdam.dev/internal/attestsvc"
	"cofferdam.dev/internal/audit"
	"cofferdam.dev/internal/auth"
	"cofferdam.dev/internal/store"
	"cofferdam.dev/internal/store/boltstore"
	"cofferdam.dev/internal/testguest"
	"cofferdam.dev/verify/anchor"
)

// world is a simulated machine with one guest, and what is trusted of it.
type world struct {
	dir      string
	root     anchor.Root
	guest    attest.Provider
	measured [48]byte
	hostData [32]byte
}

func TestMain(m *testing.M) {
	if os.Getenv(instanceEnv) != "" {
		os.Exit(instance())
	}
	os.Exit(testguest.Main(m))
}

const initTime = "the policy of the guest"

func theWorld(t testing.TB) *world {
	t.Helper()
	m := testguest.Shared(t)
	g := m.Guest(t, initTime)
	return &world{m.Dir, m.Root, g, g.Measurement, g.HostData}
}

// evidence is what a guest sends: the JSON around its report, for runtime data.
func (w *world) evidence(t testing.TB, runtime string) map[string]any {
	t.Helper()
	var data [64]byte
	sum := sha256.Sum256([]byte(runtime))
	copy(data[:], sum[:])
	res, err := w.guest.Report(t.Context(), data)
	if err != nil {
		t.Fatal(err)
	}
	certificates, err := res.CertificateList()
	if err != nil {
		t.Fatal(err)
	}
	var chain []byte
	for _, der := range certificates {
		chain = append(chain, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})...)
	}
	return map[string]any{"SnpReport": b64(res.Report), "VcekCertChain": b64(chain)}
}

func b64(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

func asJSON(t testing.TB, v any) []byte {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

const runtimeJSON = `{"keys":[{"kty":"RSA","kid":"k","n":"AQAB","e":"AQAB","key_ops":["encrypt"]}],"role":"builder"}`

// body is a good request of a guest.
func (w *world) body(t testing.TB, runtime string) map[string]any {
	t.Helper()
	return map[string]any{
		"report":      b64(asJSON(t, w.evidence(t, runtime))),
		"runtimeData": map[string]string{"data": b64([]byte(runtime)), "dataType": "JSON"},
	}
}

// fixture is a service with its handler.
type fixture struct {
	http.Handler

	service *attestsvc.Service
	opts    attestsvc.Options
}

const (
	issuer      = "https://attest.example"
	adminToken  = "admin-token-admin-token-admin-token"
	readerToken = "reader-token-reader-token-reader-token"
	oneToken    = "one-tenant-token-one-tenant-token-one"
)

// tokens are the callers of tests by their bearer tokens.
func tokens(t testing.TB) auth.Authenticator {
	t.Helper()
	byToken := map[string]auth.Role{adminToken: RoleAdmin, readerToken: RoleReader, oneToken: RoleAdmin + "/contoso"}
	return authenticator(func(r *http.Request) (*auth.Identity, error) {
		scheme, value, _ := strings.Cut(r.Header.Get("Authorization"), " ")
		role, ok := byToken[value]
		switch {
		case value == "":
			return nil, auth.ErrNoCredentials
		case value == "unavailable":
			return nil, auth.ErrUnavailable
		case !ok || scheme != "Bearer":
			return nil, auth.ErrCredentials
		}
		return &auth.Identity{Method: "file", Issuer: "test", Subject: string(role), Roles: []auth.Role{role}}, nil
	})
}

type authenticator func(*http.Request) (*auth.Identity, error)

// Authenticate implements auth.Authenticator.
func (f authenticator) Authenticate(r *http.Request) (*auth.Identity, error) { return f(r) }

// newFixture starts a service over a file. Change may alter its options.
func newFixture(t testing.TB, change func(*attestsvc.Options, *Options)) *fixture {
	t.Helper()
	st, err := boltstore.Open(filepath.Join(t.TempDir(), "store"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := st.Close(); err != nil {
			t.Error(err)
		}
	})
	return newFixtureOver(t, st, change)
}

func newFixtureOver(t testing.TB, st store.Store, change func(*attestsvc.Options, *Options)) *fixture {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	log, err := audit.Open(filepath.Join(t.TempDir(), "audit"), audit.Options{Instance: "test", Key: key})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = log.Close() }) // a test may have closed it
	f := &fixture{opts: serviceOptions(theWorld(t).root, st, log)}
	opts := Options{Auth: tokens(t), Tenants: []string{"contoso", "fabrikam"}}
	if change != nil {
		change(&f.opts, &opts)
	}
	if f.service, err = attestsvc.New(t.Context(), f.opts); err != nil {
		t.Fatal(err)
	}
	opts.Service = f.service
	if f.Handler, err = New(opts); err != nil {
		t.Fatal(err)
	}
	return f
}

func serviceOptions(root anchor.Root, st store.Store, log *audit.Log) attestsvc.Options {
	o := attestsvc.Options{Issuer: issuer, Baseline: attestsvc.DefaultBaseline(), Store: st, Audit: log}
	o.Baseline.Roots = append(o.Baseline.Roots, root)
	o.Baseline.AllowSimulated = true
	return o
}

// answer is what a request came to.
type answer struct {
	status int
	header http.Header
	body   []byte
}

// do sends a request. Body is sent as it is when it is text, and else as JSON.
func (f *fixture) do(t testing.TB, method, path, bearer string, body any) answer {
	t.Helper()
	var r io.Reader
	switch b := body.(type) {
	case nil:
	case string:
		r = strings.NewReader(b)
	default:
		r = strings.NewReader(string(asJSON(t, b)))
	}
	req := httptest.NewRequestWithContext(t.Context(), method, path, r)
	if bearer != "" {
		req.Header.Set("Authorization", "Bearer "+bearer)
	}
	w := httptest.NewRecorder()
	f.ServeHTTP(w, req)
	return answer{w.Code, w.Header(), w.Body.Bytes()}
}

// token returns the token of an answer that must have one.
func (a answer) token(t testing.TB) string {
	t.Helper()
	var v struct{ Token string }
	if err := json.Unmarshal(a.body, &v); err != nil || a.status != http.StatusOK || v.Token == "" {
		t.Fatalf("status %d: %s (%v)", a.status, a.body, err)
	}
	return v.Token
}

// failure returns the error of an answer that must be one in the protocol's form.
func (a answer) failure(t testing.TB) failure {
	t.Helper()
	var v map[string]failure
	if err := json.Unmarshal(a.body, &v); err != nil || len(v) != 1 || v["error"].Code == "" || v["error"].Message == "" {
		t.Fatalf("status %d: %s (%v)", a.status, a.body, err)
	}
	if strings.Contains(string(a.body), "builder") {
		t.Errorf("an error has runtime data: %s", a.body)
	}
	return v["error"]
}

// claims returns the claims of a token, unverified.
func claims(t testing.TB, compact string) map[string]any {
	t.Helper()
	parts := strings.Split(compact, ".")
	if len(parts) != 3 {
		t.Fatalf("no token: %q", compact)
	}
	b, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		t.Fatal(err)
	}
	var m map[string]any
	if err := json.Unmarshal(b, &m); err != nil {
		t.Fatal(err)
	}
	return m
}
