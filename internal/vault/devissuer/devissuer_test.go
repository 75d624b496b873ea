// SPDX-License-Identifier: Apache-2.0

package devissuer_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"cofferdam.dev/internal/auth"
	"cofferdam.dev/internal/vault/devissuer"
)

const (
	secret   = "an-example-secret-of-enough-length"
	audience = "https://vault.example"
	role     = auth.Role("Key Vault Reader")
)

// clock is a clock that tests move.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) pass(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

func options(now *clock) devissuer.Options {
	return devissuer.Options{
		URL: "https://login.example", Tenant: "dev", Audiences: []string{audience, "https://other.example/"}, Now: now.Now,
		Clients: []devissuer.Client{{ID: "app", Secret: secret, Roles: []auth.Role{role}}},
	}
}

func open(t *testing.T, o devissuer.Options) *devissuer.Issuer {
	t.Helper()
	i, err := devissuer.New(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	return i
}

// send sends a form and returns the answer, and the token in it if there is one.
func send(t *testing.T, h http.Handler, path, form string, edit func(*http.Request)) (*httptest.ResponseRecorder, string) {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, path, strings.NewReader(form))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	if edit != nil {
		edit(r)
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	var answer struct {
		Token   string `json:"access_token"`
		Type    string `json:"token_type"`
		Expires int    `json:"expires_in"`
	}
	if err := json.Unmarshal(w.Body.Bytes(), &answer); err != nil {
		t.Fatalf("%v in %q", err, w.Body)
	}
	if w.Code == http.StatusOK && (answer.Type != "Bearer" || answer.Expires <= 0) {
		t.Errorf("the answer is %s", w.Body)
	}
	return w, answer.Token
}

func form(pairs ...string) string {
	v := url.Values{}
	for i := 0; i < len(pairs); i += 2 {
		v.Set(pairs[i], pairs[i+1])
	}
	return v.Encode()
}

func good() string {
	return form("grant_type", "client_credentials", "client_id", "app", "client_secret", secret, "scope", audience+"/.default")
}

func authenticate(t *testing.T, i *devissuer.Issuer, token string) (*auth.Identity, error) {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", nil)
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	return i.Authenticate(r)
}

func TestGrant(t *testing.T) {
	t.Parallel()
	i := open(t, options(&clock{now: time.Now()}))
	const v2, v1 = "/dev/oauth2/v2.0/token", "/dev/oauth2/token"
	basic := func(user, password string) func(*http.Request) {
		return func(r *http.Request) { r.SetBasicAuth(user, password) }
	}
	for name, c := range map[string]struct {
		path, form string
		edit       func(*http.Request)
		status     int
		code       string
	}{
		"by the form":       {path: v2, form: good(), status: 200},
		"by the header":     {v2, form("grant_type", "client_credentials", "scope", audience+"/.default"), basic("app", secret), 200, ""},
		"the first version": {path: v1, form: form("grant_type", "client_credentials", "client_id", "app", "client_secret", secret, "resource", audience), status: 200},
		"a slash more":      {path: v2, form: strings.Replace(good(), url.QueryEscape("/.default"), url.QueryEscape("//.default"), 1), status: 200},
		"another audience":  {path: v2, form: form("grant_type", "client_credentials", "client_id", "app", "client_secret", secret, "scope", "openid https://other.example/.default"), status: 200},
		"wrong secret":      {path: v2, form: strings.Replace(good(), secret, secret+"x", 1), status: 401, code: "invalid_client"},
		"no secret":         {path: v2, form: form("grant_type", "client_credentials", "client_id", "app", "scope", audience+"/.default"), status: 401, code: "invalid_client"},
		"unknown client":    {path: v2, form: strings.Replace(good(), "=app", "=app2", 1), status: 401, code: "invalid_client"},
		"no client":         {path: v2, form: form("grant_type", "client_credentials", "scope", audience+"/.default"), status: 401, code: "invalid_client"},
		"two ways":          {v2, good(), basic("app", secret), 401, "invalid_client"},
		"two names":         {v2, form("grant_type", "client_credentials", "client_id", "b", "scope", audience+"/.default"), basic("app", secret), 401, "invalid_client"},
		"another resource":  {path: v2, form: strings.Replace(good(), "vault.example", "graph.example", 1), status: 400, code: "invalid_scope"},
		"no resource":       {path: v2, form: form("grant_type", "client_credentials", "client_id", "app", "client_secret", secret), status: 400, code: "invalid_scope"},
		"password grant":    {path: v2, form: strings.Replace(good(), "client_credentials", "password", 1), status: 400, code: "unsupported_grant_type"},
		"twice":             {path: v2, form: good() + "&client_id=app", status: 400, code: "invalid_request"},
		"no form":           {path: v2, form: "%zz", status: 400, code: "invalid_request"},
		"a huge form":       {path: v2, form: good() + "&x=" + strings.Repeat("y", 64<<10), status: 400, code: "invalid_request"},
		"another path":      {path: "/dev/oauth2/v2.0/devicecode", form: good(), status: 404, code: "invalid_request"},
		"another method":    {v2, good(), func(r *http.Request) { r.Method = http.MethodGet }, 405, "invalid_request"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w, token := send(t, i, c.path, c.form, c.edit)
			if w.Code != c.status || (token != "") != (c.status == 200) || !strings.Contains(w.Body.String(), c.code) {
				t.Fatalf("%d %s, want %d %s", w.Code, w.Body, c.status, c.code)
			}
			if w.Header().Get("Cache-Control") != "no-store" || strings.Contains(w.Body.String(), secret) {
				t.Errorf("%v %s", w.Header(), w.Body)
			}
			if token == "" {
				return
			}
			id, err := authenticate(t, i, token)
			if err != nil || id.Subject != "app" || !slices.Equal(id.Roles, []auth.Role{role}) || id.Issuer != i.Issuer() {
				t.Errorf("%v, %v", id, err)
			}
		})
	}
}

