// SPDX-License-Identifier: Apache-2.0

package simsp

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hkdf"
	"crypto/sha512"
	"fmt"
	"math/big"

	"cofferdam.dev/evidence/snp"
)

// chipSecret stands for the secret that is fused into a real chip.
type chipSecret [32]byte

// String hides the secret.
func (chipSecret) String() string { return "[redacted]" }

// GoString hides the secret.
func (chipSecret) GoString() string { return "[redacted]" }

// derive returns n bytes that depend on the secret, a purpose and a context.
func (s chipSecret) derive(purpose, context string, n int) ([]byte, error) {
	b, err := hkdf.Key(sha512.New384, s[:], []byte("cofferdam.dev/simsp/v1 "+purpose), context, n)
	if err != nil {
		return nil, fmt.Errorf("deriving %s: %w", purpose, err)
	}
	return b, nil
}

// id returns the chip's unique ID.
func (s chipSecret) id() ([64]byte, error) {
	b, err := s.derive("chip id", "", 64)
	if err != nil {
		return [64]byte{}, err
	}
	return [64]byte(b), nil
}

// hwid returns the chip's unique ID as certificates of a product line have it: Turin's is shorter.
func (s chipSecret) hwid(line snp.ProductLine) ([]byte, error) {
	id, err := s.id()
	if err != nil {
		return nil, err
	}
	if line == snp.Turin {
		return id[:turinID], nil
	}
	return id[:], nil
}

// turinID is the length of the unique ID of a Turin in bytes.
const turinID = 8

// vcek returns the chip endorsement key of a TCB version. As on hardware it depends on nothing else, so that the key of
// an old TCB can not sign for a new one.
func (s chipSecret) vcek(tcb snp.TCB) (*ecdsa.PrivateKey, error) {
	return s.key("vcek", string(tcb[:]))
}

// vlek returns the endorsement key that is loaded for a provider, of a TCB version.
func (s chipSecret) vlek(provider string, tcb snp.TCB) (*ecdsa.PrivateKey, error) {
	return s.key("vlek", string(tcb[:])+provider)
}

// key derives a key pair. The private scalar is made of 64 bits more than the curve's order has (FIPS 186-5, A.2.1), which
// leaves no measurable bias.
func (s chipSecret) key(purpose, context string) (*ecdsa.PrivateKey, error) {
	curve := elliptic.P384()
	b, err := s.derive(purpose, context, 48+8)
	if err != nil {
		return nil, err
	}
	one := big.NewInt(1)
	d := new(big.Int).SetBytes(b)
	d.Mod(d, new(big.Int).Sub(curve.Params().N, one))
	d.Add(d, one)
	key, err := ecdsa.ParseRawPrivateKey(curve, d.FillBytes(make([]byte, 48)))
	if err != nil {
		return nil, fmt.Errorf("deriving %s: %w", purpose, err)
	}
	return key, nil
}
