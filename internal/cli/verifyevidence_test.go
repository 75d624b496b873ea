// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"cofferdam.dev/evidence"
	"cofferdam.dev/internal/testcap"
)

// TestEvidenceScripts judges the published vectors.
func TestEvidenceScripts(t *testing.T) {
	t.Parallel()
	vectors := testcap.Vectors(t, "")
	testscript.Run(t, testscript.Params{
		Dir:                 filepath.Join("testdata", "evidence"),
		UpdateScripts:       *update,
		RequireUniqueNames:  true,
		RequireExplicitExec: true,
		Setup: func(env *testscript.Env) error {
			env.Setenv("HOME", env.WorkDir)
			env.Setenv("COFFERDAM_HOME", filepath.Join(env.WorkDir, "home"))
			env.Setenv("VECTORS", vectors)
			return nil
		},
	})
}

// makeKey is the program mkkey PRIVATE PUBLIC: it makes a key to sign bundles with.
func makeKey() {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err == nil {
		private, err1 := x509.MarshalPKCS8PrivateKey(key)
		public, err2 := x509.MarshalPKIXPublicKey(&key.PublicKey)
		err = errors.Join(err1, err2,
			os.WriteFile(os.Args[1], pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}), 0o600),
			os.WriteFile(os.Args[2], pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: public}), 0o600))
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

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
