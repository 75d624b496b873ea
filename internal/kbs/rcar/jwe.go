// SPDX-License-Identifier: Apache-2.0

package rcar

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdh"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"fmt"

	josecipher "github.com/go-jose/go-jose/v4/cipher"
)

// response is a JWE in flattened JSON (RFC 7516 section 7.2.2).
type response struct {
	Protected    string `json:"protected"`
	EncryptedKey string `json:"encrypted_key"`
	IV           string `json:"iv"`
	Ciphertext   string `json:"ciphertext"`
	Tag          string `json:"tag"`
}

// header is the protected header. Clients of the protocol do not take the bytes of the header as they came: they read it
// and write it again, and what they write must be what was authenticated. So its members are in the order in which those
// clients write them, and there are no others.
type header struct {
	Algorithm  string     `json:"alg"`
	Encryption string     `json:"enc"`
	Ephemeral  *ephemeral `json:"epk,omitempty"`
}

type ephemeral struct {
	Curve string `json:"crv"`
	Type  string `json:"kty"`
	X     string `json:"x"`
	Y     string `json:"y"`
}

const (
	contentKeySize = 32 // A256GCM
	ivSize         = 12
	a256gcm        = "A256GCM"
)

// Encrypt returns a secret encrypted to the key, as the protocol answers it: a JWE with A256GCM under a key of its own.
func (k *Key) Encrypt(secret []byte) ([]byte, error) {
	b, err := k.encrypt(secret)
	if err != nil {
		return nil, fmt.Errorf("encrypting to the guest's key: %w", err)
	}
	return b, nil
}

func (k *Key) encrypt(secret []byte) ([]byte, error) {
	content, iv := make([]byte, contentKeySize), make([]byte, ivSize)
	defer clear(content)
	_, _ = rand.Read(content) // never fails
	_, _ = rand.Read(iv)
	h := header{Algorithm: k.algorithm, Encryption: a256gcm}
	wrapped, err := k.wrap(content, &h)
	if err != nil {
		return nil, err
	}
	text, err := json.Marshal(h)
	if err != nil {
		return nil, err
	}
	block, err := aes.NewCipher(content)
	if err != nil {
		return nil, err
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		return nil, err
	}
	enc := base64.RawURLEncoding.EncodeToString
	protected := enc(text)
	sealed := aead.Seal(nil, iv, secret, []byte(protected))
	body, tag := sealed[:len(secret)], sealed[len(secret):]
	return json.Marshal(response{protected, enc(wrapped), enc(iv), enc(body), enc(tag)})
}

// wrap encrypts the content key, and adds to the header what the guest needs besides.
func (k *Key) wrap(content []byte, h *header) ([]byte, error) {
	if k.rsa != nil {
		return rsa.EncryptOAEP(sha256.New(), rand.Reader, k.rsa, content, nil)
	}
	curve, size, err := curveOf(k.curve)
	if err != nil {
		return nil, err
	}
	own, err := curve.GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	point, enc := own.PublicKey().Bytes()[1:], base64.RawURLEncoding.EncodeToString
	h.Ephemeral = &ephemeral{k.curve, "EC", enc(point[:size]), enc(point[size:])}
	key, err := agree(own, k.ec)
	if err != nil {
		return nil, err
	}
	defer clear(key)
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return josecipher.KeyWrap(block, content)
}

// agree derives the key that wraps the content key: ECDH and one round of the concatenation KDF with SHA-256, over the
// name of the algorithm and no party information (RFC 7518 section 4.6.2).
func agree(own *ecdh.PrivateKey, theirs *ecdh.PublicKey) ([]byte, error) {
	shared, err := own.ECDH(theirs)
	if err != nil {
		return nil, err
	}
	defer clear(shared)
	be := binary.BigEndian
	input := be.AppendUint32(nil, 1) // the round
	input = append(input, shared...)
	input = append(be.AppendUint32(input, uint32(len(ECDHESA256KW))), ECDHESA256KW...)
	input = be.AppendUint32(be.AppendUint32(input, 0), 0) // no party information
	input = be.AppendUint32(input, 8*contentKeySize)
	defer clear(input)
	sum := sha256.Sum256(input)
	return sum[:], nil
}
