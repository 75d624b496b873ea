// SPDX-License-Identifier: Apache-2.0

package vault

import (
	"crypto"
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/rsa"
	_ "crypto/sha1" //nolint:gosec // for RSA-OAEP, where collisions do not matter
	_ "crypto/sha256"
	_ "crypto/sha512"
	"crypto/x509"
	"errors"
	"fmt"
	"math/big"

	"cofferdam.dev/internal/vault/wrap"
)

// gcmTagSize and gcmNonceSize are in bytes.
const (
	gcmTagSize   = 16
	gcmNonceSize = 12
)

func unsuited(a Algorithm) error {
	return bad("The algorithm %.50q is not known, or not one for a key of this type and size.", a)
}

// oaep returns the hash of an RSA-OAEP algorithm.
func (a Algorithm) oaep() (crypto.Hash, bool) {
	switch a {
	case RSAOAEP:
		return crypto.SHA1, true
	case RSAOAEP256:
		return crypto.SHA256, true
	}
	return 0, false
}

// keyBits is the size of the AES key that an algorithm needs; zero is any.
func (a Algorithm) keyBits() int {
	switch a {
	case A128GCM, A128KW:
		return 128
	case A192GCM, A192KW:
		return 192
	case A256GCM, A256KW:
		return 256
	}
	return 0
}

func (m *opened) private() (crypto.PrivateKey, error) {
	key, err := x509.ParsePKCS8PrivateKey(m.material.Expose())
	if err != nil {
		return nil, fmt.Errorf("reading a key's material: %w", err)
	}
	return key, nil
}

// symmetric requires an AES key of the size that the algorithm needs.
func (m *opened) symmetric(a Algorithm) ([]byte, error) {
	key := m.material.Expose()
	bits := 8 * len(key)
	if m.rec.Type.Base() != Oct || bits != 128 && bits != 192 && bits != 256 || a.keyBits() != 0 && a.keyBits() != bits {
		return nil, unsuited(a)
	}
	return key, nil
}

