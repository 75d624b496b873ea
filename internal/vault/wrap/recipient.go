// SPDX-License-Identifier: Apache-2.0

package wrap

import (
	"bytes"
	"crypto"
	"crypto/ecdh"
	"crypto/hpke"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/big"
	"slices"

	"cofferdam.dev/internal/strictjson"
)

const (
	// maxKeys bounds the keys among which one is chosen.
	maxKeys = 64
	// minRSABits and maxRSABits bound RSA keys.
	minRSABits = 2048
	maxRSABits = 8192
)

// Recipient is a public key that a secret can be wrapped to.
type Recipient struct {
	// KeyID is the key's kid, or empty.
	KeyID string
	// Public is as Seal takes it.
	Public crypto.PublicKey
}

// jwk is a public key as guests put it into their runtime data (RFC 7517). A key for
// HPKEHybrid has the type AKP and its encoding in pub.
type jwk struct {
	KeyID      string   `json:"kid"`
	Type       string   `json:"kty"`
	Use        string   `json:"use"`
	Operations []string `json:"key_ops"`
	Algorithm  string   `json:"alg"`
	Curve      string   `json:"crv"`
	N          string   `json:"n"`
	E          string   `json:"e"`
	X          string   `json:"x"`
	Y          string   `json:"y"`
	Pub        string   `json:"pub"`
}

// The type and the algorithm that a key for HPKEHybrid has in JWK: X-Wing is the name of its KEM.
const (
	keyTypeAKP = "AKP"
	algHybrid  = "X-Wing"
)

// readJWK reads a key whose members count as they are spelt, once each: encoding/json would take N for n, and the last of
// two.
func readJWK(raw json.RawMessage) (*jwk, bool) {
	o, err := strictjson.Parse(raw)
	if err != nil {
		return nil, false
	}
	names := []string{"kid", "kty", "use", "key_ops", "alg", "crv", "n", "e", "x", "y", "pub"}
	maps.DeleteFunc(o, func(name string, _ json.RawMessage) bool { return !slices.Contains(names, name) })
	b, err := json.Marshal(o)
	if err != nil {
		return nil, false
	}
	var k jwk
	return &k, json.Unmarshal(b, &k) == nil
}

// suits reports whether the key is for wrapping in the format: it says that it is for encryption, and has the type.
func (k *jwk) suits(e Enc) bool {
	if k.Use != "" && k.Use != "enc" {
		return false // whatever its operations are: the two must agree (RFC 7517 section 4.3)
	}
	encrypts := k.Use == "enc" || slices.Contains(k.Operations, "encrypt") || slices.Contains(k.Operations, "wrapKey")
	switch e {
	case CKMRSAAESKeyWrap, RSAAESKeyWrap256, RSAAESKeyWrap384:
		return encrypts && k.Type == "RSA"
	case HPKEECDH:
		agrees := slices.Contains(k.Operations, "deriveKey") || slices.Contains(k.Operations, "deriveBits")
		return (encrypts || agrees) && (k.Type == "EC" || k.Type == "OKP" && k.Curve == "X25519")
	case HPKEHybrid:
		return encrypts && k.Type == keyTypeAKP && k.Algorithm == algHybrid
	}
	return false
}

// Select returns the first of the keys that is for wrapping in the format. Keys that are for something else are passed
// over; one that is for it but not good is an error, so that nothing but the order chooses.
func Select(keys []json.RawMessage, e Enc) (*Recipient, error) {
	if len(keys) > maxKeys {
		return nil, fmt.Errorf("there are %d keys, more than %d", len(keys), maxKeys)
	}
	for i, raw := range keys {
		k, ok := readJWK(raw)
		if !ok || !k.suits(e) {
			continue
		}
		public, err := k.public()
		if err != nil {
			return nil, fmt.Errorf("key %d, %q: %w", i, k.KeyID, err)
		}
		return &Recipient{k.KeyID, public}, nil
	}
	return nil, fmt.Errorf("none of %d keys is for encryption with %q", len(keys), e)
}

func (k *jwk) public() (crypto.PublicKey, error) {
	switch k.Type {
	case "RSA":
		return k.rsa()
	case keyTypeAKP:
		b, err := base64.RawURLEncoding.DecodeString(k.Pub)
		if err != nil {
			return nil, fmt.Errorf("pub: %w", err)
		}
		return hpke.MLKEM768X25519().NewPublicKey(b)
	}
	return k.ecdh()
}

func (k *jwk) rsa() (*rsa.PublicKey, error) {
	n, err := number(k.N)
	if err != nil {
		return nil, fmt.Errorf("n: %w", err)
	}
	e, err := number(k.E)
	if err != nil {
		return nil, fmt.Errorf("e: %w", err)
	}
	// 2^16+1 is the least exponent that SP 800-56B section 6.2 permits; larger ones than Go takes are not in use.
	if e.BitLen() > 31 || e.Int64() < 1<<16+1 || e.Bit(0) == 0 {
		return nil, fmt.Errorf("the exponent is not an odd number from %d to 2^31-1", 1<<16+1)
	}
	if n.BitLen() < minRSABits || n.BitLen() > maxRSABits || n.Bit(0) == 0 {
		return nil, fmt.Errorf("the modulus has %d bits or is even, and not %d to %d bits", n.BitLen(), minRSABits, maxRSABits)
	}
	return &rsa.PublicKey{N: n, E: int(e.Int64())}, nil
}

// ecdh refuses points that are not on the curve.
func (k *jwk) ecdh() (hpke.PublicKey, error) {
	x, err := base64.RawURLEncoding.DecodeString(k.X)
	if err != nil {
		return nil, fmt.Errorf("x: %w", err)
	}
	if k.Type == "OKP" {
		return hpke.DHKEM(ecdh.X25519()).NewPublicKey(x)
	}
	y, err := base64.RawURLEncoding.DecodeString(k.Y)
	if err != nil {
		return nil, fmt.Errorf("y: %w", err)
	}
	var curve ecdh.Curve
	var size int
	switch k.Curve {
	case "P-256":
		curve, size = ecdh.P256(), 32
	case "P-384":
		curve, size = ecdh.P384(), 48
	case "P-521":
		curve, size = ecdh.P521(), 66
	default:
		return nil, fmt.Errorf("the curve is %q, not P-256, P-384 or P-521", k.Curve)
	}
	if len(x) != size || len(y) != size {
		return nil, errors.New("the coordinates have a wrong size")
	}
	return hpke.DHKEM(curve).NewPublicKey(slices.Concat([]byte{4}, x, y)) // uncompressed, SEC 1 section 2.3.3
}

func number(text string) (*big.Int, error) {
	b, err := base64.RawURLEncoding.DecodeString(text)
	if err != nil {
		return nil, err
	}
	if b = bytes.TrimLeft(b, "\x00"); len(b) == 0 || len(b) > maxRSABits/8 {
		return nil, errors.New("it is empty or too long")
	}
	return new(big.Int).SetBytes(b), nil
}
