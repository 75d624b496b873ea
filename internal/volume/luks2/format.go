// SPDX-License-Identifier: Apache-2.0

package luks2

import (
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha256"
	"fmt"
)

// FormatOptions says how a volume is made. The zero value makes one without key slots, which only the volume key opens.
type FormatOptions struct {
	Label     string // at most 47 bytes
	Subsystem string // at most 47 bytes
	UUID      string // a random one if empty
	// SectorSize is the size of a sector in bytes: 512, 1024, 2048 or 4096, which zero means.
	SectorSize int
	// Offset is where the data begin, in bytes; zero means 16 MiB. In front of them are the two copies of the header, of 16 KiB
	// each, and the place for key slots: 252 KiB for one with a key of 64 bytes, 128 KiB with one of 32.
	Offset int64
	// DataSize is the size of the data in bytes; zero means all that the device has, also when that changes.
	DataSize int64
	Slots    []Slot
}

// Format makes a volume of the size bytes of f. What was in front of the data is overwritten; the data are not: to decrypt
// what is there gives noise. A crash before the end leaves no volume.
func Format(f File, size int64, key VolumeKey, o FormatOptions) (*Header, error) {
	h, err := newHeader(size, key, o)
	if err == nil {
		err = h.create(f, key, o.Slots)
	}
	if err != nil {
		return nil, fmt.Errorf("formatting a volume: %w", err)
	}
	return h, nil
}

// newHeader makes the header of a volume without key slots.
func newHeader(size int64, key VolumeKey, o FormatOptions) (*Header, error) {
	if o.Offset == 0 {
		o.Offset = defaultOffset
	}
	if o.SectorSize == 0 {
		o.SectorSize = defaultSector
	}
	if o.UUID == "" {
		o.UUID = newUUID()
	}
	if !validUUID(o.UUID) || !plainText(o.Label) || len(o.Label) > maxLabel || !plainText(o.Subsystem) || len(o.Subsystem) > maxLabel {
		return nil, fmt.Errorf("%w: UUID %q, label %q and subsystem %q: the first is none, or the others are no plain text of at most %d bytes", ErrFormat, o.UUID,
			o.Label, o.Subsystem, maxLabel)
	}
	if o.Offset%alignment != 0 || o.Offset < 2*minHeaderSize || o.Offset > maxAreas {
		return nil, fmt.Errorf("%w: offset: expected a multiple of %d from %d to %d, got %d", ErrFormat, alignment, 2*minHeaderSize, maxAreas, o.Offset)
	}
	d, err := newDigest(key)
	if err != nil {
		return nil, err
	}
	h := &Header{
		b: binaryHeader{size: minHeaderSize, label: o.Label, uuid: o.UUID, subsystem: o.Subsystem}, device: size,
		m: metadata{
			Keyslots: map[int]keyslot{}, Tokens: map[int]token{},
			Segments: map[int]segment{0: {
				Type: "crypt", Offset: decimal(o.Offset), Size: extent(o.DataSize), Encryption: Cipher, SectorSize: o.SectorSize,
			}},
			Digests: map[int]digest{0: d},
			Config:  config{JSONSize: minHeaderSize - binarySize, KeyslotsSize: decimal(o.Offset - 2*minHeaderSize)},
		},
	}
	return h, h.m.validate(h.b.size, size)
}

func newDigest(key VolumeKey) (digest, error) {
	if err := key.valid(); err != nil {
		return digest{}, err
	}
	salt := make([]byte, keyDigestSalt)
	_, _ = rand.Read(salt) // never fails
	sum, err := pbkdf2.Key(sha256.New, string(key.b), salt, keyDigestIters, sha256.Size)
	if err != nil {
		return digest{}, err
	}
	return digest{
		Type: PBKDF2, Keyslots: idList{}, Segments: idList{0}, Hash: "sha256", Iterations: keyDigestIters, Salt: salt, Digest: sum,
	}, nil
}

// create writes the header with its key slots over whatever was there.
func (h *Header) create(f File, key VolumeKey, slots []Slot) error {
	if err := zero(f, int64(h.m.Segments[0].Offset)); err != nil {
		return err
	}
	for id, s := range slots {
		if err := h.addSlot(f, id, key, s); err != nil {
			return fmt.Errorf("key slot %d: %w", id, err)
		}
	}
	return h.write(f)
}

// zero overwrites the first n bytes, so that neither an old header nor an old key slot is left at any place; what is zero
// already, as in a fresh sparse file, is not written.
func zero(f File, n int64) error {
	const chunk = 1 << 20
	b, zeros := make([]byte, chunk), make([]byte, chunk)
	for at := int64(0); at < n; at += chunk {
		part := b[:min(chunk, n-at)]
		if err := readFull(f, part, at); err != nil {
			return err
		}
		if allZero(part) {
			continue
		}
		if _, err := f.WriteAt(zeros[:len(part)], at); err != nil {
			return fmt.Errorf("overwriting what was there: %w", err)
		}
	}
	return f.Sync()
}

// Resize changes the size of the data that the header says, in bytes; zero means all that the device has. The size of the
// whole device is then the given one, which its owner sees to before data grow, or after they shrink. What a volume gains
// decrypts to noise until it is written. Pins fix the size: the volume needs a new one.
func (h *Header) Resize(f File, device, dataSize int64) error {
	err := h.update(f, func(next *Header) error {
		if dataSize < 0 || device < 0 || device > maxSize {
			return fmt.Errorf("%w: data of %d bytes on a device of %d", ErrFormat, dataSize, device)
		}
		s := next.m.Segments[0]
		s.Size = extent(dataSize)
		next.m.Segments[0] = s
		next.device = device
		return nil
	})
	if err != nil {
		return fmt.Errorf("resizing a volume: %w", err)
	}
	return nil
}
