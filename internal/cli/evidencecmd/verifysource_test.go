// SPDX-License-Identifier: Apache-2.0

package evidencecmd

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"cofferdam.dev/evidence"
)

// TestFetchEvidence gets evidence from servers that are none of the good ones.
func TestFetchEvidence(t *testing.T) {
	t.Parallel()
	mux := http.NewServeMux()
	mux.HandleFunc("/good", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("evidence")) })
	mux.Handle("/moved", http.RedirectHandler("/good", http.StatusFound))
	mux.HandleFunc("/long", func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write(make([]byte, evidence.MaxDocumentSize+1))
	})
	plain, secure := httptest.NewServer(mux), httptest.NewTLSServer(mux)
	t.Cleanup(plain.Close)
	t.Cleanup(secure.Close)
	b, err := fetchEvidence(t.Context(), plain.URL+"/good")
	if err != nil || string(b) != "evidence" {
		t.Errorf("from this machine: %q, %v", b, err)
	}
	for address, want := range map[string]string{
		plain.URL + "/moved":            "302 Found, not 200",
		plain.URL + "/absent":           "404 Not Found, not 200",
		plain.URL + "/long":             "more than 8388608 bytes",
		secure.URL + "/good":            "certificate",
		"http://192.0.2.1/good":         "plain HTTP is for this machine alone",
		"http://localhost.example/good": "plain HTTP is for this machine alone",
		"https://user:word@127.0.0.1/":  "neither a user",
		"https:///x":                    "has a host",
	} {
		if _, err = fetchEvidence(t.Context(), address); err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "word") {
			t.Errorf("%s: %v, want %s", address, err, want)
		}
	}
}
