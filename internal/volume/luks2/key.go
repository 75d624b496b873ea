// SPDX-License-Identifier: Apache-2.0

package luks2

import (
	"bytes"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"fmt"
	"io"
	"log/slog"

	"cofferdam.dev/internal/volume/xts"
)

const redacted = "(secret)"

// VolumeKey is the key that the data of a volume are encrypted with: 32 bytes (AES-128) or 64 bytes (AES-256). It prints as
// "(secret)" in every format and encoding. Copies of it share the bytes. The zero value is no key, and is refused everywhere.
type VolumeKey struct{ b []byte }

// NewVolumeKey copies a key of 32 or 64 bytes whose halves differ. The error wraps ErrKey.
func NewVolumeKey(b []byte) (VolumeKey, error) {
	k := VolumeKey{bytes.Clone(b)}
	if err := k.valid(); err != nil {
		k.Destroy()
		return VolumeKey{}, fmt.Errorf("volume key: %w", err)
	}
	return k, nil
}

// valid tells whether there is a key at all.
func (k VolumeKey) valid() error {
	if _, err := xts.New(k.b); err != nil {
		return fmt.Errorf("%w: %w", ErrKey, err)
	}
	return nil
}

// GenerateKey returns a random key of 32 or 64 bytes.
func GenerateKey(size int) (VolumeKey, error) {
	if size != 32 && size != 64 {
		return VolumeKey{}, fmt.Errorf("volume key: %w: expected a size of 32 or 64 bytes, got %d", ErrKey, size)
	}
	b := make([]byte, size)
	_, _ = rand.Read(b) // never fails
	return VolumeKey{b}, nil
}

// Expose returns the bytes themselves. They are valid until Destroy.
func (k VolumeKey) Expose() []byte { return k.b }

// Destroy overwrites the bytes of this key and of all its copies; zeros are refused as a key.
func (k VolumeKey) Destroy() { clear(k.b) }

// mac authenticates text under a key of its own that only this use has. Volume keys are random, so that neither a salt nor
// costs are needed.
func (k VolumeKey) mac(use string, text []byte) ([]byte, error) {
	if err := k.valid(); err != nil {
		return nil, err
	}
	sub, err := hkdf.Key(sha256.New, k.b, nil, "cofferdam.dev/luks2/"+use+"/v1", sha256.Size)
	if err != nil {
		return nil, err
	}
	h := hmac.New(sha256.New, sub)
	h.Write(text)
	clear(sub)
	return h.Sum(nil), nil
}

// String implements fmt.Stringer without the key.
func (k VolumeKey) String() string { return redacted }

// Format implements fmt.Formatter without the key, whatever the verb.
func (k VolumeKey) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, redacted) }

// LogValue implements slog.LogValuer without the key.
func (k VolumeKey) LogValue() slog.Value { return slog.StringValue(redacted) }

// MarshalText implements encoding.TextMarshaler without the key.
func (k VolumeKey) MarshalText() ([]byte, error) { return []byte(redacted), nil }
