// SPDX-License-Identifier: Apache-2.0

package kbs

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"cofferdam.dev/internal/attestsvc"
	"cofferdam.dev/internal/auth"
)

// TestConformance has each endpoint with each of its answers, but for those that need evidence.
func TestConformance(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	w.allow("default/*/*", "mine/*/*")
	w.put("default/key/1", "SECRET-VALUE")
	const good = `{"version":"0.4.0","tee":"snp","extra-params":""}`
	rules := `{"policy":"e30"}`
	for name, c := range map[string]struct {
		method, path, bearer, body string
		status                     int
		kind                       string
	}{
		"auth":                    {"POST", "auth", "", good, 200, ""},
		"auth, GET":               {"GET", "auth", "", "", 405, "MethodNotAllowed"},
		"auth, PUT":               {"PUT", "auth", "", good, 405, "MethodNotAllowed"},
		"auth, more path":         {"POST", "auth/x", "", good, 404, "InvalidRequestPath"},
		"auth, empty":             {"POST", "auth", "", "", 401, "AttestationError"},
		"auth, version":           {"POST", "auth", "", strings.Replace(good, "0.4.0", "0.1.1", 1), 401, "AttestationError"},
		"auth, kind":              {"POST", "auth", "", strings.Replace(good, "snp", "sample", 1), 401, "AttestationError"},
		"auth, too large":         {"POST", "auth", "", strings.Repeat("x", 17<<10), 413, "RequestTooLarge"},
		"attest without session":  {"POST", "attest", "", "{}", 401, "AttestationError"},
		"attest, GET":             {"GET", "attest", "", "", 405, "MethodNotAllowed"},
		"resource without token":  {"GET", "resource/default/key/1", "", "", 401, "TokenNotFound"},
		"resource, other token":   {"GET", "resource/default/key/1", adminToken, "", 401, "TokenVerifierError"},
		"resource, no such":       {"GET", "resource/default/key/none", "", "", 401, "TokenNotFound"},
		"resource, two parts":     {"GET", "resource/key/1", "", "", 404, "InvalidRequestPath"},
		"resource, four parts":    {"GET", "resource/a/b/c/d", "", "", 404, "InvalidRequestPath"},
		"resource, nothing":       {"GET", "resource", "", "", 404, "InvalidRequestPath"},
		"resource, empty part":    {"GET", "resource//key/1", "", "", 404, "InvalidRequestPath"},
		"resource, dot":           {"GET", "resource/a/b/.c", "", "", 404, "InvalidRequestPath"},
		"resource, parent":        {"GET", "resource/a/../../resource-policy", "", "", 404, "InvalidRequestPath"},
		"resource, encoded slash": {"GET", "resource/a%2Fb/c", "", "", 401, "TokenNotFound"},
		"resource, space":         {"GET", "resource/a/b/c%20d", "", "", 404, "InvalidRequestPath"},
		"resource, PUT":           {"PUT", "resource/a/b/c", adminToken, "x", 405, "MethodNotAllowed"},
		"set":                     {"POST", "resource/default/key/2", adminToken, "value", 200, ""},
		"set, repository's":       {"POST", "resource/mine/key/2", repoToken, "value", 200, ""},
		"set, another repository": {"POST", "resource/default/key/2", repoToken, "value", 401, "AdminAuthAccess"},
		"set, nobody":             {"POST", "resource/default/key/2", "", "value", 401, "AdminAuthAccess"},
		"set, wrong token":        {"POST", "resource/default/key/2", "x", "value", 401, "AdminAuthAccess"},
		"set, empty":              {"POST", "resource/default/key/2", adminToken, "", 400, "InvalidResource"},
		"set, too large":          {"POST", "resource/default/key/2", adminToken, strings.Repeat("x", MaxResource+1), 413, "RequestTooLarge"},
		"set, two parts":          {"POST", "resource/key/2", adminToken, "x", 404, "InvalidRequestPath"},
		"delete, no such":         {"DELETE", "resource/default/key/none", adminToken, "", 404, "ResourceNotFound"},
		"delete, nobody":          {"DELETE", "resource/default/key/1", "", "", 401, "AdminAuthAccess"},
		"delete, another":         {"DELETE", "resource/default/key/1", repoToken, "", 401, "AdminAuthAccess"},
		"rules":                   {"GET", "resource-policy", adminToken, "", 200, ""},
		"rules, nobody":           {"GET", "resource-policy", "", "", 401, "AdminAuthAccess"},
		"rules, repository's":     {"GET", "resource-policy", repoToken, "", 401, "AdminAuthAccess"},
		"set rules, nobody":       {"POST", "resource-policy", "", rules, 401, "AdminAuthAccess"},
		"set rules, repository's": {"POST", "resource-policy", repoToken, rules, 401, "AdminAuthAccess"},
		"set rules, none":         {"POST", "resource-policy", adminToken, rules, 400, "ParsePolicyError"},
		"set rules, no JSON":      {"POST", "resource-policy", adminToken, "package policy", 400, "ParsePolicyError"},
		"set rules, no policy":    {"POST", "resource-policy", adminToken, "{}", 400, "ParsePolicyError"},
		"set rules, no base64":    {"POST", "resource-policy", adminToken, `{"policy":"?"}`, 400, "ParsePolicyError"},
		"set rules, Rego":         {"POST", "resource-policy", adminToken, `{"policy":"cGFja2FnZSBwb2xpY3k"}`, 400, "ParsePolicyError"},
		"attestation policy":      {"POST", "attestation-policy", adminToken, "{}", 404, "InvalidRequestPath"},
		"reference value":         {"POST", "reference-value", adminToken, "{}", 404, "InvalidRequestPath"},
		"other version":           {"POST", "../v1/auth", "", good, 404, "InvalidRequestPath"},
		"nothing":                 {"GET", "", "", "", 404, "InvalidRequestPath"},
	} {
		a := w.administer(c.method, "/kbs/v0/"+c.path, c.bearer, c.body)
		if a.status != c.status {
			t.Errorf("%s: %d %s, want %d", name, a.status, a.body, c.status)
			continue
		}
		if c.status != http.StatusOK && a.failure(t) != c.kind {
			t.Errorf("%s: %s, want %s", name, a.body, c.kind)
		}
		if strings.Contains(string(a.body), "SECRET-VALUE") {
			t.Errorf("%s has the secret: %s", name, a.body)
		}
		if want := map[bool]string{true: "application/problem+json", false: "application/json"}[c.status != http.StatusOK]; len(a.body) > 0 && a.header.Get("Content-Type") != want {
			t.Errorf("%s: content type %q", name, a.header.Get("Content-Type"))
		}
	}
}

