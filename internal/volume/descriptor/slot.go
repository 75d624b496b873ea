// SPDX-License-Identifier: Apache-2.0

package descriptor

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"

	"golang.org/x/crypto/argon2"
)

// SlotKind says what a key of a volume is made with.
type SlotKind string

// The kinds of keys.
const (
	// PassphraseSlot is opened by what a person types.
	PassphraseSlot SlotKind = "passphrase"
	// FileSlot is opened by the content of a key file: random bytes, 32 or more.
	FileSlot SlotKind = "file"
	// VaultSlot is opened by what a vault releases.
	VaultSlot SlotKind = "vault"
	// UnwrapSlot is opened by a random secret, which a key of a vault has wrapped and unwraps for whoever may use it.
	UnwrapSlot SlotKind = "unwrap"
)

// Bounds of secrets, in bytes.
const (
	// MinPassphrase is the least length of a passphrase.
	MinPassphrase = 8
	// MinSecret is the least length of the content of a key file and of what a vault releases.
	MinSecret = 32
	// MaxSecret is the most of any, as cryptsetup has it for key files.
	MaxSecret = 8 << 10
)

// saltSize is the size of the salt of a slot in bytes. Each slot has its own, so that no wrapping key is used twice.
const saltSize = 32

// Costs are those of Argon2id.
type Costs struct {
	Time, MemoryKiB uint32
	Threads         uint8
}

// DefaultCosts are what RFC 9106 section 4 recommends where memory is scarce: three passes over 64 MiB.
func DefaultCosts() Costs { return Costs{Time: 3, MemoryKiB: 64 << 10, Threads: 4} }

// Bounds of the costs that a descriptor may ask for: 1 GiB, and 16 GiB of passes times memory.
const (
	maxMemoryKiB = 1 << 20
	maxWorkKiB   = 16 << 20
	maxThreads   = 16
	// maxTotalKiB bounds that of all keys together: each may have to be tried.
	maxTotalKiB = 64 << 20
)

// VaultKey names a key of a vault, and how a secret is made of it.
type VaultKey struct {
	// Vault is the vault's URL or host name, and Authority the attestation service's.
	Vault, Authority string
	// Kid is the key's name, or NAME/VERSION.
	Kid string
	// Type is the key's as Azure writes it: "oct", "oct-HSM", "RSA", "RSA-HSM".
	Type string
	// Salt, in hexadecimal, and Label derive the secret of an RSA key. A symmetric key is the secret itself.
	Salt, Label string
}

// Unwrap names a key of a vault, and has what it wrapped.
type Unwrap struct {
	// Vault is the vault's URL, for people: nothing of a descriptor is proven before a key opens, so whoever asks a vault
	// chooses it by something else.
	Vault string
	// Kid is the key's NAME/VERSION: the version that wrapped.
	Kid string
	// Algorithm is RSAOAEP256 or A256KW.
	Algorithm string
	// Value is the secret, wrapped.
	Value []byte
}

// The algorithms by which a vault wraps a secret, as Azure and JWA (RFC 7518 section 4.1) name them.
const (
	RSAOAEP256 = "RSA-OAEP-256"
	A256KW     = "A256KW"
)

// maxUnwrap bounds a wrapped secret in bytes: that of an RSA key of 8192 bits.
const maxUnwrap = 1024

// maxKeySlot is the largest number of a key slot of a LUKS2 header.
const maxKeySlot = 31

// Slot is one way to the volume key.
type Slot struct {
	Kind SlotKind
	// Costs are those of a passphrase; zero for others.
	Costs Costs
	// Vault names the key of a VaultSlot; nil for others.
	Vault *VaultKey
	// Unwrap has the secret of an UnwrapSlot; nil for others.
	Unwrap *Unwrap
	// KeySlot is the number of the key slot in a LUKS2 volume's header that the same secret opens; nil when there is none, or
	// when nobody said.
	KeySlot *int
	// Salt and Wrapped are made by AddSlot.
	Salt, Wrapped []byte
}

func (s *Slot) validate() error {
	if (s.Vault != nil) != (s.Kind == VaultSlot) || (s.Unwrap != nil) != (s.Kind == UnwrapSlot) || (s.Costs != Costs{}) != (s.Kind == PassphraseSlot) {
		return fmt.Errorf("it is of kind %.32q, and has what others have", s.Kind)
	}
	if len(s.Salt) != saltSize {
		return fmt.Errorf("a salt of %d bytes, expected %d", len(s.Salt), saltSize)
	}
	switch s.Kind {
	case FileSlot:
		return nil
	case PassphraseSlot:
		return s.Costs.validate()
	case VaultSlot:
		return s.Vault.validate()
	case UnwrapSlot:
		return s.Unwrap.validate()
	}
	return fmt.Errorf("kind %.32q is none of passphrase, file, vault, unwrap", s.Kind)
}

func (u *Unwrap) validate() error {
	if err := errors.Join(text("the vault", u.Vault, true), text("the key's name", u.Kid, true)); err != nil {
		return err
	}
	if u.Algorithm != RSAOAEP256 && u.Algorithm != A256KW {
		return fmt.Errorf("algorithm %.32q is none of %s, %s", u.Algorithm, RSAOAEP256, A256KW)
	}
	if len(u.Value) == 0 || len(u.Value) > maxUnwrap {
		return fmt.Errorf("a wrapped secret of %d bytes, expected 1 to %d", len(u.Value), maxUnwrap)
	}
	return nil
}

func (c Costs) validate() error {
	if c.Time == 0 || c.Threads == 0 || c.Threads > maxThreads || c.MemoryKiB < 8*uint32(c.Threads) || c.MemoryKiB > maxMemoryKiB ||
		uint64(c.Time)*uint64(c.MemoryKiB) > maxWorkKiB {
		return fmt.Errorf("%d passes over %d KiB with %d threads are missing or too much", c.Time, c.MemoryKiB, c.Threads)
	}
	return nil
}

