// SPDX-License-Identifier: Apache-2.0

package rest_test

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"cofferdam.dev/internal/store/boltstore"
)

// TestNothingSecretIsWritten uses keys and secrets in all ways, right and wrong, and then looks for them in what was written.
func TestNothingSecretIsWritten(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	st, err := boltstore.Open(filepath.Join(dir, "store.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = st.Close() })
	w := newWorld(t, setup{store: st})
	key, text := []byte("0123456789abcdeF0123456789abcdeF"), "the text of a secret"
	good := w.target(t, nil)
	for _, c := range []struct {
		request string
		body    any
	}{
		{"PUT /keys/k", object{"key": object{"kty": "oct", "k": b64(key)}, "hsm": true, "attributes": exportable, "release_policy": policy()}},
		{"PUT /keys/no_name", object{"key": object{"kty": "oct", "k": b64(key)}}},
		{"PUT /keys/bad", object{"key": object{"kty": "oct", "k": []string{b64(key)}}}},
		{"PUT /keys/bad", `{"key":{"kty":"oct","k":"` + b64(key)},
		{"POST /keys/k/wrapkey", object{"alg": "A256KW", "value": b64(key)}},
		{"POST /keys/k/encrypt", object{"alg": "A256GCM", "value": b64([]byte(text))}},
		{"POST /keys/k/decrypt", object{"alg": "A256GCM", "value": b64([]byte(text))}},
		{"POST /keys/k/release", object{"target": good}},
		{"POST /keys/k/release", object{"target": w.target(t, func(c object) { c["a"] = "x" })}},
		{"PUT /secrets/s", object{"value": text, "attributes": exportable, "release_policy": policy()}},
		{"PUT /secrets/s", object{"value": text, "attributes": text}},
		{"PATCH /secrets/s", object{"value": text}},
		{"GET /secrets/s", nil},
		{"POST /secrets/s/release", object{"target": good}},
		{"DELETE /secrets/s", nil},
		{"DELETE /keys/k", nil},
	} {
		method, path, _ := strings.Cut(c.request, " ")
		a := w.send(t.Context(), "operator", method, path, c.body)
		asked := c.request == "PUT /secrets/s" || c.request == "GET /secrets/s"
		for _, form := range forms(key, []byte(text)) {
			if bytes.Contains([]byte(a.body), form) && (a.status >= 400 || !asked) {
				t.Errorf("%s: the answer has a secret: %d %s", c.request, a.status, a.body)
			}
		}
	}
	for _, top := range []string{dir, w.auditIn} {
		err := filepath.WalkDir(top, func(path string, e fs.DirEntry, err error) error {
			if err != nil || e.IsDir() {
				return err
			}
			b, err := os.ReadFile(path)
			for _, form := range append(forms(key, []byte(text)), []byte(good)) {
				if bytes.Contains(b, form) {
					t.Errorf("%s has %q", path, form)
				}
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if w.log.Len() > 0 {
		t.Errorf("the log has %s", w.log)
	}
}

// forms are the ways in which secrets could be written. Of base64 it is the middle, which is the same wherever the text begins in
// steps of three bytes.
func forms(secrets ...[]byte) [][]byte {
	var all [][]byte
	for _, s := range secrets {
		all = append(all, s, []byte(hex.EncodeToString(s)))
		for skip := range 3 {
			part := s[skip:]
			part = part[:len(part)/3*3]
			all = append(all, []byte(base64.RawStdEncoding.EncodeToString(part)), []byte(base64.RawURLEncoding.EncodeToString(part)))
		}
	}
	return all
}