// TestDeleted deletes a resource and sets it again.
func TestDeleted(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	w.allow("*/*/*")
	w.put("default/key/1", "one")
	g := w.newGuest("P-256")
	g.handshake()
	g.mustGet("default/key/1", "")
	if a := w.administer("DELETE", "/kbs/v0/resource/default/key/1", adminToken, ""); a.status != http.StatusOK {
		t.Fatalf("%d %s", a.status, a.body)
	}
	if a := g.get("default/key/1", ""); a.status != http.StatusNotFound || a.failure(t) != "ResourceNotFound" {
		t.Errorf("%d %s", a.status, a.body)
	}
	w.put("default/key/1", "two")
	if got := g.mustGet("default/key/1", ""); got != "two" {
		t.Errorf("%q", got)
	}
}

// TestNobodyAdministers has a handler without an authenticator.
func TestNobodyAdministers(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	w.server.Config.Handler = NewHandler(w.Broker, nil)
	for _, bearer := range []string{"", adminToken} {
		if a := w.administer("POST", "/kbs/v0/resource/a/b/c", bearer, "x"); a.status != http.StatusUnauthorized {
			t.Errorf("%d %s", a.status, a.body)
		}
	}
	var zero auth.All
	w.server.Config.Handler = NewHandler(w.Broker, zero)
	if a := w.setRules("{}"); a.status != http.StatusUnauthorized {
		t.Errorf("%d %s", a.status, a.body)
	}
}

