// SPDX-License-Identifier: Apache-2.0

package rest_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
)

// FuzzRequest sends requests of all forms, by somebody who may do everything. Nothing that a client sends is the service's
// fault: there is no panic and no 500, and every error is one in the protocol's form.
func FuzzRequest(f *testing.F) {
	for _, seed := range [][3]string{
		{"GET", "/keys?api-version=7.4", ""}, {"GET", "/keys/k//?api-version=7.4", ""}, {"PUT", "/keys/k?api-version=7.4", `{"key":{"kty":"oct","k":"AAAA"}}`},
		{"POST", "/keys/k/create?api-version=7.4", `{"kty":"EC","attributes":{"exp":1}}`}, {"POST", "/keys/k//release?api%2Dversion=7.4", `{"target":"a.b.c"}`},
		{"POST", "/keys/k/sign?api-version=7.4", `{"alg":"ES256","value":"AAAA"}`}, {"PATCH", "/keys/k/?api-version=7.4", `{"release_policy":{"data":"e30"}}`},
		{"PUT", "/secrets/s?api-version=7.4", `{"value":"v"}`}, {"GET", "/secrets/s/versions?api-version=7.4&$skiptoken=aw", ""},
		{"DELETE", "/deletedkeys/k?api-version=7.4", ""}, {"POST", "/rng?api-version=7.4", `{"count":1}`}, {"GET", "/releases/0?api-version=7.4", ""},
	} {
		f.Add(seed[0], seed[1], seed[2])
	}
	w := newWorld(f, setup{})
	w.must(f, "POST", "/keys/k/create", object{"kty": "EC"})
	f.Fuzz(func(t *testing.T, method, target, body string) {
		u, err := url.ParseRequestURI(target)
		r, err2 := http.NewRequestWithContext(t.Context(), method, "http://vault/", strings.NewReader(body))
		if err != nil || err2 != nil || strings.Contains(strings.ToUpper(body), "RSA") {
			t.Skip() // no request, or a key that takes its time
		}
		r.URL = u
		r.Header.Set("Authorization", "Bearer operator")
		rec := httptest.NewRecorder()
		w.handler.ServeHTTP(rec, r)
		a := answer{rec.Code, rec.Header(), rec.Body.String()}
		if a.status >= http.StatusInternalServerError {
			t.Fatalf("%d %s: %s", a.status, a.body, w.log)
		}
		if method == http.MethodHead || a.status == http.StatusNoContent {
			return
		}
		if !json.Valid([]byte(a.body)) {
			t.Fatalf("%d %q", a.status, a.body)
		}
		if a.status >= http.StatusBadRequest && (a.code() == "" || a.get("error.message") == "") {
			t.Fatalf("%d %s", a.status, a.body)
		}
	})
}
