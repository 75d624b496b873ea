// SPDX-License-Identifier: Apache-2.0

package vault

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"slices"

	"github.com/go-jose/go-jose/v4"

	"cofferdam.dev/internal/seal"
	"cofferdam.dev/internal/strictjson"
)

// Sizes of keys in bits.
const (
	defaultRSABits = 2048
	defaultOctBits = 256
	minOctBits     = 128
	// maxOctBytes bounds an oct key that is imported.
	maxOctBytes = 64
	// maxJWK bounds a key in JWK in bytes.
	maxJWK = 16 << 10
)

// Material is the secret part of a key: PKCS#8 in DER for RSA and EC, the bytes themselves for oct. It shows itself as
// its type alone.
type Material struct {
	kind   KeyType // without "-HSM"
	curve  Curve
	bits   int
	public []byte // SubjectPublicKeyInfo in DER
	secret *seal.Secret
	// operations are those that a JWK named.
	operations []Operation
}

// Type returns the key's type, without "-HSM".
func (m *Material) Type() KeyType { return m.kind }

// Operations are those that the JWK named.
func (m *Material) Operations() []Operation { return slices.Clone(m.operations) }

// Expose returns the secret itself, for whoever exports it on purpose.
func (m *Material) Expose() []byte { return m.secret.Expose() }

// Destroy overwrites the secret.
func (m *Material) Destroy() { m.secret.Destroy() }

// String names the key's type.
func (m *Material) String() string { return string(m.kind) + " key" }

// Format implements fmt.Formatter without the secret, whatever the verb.
func (m *Material) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, m.String()) }

// ParseMaterial reads a private key in JWK. Members that only some writers add are passed over.
func ParseMaterial(jwk []byte) (*Material, error) {
	if len(jwk) > maxJWK {
		return nil, bad("The key has more than %d bytes.", maxJWK)
	}
	o, err := strictjson.Parse(jwk)
	if err != nil {
		return nil, bad("The key is no JWK.")
	}
	kty, err := o.Text("kty")
	if err != nil {
		return nil, bad("The key has no type (kty).")
	}
	var ops []Operation
	if o.Has("key_ops") {
		if err := json.Unmarshal(o["key_ops"], &ops); err != nil {
			return nil, bad("The operations of the key (key_ops) are no list of names.")
		}
	}
	m, err := parseMaterial(KeyType(kty).Base(), o)
	if err != nil {
		return nil, err
	}
	m.operations = ops
	return m, nil
}

func parseMaterial(kind KeyType, o strictjson.Object) (*Material, error) {
	if kind == Oct {
		text, err := o.Text("k")
		if err != nil {
			return nil, bad("The oct key has no value (k).")
		}
		b, err := base64.RawURLEncoding.DecodeString(text)
		if err != nil {
			return nil, bad("The value (k) of the oct key is not in base64url.")
		}
		return newOct(b)
	}
	wire := map[string]json.RawMessage{"kty": json.RawMessage(`"` + string(kind) + `"`)}
	for _, name := range []string{"n", "e", "d", "p", "q", "crv", "x", "y"} {
		if o.Has(name) {
			wire[name] = o[name]
		}
	}
	b, err := json.Marshal(wire)
	if err != nil {
		return nil, bad("The key is no JWK.")
	}
	defer clear(b)
	var key jose.JSONWebKey
	if err := key.UnmarshalJSON(b); err != nil {
		return nil, bad("The key is no private key of type RSA, EC or oct, or incomplete.")
	}
	return NewMaterial(key.Key)
}

// NewMaterial returns the material of a private key: *rsa.PrivateKey, *ecdsa.PrivateKey, or the bytes of an oct key, which
// it takes over.
func NewMaterial(key any) (*Material, error) {
	switch k := key.(type) {
	case *rsa.PrivateKey:
		if err := checkRSA(k.N.BitLen()); err != nil {
			return nil, err
		}
		if err := k.Validate(); err != nil {
			return nil, bad("The parts of the RSA key do not belong together.")
		}
		return newMaterial(RSA, "", k.N.BitLen(), k, k.Public())
	case *ecdsa.PrivateKey:
		curve := Curve(k.Curve.Params().Name)
		if _, err := curve.params(); err != nil {
			return nil, err
		}
		private, err := k.ECDH() // which does not look at the public half
		public, publicErr := k.PublicKey.ECDH()
		if err != nil || publicErr != nil || !private.PublicKey().Equal(public) {
			return nil, bad("The parts of the EC key do not belong together.")
		}
		return newMaterial(EC, curve, k.Curve.Params().BitSize, k, k.Public())
	case []byte:
		return newOct(k)
	}
	return nil, bad("The key is no private key of type RSA, EC or oct.")
}

func newOct(b []byte) (*Material, error) {
	if len(b) == 0 || len(b) > maxOctBytes {
		return nil, bad("An oct key has 1 to %d bytes.", maxOctBytes)
	}
	return &Material{kind: Oct, bits: 8 * len(b), secret: seal.NewSecret(b)}, nil
}

func newMaterial(kind KeyType, curve Curve, bits int, private, public any) (*Material, error) {
	der, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		return nil, bad("The key can not be encoded.")
	}
	spki, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		return nil, bad("The key can not be encoded.")
	}
	return &Material{kind: kind, curve: curve, bits: bits, public: spki, secret: seal.NewSecret(der)}, nil
}

func checkRSA(bits int) error {
	if bits != 2048 && bits != 3072 && bits != 4096 {
		return bad("An RSA key has 2048, 3072 or 4096 bits.")
	}
	return nil
}

func (c Curve) params() (elliptic.Curve, error) {
	switch c {
	case P256:
		return elliptic.P256(), nil
	case P384:
		return elliptic.P384(), nil
	case P521:
		return elliptic.P521(), nil
	}
	return nil, bad("The curve of an EC key is P-256, P-384 or P-521.")
}

// Generate makes the material of a key.
func Generate(kind KeyType, bits int, curve Curve) (*Material, error) {
	switch kind.Base() {
	case RSA:
		if bits == 0 {
			bits = defaultRSABits
		}
		if err := checkRSA(bits); err != nil {
			return nil, err
		}
		key, err := rsa.GenerateKey(rand.Reader, bits)
		if err != nil {
			return nil, fmt.Errorf("making an RSA key: %w", err)
		}
		return newMaterial(RSA, "", bits, key, key.Public())
	case EC:
		if curve == "" {
			curve = P256
		}
		params, err := curve.params()
		if err != nil {
			return nil, err
		}
		key, err := ecdsa.GenerateKey(params, rand.Reader)
		if err != nil {
			return nil, fmt.Errorf("making an EC key: %w", err)
		}
		return newMaterial(EC, curve, params.Params().BitSize, key, key.Public())
	case Oct:
		if bits == 0 {
			bits = defaultOctBits
		}
		if bits < minOctBits || bits > 8*maxOctBytes || bits%8 != 0 {
			return nil, bad("An oct key that is made has %d to %d bits, in whole bytes.", minOctBits, 8*maxOctBytes)
		}
		b := make([]byte, bits/8)
		_, _ = rand.Read(b) // never fails
		return newOct(b)
	}
	return nil, bad("The type of a key is RSA, EC or oct, or one of these with -HSM.")
}
