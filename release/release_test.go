// SPDX-License-Identifier: Apache-2.0

package release

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
)

func TestRelease(t *testing.T) {
	t.Parallel()
	d := newDouble(t)
	ec, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	d.keys["rsa"], d.keys["ec"] = testSigner(t), ec
	c := d.client(nil)
	for _, enc := range append(Formats(), "") {
		for _, name := range []string{"oct", "rsa", "ec/aabbccddeeff00112233445566778899"} {
			r := d.request(name)
			r.Format = enc
			k, err := c.Release(t.Context(), r)
			if err != nil {
				t.Errorf("%s as %q: %v", name, enc, err)
				continue
			}
			b, err := k.JWK()
			if err != nil {
				t.Fatal(err)
			}
			var jwk jose.JSONWebKey
			if err := json.Unmarshal(b, &jwk); err != nil {
				t.Fatal(err)
			}
			want := d.keys[r.Key.Name]
			switch {
			case k.Symmetric() != nil && string(want.([]byte)) == string(k.Symmetric()) && string(jwk.Key.([]byte)) == string(k.Symmetric()):
			case k.RSA() != nil && k.RSA().Equal(testSigner(t)) && testSigner(t).Equal(jwk.Key):
			case k.EC() != nil && k.EC().Equal(ec) && ec.Equal(jwk.Key):
			default:
				t.Errorf("%s as %q: another key was released", name, enc)
			}
			if !strings.HasPrefix(k.ID(), d.URL+"/keys/"+r.Key.Name+"/") {
				t.Errorf("ID %s", k.ID())
			}
		}
	}
	if n := d.attested.Load(); n != 3 {
		t.Errorf("the guest was attested %d times for a session of each family", n)
	}
	for _, format := range []string{"RSA-OAEP", "x"} {
		r := d.request("oct")
		r.Format = format
		if _, err := c.Release(t.Context(), r); !errors.Is(err, ErrRequest) {
			t.Errorf("%s: %v", format, err)
		}
	}
}

