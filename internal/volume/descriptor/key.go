// SPDX-License-Identifier: Apache-2.0

package descriptor

import (
	"bytes"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"fmt"
	"io"
	"log/slog"
)

// KeySize is the size of the keys of shadow and sealed volumes in bytes. Those of LUKS2 have 32 or 64.
const KeySize = 32

const redacted = "(secret)"

// Key is a volume key. It prints as "(secret)" in every format and encoding. Copies share the bytes. The zero value is none.
type Key struct{ b []byte }

// NewKey copies a key of 32 or 64 bytes.
func NewKey(b []byte) (Key, error) {
	if len(b) != KeySize && len(b) != 2*KeySize || bytes.Count(b, []byte{b[0]}) == len(b) {
		return Key{}, fmt.Errorf("a volume key of %d bytes, expected %d or %d that are not all the same", len(b), KeySize, 2*KeySize)
	}
	return Key{bytes.Clone(b)}, nil
}

// GenerateKey returns a random key of 32 or 64 bytes.
func GenerateKey(size int) (Key, error) {
	b := make([]byte, size)
	_, _ = rand.Read(b) // never fails
	return NewKey(b)
}

// Expose returns the bytes themselves. They are valid until Destroy.
func (k Key) Expose() []byte { return k.b }

// Destroy overwrites the bytes of this key and of all its copies.
func (k Key) Destroy() { clear(k.b) }

// String implements fmt.Stringer without the key.
func (k Key) String() string { return redacted }

// Format implements fmt.Formatter without the key, whatever the verb.
func (k Key) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, redacted) }

// LogValue implements slog.LogValuer without the key.
func (k Key) LogValue() slog.Value { return slog.StringValue(redacted) }

// MarshalText implements encoding.TextMarshaler without the key.
func (k Key) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// mac is over the canonical text without the MAC.
func (d *Descriptor) mac(key Key) ([]byte, error) {
	if len(key.b) == 0 {
		return nil, fmt.Errorf("%w: there is none", ErrKey)
	}
	text, err := d.canonical(false)
	if err != nil {
		return nil, err
	}
	sub, err := hkdf.Key(sha256.New, key.b, d.ID[:], "cofferdam.dev/volume/descriptor/v1", sha256.Size)
	if err != nil {
		return nil, err
	}
	h := hmac.New(sha256.New, sub)
	h.Write(text)
	clear(sub)
	return h.Sum(nil), nil
}
