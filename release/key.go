// SPDX-License-Identifier: Apache-2.0

package release

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/hkdf"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"log/slog"
	"math/big"
	"strings"

	"github.com/go-jose/go-jose/v4"
)

// Kinds of keys.
const (
	KindRSA = "RSA"
	KindEC  = "EC"
	KindOct = "oct"
)

// Key is a key that a vault released. It prints as its ID and kind alone, also in logs and in JSON; JWK and the other
// accessors by name hand out the secret.
type Key struct {
	id, kind string
	oct      []byte
	private  any
}

// ID returns the key's URL in the vault, with its version.
func (k *Key) ID() string { return k.id }

// Kind returns KindRSA, KindEC or KindOct.
func (k *Key) Kind() string { return k.kind }

// String names the key without its secret.
func (k *Key) String() string { return k.kind + " key " + k.id }

// GoString is String, so that no format prints the secret.
func (k *Key) GoString() string { return k.String() }

// LogValue is String, so that no log has the secret.
func (k *Key) LogValue() slog.Value { return slog.StringValue(k.String()) }

// MarshalJSON returns the key's name, not the key.
func (k *Key) MarshalJSON() ([]byte, error) { return json.Marshal(k.String()) }

// RSA returns the private key, or nil when the key is of another kind.
func (k *Key) RSA() *rsa.PrivateKey {
	p, _ := k.private.(*rsa.PrivateKey) // nil for all else
	return p
}

// EC returns the private key, or nil when the key is of another kind.
func (k *Key) EC() *ecdsa.PrivateKey {
	p, _ := k.private.(*ecdsa.PrivateKey) // nil for all else
	return p
}

// Symmetric returns the bytes of a symmetric key, which the caller must not change, or nil when the key is of another kind.
func (k *Key) Symmetric() []byte { return k.oct }

// JWK returns the whole key, secret included, as a JSON web key.
func (k *Key) JWK() ([]byte, error) {
	v := k.private
	if k.kind == KindOct {
		v = k.oct
	}
	return (&jose.JSONWebKey{Key: v}).MarshalJSON()
}

// DerivationLabel is the label of derived keys where none is said.
const DerivationLabel = "Symmetric Encryption Key"

// Derive returns 32 bytes that follow from the key, a salt and a label: HKDF with SHA-256 over the private exponent of an
// RSA key, which is how keys of encrypted filesystems follow from keys in a managed HSM.
func (k *Key) Derive(salt []byte, label string) ([]byte, error) {
	p := k.RSA()
	if p == nil {
		return nil, fmt.Errorf("deriving from %v: only RSA keys are derived from", k)
	}
	if label == "" {
		label = DerivationLabel
	}
	return hkdf.Key(sha256.New, p.D.Bytes(), salt, label, sha256.Size)
}

// described is the key as the vault's answer describes it.
type described struct {
	ID    string `json:"kid"`
	Kty   string `json:"kty"`
	N     string `json:"n"`
	E     string `json:"e"`
	Crv   string `json:"crv"`
	X     string `json:"x"`
	Y     string `json:"y"`
	Value string `json:"key_hsm"`
}

// openKey makes a key of what was wrapped, if it is the one that was described.
func openKey(d *described, secret []byte) (*Key, error) {
	k := &Key{id: d.ID}
	switch strings.TrimSuffix(d.Kty, "-HSM") {
	case KindOct:
		k.kind, k.oct = KindOct, secret
		return k, nil
	case KindRSA:
		k.kind = KindRSA
	case KindEC:
		k.kind = KindEC
	default:
		return nil, wrong("the key is of kind %q", clean(d.Kty))
	}
	defer clear(secret)
	p, err := x509.ParsePKCS8PrivateKey(secret)
	if err != nil {
		return nil, wrong("the key is no PKCS #8 private key") // the parser's error may quote it
	}
	k.private = p
	ok := false
	switch p := p.(type) {
	case *rsa.PrivateKey:
		ok = k.kind == KindRSA && same(d.N, p.N) && same(d.E, big.NewInt(int64(p.E)))
	case *ecdsa.PrivateKey:
		ok = k.kind == KindEC && samePoint(d, p)
	}
	if !ok {
		return nil, wrong("the private key does not belong to the public key beside it")
	}
	return k, nil
}

// same compares a number of a JWK with another. Leading zeros are left aside: some vaults write them.
func same(text string, n *big.Int) bool {
	b, err := base64.RawURLEncoding.DecodeString(strings.TrimRight(text, "="))
	return err == nil && len(b) > 0 && new(big.Int).SetBytes(b).Cmp(n) == 0
}

func samePoint(d *described, p *ecdsa.PrivateKey) bool {
	point, err := p.PublicKey.Bytes()
	if err != nil {
		return false
	}
	half := (len(point) - 1) / 2
	x, y := new(big.Int).SetBytes(point[1:1+half]), new(big.Int).SetBytes(point[1+half:])
	return d.Crv == p.Params().Name && same(d.X, x) && same(d.Y, y)
}

// compactBase64 decodes base64url of an answer, with padding or without.
func compactBase64(s string) ([]byte, error) {
	if bytes.ContainsAny([]byte(s), "\r\n") { // which the decoder skips
		return nil, fmt.Errorf("it has line breaks")
	}
	return base64.RawURLEncoding.DecodeString(strings.TrimRight(s, "="))
}