// TestAnswers refuses answers that do not hold. Each is a good one with one change.
func TestAnswers(t *testing.T) {
	t.Parallel()
	request := func(p map[string]any) map[string]any { return p["request"].(map[string]any) }
	key := func(p map[string]any) map[string]any {
		return p["response"].(map[string]any)["key"].(map[string]any)["key"].(map[string]any)
	}
	other, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		change func(*double)
		want   string
	}{
		"other nonce":     {func(d *double) { d.payload = func(p map[string]any) { request(p)["nonce"] = "other" } }, "nonce differs"},
		"no nonce":        {func(d *double) { d.payload = func(p map[string]any) { delete(request(p), "nonce") } }, "nonce differs"},
		"other format":    {func(d *double) { d.payload = func(p map[string]any) { request(p)["enc"] = "CKM_RSA_AES_KEY_WRAP" } }, "for the format"},
		"other name":      {func(d *double) { d.payload = func(p map[string]any) { key(p)["kid"] = d.URL + "/keys/else/0123" } }, "it is about"},
		"other vault":     {func(d *double) { d.payload = func(p map[string]any) { key(p)["kid"] = "https://else/keys/oct/0123" } }, "it is about"},
		"no version":      {func(d *double) { d.payload = func(p map[string]any) { key(p)["kid"] = d.URL + "/keys/oct" } }, "it is about"},
		"other version":   {func(d *double) { d.payload = func(p map[string]any) { key(p)["kid"] = d.URL + "/keys/oct/999" } }, "it is about"},
		"no key":          {func(d *double) { d.payload = func(p map[string]any) { delete(p, "response") } }, "it is about"},
		"other kind":      {func(d *double) { d.payload = func(p map[string]any) { key(p)["kty"] = "okp" } }, "of kind"},
		"no private key":  {func(d *double) { d.payload = func(p map[string]any) { key(p)["kty"] = "RSA" } }, "PKCS #8"},
		"key_hsm no JSON": {func(d *double) { d.payload = func(p map[string]any) { key(p)["key_hsm"] = "e30x" } }, "what is wrapped"},
		"key_hsm no text": {func(d *double) { d.payload = func(p map[string]any) { key(p)["key_hsm"] = "!" } }, "no base64url"},
		"other algorithm": {func(d *double) { d.sealed = func(p map[string]any) { p["header"].(map[string]any)["alg"] = "none" } }, "another format"},
		"ciphertext cut": {func(d *double) {
			d.sealed = func(p map[string]any) { p["ciphertext"] = p["ciphertext"].(string)[:300] }
		}, "can not be opened"},
		"ciphertext no text": {func(d *double) { d.sealed = func(p map[string]any) { p["ciphertext"] = "*" } }, "no base64url"},
		"signature changed": {func(d *double) {
			d.compact = func(s string) string { return s[:len(s)-6] + strings.Repeat("A", 6) }
		}, "does not verify"},
		"payload changed": {func(d *double) {
			d.compact = func(s string) string {
				p := strings.Split(s, ".")
				p[1] = base64.RawURLEncoding.EncodeToString([]byte(`{}`))
				return strings.Join(p, ".")
			}
		}, "does not verify"},
		"not signed": {func(d *double) {
			d.compact = func(s string) string {
				p := strings.Split(s, ".")
				return base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"none"}`)) + "." + p[1] + "."
			}
		}, "no signed object"},
		"MAC": {func(d *double) {
			d.compact = func(s string) string {
				p := strings.Split(s, ".")
				return base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"HS256"}`)) + "." + p[1] + "." + p[2]
			}
		}, "no signed object"},
		"no certificate": {func(d *double) { d.header = func(o *jose.SignerOptions) { delete(o.ExtraHeaders, "x5c") } }, "certificate is not one of"},
		"other certificate first": {func(d *double) {
			d.header = func(o *jose.SignerOptions) {
				o.WithHeader("x5c", []string{base64.StdEncoding.EncodeToString(d.issue(&x509.Certificate{DNSNames: []string{"localhost"}, IPAddresses: d.leaf.IPAddresses}, d.ca, &other.PublicKey).Raw)})
			}
		}, "does not verify"},
		"certificate of another name": {func(d *double) {
			d.leaf = d.issue(&x509.Certificate{DNSNames: []string{"vault.example"}}, d.ca, &d.signer.PublicKey)
		}, "certificate is not one of"},
		"certificate that is over": {func(d *double) {
			d.leaf = d.issue(&x509.Certificate{IPAddresses: d.leaf.IPAddresses, NotBefore: time.Now().Add(-2 * time.Hour), NotAfter: time.Now().Add(-time.Hour)}, d.ca, &d.signer.PublicKey)
		}, "certificate is not one of"},
		"certificate of another root": {func(d *double) {
			d.caKey = other
			d.ca = d.issue(&x509.Certificate{IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}, nil, &other.PublicKey)
			d.leaf = d.issue(&x509.Certificate{IPAddresses: d.leaf.IPAddresses}, d.ca, &d.signer.PublicKey)
		}, "certificate is not one of"},
		"one name twice": {func(d *double) {
			d.compact = func(string) string { return d.sign([]byte(`{"request":{"nonce":"a","nonce":"b"}}`)) }
		}, "payload"},
		"no value": {func(d *double) { d.compact = func(string) string { return "" } }, "no value"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := newDouble(t)
			client := d.client(nil)
			c.change(d)
			k, err := client.Release(t.Context(), d.request("oct/0123"))
			if !errors.Is(err, ErrAnswer) || !strings.Contains(err.Error(), c.want) || k != nil {
				t.Errorf("%v, %v; want %q", k, err, c.want)
			}
		})
	}
}