func TestAuthenticateRefuses(t *testing.T) {
	t.Parallel()
	now := &clock{now: time.Now()}
	i := open(t, options(now))
	_, token := send(t, i, "/dev/oauth2/v2.0/token", good(), nil)
	other := options(now)
	other.Tenant = "other"
	_, foreign := send(t, open(t, other), "/other/oauth2/v2.0/token", good(), nil)
	_, forged := send(t, open(t, options(now)), "/dev/oauth2/v2.0/token", good(), nil) // the same names, another key
	dots := strings.Split(token, ".")
	for name, c := range map[string]struct {
		token string
		want  error
	}{
		"nothing":           {"", auth.ErrNoCredentials},
		"no token":          {"abc", auth.ErrNoCredentials},
		"another issuer's":  {foreign, auth.ErrNoCredentials},
		"no base64":         {"a.!.b", auth.ErrNoCredentials},
		"no claims":         {dots[0] + ".e30." + dots[2], auth.ErrNoCredentials},
		"another key":       {forged, auth.ErrCredentials},
		"changed signature": {dots[0] + "." + dots[1] + "." + dots[2][:len(dots[2])-4] + "AAAA", auth.ErrCredentials},
		"unsigned":          {"eyJhbGciOiJub25lIn0." + dots[1] + ".", auth.ErrCredentials},
	} {
		if id, err := authenticate(t, i, c.token); !errors.Is(err, c.want) || id != nil {
			t.Errorf("%s: %v, %v", name, id, err)
		} else if c.token != "" && strings.Contains(err.Error(), c.token) {
			t.Errorf("%s: the error holds the token", name)
		}
	}
	now.pass(devissuer.DefaultLife + 2*time.Minute)
	if _, err := authenticate(t, i, token); !errors.Is(err, auth.ErrCredentials) {
		t.Errorf("an old token: %v", err)
	}
	// An issuer that was left alone for long replaces its key before it signs.
	now.pass(100 * time.Hour)
	if _, token = send(t, i, "/dev/oauth2/v2.0/token", good(), nil); token == "" {
		t.Fatal("no token after a long time")
	}
	if _, err := authenticate(t, i, token); err != nil {
		t.Error(err)
	}
}

// TestOIDC has the module's own OIDC client find the issuer by its metadata, as another service would.
func TestOIDC(t *testing.T) {
	t.Parallel()
	var i *devissuer.Issuer
	srv := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { i.ServeHTTP(w, r) }))
	t.Cleanup(srv.Close)
	o := options(&clock{now: time.Now()})
	o.URL = srv.URL
	i = open(t, o)
	verifier, err := auth.NewOIDC(auth.OIDCOptions{
		Issuer: i.Issuer(), Audience: audience, Client: srv.Client(), Rules: []auth.OIDCRule{{Claim: "roles", Value: string(role), Roles: []auth.Role{"found"}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	_, token := send(t, i, "/dev/oauth2/v2.0/token", good(), nil)
	r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", nil)
	r.Header.Set("Authorization", "Bearer "+token)
	id, err := verifier.Authenticate(r)
	if err != nil || id.Subject != "app" || !id.Has("found") {
		t.Errorf("%v, %v", id, err)
	}
	if !i.Owns("/dev/x") || i.Owns("/development/x") || i.Authority() != srv.URL+"/dev" {
		t.Error("paths or authority are wrong")
	}
}

func TestNewRefuses(t *testing.T) {
	t.Parallel()
	for name, edit := range map[string]func(*devissuer.Options){
		"http":               func(o *devissuer.Options) { o.URL = "http://login.example" },
		"a path":             func(o *devissuer.Options) { o.URL += "/x" },
		"no URL":             func(o *devissuer.Options) { o.URL = "" },
		"no tenant":          func(o *devissuer.Options) { o.Tenant = "" },
		"tenant with slash":  func(o *devissuer.Options) { o.Tenant = "a/b" },
		"no audience":        func(o *devissuer.Options) { o.Audiences = nil },
		"an empty audience":  func(o *devissuer.Options) { o.Audiences = []string{""} },
		"a short secret":     func(o *devissuer.Options) { o.Clients[0].Secret = "short" },
		"no role":            func(o *devissuer.Options) { o.Clients[0].Roles = nil },
		"no ID":              func(o *devissuer.Options) { o.Clients[0].ID = "" },
		"the same ID":        func(o *devissuer.Options) { o.Clients = append(o.Clients, o.Clients[0]) },
		"audiences with gap": func(o *devissuer.Options) { o.Audiences = []string{audience, ""} },
	} {
		o := options(&clock{now: time.Now()})
		edit(&o)
		if _, err := devissuer.New(t.Context(), o); err == nil || strings.Contains(err.Error(), secret) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if s := fmt.Sprintf("%v %+v %#v", devissuer.Client{ID: "app", Secret: secret}, devissuer.Client{Secret: secret}, devissuer.Client{Secret: secret}); strings.Contains(s, secret) {
		t.Errorf("a client prints its secret: %s", s)
	}
}
