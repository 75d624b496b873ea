// SPDX-License-Identifier: Apache-2.0

// Package wrap is the formats in which a key leaves a vault: encrypted to a public key that was born where the key is to
// be used. A vault makes them and a client opens them, so that both have them from here.
//
// What is opened is hostile: it is bounded, and everything that can be wrong with it gives one and the same error, so
// that nobody learns from which of several layers refused. The package trusts the keys that it is given, keeps nothing,
// and decides nothing about who may have what.
package wrap

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	_ "crypto/sha1" //nolint:gosec // for CKMRSAAESKeyWrap, in OAEP only, where collisions do not matter
	_ "crypto/sha256"
	_ "crypto/sha512"
	"errors"
	"fmt"
)

// Enc names a format, as release requests and answers do.
type Enc string

// The formats around RSA. All encrypt a fresh AES-256 key by RSA-OAEP, and with it the payload by AES key wrap with
// padding (RFC 5649); they differ by the hash of OAEP and of its mask generation.
const (
	// CKMRSAAESKeyWrap has SHA-1. Azure's default where a request names none.
	CKMRSAAESKeyWrap Enc = "CKM_RSA_AES_KEY_WRAP"
	// RSAAESKeyWrap256 has SHA-256.
	RSAAESKeyWrap256 Enc = "RSA_AES_KEY_WRAP_256"
	// RSAAESKeyWrap384 has SHA-384.
	RSAAESKeyWrap384 Enc = "RSA_AES_KEY_WRAP_384"
)

// ErrOpen is returned for everything that can not be opened, whatever is wrong with it.
var ErrOpen = errors.New("the wrapped key can not be opened")

// MaxPayload bounds what is wrapped, in bytes: the longest private key is some kilobytes.
const MaxPayload = 64 << 10

// kekSize is the size of the AES key in between.
const kekSize = 32

// Hash returns the hash of a format around RSA.
func (e Enc) Hash() (crypto.Hash, error) {
	switch e {
	case CKMRSAAESKeyWrap:
		return crypto.SHA1, nil
	case RSAAESKeyWrap256:
		return crypto.SHA256, nil
	case RSAAESKeyWrap384:
		return crypto.SHA384, nil
	}
	return 0, fmt.Errorf("format %q is unknown; want %s, %s or %s", string(e), CKMRSAAESKeyWrap, RSAAESKeyWrap256, RSAAESKeyWrap384)
}

// SealRSA encrypts a payload to an RSA key.
func SealRSA(e Enc, to *rsa.PublicKey, payload []byte) ([]byte, error) {
	h, err := e.Hash()
	if err != nil {
		return nil, fmt.Errorf("wrapping a key: %w", err)
	}
	kek := make([]byte, kekSize)
	defer clear(kek)
	_, _ = rand.Read(kek) // never fails
	head, err := rsa.EncryptOAEP(h.New(), rand.Reader, to, kek, nil)
	if err != nil {
		return nil, fmt.Errorf("wrapping a key: %w", err)
	}
	tail, err := SealPadded(kek, payload)
	if err != nil {
		return nil, fmt.Errorf("wrapping a key: %w", err)
	}
	return append(head, tail...), nil
}

// OpenRSA decrypts what SealRSA made. The payload is the caller's to clear.
func OpenRSA(e Enc, key *rsa.PrivateKey, sealed []byte) ([]byte, error) {
	h, err := e.Hash()
	if err != nil {
		return nil, fmt.Errorf("unwrapping a key: %w", err)
	}
	n := key.Size()
	if len(sealed) <= n {
		return nil, ErrOpen
	}
	kek, err := rsa.DecryptOAEP(h.New(), nil, key, sealed[:n], nil)
	if err != nil || len(kek) != kekSize {
		return nil, ErrOpen
	}
	defer clear(kek)
	return OpenPadded(kek, sealed[n:])
}
