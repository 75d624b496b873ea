// SPDX-License-Identifier: Apache-2.0

package release

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"cofferdam.dev/attest"
	"cofferdam.dev/internal/vault/wrap"
)

// double is an attestation service and a vault in one, which answer as recordings of Azure's do, and as a test wants it.
type double struct {
	*httptest.Server

	t     testing.TB
	roots *x509.CertPool
	ca    *x509.Certificate
	caKey *ecdsa.PrivateKey
	// signer signs answers, and leaf is its certificate.
	signer *rsa.PrivateKey
	leaf   *x509.Certificate

	attested, released, challenged atomic.Int32

	mu sync.Mutex
	// keys are what is released, by name: bytes, or a private key.
	keys map[string]any
	// payload and sealed change an answer before it is signed, compact after it.
	payload func(map[string]any)
	sealed  func(map[string]any)
	compact func(string) string
	// header is that of the signature.
	header func(*jose.SignerOptions)
	// intercept answers instead, if it wants to.
	intercept func(http.ResponseWriter, *http.Request) bool
	// bodies are the requests for attestation, and tokenLife is how long tokens are good.
	bodies    [][]byte
	tokenLife time.Duration
}

var (
	signerOnce sync.Once
	signerKey  *rsa.PrivateKey
)

func testSigner(t testing.TB) *rsa.PrivateKey {
	t.Helper()
	signerOnce.Do(func() { signerKey, _ = rsa.GenerateKey(rand.Reader, 2048) })
	if signerKey == nil {
		t.Fatal("no key")
	}
	return signerKey
}

func newDouble(t testing.TB) *double {
	t.Helper()
	d := &double{t: t, signer: testSigner(t), roots: x509.NewCertPool(), keys: map[string]any{"oct": []byte("0123456789abcdef0123456789abcdef")}, tokenLife: time.Hour}
	var err error
	if d.caKey, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		t.Fatal(err)
	}
	d.ca = d.issue(&x509.Certificate{IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}, nil, &d.caKey.PublicKey)
	d.roots.AddCert(d.ca)
	d.leaf = d.issue(&x509.Certificate{IPAddresses: []net.IP{{127, 0, 0, 1}}, DNSNames: []string{"localhost"}}, d.ca, &d.signer.PublicKey)
	d.Server = httptest.NewUnstartedServer(http.HandlerFunc(d.serve))
	d.TLS = &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{d.leaf.Raw}, PrivateKey: d.signer}}, MinVersion: tls.VersionTLS12}
	d.StartTLS()
	t.Cleanup(d.Close)
	return d
}

func (d *double) issue(c, parent *x509.Certificate, public any) *x509.Certificate {
	d.t.Helper()
	c.SerialNumber, c.Subject = big.NewInt(1), pkix.Name{CommonName: map[bool]string{false: "leaf", true: "authority"}[c.IsCA]}
	if c.NotAfter.IsZero() {
		c.NotBefore, c.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	}
	if parent == nil {
		parent = c
	}
	der, err := x509.CreateCertificate(rand.Reader, c, parent, public, d.caKey)
	if err != nil {
		d.t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		d.t.Fatal(err)
	}
	return cert
}

func (d *double) host() string { return strings.TrimPrefix(d.URL, "https://") }

func (d *double) serve(w http.ResponseWriter, r *http.Request) {
	d.mu.Lock()
	intercept := d.intercept
	d.mu.Unlock()
	if intercept != nil && intercept(w, r) {
		return
	}
	switch {
	case strings.HasPrefix(r.URL.Path, "/attest/"):
		d.attest(w, r)
	case r.URL.Path == "/challenge":
		d.challenged.Add(1)
		_, _ = fmt.Fprintf(w, `{"nonce":"nonce-%d"}`, d.challenged.Load())
	case strings.HasPrefix(r.URL.Path, "/secrets/"):
		_, _ = w.Write([]byte(`{"value":"a secret","id":"x"}`))
	case strings.HasSuffix(r.URL.Path, "/release"):
		d.release(w, r)
	default:
		http.NotFound(w, r)
	}
}

// attest answers with a token whose signature nobody looks at: that is the vault's to do.
func (d *double) attest(w http.ResponseWriter, r *http.Request) {
	d.attested.Add(1)
	var raw json.RawMessage
	var body struct {
		RuntimeData data `json:"runtimeData"`
	}
	if err := json.NewDecoder(r.Body).Decode(&raw); err != nil || json.Unmarshal(raw, &body) != nil {
		d.t.Errorf("attest: %v", err)
	}
	d.mu.Lock()
	d.bodies = append(d.bodies, raw)
	d.mu.Unlock()
	runtime, err := base64.URLEncoding.DecodeString(body.RuntimeData.Data)
	if err != nil {
		d.t.Errorf("runtimeData: %v", err)
	}
	claims, _ := json.Marshal(map[string]any{"exp": time.Now().Add(d.tokenLife).Unix(), "x-ms-runtime": json.RawMessage(runtime)})
	_, _ = fmt.Fprintf(w, `{"token":"e30.%s.c2ln"}`, base64.RawURLEncoding.EncodeToString(claims))
}