func (m *opened) gcm(a Algorithm) (cipher.AEAD, error) {
	key, err := m.symmetric(a)
	if err != nil {
		return nil, err
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(block)
}

func (m *opened) encrypt(a Algorithm, plaintext, aad []byte) (*Ciphertext, error) {
	c := &Ciphertext{Algorithm: a, AAD: aad}
	if h, ok := a.oaep(); ok {
		public, err := x509.ParsePKIXPublicKey(m.rec.Public)
		key, isRSA := public.(*rsa.PublicKey)
		if err != nil || !isRSA {
			return nil, unsuited(a)
		}
		c.Value, err = rsa.EncryptOAEP(h.New(), rand.Reader, key, plaintext, nil)
		if errors.Is(err, rsa.ErrMessageTooLong) {
			return nil, bad("What is encrypted is too long for the key.")
		}
		return c, err
	}
	switch a {
	case A128GCM, A192GCM, A256GCM:
		aead, err := m.gcm(a)
		if err != nil {
			return nil, err
		}
		c.IV = make([]byte, gcmNonceSize)
		_, _ = rand.Read(c.IV) // never fails
		b := aead.Seal(nil, c.IV, plaintext, aad)
		c.Value, c.Tag = b[:len(b)-gcmTagSize], b[len(b)-gcmTagSize:]
		return c, nil
	case A128KW, A192KW, A256KW, AESKW, AESKWP:
		key, err := m.symmetric(a)
		if err != nil {
			return nil, err
		}
		seal := wrap.SealPlain
		if a == AESKWP {
			seal = wrap.SealPadded
		}
		if c.Value, err = seal(key, plaintext); err != nil {
			return nil, bad("A key of this size can not be wrapped with %s.", a)
		}
		return c, nil
	}
	return nil, unsuited(a)
}

func (m *opened) decrypt(c Ciphertext) ([]byte, error) {
	if h, ok := c.Algorithm.oaep(); ok && m.rec.Type.Base() == RSA {
		private, err := m.private()
		if err != nil {
			return nil, err
		}
		key, isRSA := private.(*rsa.PrivateKey)
		if !isRSA {
			return nil, unsuited(c.Algorithm)
		}
		return rsa.DecryptOAEP(h.New(), nil, key, c.Value, nil)
	}
	switch c.Algorithm {
	case A128GCM, A192GCM, A256GCM:
		aead, err := m.gcm(c.Algorithm)
		if err != nil {
			return nil, err
		}
		if len(c.IV) != gcmNonceSize || len(c.Tag) != gcmTagSize {
			return nil, unsuited(c.Algorithm)
		}
		return aead.Open(nil, c.IV, append(append([]byte{}, c.Value...), c.Tag...), c.AAD)
	case A128KW, A192KW, A256KW, AESKW, AESKWP:
		key, err := m.symmetric(c.Algorithm)
		if err != nil {
			return nil, err
		}
		if c.Algorithm == AESKWP {
			return wrap.OpenPadded(key, c.Value)
		}
		return wrap.OpenPlain(key, c.Value)
	}
	return nil, unsuited(c.Algorithm)
}

// hash returns the hash of a signature algorithm, and the curve that it needs.
func (a Algorithm) hash() (h crypto.Hash, curve Curve) {
	switch a {
	case RS256, PS256:
		return crypto.SHA256, ""
	case RS384, PS384:
		return crypto.SHA384, ""
	case RS512, PS512:
		return crypto.SHA512, ""
	case ES256:
		return crypto.SHA256, P256
	case ES384:
		return crypto.SHA384, P384
	case ES512:
		return crypto.SHA512, P521
	}
	return 0, ""
}

// signing checks that algorithm, key and digest go together.
func (m *opened) signing(a Algorithm, digest []byte) (crypto.Hash, error) {
	h, curve := a.hash()
	fits := curve == "" && m.rec.Type.Base() == RSA || curve != "" && m.rec.Type.Base() == EC && m.rec.Curve == curve
	if h == 0 || !fits {
		return 0, unsuited(a)
	}
	if len(digest) != h.Size() {
		return 0, bad("The digest has %d bytes, and %s needs %d.", len(digest), a, h.Size())
	}
	return h, nil
}

// pss reports whether the algorithm pads with PSS.
func (a Algorithm) pss() bool { return a == PS256 || a == PS384 || a == PS512 }

// pssOptions have a salt as long as the hash, RFC 7518 section 3.5.
var pssOptions = rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash}

func (m *opened) sign(a Algorithm, digest []byte) ([]byte, error) {
	h, err := m.signing(a, digest)
	if err != nil {
		return nil, err
	}
	private, err := m.private()
	if err != nil {
		return nil, err
	}
	switch key := private.(type) {
	case *rsa.PrivateKey:
		if a.pss() {
			opts := pssOptions
			return rsa.SignPSS(rand.Reader, key, h, digest, &opts)
		}
		return rsa.SignPKCS1v15(nil, key, h, digest)
	case *ecdsa.PrivateKey:
		r, s, err := ecdsa.Sign(rand.Reader, key, digest)
		if err != nil {
			return nil, err
		}
		n := (key.Curve.Params().BitSize + 7) / 8
		out := make([]byte, 2*n) // both numbers one after the other, RFC 7518 section 3.4
		r.FillBytes(out[:n])
		s.FillBytes(out[n:])
		return out, nil
	}
	return nil, unsuited(a)
}

func (m *opened) verify(a Algorithm, digest, signature []byte) (bool, error) {
	h, err := m.signing(a, digest)
	if err != nil {
		return false, err
	}
	public, err := x509.ParsePKIXPublicKey(m.rec.Public)
	if err != nil {
		return false, fmt.Errorf("reading a public key: %w", err)
	}
	switch key := public.(type) {
	case *rsa.PublicKey:
		if a.pss() {
			opts := pssOptions
			return rsa.VerifyPSS(key, h, digest, signature, &opts) == nil, nil
		}
		return rsa.VerifyPKCS1v15(key, h, digest, signature) == nil, nil
	case *ecdsa.PublicKey:
		n := (key.Curve.Params().BitSize + 7) / 8
		if len(signature) != 2*n {
			return false, nil
		}
		r, s := new(big.Int).SetBytes(signature[:n]), new(big.Int).SetBytes(signature[n:])
		return ecdsa.Verify(key, digest, r, s), nil
	}
	return false, unsuited(a)
}
