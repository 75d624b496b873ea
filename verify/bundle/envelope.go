// SPDX-License-Identifier: Apache-2.0

package bundle

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
)

const (
	// PayloadType is the type of what is signed.
	PayloadType = "application/vnd.cofferdam.evidence-bundle.v1+json"
	// MaxSize bounds a bundle, in bytes: base64 of a payload with the largest document, policy and collateral.
	MaxSize = 48 << 20
)

var (
	// ErrUnsigned is wrapped by errors about bundles that nobody signed.
	ErrUnsigned = errors.New("nobody signed the bundle")
	// ErrSignature is wrapped by errors about bundles that none of the given keys signed.
	ErrSignature = errors.New("no key that is trusted signed the bundle")
)

// envelope is a DSSE envelope with at most one signature. Its only form is this struct's JSON and a newline.
type envelope struct {
	Payload     string      `json:"payload"`
	PayloadType string      `json:"payloadType"`
	Signatures  []signature `json:"signatures"`
}

// signature is ECDSA on P-256 with SHA-256 in ASN.1, with the lower of the two values of s that verify.
type signature struct {
	KeyID string `json:"keyid"`
	Sig   string `json:"sig"`
}

// preAuthentication is what is signed: DSSE's encoding of type and payload.
func preAuthentication(payload []byte) [32]byte {
	h := sha256.New()
	_, _ = fmt.Fprintf(h, "DSSEv1 %d %s %d ", len(PayloadType), PayloadType, len(payload)) // a hash never fails
	_, _ = h.Write(payload)
	return [32]byte(h.Sum(nil))
}

// KeyID names a key: the SHA-256 of its SubjectPublicKeyInfo, in hexadecimal.
func KeyID(key *ecdsa.PublicKey) (string, error) {
	if key == nil || key.Curve == nil {
		return "", errors.New("naming a key: there is none")
	}
	der, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		return "", fmt.Errorf("naming a key: %w", err)
	}
	sum := sha256.Sum256(der)
	return hex.EncodeToString(sum[:]), nil
}

// seal puts a payload into an envelope. A nil key leaves it unsigned.
func seal(payload []byte, key *ecdsa.PrivateKey) ([]byte, error) {
	e := envelope{Payload: base64.StdEncoding.EncodeToString(payload), PayloadType: PayloadType, Signatures: []signature{}}
	if key != nil {
		if key.Curve != elliptic.P256() {
			return nil, fmt.Errorf("signing a bundle: the key is on curve %s, not P-256", key.Params().Name)
		}
		digest := preAuthentication(payload)
		r, s, err := ecdsa.Sign(rand.Reader, key, digest[:])
		if err != nil {
			return nil, fmt.Errorf("signing a bundle: %w", err)
		}
		if !low(s) {
			s.Sub(elliptic.P256().Params().N, s)
		}
		sig, err := asn1.Marshal(pair{r, s})
		if err != nil {
			return nil, fmt.Errorf("signing a bundle: %w", err)
		}
		id, err := KeyID(&key.PublicKey)
		if err != nil {
			return nil, err
		}
		e.Signatures = append(e.Signatures, signature{id, base64.StdEncoding.EncodeToString(sig)})
	}
	b, err := e.marshal()
	if err == nil && len(b) > MaxSize {
		err = fmt.Errorf("the bundle has %d bytes, more than %d", len(b), MaxSize)
	}
	return b, err
}

func (e *envelope) marshal() ([]byte, error) {
	b, err := json.Marshal(e)
	if err != nil {
		return nil, fmt.Errorf("encoding a bundle: %w", err)
	}
	return append(b, '\n'), nil
}

// pair is an ECDSA signature.
type pair struct{ R, S *big.Int }

// low reports whether s is in the lower half: of s and N-s, which both verify, only that one is used.
func low(s *big.Int) bool {
	return s.Cmp(new(big.Int).Rsh(elliptic.P256().Params().N, 1)) <= 0
}

// unwrap reads an envelope and returns its payload and the ID of the key that is said to have signed it.
func unwrap(data []byte) (payload []byte, sig *signature, err error) {
	if len(data) > MaxSize {
		return nil, nil, fmt.Errorf("it has %d bytes, more than %d", len(data), MaxSize)
	}
	var e envelope
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	if err = dec.Decode(&e); err != nil {
		return nil, nil, fmt.Errorf("it is no envelope: %w", err)
	}
	if e.PayloadType != PayloadType {
		return nil, nil, fmt.Errorf("its payload is of type %q, not %q", e.PayloadType, PayloadType)
	}
	if e.Signatures == nil || len(e.Signatures) > 1 {
		return nil, nil, fmt.Errorf("it has %d signatures, or no list of them: want none or one", len(e.Signatures))
	}
	// One form only: nothing that is outside of the signature could be changed unseen.
	if again, err := e.marshal(); err != nil || !bytes.Equal(again, data) {
		return nil, nil, errors.New("the envelope is not in the form in which bundles are written")
	}
	payload, err = base64.StdEncoding.Strict().DecodeString(e.Payload)
	if err != nil || base64.StdEncoding.EncodedLen(len(payload)) != len(e.Payload) {
		return nil, nil, errors.New("its payload is not base64")
	}
	if len(e.Signatures) == 1 {
		sig = &e.Signatures[0]
	}
	return payload, sig, nil
}

// verify requires one of the keys to have signed.
func (s *signature) verify(payload []byte, keys []*ecdsa.PublicKey) error {
	der, err := base64.StdEncoding.Strict().DecodeString(s.Sig)
	if err != nil || base64.StdEncoding.EncodedLen(len(der)) != len(s.Sig) {
		return fmt.Errorf("the signature is not base64: %w", ErrSignature)
	}
	var p pair
	if rest, err := asn1.Unmarshal(der, &p); err != nil || len(rest) != 0 || !low(p.S) {
		return fmt.Errorf("the signature is not in the form in which bundles are signed: %w", ErrSignature)
	}
	digest := preAuthentication(payload)
	for _, k := range keys {
		id, err := KeyID(k)
		if err != nil {
			return err
		}
		if id == s.KeyID && k.Curve == elliptic.P256() {
			if ecdsa.VerifyASN1(k, digest[:], der) {
				return nil
			}
			return fmt.Errorf("the bundle was changed after key %s signed it: %w", id, ErrSignature)
		}
	}
	return fmt.Errorf("it says that key %.64q signed it: %w", s.KeyID, ErrSignature)
}
