// SPDX-License-Identifier: Apache-2.0

package vault

import (
	"bytes"
	"crypto/x509"
	"strings"
	"testing"
)

// FuzzParseMaterial feeds anything to the reader of private keys: what it takes is a key that can be encoded and used.
func FuzzParseMaterial(f *testing.F) {
	f.Add([]byte(`{"kty":"oct","k":"AAECAwQFBgcICQoLDA0ODw","key_ops":["encrypt"]}`))
	f.Add([]byte(`{"kty":"EC-HSM","crv":"P-256","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0","d":"jpsQnnGQmL-YBIffH1136cspYG6-0iY7X1fCE9-E9LI"}`)) // RFC 7517 appendix A
	f.Add([]byte(`{"kty":"RSA","n":"AQAB","e":"AQAB","d":"AQAB"}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := ParseMaterial(b)
		if err != nil {
			if codeOf(err) != BadParameter {
				t.Errorf("%q: %v", b, err)
			}
			return
		}
		if m.Type() != Oct {
			if _, err := x509.ParsePKCS8PrivateKey(m.Expose()); err != nil {
				t.Error(err)
			}
			if _, err := x509.ParsePKIXPublicKey(m.public); err != nil {
				t.Error(err)
			}
		}
	})
}

// FuzzRestore feeds anything to a restore: nothing but a backup of this very vault is taken.
func FuzzRestore(f *testing.F) {
	w := newWorld(f, nil)
	makeKeys(f, w, map[string]KeyRequest{"a": {Type: EC}})
	var b bytes.Buffer
	summary, err := w.Backup(f.Context(), &b)
	if err != nil {
		f.Fatal(err)
	}
	good := b.String()
	f.Add(good)
	f.Add(strings.ReplaceAll(good, "\n", "\r\n"))
	f.Add(good[:len(good)-20])
	f.Fuzz(func(t *testing.T, text string) {
		s, err := w.CheckBackup(t.Context(), strings.NewReader(text))
		if err == nil && *s != *summary {
			t.Errorf("%+v was taken from %q", s, text)
		}
	})
}
