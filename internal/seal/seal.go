// SPDX-License-Identifier: Apache-2.0

// Package seal holds the root key of a vault: the one key under which all its other keys lie in the store. A root is kept
// in a file under a passphrase, split among people so that a number of them must come together, or sealed to a TEE.
//
// It trusts the memory of its own process, and whoever opens a root with its permission. It never writes a key in the
// clear, and never prints one: its secrets are typed and show themselves as "(secret)".
package seal

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
)

// RootKeySize is the size of a root key in bytes: AES-256.
const RootKeySize = 32

// ErrSealed says that something could not be opened: the key is another, or the bytes or what they are bound to changed.
var ErrSealed = errors.New("it does not open with this key")

// Root is a root key that wraps others. It is safe for concurrent use.
type Root interface {
	// Wrap encrypts and binds the result to aad, which is not part of it.
	Wrap(ctx context.Context, plaintext, aad []byte) ([]byte, error)
	// Unwrap gives back what Wrap was given. The error wraps ErrSealed when key, bytes or aad are not those of Wrap.
	Unwrap(ctx context.Context, wrapped, aad []byte) ([]byte, error)
	// Kind says how the root is kept, in one word for status and logs.
	Kind() string
}

// Secret is bytes that must not be shown. It prints as "(secret)" in every format and encoding.
type Secret struct{ b []byte }

// NewSecret takes over the bytes.
func NewSecret(b []byte) *Secret { return &Secret{b} }

// Expose returns the bytes themselves. They are valid until Destroy.
func (s *Secret) Expose() []byte {
	if s == nil {
		return nil
	}
	return s.b
}

// Destroy overwrites the bytes.
func (s *Secret) Destroy() {
	if s != nil {
		clear(s.b)
		s.b = nil
	}
}

const redacted = "(secret)"

// String implements fmt.Stringer without the secret.
func (s *Secret) String() string { return redacted }

// Format implements fmt.Formatter without the secret, whatever the verb.
func (s *Secret) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, redacted) }

// LogValue implements slog.LogValuer without the secret.
func (s *Secret) LogValue() slog.Value { return slog.StringValue(redacted) }

// MarshalText implements encoding.TextMarshaler without the secret.
func (s *Secret) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// NewRootKey returns a random root key.
func NewRootKey() *Secret {
	b := make([]byte, RootKeySize)
	_, _ = rand.Read(b) // never fails
	return NewSecret(b)
}

// Box encrypts under one key: AES-256-GCM with random nonces of 96 bits in front of the ciphertext (SP 800-38D section
// 8.2.2), which is good for 2³² messages. It is safe for concurrent use.
type Box struct{ aead cipher.AEAD }

// NewBox returns a box with this key of RootKeySize bytes. It keeps no reference to the key.
func NewBox(key *Secret) (*Box, error) {
	if len(key.Expose()) != RootKeySize {
		return nil, fmt.Errorf("key of %d bytes, not %d", len(key.Expose()), RootKeySize)
	}
	block, err := aes.NewCipher(key.Expose())
	if err != nil {
		return nil, fmt.Errorf("making a cipher: %w", err)
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		return nil, fmt.Errorf("making a cipher: %w", err)
	}
	return &Box{aead}, nil
}

// Seal encrypts and binds the result to aad, which is not part of it.
func (b *Box) Seal(plaintext, aad []byte) []byte {
	return b.aead.Seal(nil, nil, plaintext, aad) //nolint:gosec // the cipher makes the nonce
}

// Open gives back what Seal was given. The error wraps ErrSealed when key, bytes or aad are not those of Seal.
func (b *Box) Open(sealed, aad []byte) ([]byte, error) {
	plaintext, err := b.aead.Open(nil, nil, sealed, aad)
	if err != nil {
		return nil, ErrSealed
	}
	return plaintext, nil
}

// Memory is a root whose key lies in this process's memory.
type Memory struct {
	box  *Box
	kind string
}

// NewMemory returns a root with this key of RootKeySize bytes. It keeps no reference to the key.
func NewMemory(key *Secret, kind string) (*Memory, error) {
	box, err := NewBox(key)
	if err != nil {
		return nil, fmt.Errorf("root: %w", err)
	}
	return &Memory{box, kind}, nil
}

// Wrap implements Root.
func (m *Memory) Wrap(_ context.Context, plaintext, aad []byte) ([]byte, error) {
	return m.box.Seal(plaintext, aad), nil
}

// Unwrap implements Root.
func (m *Memory) Unwrap(_ context.Context, wrapped, aad []byte) ([]byte, error) {
	b, err := m.box.Open(wrapped, aad)
	if err != nil {
		return nil, fmt.Errorf("unwrapping a key: %w", err)
	}
	return b, nil
}

// Kind implements Root.
func (m *Memory) Kind() string { return m.kind }

// String names the root without its key.
func (m *Memory) String() string { return m.kind + " root key" }

// GoString is String, so that no format prints the key.
func (m *Memory) GoString() string { return m.String() }