// TestNames has paths and the names of their secrets: no two may have one, whatever their case.
func TestNames(t *testing.T) {
	t.Parallel()
	seen := map[string]string{}
	for path, want := range map[string]string{
		"default/key/1": "default--key--1", "a-b/c/d": "a-b--c--d", "a/b-c/d": "a--b-c--d", "a--b/c/d": "", "a/b/c-": "", "A/b/c": "", "a/B/c": "",
		"a/b/c.d": "", "a/b/c_d": "", "a/b/-c": "", "-/-/-": "", "a/b/c": "a--b--c", strings.Repeat("a", 80) + "/" + strings.Repeat("b", 80) + "/c": "",
	} {
		p, err := ParsePath(strings.Split(path, "/")...)
		if err != nil {
			t.Fatal(err)
		}
		name := p.SecretName()
		if want == "" && (!strings.HasPrefix(name, "resource-") || strings.Contains(name, "--")) || want != "" && name != want || len(name) > 127 {
			t.Errorf("%s is %s", path, name)
		}
		if other, twice := seen[strings.ToLower(name)]; twice {
			t.Errorf("%s and %s are both %s", path, other, name)
		}
		seen[strings.ToLower(name)] = path
	}
}

// TestRules has documents that are refused, and which rule decides.
func TestRules(t *testing.T) {
	t.Parallel()
	const policy = `{"version":"1.0.0","anyOf":[{"authority":"https://a","allOf":[{"claim":"c","equals":"v"}]}]}`
	doc := func(rules string) string { return `{"schema":"` + RulesSchema + `","rules":[` + rules + `]}` }
	one := func(patterns string) string { return `{"resources":[` + patterns + `],"policy":` + policy + `}` }
	for name, c := range map[string]struct{ text, want string }{
		"no JSON":        {"package policy", "no object"},
		"no schema":      {`{"rules":[]}`, "schema"},
		"other schema":   {`{"schema":"x","rules":[]}`, "schema"},
		"more":           {`{"schema":"` + RulesSchema + `","rules":[],"x":1}`, "unknown"},
		"no rules":       {`{"schema":"` + RulesSchema + `"}`, "rules"},
		"no resources":   {doc(one("")), "no resources"},
		"no policy":      {doc(`{"resources":["a/b/c"]}`), "policy"},
		"empty policy":   {doc(`{"resources":["a/b/c"],"policy":{"version":"1.0.0","anyOf":[]}}`), "policy"},
		"two parts":      {doc(one(`"a/b"`)), "a/b"},
		"all":            {doc(one(`"*"`)), "*"},
		"part of a name": {doc(one(`"a/b/c*"`)), "c*"},
		"number":         {doc(one(`1`)), "pattern"},
		"more members":   {doc(`{"resources":["a/b/c"],"policy":` + policy + `,"x":1}`), "unknown"},
		"too large":      {doc(strings.Repeat(" ", MaxRules)), "more than"},
		"too many":       {doc(strings.Repeat(one(`"a/b/c"`)+",", maxRules) + one(`"a/b/c"`)), "200"},
	} {
		if _, err := ParseRules([]byte(c.text)); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
	r, err := ParseRules([]byte(doc(one(`"a/b/c"`) + "," + one(`"a/*/c","x/y/*"`) + "," + one(`"*/*/c"`))))
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]int{}
	for _, path := range []string{"a/b/c", "a/x/c", "x/y/z", "z/z/c", "a/b/d", "a/b/C"} {
		p, err := ParsePath(strings.Split(path, "/")...)
		if err != nil {
			t.Fatal(err)
		}
		i, found := r.find(p)
		if (i < 0) != (found == nil) {
			t.Errorf("%s: %d %v", path, i, found)
		}
		got[path] = i
	}
	if diff := cmp.Diff(map[string]int{"a/b/c": 0, "a/x/c": 1, "x/y/z": 1, "z/z/c": 2, "a/b/d": -1, "a/b/C": -1}, got); diff != "" {
		t.Error(diff)
	}
}

