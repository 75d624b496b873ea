// SPDX-License-Identifier: Apache-2.0

package auth_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"cofferdam.dev/internal/auth"
	"cofferdam.dev/internal/token"
)

const admin, reader = auth.Role("admin"), auth.Role("reader")

func request(t testing.TB, authorization string) *http.Request {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", nil)
	if authorization != "" {
		r.Header.Set("Authorization", authorization)
	}
	return r
}

// provider is an OpenID provider that signs what it is told.
type provider struct {
	*httptest.Server

	key   *token.Key
	asked atomic.Int64
	down  atomic.Bool
}

func startProvider(t *testing.T) *provider {
	t.Helper()
	now := time.Now()
	key, err := token.Generate(token.ES256, "provider", now, now.Add(time.Hour), now.Add(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	p := &provider{key: key}
	mux := http.NewServeMux()
	mux.HandleFunc("/.well-known/openid-configuration", func(w http.ResponseWriter, _ *http.Request) {
		if p.down.Load() {
			http.Error(w, "down", http.StatusServiceUnavailable)
			return
		}
		_, _ = fmt.Fprintf(w, `{"issuer":%q,"jwks_uri":%q,"authorization_endpoint":"x","token_endpoint":"x"}`, p.URL, p.URL+"/keys")
	})
	mux.HandleFunc("/keys", func(w http.ResponseWriter, _ *http.Request) {
		p.asked.Add(1)
		b, err := token.JWKS([]token.PublicKey{key.Public()}, now)
		if err != nil {
			t.Error(err)
		}
		_, _ = w.Write(b)
	})
	p.Server = httptest.NewServer(mux)
	t.Cleanup(p.Close)
	return p
}

func (p *provider) token(t testing.TB, k *token.Key, change map[string]any) string {
	t.Helper()
	claims := map[string]any{"iss": p.URL, "aud": "cofferdam", "sub": "alice", "exp": time.Now().Add(time.Hour).Unix(), "groups": []string{"ops"}}
	for name, v := range change {
		if claims[name] = v; v == nil {
			delete(claims, name)
		}
	}
	s, err := k.Sign(claims, nil)
	if err != nil {
		t.Fatal(err)
	}
	return "Bearer " + s
}

func TestOIDC(t *testing.T) {
	t.Parallel()
	p := startProvider(t)
	a, err := auth.NewOIDC(auth.OIDCOptions{
		Issuer: p.URL, Audience: "cofferdam",
		Rules: []auth.OIDCRule{{Claim: "groups", Value: "ops", Roles: []auth.Role{admin}}, {Claim: "sub", Value: "bob", Roles: []auth.Role{reader}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	other, err := token.Generate(token.ES256, "other", time.Now(), time.Now().Add(time.Hour), time.Now().Add(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		authorization string
		roles         []auth.Role
		err           error
	}{
		"group":            {p.token(t, p.key, nil), []auth.Role{admin}, nil},
		"group as text":    {p.token(t, p.key, map[string]any{"groups": "ops"}), []auth.Role{admin}, nil},
		"subject":          {p.token(t, p.key, map[string]any{"groups": nil, "sub": "bob"}), []auth.Role{reader}, nil},
		"both":             {p.token(t, p.key, map[string]any{"sub": "bob"}), []auth.Role{admin, reader}, nil},
		"no rule":          {p.token(t, p.key, map[string]any{"groups": nil}), nil, nil},
		"group is a part":  {p.token(t, p.key, map[string]any{"groups": "ops2"}), nil, nil},
		"groups are odd":   {p.token(t, p.key, map[string]any{"groups": []any{1, "ops"}}), nil, nil},
		"other audience":   {p.token(t, p.key, map[string]any{"aud": "vault"}), nil, auth.ErrCredentials},
		"expired":          {p.token(t, p.key, map[string]any{"exp": 1}), nil, auth.ErrCredentials},
		"other issuer":     {p.token(t, p.key, map[string]any{"iss": "https://elsewhere"}), nil, auth.ErrNoCredentials},
		"other key":        {p.token(t, other, nil), nil, auth.ErrCredentials},
		"nothing":          {"", nil, auth.ErrNoCredentials},
		"other scheme":     {"Basic eDp5", nil, auth.ErrCredentials},
		"no token":         {"Bearer ", nil, auth.ErrCredentials},
		"no JWT":           {"Bearer abc", nil, auth.ErrNoCredentials},
		"too long a token": {"Bearer " + strings.Repeat("a", 20<<10), nil, auth.ErrCredentials},
	} {
		id, err := a.Authenticate(request(t, c.authorization))
		if !errors.Is(err, c.err) {
			t.Errorf("%s: error %v, want %v", name, err, c.err)
			continue
		}
		if err == nil && cmp.Diff(c.roles, id.Roles) != "" {
			t.Errorf("%s: roles %q, want %q", name, id.Roles, c.roles)
		}
		if err != nil && c.authorization != "" && len(c.authorization) > 20 && strings.Contains(err.Error(), strings.TrimPrefix(c.authorization, "Bearer ")) {
			t.Errorf("%s: the error has the token", name)
		}
	}
	before, began := p.asked.Load(), time.Now()
	for range 100 { // who sends unknown keys does not make us a nuisance
		_, _ = a.Authenticate(request(t, p.token(t, other, nil))) // refused above
	}
	// A few at once, and then one in a second: that many, however slowly the hundred came.
	if n := p.asked.Load() - before; n > 10+int64(time.Since(began).Seconds()) {
		t.Errorf("the provider was asked %d times", n)
	}
}

func TestOIDCUnavailable(t *testing.T) {
	t.Parallel()
	p := startProvider(t)
	p.down.Store(true)
	var now atomic.Int64
	now.Store(time.Now().Unix())
	a, err := auth.NewOIDC(auth.OIDCOptions{Issuer: p.URL, Audience: "cofferdam", Now: func() time.Time { return time.Unix(now.Load(), 0) }})
	if err != nil {
		t.Fatal(err)
	}
	if _, err = a.Authenticate(request(t, p.token(t, p.key, nil))); !errors.Is(err, auth.ErrUnavailable) {
		t.Errorf("a provider that is down: %v", err)
	}
	p.down.Store(false)
	now.Add(20)
	if _, err = a.Authenticate(request(t, p.token(t, p.key, nil))); err != nil {
		t.Errorf("a provider that is up again: %v", err)
	}
	for _, issuer := range []string{"", "http://elsewhere", "ftp://127.0.0.1", "https://"} {
		if _, err := auth.NewOIDC(auth.OIDCOptions{Issuer: issuer, Audience: "x"}); err == nil {
			t.Errorf("issuer %q is taken", issuer)
		}
	}
	if _, err := auth.NewOIDC(auth.OIDCOptions{Issuer: "https://a"}); err == nil {
		t.Error("no audience is taken")
	}
}

func TestFileToken(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "new", "token")
	a, err := auth.OpenFileToken(path, admin)
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	secret := strings.TrimSpace(string(b))
	if _, err = auth.OpenFileToken(path, admin); err != nil {
		t.Error(err)
	}
	if id, err := a.Authenticate(request(t, "bearer "+secret)); err != nil || !id.Has(admin) || id.Has(reader) {
		t.Errorf("%v, %v", id, err)
	}
	if _, err := a.Authenticate(request(t, "Bearer "+secret+"x")); !errors.Is(err, auth.ErrCredentials) || strings.Contains(err.Error(), secret) {
		t.Errorf("another token: %v", err)
	}
	if strings.Contains(fmt.Sprintf("%v %+v %#v", a, a, a), secret) {
		t.Error("the token is printed")
	}
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := auth.OpenFileToken(path, admin); err == nil {
		t.Error("a file that all can read is taken")
	}
	short := filepath.Join(t.TempDir(), "short")
	if err := os.WriteFile(short, []byte("hunter2"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := auth.OpenFileToken(short, admin); err == nil || strings.Contains(err.Error(), "hunter2") {
		t.Errorf("a short token: %v", err)
	}
	if _, err := auth.OpenFileToken(path); err == nil {
		t.Error("a token without roles")
	}
}

func certificate(t testing.TB, uri, email, dns string) *x509.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1)}
	if uri != "" {
		u, err := url.Parse(uri)
		if err != nil {
			t.Fatal(err)
		}
		template.URIs = []*url.URL{u}
	}
	if email != "" {
		template.EmailAddresses = []string{email}
	}
	if dns != "" {
		template.DNSNames = []string{dns}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestCertificates(t *testing.T) {
	t.Parallel()
	a, err := auth.NewCertificates([]auth.CertificateRule{
		{URI: "spiffe://a/b", Roles: []auth.Role{admin}}, {Email: "x@y", Roles: []auth.Role{reader}}, {DNS: "h", Roles: []auth.Role{reader}},
	})
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		cert  *x509.Certificate
		roles []auth.Role
	}{
		"URI": {certificate(t, "spiffe://a/b", "", ""), []auth.Role{admin}}, "email": {certificate(t, "", "x@y", ""), []auth.Role{reader}},
		"DNS": {certificate(t, "", "", "h"), []auth.Role{reader}}, "nobody": {certificate(t, "spiffe://a/c", "z@y", "i"), nil},
	} {
		r := request(t, "")
		r.TLS = &tls.ConnectionState{VerifiedChains: [][]*x509.Certificate{{c.cert}}}
		id, err := a.Authenticate(r)
		if err != nil || cmp.Diff(c.roles, id.Roles) != "" {
			t.Errorf("%s: %v, %v", name, id, err)
		}
		r.TLS = &tls.ConnectionState{PeerCertificates: []*x509.Certificate{c.cert}} // sent, not verified
		if _, err := a.Authenticate(r); !errors.Is(err, auth.ErrNoCredentials) {
			t.Errorf("%s: an unverified certificate: %v", name, err)
		}
		// A certificate that no rule knows leaves a token to others; one that a rule knows decides.
		r.TLS = &tls.ConnectionState{VerifiedChains: [][]*x509.Certificate{{c.cert}}}
		r.Header.Set("Authorization", "Bearer x")
		if _, err := a.Authenticate(r); errors.Is(err, auth.ErrNoCredentials) != (len(c.roles) == 0) {
			t.Errorf("%s with a token: %v", name, err)
		}
	}
	for _, bad := range []auth.CertificateRule{{}, {URI: "a"}, {URI: "a", DNS: "b", Roles: []auth.Role{admin}}} {
		if _, err := auth.NewCertificates([]auth.CertificateRule{bad}); err == nil {
			t.Errorf("rule %+v is taken", bad)
		}
	}
}

// fixed answers always the same.
type fixed struct {
	id  *auth.Identity
	err error
}

func (f fixed) Authenticate(*http.Request) (*auth.Identity, error) { return f.id, f.err }

func TestRequire(t *testing.T) {
	t.Parallel()
	is := func(roles ...auth.Role) fixed { return fixed{&auth.Identity{Subject: "s", Roles: roles}, nil} }
	for name, c := range map[string]struct {
		a      auth.Authenticator
		roles  []auth.Role
		status int
	}{
		"one of the roles":       {is(admin), []auth.Role{reader, admin}, 200},
		"another role":           {is(reader), []auth.Role{admin}, 403},
		"no role":                {is(), []auth.Role{admin}, 403},
		"no role is asked for":   {is(admin), nil, 403},
		"the empty role":         {is(""), []auth.Role{""}, 403},
		"nobody":                 {auth.All{}, []auth.Role{admin}, 401},
		"bad":                    {fixed{nil, auth.ErrCredentials}, []auth.Role{admin}, 401},
		"unknown":                {fixed{nil, auth.ErrUnavailable}, []auth.Role{admin}, 503},
		"second authenticator":   {auth.All{fixed{nil, auth.ErrNoCredentials}, is(admin)}, []auth.Role{admin}, 200},
		"the first that decides": {auth.All{fixed{nil, auth.ErrCredentials}, is(admin)}, []auth.Role{admin}, 401},
		"nil without error":      {fixed{}, []auth.Role{admin}, 403},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var seen *auth.Identity
			h := auth.Require(c.a, func(w http.ResponseWriter, _ *http.Request, status int, _ string) { w.WriteHeader(status) },
				http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { seen = auth.From(r.Context()) }), c.roles...)
			w := httptest.NewRecorder()
			h.ServeHTTP(w, request(t, ""))
			if w.Code != c.status || (seen != nil) != (c.status == 200) || (w.Header().Get("WWW-Authenticate") != "") != (c.status == 401) {
				t.Errorf("%d, want %d; seen %v", w.Code, c.status, seen)
			}
		})
	}
	if auth.From(context.Background()) != nil || (*auth.Identity)(nil).Has(admin) || (*auth.Identity)(nil).String() != "nobody" {
		t.Error("nobody is somebody")
	}
	if _, err := json.Marshal(auth.Identity{}); err != nil {
		t.Error(err)
	}
}
