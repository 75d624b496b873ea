// SPDX-License-Identifier: Apache-2.0

package rest_test

import (
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"cofferdam.dev/internal/auth"
	"cofferdam.dev/internal/vault/rest"
)

// TestChallenge is the first request of clients: without body and token, whatever it is for.
func TestChallenge(t *testing.T) {
	t.Parallel()
	w := newWorld(t, setup{})
	const want = `Bearer authorization="https://login.example/tenant", resource="https://vault.example"`
	for _, path := range []string{
		"PUT /keys/k?api-version=7.4", "POST /keys/k/create?api-version=7.4", "POST /keys/k//release?api%2Dversion=7.4",
		"GET /keys?api-version=7.4", "DELETE /deletedkeys/k?api-version=7.4", "GET /keys/k", "GET /keys/not_a_name?api-version=7.4",
	} {
		method, path, _ := strings.Cut(path, " ")
		a := w.send(t.Context(), "", method, path, nil)
		if a.status != http.StatusUnauthorized || a.header.Get("WWW-Authenticate") != want || a.code() != "Unauthorized" ||
			a.get("error.message") != "AKV10000: Request is missing a Bearer or PoP token." {
			t.Errorf("%s %s: %d %v %s", method, path, a.status, a.header, a.body)
		}
		a = w.send(t.Context(), "nobody", method, path, nil)
		if a.status != http.StatusUnauthorized || a.header.Get("WWW-Authenticate") != want || strings.Contains(a.body, "AKV10000") {
			t.Errorf("%s %s with a bad token: %d %v %s", method, path, a.status, a.header, a.body)
		}
	}
}

func TestRouting(t *testing.T) {
	t.Parallel()
	w := newWorld(t, setup{})
	w.must(t, "POST", "/keys/k/create", object{"kty": "EC"})
	version := strings.TrimPrefix(w.must(t, "GET", "/keys/k", nil).get("key.kid"), vaultURL+"/keys/k/")
	for request, status := range map[string]int{
		"GET /keys": 200, "GET /keys/": 200, "GET //keys": 200, "GET /Keys": 200, "HEAD /keys": 200, "GET /keys?api%2Dversion=7.4": 200,
		"GET /keys/k": 200, "GET /keys/K": 200, "GET /keys/k/": 200, "GET /keys/k/" + version: 200, "GET /keys/k/versions": 200, "GET /deletedkeys": 200,
		"GET /keys/k?api-version=7.3-preview": 200, "GET /keys/k?api-version=7.6": 200, "PATCH /keys/k/": 400, "PATCH /keys/k": 400,

		"GET /":        404,
		"GET /nothing": 404, "GET /keys/k/a/b/c": 404, "GET /keys/k/" + version + "/": 404, "GET /keys//k/versions": 404,
		"GET /keys/x": 404, "GET /keys/k/" + strings.Repeat("0", 32): 404, "GET /keys/k/current": 404, "GET /deletedkeys/k": 404,
		"GET /certificates": 404,

		"GET /keys?api-version=7.4&api-version=7.4": 400, "GET /keys?api-version=1.0": 400, "GET /keys?x=1": 400, "GET /keys?api-version=%zz": 400,
		"GET /keys?api-version=7.4&maxresults=0": 400, "GET /keys?api-version=7.4&maxresults=26": 400, "GET /keys?api-version=7.4&maxresults=x": 400,
		"GET /keys?api-version=7.4&$skiptoken=%21": 400, "GET /keys?api-version=7.4&$skiptoken=Li4": 400, "GET /keys?api-version=7.4&$skiptoken=aw": 200,
		"GET /keys/not_a_name": 400, "GET /keys/" + strings.Repeat("k", 128): 400, "GET /keys/%6b": 200, "GET /keys/a%2fb": 404,

		"PUT /keys": 405, "POST /keys/k": 405, "DELETE /keys/k/" + version: 405, "GET /keys/k/create": 405, "OPTIONS /keys": 405, "get /keys": 405,
	} {
		method, path, _ := strings.Cut(request, " ")
		a := w.send(t.Context(), "operator", method, path, nil)
		if a.status != status {
			t.Errorf("%s: %d %s, want %d", request, a.status, a.body, status)
		}
		if status >= 400 && (a.code() == "" || a.get("error.message") == "") {
			t.Errorf("%s: the error is %s", request, a.body)
		}
		if status == 405 && a.header.Get("Allow") == "" {
			t.Errorf("%s: no Allow", request)
		}
	}
}