func (d *double) release(w http.ResponseWriter, r *http.Request) {
	d.released.Add(1)
	name, v, _ := strings.Cut(strings.TrimSuffix(strings.TrimPrefix(r.URL.Path, "/keys/"), "/release"), "/")
	if v == "" {
		v = "0123456789abcdef0123456789abcdef"
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	key, ok := d.keys[name]
	if !ok {
		w.WriteHeader(http.StatusNotFound)
		_, _ = w.Write([]byte(`{"error":{"code":"KeyNotFound","message":"A key with (name/id) was not found in this key vault."}}`))
		return
	}
	var body struct{ Target, Enc, Nonce string }
	if err := json.NewDecoder(r.Body).Decode(&body); err != nil {
		d.t.Errorf("release: %v", err)
	}
	public := d.target(body.Target, body.Enc)
	jwk, secret := describe(d.t, key)
	sealed, err := wrap.Seal(wrap.Enc(body.Enc), public, secret)
	if err != nil {
		d.t.Errorf("release: %v", err)
	}
	hsm := map[string]any{
		"schema_version": "1.0", "header": map[string]any{"kid": "x", "alg": "dir", "enc": body.Enc},
		"ciphertext": base64.RawURLEncoding.EncodeToString(sealed),
	}
	if d.sealed != nil {
		d.sealed(hsm)
	}
	b, _ := json.Marshal(hsm)
	kid := d.URL + "/keys/" + name
	jwk["kid"], jwk["key_hsm"] = kid+"/"+v, base64.RawURLEncoding.EncodeToString(b)
	payload := map[string]any{
		"request":  map[string]any{"api-version": "7.4", "enc": body.Enc, "kid": kid, "nonce": body.Nonce},
		"response": map[string]any{"key": map[string]any{"key": jwk, "attributes": map[string]any{"enabled": true, "exportable": true}}},
	}
	if d.payload != nil {
		d.payload(payload)
	}
	compact := d.sign(payload)
	if d.compact != nil {
		compact = d.compact(compact)
	}
	_ = json.NewEncoder(w).Encode(map[string]string{"value": compact})
}

// sign makes the JWS of an answer.
func (d *double) sign(payload any) string {
	o := (&jose.SignerOptions{}).WithType("JWT").WithHeader("x5c", []string{
		base64.StdEncoding.EncodeToString(d.leaf.Raw), base64.StdEncoding.EncodeToString(d.ca.Raw)})
	if d.header != nil {
		d.header(o)
	}
	s, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.RS256, Key: d.signer}, o)
	if err != nil {
		d.t.Fatal(err)
	}
	b, ok := payload.([]byte)
	if !ok {
		b, _ = json.Marshal(payload)
	}
	jws, err := s.Sign(b)
	if err != nil {
		d.t.Fatal(err)
	}
	compact, err := jws.CompactSerialize()
	if err != nil {
		d.t.Fatal(err)
	}
	return compact
}

// target takes the wrapping key out of a token, as vaults do.
func (d *double) target(token, enc string) crypto.PublicKey {
	var claims struct {
		Runtime struct {
			Keys []json.RawMessage `json:"keys"`
		} `json:"x-ms-runtime"`
	}
	parts := strings.Split(token, ".")
	b, _ := base64.RawURLEncoding.DecodeString(parts[1])
	if err := json.Unmarshal(b, &claims); err != nil {
		d.t.Errorf("target: %v", err)
	}
	to, err := wrap.Select(claims.Runtime.Keys, wrap.Enc(enc))
	if err != nil {
		d.t.Errorf("target: %v", err)
		return nil
	}
	return to.Public
}

// describe returns the public members of a key, and what of it is wrapped.
func describe(t testing.TB, key any) (map[string]any, []byte) {
	t.Helper()
	if b, ok := key.([]byte); ok {
		return map[string]any{"kty": "oct-HSM"}, b
	}
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	public := jose.JSONWebKey{Key: key.(crypto.Signer).Public()}
	b, err := public.MarshalJSON()
	if err != nil {
		t.Fatal(err)
	}
	jwk := map[string]any{}
	if err := json.Unmarshal(b, &jwk); err != nil {
		t.Fatal(err)
	}
	jwk["kty"] = jwk["kty"].(string) + "-HSM"
	return jwk, secret
}

// guest is a source of evidence whose reports nobody looks at.
var guest = AttesterFunc(func(_ context.Context, reportData [64]byte) (*Evidence, error) {
	return &Evidence{Type: attest.TypeSEVSNP, Report: reportData[:], Certificates: [][]byte{[]byte("a certificate")}, Endorsements: [][]byte{{1}}}, nil
})

func (d *double) client(change func(*Options)) *Client {
	d.t.Helper()
	pool, err := NewPool(1, 0)
	if err != nil {
		d.t.Fatal(err)
	}
	o := Options{Attester: guest, Pool: pool, Roots: d.roots}
	if change != nil {
		change(&o)
	}
	c, err := New(o)
	if err != nil {
		d.t.Fatal(err)
	}
	return c
}

func (d *double) request(key string) *Request {
	n, err := ParseKeyName(key)
	if err != nil {
		d.t.Fatal(err)
	}
	return &Request{Attestation: d.host(), Vault: d.host(), Key: n, AccessToken: "who"}
}