func (v *VaultKey) validate() error {
	for _, t := range []struct {
		what, text string
		needed     bool
	}{
		{"the vault", v.Vault, true}, {"the authority", v.Authority, false}, {"the key's name", v.Kid, true}, {"the key's type", v.Type, true},
		{"the salt", v.Salt, false}, {"the label", v.Label, false},
	} {
		if err := text(t.what, t.text, t.needed); err != nil {
			return err
		}
	}
	if _, err := hex.DecodeString(v.Salt); err != nil {
		return errors.New("the salt is not hexadecimal")
	}
	if (v.Type == "RSA" || v.Type == "RSA-HSM") != (v.Salt != "") {
		return fmt.Errorf("a key of type %s, and a salt of %d digits: RSA keys need one, others have none", v.Type, len(v.Salt))
	}
	return nil
}

// AddSlot makes one more way to the volume key: the secret opens it from now on. What the slot says of its salt and its
// wrapped key is made here. The descriptor must be signed then.
func (d *Descriptor) AddSlot(key Key, s Slot, secret []byte) error {
	err := s.wrap(d, key, secret)
	if err == nil && len(d.Slots) >= maxSlots {
		err = fmt.Errorf("it has %d, and can not have more", len(d.Slots))
	}
	if err != nil {
		return fmt.Errorf("adding a key to a volume: %w", err)
	}
	d.Slots = append(d.Slots, s)
	return nil
}

// ChangeSlot puts another way to the volume key into the place of one: what opened it opens it no more. The descriptor must
// be signed then.
func (d *Descriptor) ChangeSlot(i int, key Key, s Slot, secret []byte) error {
	err := d.has(i)
	if err == nil {
		err = s.wrap(d, key, secret)
	}
	if err != nil {
		return fmt.Errorf("changing key %d of a volume: %w", i, err)
	}
	d.Slots = slices.Clone(d.Slots)
	d.Slots[i] = s
	return nil
}

// RemoveSlot removes a way to the volume key, but never the last one. The descriptor must be signed then.
func (d *Descriptor) RemoveSlot(i int) error {
	err := d.has(i)
	if err == nil && len(d.Slots) == 1 {
		err = ErrLast
	}
	if err != nil {
		return fmt.Errorf("removing key %d of a volume: %w", i, err)
	}
	d.Slots = slices.Delete(slices.Clone(d.Slots), i, i+1)
	return nil
}

func (d *Descriptor) has(i int) error {
	if i < 0 || i >= len(d.Slots) {
		return fmt.Errorf("%w: it has 0 to %d", ErrNoSlot, len(d.Slots)-1)
	}
	return nil
}

// wrap makes the salt and the wrapped key of a slot of a descriptor.
func (s *Slot) wrap(d *Descriptor, key Key, secret []byte) error {
	if err := checkSecret(s.Kind, secret); err != nil {
		return err
	}
	s.Salt, s.Wrapped = make([]byte, saltSize), nil
	_, _ = rand.Read(s.Salt)             // never fails
	if err := s.validate(); err != nil { // costs above all
		return err
	}
	aead, err := s.cipher(secret)
	if err != nil {
		return err
	}
	bound, err := s.bind(d)
	if err != nil {
		return err
	}
	// The wrapping key is used for this alone: its salt is new.
	s.Wrapped = aead.Seal(nil, make([]byte, aead.NonceSize()), key.b, bound) //nolint:gosec // so that its nonce is, too
	return nil
}

func checkSecret(kind SlotKind, secret []byte) error {
	low, what := MinSecret, "the secret"
	if kind == PassphraseSlot {
		low, what = MinPassphrase, "the passphrase"
	}
	if n := len(secret); n < low || n > MaxSecret {
		return fmt.Errorf("%s has %d bytes, expected %d to %d", what, n, low, MaxSecret)
	}
	return nil
}

// open returns the key of this slot. The error wraps ErrKey when the secret is another.
func (s *Slot) open(d *Descriptor, secret []byte) (Key, error) {
	if checkSecret(s.Kind, secret) != nil {
		return Key{}, ErrKey
	}
	aead, err := s.cipher(secret)
	if err != nil {
		return Key{}, err
	}
	bound, err := s.bind(d)
	if err != nil {
		return Key{}, err
	}
	b, err := aead.Open(nil, make([]byte, aead.NonceSize()), s.Wrapped, bound)
	if err != nil {
		return Key{}, ErrKey
	}
	defer clear(b)
	return NewKey(b)
}

// cipher makes the wrapping key of a secret.
func (s *Slot) cipher(secret []byte) (cipher.AEAD, error) {
	root := secret
	if s.Kind == PassphraseSlot {
		root = argon2.IDKey(secret, s.Salt, s.Costs.Time, s.Costs.MemoryKiB, s.Costs.Threads, 32)
		defer clear(root)
	}
	kek, err := hkdf.Key(sha256.New, root, s.Salt, "cofferdam.dev/volume/slot/v1", 32)
	if err != nil {
		return nil, err
	}
	defer clear(kek)
	block, err := aes.NewCipher(kek)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(block)
}

// bind is what a wrapped key is bound to: the volume, and all that the slot says of itself.
func (s *Slot) bind(d *Descriptor) ([]byte, error) {
	bare := *s
	bare.Wrapped = nil
	about, err := encode(bare.wire())
	if err != nil {
		return nil, err
	}
	return bytes.Join([][]byte{[]byte("cofferdam.dev/volume/slot/v1"), []byte(d.Kind), d.ID[:], about}, []byte{0}), nil
}
