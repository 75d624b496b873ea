// SPDX-License-Identifier: Apache-2.0

package descriptor

import (
	"crypto/hmac"
	"errors"
	"fmt"
	"time"

	"cofferdam.dev/internal/volume/luks2"
)

// Schema names the form of descriptors.
const Schema = "cofferdam.dev/volume/v1"

// MaxSize bounds a descriptor in bytes.
const MaxSize = 64 << 10

// maxSlots bounds the keys of a volume.
const maxSlots = 16

// maxVolume bounds the size of a volume in bytes.
const maxVolume = 1 << 52

// Kind is a format of volumes.
type Kind string

// The formats.
const (
	// LUKS2 hides data, and nothing more.
	LUKS2 Kind = "luks2"
	// Shadow is the authenticated format that can be written.
	Shadow Kind = "shadow"
	// Sealed is the authenticated format that is only read.
	Sealed Kind = "sealed"
)

// Errors that callers tell apart.
var (
	// ErrFormat says that a text is no descriptor, or one of another version.
	ErrFormat = errors.New("not a volume descriptor")
	// ErrKey says that no key of the volume opens with the secret.
	ErrKey = errors.New("the secret opens no key of the volume")
	// ErrChanged says that a descriptor was changed by somebody without the volume key.
	ErrChanged = errors.New("the descriptor was changed")
	// ErrNoSlot says that a volume has no key of a number.
	ErrNoSlot = errors.New("the volume has no such key")
	// ErrLast says that a key is the last one.
	ErrLast = errors.New("it is the volume's last key: nothing would open the volume any more")
)

// AnchorKind says where the record of a volume's last state is.
type AnchorKind string

// The kinds of anchors.
const (
	// NoAnchor is none: who keeps the storage can put the whole volume back.
	NoAnchor AnchorKind = "none"
	// FileAnchor is a file of whoever opens the volume, for development and single machines.
	FileAnchor AnchorKind = "file"
	// VaultAnchor is a counter of a vault.
	VaultAnchor AnchorKind = "vault"
)

// Anchor says where the record of the last state is. The zero value is refused.
type Anchor struct {
	Kind AnchorKind
	// Vault is the vault's URL or host name, of a VaultAnchor alone. The counter has the volume's ID as its name.
	Vault string
}

// Descriptor is what is known of a volume. Only what Open returned may be acted upon.
type Descriptor struct {
	Kind Kind
	// ID is the volume's own: the one of a shadow volume's superblock, the UUID of a LUKS2 volume.
	ID [16]byte
	// Size is that of the data in bytes.
	Size int64
	// Created is when the descriptor was made, to the second.
	Created time.Time
	// Pin fixes the header of a LUKS2 volume; nil for others.
	Pin *luks2.Pin
	// Root is the digest that a sealed volume's content follows from, 32 bytes; empty for others.
	Root []byte
	// Slots say how the volume key is come by: each is a way of its own.
	Slots  []Slot
	Anchor Anchor
	// MAC is over all else, under a key that follows from the volume key.
	MAC []byte
}

// validate says what of a descriptor can not be, whatever its MAC.
func (d *Descriptor) validate() error {
	wanted := map[Kind]struct{ pin, root bool }{LUKS2: {pin: true}, Shadow: {}, Sealed: {root: true}}
	w, known := wanted[d.Kind]
	switch {
	case !known:
		return fmt.Errorf("kind %.32q is none of luks2, shadow, sealed", d.Kind)
	case d.ID == [16]byte{}:
		return errors.New("the volume's ID is missing")
	case d.Size <= 0 || d.Size > maxVolume:
		return fmt.Errorf("a size of %d bytes", d.Size)
	case (d.Pin != nil) != w.pin:
		return fmt.Errorf("a volume of kind %s and a pin: one of them is wrong", d.Kind)
	case (len(d.Root) == 32) != w.root || !w.root && len(d.Root) != 0:
		return fmt.Errorf("a volume of kind %s and a root of %d bytes", d.Kind, len(d.Root))
	case d.Created.Year() < 2000 || d.Created.Year() > 9999:
		return errors.New("the time of its making is none")
	case len(d.Slots) == 0 || len(d.Slots) > maxSlots:
		return fmt.Errorf("%d keys, expected 1 to %d", len(d.Slots), maxSlots)
	case d.Anchor.Kind != NoAnchor && d.Kind != Shadow:
		return fmt.Errorf("a volume of kind %s has no states that an anchor could tell apart", d.Kind)
	case d.Kind == LUKS2 && (d.Pin.UUID != uuid(d.ID) || d.Pin.Size != d.Size):
		return fmt.Errorf("the pin is of the volume %s and %d bytes, the descriptor of %s and %d", d.Pin.UUID, d.Pin.Size, uuid(d.ID), d.Size)
	}
	if err := d.Anchor.validate(); err != nil {
		return err
	}
	work, keySlots := uint64(0), map[int]bool{}
	for i := range d.Slots {
		s := &d.Slots[i]
		if err := s.validate(); err != nil {
			return fmt.Errorf("key %d: %w", i, err)
		}
		if n := len(s.Wrapped); n != KeySize+16 && n != 2*KeySize+16 {
			return fmt.Errorf("key %d: %d bytes are wrapped", i, n)
		}
		if k := s.KeySlot; k != nil {
			if d.Kind != LUKS2 || *k < 0 || *k > maxKeySlot || keySlots[*k] {
				return fmt.Errorf("key %d: the header of a volume of kind %s has no key slot %d for it alone", i, d.Kind, *k)
			}
			keySlots[*k] = true
		}
		work += uint64(s.Costs.Time) * uint64(s.Costs.MemoryKiB)
	}
	if work > maxTotalKiB {
		return fmt.Errorf("all passphrases together cost %d KiB of passes, at most %d are allowed", work, maxTotalKiB)
	}
	return nil
}

