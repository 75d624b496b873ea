// SPDX-License-Identifier: Apache-2.0

package rcar

import (
	"crypto/ecdh"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"math/big"

	"cofferdam.dev/internal/strictjson"
)

// Algorithms by which a secret's key is encrypted to a guest's key. RSA with PKCS #1 v1.5, which versions of the protocol
// before 0.2.0 had, is not among them.
const (
	RSAOAEP256   = "RSA-OAEP-256"
	ECDHESA256KW = "ECDH-ES+A256KW"
)

// Sizes of RSA keys in bits.
const (
	minRSA = 2048
	maxRSA = 4096
)

// Key is the public key of a guest.
type Key struct {
	members   map[string]string
	algorithm string
	rsa       *rsa.PublicKey
	ec        *ecdh.PublicKey
	curve     string
}

// ParseKey reads a key in JWK with the members that the protocol gives it, and no others: what the evidence is bound to
// must be what is used.
func ParseKey(jwk []byte) (*Key, error) {
	o, err := strictjson.Parse(jwk)
	if err != nil {
		return nil, fmt.Errorf("reading the guest's key: %w", err)
	}
	k, err := parseKey(o)
	if err != nil {
		return nil, fmt.Errorf("reading the guest's key: %w", err)
	}
	return k, nil
}

func parseKey(o strictjson.Object) (*Key, error) {
	kty, err := o.Text("kty")
	if err != nil {
		return nil, err
	}
	names := map[string][]string{"RSA": {"kty", "alg", "n", "e"}, "EC": {"kty", "alg", "crv", "x", "y"}}[kty]
	if names == nil {
		return nil, fmt.Errorf("a key of type %s is not supported: want RSA or EC", quote(kty))
	}
	if err := o.Only(names...); err != nil {
		return nil, err
	}
	k := &Key{members: map[string]string{}}
	for _, name := range names {
		if k.members[name], err = o.Text(name); err != nil {
			return nil, err
		}
	}
	k.algorithm = k.members["alg"]
	if kty == "RSA" {
		return k, k.readRSA()
	}
	return k, k.readEC()
}

func (k *Key) number(name string) ([]byte, error) {
	text := k.members[name]
	if len(text) > 2*maxText {
		return nil, fmt.Errorf("%q is too long", name)
	}
	b, err := base64.RawURLEncoding.Strict().DecodeString(text)
	if err != nil {
		return nil, fmt.Errorf("%q: %w", name, err)
	}
	return b, nil
}

func (k *Key) readRSA() error {
	if k.algorithm != RSAOAEP256 {
		return fmt.Errorf("the algorithm %s is not supported: want %s", quote(k.algorithm), RSAOAEP256)
	}
	n, err := k.number("n")
	if err != nil {
		return err
	}
	e, err := k.number("e")
	if err != nil {
		return err
	}
	exponent := new(big.Int).SetBytes(e)
	k.rsa = &rsa.PublicKey{N: new(big.Int).SetBytes(n)}
	switch bits := k.rsa.N.BitLen(); {
	case bits < minRSA || bits > maxRSA:
		return fmt.Errorf("the RSA key has %d bits, not %d to %d", bits, minRSA, maxRSA)
	case k.rsa.N.Bit(0) == 0:
		return errors.New("the modulus of the RSA key is even")
	case exponent.BitLen() > 31 || exponent.Bit(0) == 0 || exponent.Int64() < 3:
		return errors.New("the exponent of the RSA key is out of range")
	}
	k.rsa.E = int(exponent.Int64())
	return nil
}

func (k *Key) readEC() error {
	if k.algorithm != ECDHESA256KW {
		return fmt.Errorf("the algorithm %s is not supported: want %s", quote(k.algorithm), ECDHESA256KW)
	}
	k.curve = k.members["crv"]
	curve, size, err := curveOf(k.curve)
	if err != nil {
		return err
	}
	point := []byte{4} // uncompressed, SEC 1 section 2.3.3
	for _, name := range []string{"x", "y"} {
		b, err := k.number(name)
		if err != nil {
			return err
		}
		if len(b) != size {
			return fmt.Errorf("%q has %d bytes, not %d", name, len(b), size)
		}
		point = append(point, b...)
	}
	if k.ec, err = curve.NewPublicKey(point); err != nil {
		return errors.New("the point is not on the curve")
	}
	return nil
}

// curveOf returns a curve and the size of its coordinates in bytes.
func curveOf(name string) (ecdh.Curve, int, error) {
	switch name {
	case "P-256":
		return ecdh.P256(), 32, nil
	case "P-384":
		return ecdh.P384(), 48, nil
	case "P-521":
		return ecdh.P521(), 66, nil
	}
	return nil, 0, fmt.Errorf("the curve %s is not supported: want P-256, P-384 or P-521", quote(name))
}

// Thumbprint names the key: the SHA-256 of its canonical form, in hexadecimal.
func (k *Key) Thumbprint() string {
	members := map[string]any{}
	for name, value := range k.members {
		members[name] = value
	}
	b, err := Canonical(members)
	if err != nil {
		return "" // strings that were read always have a form
	}
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}
