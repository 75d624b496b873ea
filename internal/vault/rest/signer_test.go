// SPDX-License-Identifier: Apache-2.0

package rest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
)

// TestSigner has the JOSE library verify what is signed without it, and the chain lead to the root.
func TestSigner(t *testing.T) {
	t.Parallel()
	s, ca, err := DevelopmentSigner([]string{"test.vault.example", "127.0.0.1"}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(ca)
	for managed, order := range map[bool]string{false: `{"alg":"RS256","kid":"|","x5t":"|","typ":"JWT","x5t#S256":"|","x5c":["|"]}`, true: `{"alg":"RS256","kid":"|","x5c":["|"],"x5t#S256":"|"}`} {
		header, err := s.header(managed)
		if err != nil {
			t.Fatal(err)
		}
		compact, err := s.sign(header, []byte(`{"a":1}`))
		if err != nil {
			t.Fatal(err)
		}
		jws, err := jose.ParseSignedCompact(compact, []jose.SignatureAlgorithm{jose.RS256})
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{"test.vault.example", "127.0.0.1"} {
			chains, err := jws.Signatures[0].Protected.Certificates(x509.VerifyOptions{DNSName: name, Roots: roots})
			if err != nil || len(chains[0]) != 3 {
				t.Fatalf("managed %v: %v, %v", managed, chains, err)
			}
			payload, err := jws.Verify(chains[0][0].PublicKey)
			if err != nil || string(payload) != `{"a":1}` {
				t.Errorf("managed %v: %s, %v", managed, payload, err)
			}
		}
		raw, err := base64.RawURLEncoding.DecodeString(header)
		if err != nil {
			t.Fatal(err)
		}
		at := 0
		for _, part := range strings.Split(order, "|") {
			i := strings.Index(string(raw[at:]), part)
			if i < 0 {
				t.Fatalf("managed %v: %q is not where it should be in %s", managed, part, raw)
			}
			at += i + len(part)
		}
		var h struct {
			KeyID  string `json:"kid"`
			SHA256 string `json:"x5t#S256"`
		}
		if err := json.Unmarshal(raw, &h); err != nil {
			t.Fatal(err)
		}
		if managed && h.KeyID != h.SHA256 || !managed && len(h.KeyID) != 40 {
			t.Errorf("managed %v: kid is %q", managed, h.KeyID)
		}
	}
	if text := fmt.Sprintf("%v %+v %#v", s, s, s); strings.Contains(text, s.key.D.String()) || len(text) > 200 {
		t.Errorf("the signer prints as %s", text)
	}
	if _, _, err := DevelopmentSigner(nil, time.Now()); err == nil {
		t.Error("a signer without a name")
	}
}

func TestLoadSigner(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write := func(name, kind string, der []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	s, _, err := DevelopmentSigner([]string{"a"}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(s.key)
	if err != nil {
		t.Fatal(err)
	}
	cert, key := write("cert.pem", "CERTIFICATE", s.chain[0]), write("key.pem", "PRIVATE KEY", der)
	if got, err := LoadSigner(cert, key); err != nil || len(got.chain) != 1 {
		t.Errorf("%v, %v", got, err)
	}
	ec, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	self := template("ec", time.Now())
	ecCert, err := x509.CreateCertificate(rand.Reader, self, self, &ec.PublicKey, ec)
	if err != nil {
		t.Fatal(err)
	}
	ecDER, err := x509.MarshalPKCS8PrivateKey(ec)
	if err != nil {
		t.Fatal(err)
	}
	for name, files := range map[string][2]string{
		"an EC key":   {write("ec.pem", "CERTIFICATE", ecCert), write("ec-key.pem", "PRIVATE KEY", ecDER)},
		"another key": {cert, write("ec-key.pem", "PRIVATE KEY", ecDER)},
		"no file":     {filepath.Join(dir, "none"), key},
	} {
		if _, err := LoadSigner(files[0], files[1]); err == nil {
			t.Errorf("%s: a signer", name)
		}
	}
}