func (a *Anchor) validate() error {
	switch a.Kind {
	case NoAnchor, FileAnchor:
		if a.Vault != "" {
			return fmt.Errorf("an anchor of kind %s with a vault", a.Kind)
		}
		return nil
	case VaultAnchor:
		return text("the anchor's vault", a.Vault, true)
	}
	return fmt.Errorf("an anchor of kind %.32q is none of none, file, vault", a.Kind)
}

// text checks a text of a descriptor: printable ASCII that JSON writes as it is.
func text(what, s string, needed bool) error {
	if needed && s == "" {
		return fmt.Errorf("%s is missing", what)
	}
	if len(s) > 512 {
		return fmt.Errorf("%s has %d bytes, at most 512 are allowed", what, len(s))
	}
	for _, c := range []byte(s) {
		if c < ' ' || c > '~' || c == '"' || c == '\\' || c == '<' || c == '>' || c == '&' {
			return fmt.Errorf("%s has the byte %#02x, which is not allowed there", what, c)
		}
	}
	return nil
}

// UUID is the volume's ID as LUKS2 writes it.
func (d *Descriptor) UUID() string { return uuid(d.ID) }

func uuid(id [16]byte) string {
	return fmt.Sprintf("%x-%x-%x-%x-%x", id[:4], id[4:6], id[6:8], id[8:10], id[10:])
}

// Open returns the volume key by a secret that one of its keys is made with, once the descriptor is found to be whole. Match
// says which keys the secret may be of; nil is all. The error wraps ErrKey or ErrChanged.
func (d *Descriptor) Open(secret []byte, match func(*Slot) bool) (Key, error) {
	for i := range d.Slots {
		if match != nil && !match(&d.Slots[i]) {
			continue
		}
		if key, err := d.OpenSlot(i, secret); !errors.Is(err, ErrKey) {
			return key, err
		}
	}
	return Key{}, fmt.Errorf("opening a volume's key: %w", ErrKey)
}

// OpenSlot is Open with the key of a number.
func (d *Descriptor) OpenSlot(i int, secret []byte) (Key, error) {
	err := d.validate()
	if err != nil {
		return Key{}, fmt.Errorf("opening a volume's key: %w: %w", ErrFormat, err)
	}
	if err = d.has(i); err != nil {
		return Key{}, fmt.Errorf("opening a volume's key: %w", err)
	}
	key, err := d.Slots[i].open(d, secret)
	if err == nil {
		err = d.verify(key)
	}
	if err != nil {
		key.Destroy()
		return Key{}, fmt.Errorf("opening a volume's key: %w", err)
	}
	return key, nil
}

// Verify finds whether a descriptor is whole, given the volume key. The error wraps ErrChanged.
func (d *Descriptor) Verify(key Key) error {
	err := d.validate()
	if err == nil {
		err = d.verify(key)
	}
	if err != nil {
		return fmt.Errorf("verifying a descriptor: %w", err)
	}
	return nil
}

func (d *Descriptor) verify(key Key) error {
	want, err := d.mac(key)
	if err != nil {
		return err
	}
	if !hmac.Equal(want, d.MAC) {
		return fmt.Errorf("%w by somebody who does not have the volume key", ErrChanged)
	}
	return nil
}

// Sign completes a descriptor that is new or was changed on purpose.
func (d *Descriptor) Sign(key Key) error {
	d.Created = d.Created.UTC().Truncate(time.Second)
	err := d.validate()
	if err == nil {
		d.MAC, err = d.mac(key)
	}
	if err != nil {
		return fmt.Errorf("signing a descriptor: %w", err)
	}
	return nil
}