// TestRulesAreKept reads back what was set, as it was.
func TestRulesAreKept(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	if a := w.administer("GET", "/kbs/v0/resource-policy", adminToken, ""); a.status != http.StatusNotFound {
		t.Errorf("%d %s", a.status, a.body)
	}
	text := rulesFor(simulated, [32]byte{}, "a/b/*")
	if a := w.setRules(text); a.status != http.StatusOK {
		t.Fatalf("%s", a.body)
	}
	if a := w.setRules("{}"); a.status != http.StatusBadRequest {
		t.Errorf("%d %s", a.status, a.body)
	}
	if a := w.administer("GET", "/kbs/v0/resource-policy", adminToken, ""); string(a.body) != text {
		t.Errorf("%d %s", a.status, a.body)
	}
}

// TestOptions has a broker that lacks something.
func TestOptions(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	for name, change := range map[string]func(*Options){
		"nothing": func(o *Options) { *o = Options{} }, "no service": func(o *Options) { o.Service = nil }, "no vault": func(o *Options) { o.Vault = nil },
		"no authorities": func(o *Options) { o.Authorities = nil }, "no store": func(o *Options) { o.Store = nil }, "no audit": func(o *Options) { o.Audit = nil }, "no tenant": func(o *Options) { o.Tenant = "No Tenant" },
	} {
		o := w.opts
		change(&o)
		if _, err := New(t.Context(), o); err == nil {
			t.Errorf("%s: there is a broker", name)
		}
	}
	// A root that did not seal the store's key opens nothing.
	if _, err := OpenStore(t.Context(), w.store, newRoot(t)); err == nil {
		t.Error("a store with another root")
	}
}

// TestTenant has a broker whose guests are judged by a tenant's policy, and whose tokens are the tenant's.
func TestTenant(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	o := w.opts
	o.Tenant = "contoso"
	b, err := New(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	w.server.Config.Handler = NewHandler(b, who{adminToken: RoleAdmin})
	w.allow("*/*/*")
	w.put("a/b/c", "x")
	g := w.newGuest("P-256")
	g.handshake()
	if iss := payloadOf(t, g.token)["iss"]; iss != fmt.Sprint(brokerURL, "/tenants/contoso/simulated") {
		t.Errorf("%v", iss)
	}
	if a := g.get("a/b/c", ""); a.status != http.StatusUnauthorized || a.failure(t) != "TokenVerifierError" {
		t.Errorf("an issuer that is not believed: %d %s", a.status, a.body)
	}
	if attestsvc.DefaultTenant == "contoso" {
		t.Fatal("it is the default")
	}
}

// TestCookieIsForTLS has the session stay off connections without TLS, once it was given over one.
func TestCookieIsForTLS(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	server := httptest.NewTLSServer(w.server.Config.Handler)
	defer server.Close()
	for _, c := range []struct {
		client *http.Client
		url    string
		secure bool
	}{{server.Client(), server.URL, true}, {http.DefaultClient, w.server.URL, false}} {
		req, err := http.NewRequestWithContext(t.Context(), "POST", c.url+"/kbs/v0/auth", strings.NewReader(`{"version":"0.4.0","tee":"snp"}`))
		if err != nil {
			t.Fatal(err)
		}
		a := send(t, c.client, req)
		if len(a.cookies) != 1 || a.cookies[0].Secure != c.secure || a.cookies[0].SameSite != http.SameSiteStrictMode {
			t.Errorf("%s: %v", c.url, a.cookies)
		}
	}
}
