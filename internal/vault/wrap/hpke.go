// SPDX-License-Identifier: Apache-2.0

package wrap

import (
	"crypto"
	"crypto/ecdh"
	"crypto/hpke"
	"crypto/rsa"
	"errors"
	"fmt"
)

// The formats without RSA are HPKE (RFC 9180) in its base mode, with HKDF-SHA256 and AES-256-GCM, as encapsulated key and
// ciphertext one after the other. A guest makes a key for them about a thousand times quicker than one for RSA.
const (
	// HPKEECDH agrees on a key by ECDH with an ephemeral key, on the curve of the recipient: P-256, P-384, P-521 or X25519.
	HPKEECDH Enc = "HPKE_ECDH_A256GCM"
	// HPKEHybrid does it by X25519 and ML-KEM-768 together (X-Wing), and is secret as long as one of them is.
	HPKEHybrid Enc = "HPKE_MLKEM768_X25519_A256GCM"
)

// Formats are all of them.
func Formats() []Enc {
	return []Enc{CKMRSAAESKeyWrap, RSAAESKeyWrap256, RSAAESKeyWrap384, HPKEECDH, HPKEHybrid}
}

// RSA reports whether the format is one around RSA.
func (e Enc) RSA() bool {
	return e == CKMRSAAESKeyWrap || e == RSAAESKeyWrap256 || e == RSAAESKeyWrap384
}

// info binds a ciphertext to its purpose.
func (e Enc) info() []byte { return []byte("cofferdam.dev/release/v1\x00" + string(e)) }

// takes reports whether the format is for keys of the KEM, by its ID in the registries of RFC 9180 and draft-ietf-hpke-pq.
func (e Enc) takes(k hpke.KEM) bool {
	if k.ID() == hpke.MLKEM768X25519().ID() {
		return e == HPKEHybrid
	}
	for _, curve := range []ecdh.Curve{ecdh.P256(), ecdh.P384(), ecdh.P521(), ecdh.X25519()} {
		if k.ID() == hpke.DHKEM(curve).ID() {
			return e == HPKEECDH
		}
	}
	return false
}

var errKind = errors.New("the key is not of the kind that the format needs")

// Seal encrypts a payload to a public key: an *rsa.PublicKey or hpke.PublicKey, as the format needs.
func Seal(e Enc, to crypto.PublicKey, payload []byte) ([]byte, error) {
	switch key := to.(type) {
	case *rsa.PublicKey:
		if key.N.BitLen() >= minRSABits {
			return SealRSA(e, key, payload)
		}
	case hpke.PublicKey:
		if !e.takes(key.KEM()) {
			break
		}
		if len(payload) == 0 || len(payload) > MaxPayload {
			return nil, fmt.Errorf("wrapping a key: %d bytes, not 1 to %d", len(payload), MaxPayload)
		}
		b, err := hpke.Seal(key, hpke.HKDFSHA256(), hpke.AES256GCM(), e.info(), payload)
		if err != nil {
			return nil, fmt.Errorf("wrapping a key: %w", err)
		}
		return b, nil
	}
	return nil, fmt.Errorf("wrapping a key in format %q to a %T: %w", e, to, errKind)
}

// Open decrypts what Seal made, with an *rsa.PrivateKey or hpke.PrivateKey. The payload is the caller's to clear.
func Open(e Enc, private crypto.PrivateKey, sealed []byte) ([]byte, error) {
	switch key := private.(type) {
	case *rsa.PrivateKey:
		return OpenRSA(e, key, sealed)
	case hpke.PrivateKey:
		if !e.takes(key.KEM()) {
			break
		}
		if len(sealed) > 2*MaxPayload {
			return nil, ErrOpen
		}
		b, err := hpke.Open(key, hpke.HKDFSHA256(), hpke.AES256GCM(), e.info(), sealed)
		if err != nil {
			return nil, ErrOpen
		}
		return b, nil
	}
	return nil, fmt.Errorf("unwrapping a key in format %q with a %T: %w", e, private, errKind)
}