// TestRoles tries each role with one request for each permission that tells roles apart.
func TestRoles(t *testing.T) {
	t.Parallel()
	requests := []string{
		"GET /keys/k", "POST /keys/k/create", "PUT /keys/k", "PATCH /keys/k", "DELETE /keys/gone", "POST /keys/k/rotate", "GET /deletedkeys/gone",
		"POST /deletedkeys/gone/recover", "DELETE /deletedkeys/gone", "POST /rng",
	}
	for _, c := range []struct {
		managed bool
		role    auth.Role
		may     string // which of the requests, by y and n
	}{
		{false, "Key Vault Administrator", "yyyyyyyyyy"}, {false, "00482a5a-887f-4fb3-b363-3b7fe8e74483", "yyyyyyyyyy"},
		{false, "Key Vault Crypto Officer", "yyyyyyyyyy"}, {false, "Key Vault Crypto User", "ynnynnynnn"},
		{false, "Key Vault Crypto Service Encryption User", "ynnnnnynnn"}, {false, "Key Vault Crypto Service Release User", "nnnnnnnnnn"},
		{false, "Key Vault Reader", "ynnnnnynnn"}, {false, "Key Vault Secrets Officer", "nnnnnnnnnn"}, {false, "Key Vault Purge Operator", "nnnnnnnnyn"},
		{false, "Key Vault Reader/keys/k", "ynnnnnnnnn"}, {false, "Key Vault Reader/keys/other", "nnnnnnnnnn"}, {false, "Key Vault Reader/secrets/k", "nnnnnnnnnn"},
		{false, "Managed HSM Crypto User", "nnnnnnnnnn"}, {false, "", "nnnnnnnnnn"}, {false, "key vault administrator", "nnnnnnnnnn"},
		{true, "Managed HSM Crypto User", "yyyyyyynny"}, {true, "21dbd100-6940-42c2-9190-5d6cb909625b", "yyyyyyynny"},
		{true, "Managed HSM Crypto Officer", "nnnnnnnyyn"}, {true, "Managed HSM Crypto Auditor", "ynnnnnynnn"},
		{true, "Managed HSM Administrator", "nnnnnnnnnn"}, {true, "Managed HSM Policy Administrator", "nnnnnnnnnn"},
		{true, "Managed HSM Crypto Service Release User", "nnnnnnnnnn"}, {true, "Key Vault Administrator", "nnnnnnnnnn"},
	} {
		t.Run(string(c.role), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, setup{managed: c.managed})
			w.tokens["someone"] = []auth.Role{c.role}
			refused := 0
			for i, request := range requests {
				method, path, _ := strings.Cut(request, " ")
				a := w.send(t.Context(), "someone", method, path, nil)
				may := c.may[i] == 'y'
				if may == (a.status == http.StatusForbidden) || a.status == http.StatusUnauthorized {
					t.Errorf("%s: %d %s, may %v", request, a.status, a.body, may)
				}
				if !may {
					refused++
					if a.code() != "Forbidden" || a.inner() != "AccessDenied" || a.header.Get("WWW-Authenticate") != "" {
						t.Errorf("%s: %v %s", request, a.header, a.body)
					}
				}
			}
			denied := 0
			for kind, n := range w.audited(t) {
				if strings.HasPrefix(kind, "access.") && strings.HasSuffix(kind, " deny") {
					denied += n
				}
			}
			if denied != refused {
				t.Errorf("the audit log has %d refusals, not %d", denied, refused)
			}
		})
	}
}

func TestKnownRole(t *testing.T) {
	t.Parallel()
	for r, known := range map[auth.Role][2]bool{
		"Key Vault Administrator": {true, false}, "Managed HSM Crypto User": {false, true}, "21dbd100-6940-42c2-9190-5d6cb909625c": {false, true},
		"Key Vault Reader/keys/a": {true, false}, "Key Vault Reader/keys/": {}, "Key Vault Reader/": {}, "Key Vault Readers": {}, "": {}, "Key Vault Reader/certificates/a": {},
	} {
		for i, managed := range []bool{false, true} {
			if got := rest.KnownRole(r, managed); got != known[i] {
				t.Errorf("%q, managed %v: %v", r, managed, got)
			}
		}
	}
	for _, managed := range []bool{false, true} {
		if slices.ContainsFunc(rest.Operator(managed), func(r auth.Role) bool { return !rest.KnownRole(r, managed) }) {
			t.Errorf("the operator of managed %v has an unknown role", managed)
		}
	}
}

func TestNewRefuses(t *testing.T) {
	t.Parallel()
	w := newWorld(t, setup{})
	signer, _, err := rest.DevelopmentSigner([]string{"a"}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := rest.New(rest.Options{Vault: w.vault, URL: vaultURL, Authority: "https://a/b"}); err == nil {
		t.Error("a handler without a signer")
	}
	for name, o := range map[string]rest.Options{
		"nothing":          {},
		"no URL":           {Vault: w.vault, Authority: "https://a/b"},
		"no authority":     {Vault: w.vault, URL: vaultURL},
		"http":             {Vault: w.vault, URL: "http://a", Authority: "https://a/b"},
		"a path":           {Vault: w.vault, URL: "https://a/b", Authority: "https://a/b"},
		"a quote":          {Vault: w.vault, URL: vaultURL, Authority: `https://a/b"c`},
		"a comma":          {Vault: w.vault, URL: vaultURL, Authority: `https://a/b,c`},
		"a query":          {Vault: w.vault, URL: vaultURL, Authority: `https://a/b?c`},
		"a bad resource":   {Vault: w.vault, URL: vaultURL, Authority: `https://a/b`, Resource: "vault"},
		"a user in an URL": {Vault: w.vault, URL: "https://u@a", Authority: `https://a/b`},
	} {
		o.Signer = signer
		if _, err := rest.New(o); err == nil {
			t.Errorf("%s: a handler", name)
		}
	}
	// Without an authenticator nobody gets in.
	h, err := rest.New(rest.Options{Vault: w.vault, Signer: signer, URL: vaultURL, Authority: "https://a/b"})
	if err != nil {
		t.Fatal(err)
	}
	w.handler = h
	if a := w.send(t.Context(), "operator", "GET", "/keys", nil); a.status != 401 {
		t.Errorf("%d %s", a.status, a.body)
	}
	for u, want := range map[string]string{
		vaultURL: "https://vault.example", "https://a.b.c:8443": "https://b.c:8443", "https://localhost:8443": "https://localhost:8443",
		"https://127.0.0.1:8443": "https://127.0.0.1:8443", "https://[::1]:8443": "https://[::1]:8443", "https://vault": "https://vault",
	} {
		if got := rest.DefaultResource(u); got != want {
			t.Errorf("resource of %s: %s, want %s", u, got, want)
		}
	}
}