// TestForeignKey refuses a private key that is not the one which is described beside it.
func TestForeignKey(t *testing.T) {
	t.Parallel()
	d := newDouble(t)
	d.keys["rsa"] = testSigner(t)
	for member, value := range map[string]string{"n": "AQAB", "e": "Aw", "kty": "EC"} {
		d.payload = func(p map[string]any) {
			p["response"].(map[string]any)["key"].(map[string]any)["key"].(map[string]any)[member] = value
		}
		if _, err := d.client(nil).Release(t.Context(), d.request("rsa")); !errors.Is(err, ErrAnswer) {
			t.Errorf("%s: %v", member, err)
		}
	}
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	is := []error{ErrUnauthorized, ErrForbidden, ErrNotFound, ErrUnavailable, ErrAnswer, ErrEvidence, ErrRequest}
	for name, c := range map[string]struct {
		path   string
		status int
		body   string
		want   error
		text   string
	}{
		"vault 401":        {"/release", 401, `{"error":{"code":"Unauthorized","message":"AKV10000: no token"}}`, ErrUnauthorized, "key vault"},
		"vault 403":        {"/release", 403, `{"error":{"code":"Forbidden","message":"Policy","innererror":{"code":"AccessDenied"}}}`, ErrForbidden, "Forbidden: AccessDenied: Policy"},
		"vault 404":        {"/release", 404, `{"error":{"code":"KeyNotFound","message":"m"}}`, ErrNotFound, "KeyNotFound"},
		"vault 429":        {"/release", 429, ``, ErrUnavailable, "429"},
		"vault 500":        {"/release", 500, `<html>`, ErrUnavailable, "500"},
		"vault redirects":  {"/release", 302, ``, nil, "302"},
		"vault odd answer": {"/release", 200, `[]`, ErrAnswer, "no value"},
		"attest 400":       {"/attest/SevSnpVM", 400, `{"error":{"code":"PolicyEvaluationError","message":"no rule"}}`, ErrForbidden, "attestation service"},
		"attest 503":       {"/attest/SevSnpVM", 503, ``, ErrUnavailable, "503"},
		"attest no token":  {"/attest/SevSnpVM", 200, `{"token":"x"}`, ErrAnswer, "no token"},
		"attest too much":  {"/attest/SevSnpVM", 200, strings.Repeat(" ", maxAnswer+1), ErrAnswer, "more than"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := newDouble(t)
			d.intercept = func(w http.ResponseWriter, r *http.Request) bool {
				if !strings.HasSuffix(r.URL.Path, c.path) {
					return false
				}
				w.Header().Set("Retry-After", "6") // longer than is waited
				w.Header().Set(releaseHeader, "0123abc")
				w.Header().Set("Location", "/keys/oct/0123/release")
				w.WriteHeader(c.status)
				_, _ = w.Write([]byte(c.body))
				return true
			}
			_, err := d.client(nil).Release(t.Context(), d.request("oct"))
			if err == nil || !strings.Contains(err.Error(), c.text) || strings.Contains(err.Error(), "who") {
				t.Fatalf("%v; want %q", err, c.text)
			}
			if e, ok := errors.AsType[*Error](err); ok && (e.Release != "0123abc" || e.Status != c.status || e.Host != d.host()) {
				t.Errorf("%+v", e)
			}
			for _, e := range is {
				if errors.Is(err, e) != (e == c.want) { //nolint:errorlint // compares the sentinels
					t.Errorf("%v is %v: %v", err, e, errors.Is(err, e))
				}
			}
		})
	}
}

// TestBusy asks again when a server is busy for a moment, and reports one that is not there.
func TestBusy(t *testing.T) {
	t.Parallel()
	d := newDouble(t)
	n := 0
	d.intercept = func(w http.ResponseWriter, r *http.Request) bool {
		if n++; n > 2 {
			return false
		}
		w.WriteHeader(http.StatusServiceUnavailable)
		return true
	}
	c := d.client(nil)
	if _, err := c.Release(t.Context(), d.request("oct")); err != nil || n < 3 {
		t.Errorf("after %d requests: %v", n, err)
	}
	r := d.request("oct")
	r.Vault = "127.0.0.1:1"
	if _, err := c.Release(t.Context(), r); !errors.Is(err, ErrUnavailable) {
		t.Errorf("nobody there: %v", err)
	}
	untrusting := d.client(func(o *Options) { o.HTTP = NewHTTPClient(x509.NewCertPool()) })
	if _, err := untrusting.Release(t.Context(), d.request("oct")); !errors.Is(err, ErrUnavailable) {
		t.Errorf("unknown authority: %v", err)
	}
}
