// SPDX-License-Identifier: Apache-2.0

package tour

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"

	"cofferdam.dev/internal/vault/wrap"
)

// The data owner's file is encrypted as an authenticated-enveloped message of CMS (RFC 5083, RFC 5084, RFC 5652), since an
// unmodified OpenSSL opens these.
var (
	oidAuthEnveloped = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 16, 1, 23}
	oidData          = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 7, 1}
	oidAES256Wrap    = asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 1, 45}
	oidAES256GCM     = asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 1, 46}
)

// contentInfo is the outermost structure (RFC 5652 §3).
type contentInfo struct {
	Type    asn1.ObjectIdentifier
	Content authEnveloped `asn1:"explicit,tag:0"`
}

// authEnveloped is AuthEnvelopedData (RFC 5083 §2.1).
type authEnveloped struct {
	Version    int
	Recipients []asn1.RawValue `asn1:"set"`
	Content    encryptedContent
	MAC        []byte
}

// kekRecipient is KEKRecipientInfo (RFC 5652 §6.2.3), the choice number 2 of a recipient: whoever has a symmetric key.
type kekRecipient struct {
	Version   int
	KeyID     kekID
	Algorithm pkix.AlgorithmIdentifier
	Key       []byte
}

type kekID struct{ ID []byte }

type encryptedContent struct {
	Type      asn1.ObjectIdentifier
	Algorithm pkix.AlgorithmIdentifier
	Content   []byte `asn1:"tag:0"`
}

// gcmParameters are those of AES-GCM (RFC 5084 §3.2).
type gcmParameters struct {
	Nonce  []byte
	TagLen int
}

// sealLetter encrypts text to whoever has the key of 32 bytes that goes by the name keyID.
func sealLetter(text, key []byte, keyID string) ([]byte, error) {
	b, err := authEnvelope(text, key, keyID)
	if err != nil {
		return nil, fmt.Errorf("encrypting the letter: %w", err)
	}
	return b, nil
}

func authEnvelope(text, key []byte, keyID string) ([]byte, error) {
	content, nonce := make([]byte, 32), make([]byte, 12)
	_, _ = rand.Read(content) // never fails: crypto/rand aborts the program instead
	_, _ = rand.Read(nonce)   // likewise
	defer clear(content)
	wrapped, err := wrap.SealPlain(key, content)
	if err != nil {
		return nil, err
	}
	block, err := aes.NewCipher(content)
	if err != nil {
		return nil, err
	}
	gcm, err := cipher.NewGCM(block)
	if err != nil {
		return nil, err
	}
	sealed := gcm.Seal(nil, nonce, text, nil)
	end := len(sealed) - gcm.Overhead()
	parameters, err := asn1.Marshal(gcmParameters{nonce, gcm.Overhead()})
	if err != nil {
		return nil, err
	}
	recipient, err := asn1.MarshalWithParams(kekRecipient{
		Version: 4, KeyID: kekID{[]byte(keyID)}, Algorithm: pkix.AlgorithmIdentifier{Algorithm: oidAES256Wrap}, Key: wrapped,
	}, "tag:2")
	if err != nil {
		return nil, err
	}
	return asn1.Marshal(contentInfo{oidAuthEnveloped, authEnveloped{
		Recipients: []asn1.RawValue{{FullBytes: recipient}}, MAC: sealed[end:],
		Content: encryptedContent{oidData, pkix.AlgorithmIdentifier{Algorithm: oidAES256GCM, Parameters: asn1.RawValue{FullBytes: parameters}}, sealed[:end]},
	}})
}
