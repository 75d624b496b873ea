// SPDX-License-Identifier: Apache-2.0

package cose1

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	_ "crypto/sha256" // by crypto.Hash
	_ "crypto/sha512" // by crypto.Hash
	"errors"
	"fmt"
	"io"
	"math/big"
	"slices"
)

// Algorithm is a signature algorithm by its COSE number. The zero value is none.
type Algorithm int64

// The algorithms (RFC 9053, RFC 8230).
const (
	ES256 Algorithm = -7
	EdDSA Algorithm = -8
	ES384 Algorithm = -35
	ES512 Algorithm = -36
	PS256 Algorithm = -37
	PS384 Algorithm = -38
	PS512 Algorithm = -39
)

// algorithm is what belongs to an Algorithm.
type algorithm struct {
	name  string
	hash  crypto.Hash
	curve elliptic.Curve // of ECDSA: one curve for each algorithm, so that keys are not used in two ways
}

var algorithms = map[Algorithm]algorithm{
	ES256: {"ES256", crypto.SHA256, elliptic.P256()},
	ES384: {"ES384", crypto.SHA384, elliptic.P384()},
	ES512: {"ES512", crypto.SHA512, elliptic.P521()},
	PS256: {"PS256", crypto.SHA256, nil},
	PS384: {"PS384", crypto.SHA384, nil},
	PS512: {"PS512", crypto.SHA512, nil},
	EdDSA: {"EdDSA", 0, nil},
}

// The RSA keys that are accepted, in bits.
const (
	minRSABits = 2048
	maxRSABits = 8192
)

// String returns the algorithm's registered name.
func (a Algorithm) String() string {
	if known, ok := algorithms[a]; ok {
		return known.name
	}
	return fmt.Sprintf("algorithm %d", int64(a))
}

// Algorithms lists the names of all algorithms, sorted.
func Algorithms() []string {
	var names []string
	for _, a := range algorithms {
		names = append(names, a.name)
	}
	slices.Sort(names)
	return names
}

// AlgorithmNamed returns the algorithm of a registered name.
func AlgorithmNamed(name string) (Algorithm, error) {
	for number, a := range algorithms {
		if a.name == name {
			return number, nil
		}
	}
	return 0, fmt.Errorf("signature algorithm %q is none of %q", name, Algorithms())
}

// fits checks that a public key is one for the algorithm.
func (a Algorithm) fits(key crypto.PublicKey) error {
	known, ok := algorithms[a]
	if !ok {
		return fmt.Errorf("%s is not supported", a)
	}
	switch k := key.(type) {
	case *ecdsa.PublicKey:
		if known.curve == nil || k.Curve != known.curve {
			return fmt.Errorf("a key on curve %s does not fit %s", k.Params().Name, a)
		}
	case *rsa.PublicKey:
		if known.hash == 0 || known.curve != nil {
			return fmt.Errorf("an RSA key does not fit %s", a)
		}
		if n := k.N.BitLen(); n < minRSABits || n > maxRSABits {
			return fmt.Errorf("RSA key has %d bits, want %d to %d", n, minRSABits, maxRSABits)
		}
	case ed25519.PublicKey:
		if a != EdDSA || len(k) != ed25519.PublicKeySize {
			return fmt.Errorf("an Ed25519 key does not fit %s", a)
		}
	default:
		return fmt.Errorf("key of type %T is not supported", key)
	}
	return nil
}

func (a Algorithm) digest(message []byte) []byte {
	h := algorithms[a].hash.New()
	h.Write(message)
	return h.Sum(nil)
}

var errSignature = errors.New("signature does not verify with the signer's key")

// verify checks a signature over message.
func (a Algorithm) verify(key crypto.PublicKey, message, signature []byte) error {
	err := a.fits(key)
	if err != nil {
		return err
	}
	ok := false
	switch k := key.(type) {
	case *ecdsa.PublicKey:
		n := (k.Params().BitSize + 7) / 8
		if len(signature) == 2*n {
			r, s := new(big.Int).SetBytes(signature[:n]), new(big.Int).SetBytes(signature[n:])
			ok = ecdsa.Verify(k, a.digest(message), r, s)
		}
	case *rsa.PublicKey:
		o := &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash}
		ok = rsa.VerifyPSS(k, algorithms[a].hash, a.digest(message), signature, o) == nil
	case ed25519.PublicKey:
		ok = ed25519.Verify(k, message, signature)
	}
	if !ok {
		return errSignature
	}
	return nil
}

// sign signs message.
func (a Algorithm) sign(random io.Reader, key crypto.Signer, message []byte) ([]byte, error) {
	err := a.fits(key.Public())
	if err != nil {
		return nil, err
	}
	switch k := key.(type) {
	case *ecdsa.PrivateKey:
		r, s, err := ecdsa.Sign(random, k, a.digest(message))
		if err != nil {
			return nil, fmt.Errorf("signing: %w", err)
		}
		n := (k.Params().BitSize + 7) / 8
		out := make([]byte, 2*n)
		r.FillBytes(out[:n])
		s.FillBytes(out[n:])
		return out, nil
	case *rsa.PrivateKey:
		o := &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash, Hash: algorithms[a].hash}
		return k.Sign(random, a.digest(message), o)
	case ed25519.PrivateKey:
		return k.Sign(random, message, crypto.Hash(0))
	}
	return nil, fmt.Errorf("key of type %T can not sign here", key)
}
