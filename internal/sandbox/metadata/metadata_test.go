// SPDX-License-Identifier: Apache-2.0

package metadata

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"cofferdam.dev/release"
)

func TestServer(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := filepath.Join(dir, "token")
	write := func(name, text string) string {
		err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600)
		if err != nil {
			t.Fatal(err)
		}
		return filepath.Join(dir, name)
	}
	write("token", "the.access.token\n")
	good := path + "?api-version=2018-02-01&resource=https://vault"
	for name, tc := range map[string]struct {
		method, url string
		header      map[string]string
		file        string
		status      int
	}{
		"a token":             {"GET", good, map[string]string{"Metadata": "true"}, file, 200},
		"without the header":  {"GET", good, nil, file, 400},
		"passed on":           {"GET", good, map[string]string{"Metadata": "true", "X-Forwarded-For": "1.2.3.4"}, file, 400},
		"another version":     {"GET", path + "?api-version=1&resource=x", map[string]string{"Metadata": "true"}, file, 400},
		"no resource":         {"GET", path + "?api-version=2018-02-01", map[string]string{"Metadata": "true"}, file, 400},
		"another method":      {"POST", good, map[string]string{"Metadata": "true"}, file, 405},
		"another path":        {"GET", "/metadata/instance", map[string]string{"Metadata": "true"}, file, 404},
		"no file":             {"GET", good, map[string]string{"Metadata": "true"}, filepath.Join(dir, "none"), 503},
		"an empty file":       {"GET", good, map[string]string{"Metadata": "true"}, write("empty", "\n"), 503},
		"a file of two words": {"GET", good, map[string]string{"Metadata": "true"}, write("two", "a b"), 503},
		"a large file":        {"GET", good, map[string]string{"Metadata": "true"}, write("large", strings.Repeat("x", maxToken+1)), 503},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := &Server{TokenFile: tc.file, Now: func() time.Time { return time.Unix(1000, 0) }}
			r := httptest.NewRequestWithContext(t.Context(), tc.method, tc.url, nil)
			for k, v := range tc.header {
				r.Header.Set(k, v)
			}
			w := httptest.NewRecorder()
			s.ServeHTTP(w, r)
			var got map[string]string
			err := json.Unmarshal(w.Body.Bytes(), &got)
			if w.Code != tc.status || err != nil || strings.Contains(w.Body.String(), dir) {
				t.Fatalf("%d %s (%v), want %d", w.Code, w.Body, err, tc.status)
			}
			if tc.status == 200 && (got["access_token"] != "the.access.token" || got["expires_on"] != "1300" || got["resource"] != "https://vault") {
				t.Errorf("answer is %v", got)
			}
			if tc.status != 200 && (got["error"] == "" || strings.Contains(w.Body.String(), "the.access")) {
				t.Errorf("error is %v", got)
			}
		})
	}
}

// The client that asks Azure's service understands the answer.
func TestClient(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "token")
	err := os.WriteFile(file, []byte("the.access.token"), 0o600)
	if err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewServer(&Server{TokenFile: file})
	defer srv.Close()
	id := &release.ManagedIdentity{URL: srv.URL + path, HTTP: http.DefaultClient}
	got, err := id.AccessToken(t.Context(), "https://vault.azure.net")
	if err != nil || got.Value != "the.access.token" || got.Expires.IsZero() {
		t.Errorf("%q until %v (%v)", got.Value, got.Expires, err)
	}
}
