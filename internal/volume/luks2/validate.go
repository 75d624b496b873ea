// SPDX-License-Identifier: Apache-2.0

package luks2

import (
	"crypto/sha256"
	"crypto/sha512"
	"errors"
	"fmt"
	"hash"
	"maps"
	"slices"
)

// unfinished is the requirement that marks a volume of which a conversion of this package is under way. Other
// implementations know no such requirement, and so refuse the volume.
const unfinished = "cofferdam-reencrypt"

// activation are the flags of the kernel's device that a header may carry. None of them means anything here.
var activation = []string{
	"allow-discards", "same-cpu-crypt", "submit-from-crypt-cpus", "no-journal", "no-read-workqueue", "no-write-workqueue",
}

func newHash(name string) func() hash.Hash {
	switch name {
	case "sha256":
		return sha256.New
	case "sha512":
		return sha512.New
	}
	return nil
}

func badHash(name string) error {
	return fmt.Errorf("hash: expected %q or %q, got %q", "sha256", "sha512", name)
}

// validate checks what is said of a device of the given size: everything supported, everything within its place.
func (m *metadata) validate(header, device int64) error {
	err := m.validateConfig(header)
	if err != nil {
		return fmt.Errorf("%w: config: %w", ErrFormat, err)
	}
	if err := m.validateSegments(header, device); err != nil {
		return fmt.Errorf("%w: segment: %w", ErrFormat, err)
	}
	var work cost
	for _, id := range m.slots() {
		k := m.Keyslots[id]
		if err := k.validate(m.keySize()); err != nil {
			return fmt.Errorf("%w: key slot %d: %w", ErrFormat, id, err)
		}
		work.add(k.KDF.cost())
	}
	if err := work.bound(); err != nil {
		return fmt.Errorf("%w: all key slots: %w", ErrFormat, err)
	}
	if err := m.validateAreas(header); err != nil {
		return fmt.Errorf("%w: key slots: %w", ErrFormat, err)
	}
	if err := m.validateDigest(); err != nil {
		return fmt.Errorf("%w: digest: %w", ErrFormat, err)
	}
	for id, t := range m.Tokens {
		if !m.haveSlots(t.keyslots) {
			return fmt.Errorf("%w: token %d: it is for a key slot that is not there", ErrFormat, id)
		}
	}
	return nil
}

// keySize is the size of the volume key in bytes, as the key slots say; zero without any.
func (m *metadata) keySize() int {
	for _, id := range m.slots() {
		return m.Keyslots[id].KeySize
	}
	return 0
}

func (m *metadata) slots() []int { return slices.Sorted(maps.Keys(m.Keyslots)) }

// areasEnd is where the areas of key slots end, at the latest.
func (m *metadata) areasEnd(header int64) int64 { return 2*header + int64(m.Config.KeyslotsSize) }

func (m *metadata) validateConfig(header int64) error {
	c := m.Config
	if int64(c.JSONSize) != header-binarySize {
		return fmt.Errorf("json_size: expected %d, got %d", header-binarySize, c.JSONSize)
	}
	if c.KeyslotsSize%alignment != 0 || c.KeyslotsSize > maxAreas {
		return fmt.Errorf("keyslots_size: expected a multiple of %d up to %d, got %d", alignment, maxAreas, c.KeyslotsSize)
	}
	for _, f := range c.Flags {
		if !slices.Contains(activation, f) {
			return fmt.Errorf("flag %.32q is not known", f)
		}
	}
	if c.Requirements != nil {
		for _, r := range c.Requirements.Mandatory {
			if r != unfinished {
				return fmt.Errorf("requirement %.32q is not known", r)
			}
		}
	}
	return nil
}

func (m *metadata) validateSegments(header, device int64) error {
	s, ok := m.Segments[0]
	if !ok || len(m.Segments) != 1 {
		return errors.New("exactly one, number 0, is supported")
	}
	if s.Type != "crypt" {
		return fmt.Errorf("type: expected %q, got %q", "crypt", s.Type)
	}
	if s.Encryption != Cipher {
		return fmt.Errorf("encryption: expected %q, got %.64q", Cipher, s.Encryption)
	}
	if !validSector(s.SectorSize) {
		return fmt.Errorf("sector_size: expected 512, 1024, 2048 or 4096, got %d", s.SectorSize)
	}
	if s.IVTweak != 0 {
		return fmt.Errorf("iv_tweak: expected 0, got %d", s.IVTweak)
	}
	if end := m.areasEnd(header); s.Offset%alignment != 0 || int64(s.Offset) < end {
		return fmt.Errorf("offset: expected a multiple of %d from %d, where the key slots end, got %d: detached headers are not supported",
			alignment, end, s.Offset)
	}
	size := device - int64(s.Offset)
	if s.Size != 0 {
		if int64(s.Size) > size {
			return fmt.Errorf("size: %d bytes from byte %d are more than the device has, which is of %d bytes", s.Size, s.Offset, device)
		}
		size = int64(s.Size)
	}
	if size <= 0 || size%int64(s.SectorSize) != 0 {
		return fmt.Errorf("data of %d bytes, not of whole sectors of %d", size, s.SectorSize)
	}
	return nil
}

func validSector(n int) bool { return n == 512 || n == 1024 || n == 2048 || n == 4096 }

func (k *keyslot) validate(keySize int) error {
	if k.Type != "luks2" {
		return fmt.Errorf("type: expected %q, got %.32q", "luks2", k.Type)
	}
	if k.KeySize != keySize || k.KeySize != 32 && k.KeySize != 64 {
		return fmt.Errorf("key_size: expected 32 or 64, the same in all slots, got %d", k.KeySize)
	}
	if k.Priority != nil && *k.Priority > 2 {
		return fmt.Errorf("priority: expected 0, 1 or 2, got %d", *k.Priority)
	}
	if k.AF.Type != "luks1" || k.AF.Stripes != stripes {
		return fmt.Errorf("af: expected type %q with %d stripes, got %.32q with %d", "luks1", stripes, k.AF.Type, k.AF.Stripes)
	}
	if newHash(k.AF.Hash) == nil {
		return fmt.Errorf("af: %w", badHash(k.AF.Hash))
	}
	if k.Area.Type != "raw" || k.Area.Encryption != Cipher {
		return fmt.Errorf("area: expected type %q with encryption %q, got %.32q with %.64q", "raw", Cipher, k.Area.Type, k.Area.Encryption)
	}
	if k.Area.KeySize != 32 && k.Area.KeySize != 64 {
		return fmt.Errorf("area: key_size: expected 32 or 64, got %d", k.Area.KeySize)
	}
	if need := int64(k.KeySize * stripes); int64(k.Area.Size) < need {
		return fmt.Errorf("area: size: expected at least %d, got %d", need, k.Area.Size)
	}
	return k.KDF.validate()
}

// validateAreas checks that every area lies within the place for areas, and that no two overlap.
func (m *metadata) validateAreas(header int64) error {
	areas := m.areas()
	at := decimal(2 * header)
	for _, a := range areas {
		if a.Offset%alignment != 0 || a.Size%alignment != 0 {
			return fmt.Errorf("area of %d bytes at byte %d: not multiples of %d", a.Size, a.Offset, alignment)
		}
		if a.Offset < at {
			return fmt.Errorf("area at byte %d: it overlaps what ends at byte %d", a.Offset, at)
		}
		at = a.Offset + a.Size
	}
	if end := m.areasEnd(header); int64(at) > end {
		return fmt.Errorf("the last area ends at byte %d, behind byte %d", at, end)
	}
	return nil
}

// areas returns the areas of all key slots in the order of their places.
func (m *metadata) areas() []area {
	var list []area
	for _, k := range m.Keyslots {
		list = append(list, k.Area)
	}
	slices.SortFunc(list, func(a, b area) int { return int(min(max(a.Offset-b.Offset, -1), 1)) })
	return list
}

func (m *metadata) validateDigest() error {
	if len(m.Digests) != 1 {
		return fmt.Errorf("exactly one is supported, got %d", len(m.Digests))
	}
	d := m.key()
	if d.Type != PBKDF2 {
		return fmt.Errorf("type: expected %q, got %.32q", PBKDF2, d.Type)
	}
	h := newHash(d.Hash)
	if h == nil {
		return badHash(d.Hash)
	}
	if len(d.Digest) != h().Size() || len(d.Salt) < minSalt || len(d.Salt) > maxSalt {
		return fmt.Errorf("expected %d bytes with a salt of %d to %d, got %d with one of %d", h().Size(), minSalt, maxSalt, len(d.Digest), len(d.Salt))
	}
	if d.Iterations < 1 || d.Iterations > maxDigest {
		return fmt.Errorf("iterations: expected 1 to %d, got %d", maxDigest, d.Iterations)
	}
	if !slices.Equal(d.Segments, []int{0}) {
		return fmt.Errorf("segments: expected 0 alone, got %v", d.Segments)
	}
	if len(d.Keyslots) != len(m.Keyslots) || !m.haveSlots(d.Keyslots) {
		return fmt.Errorf("keyslots: expected all of %v, got %v", m.slots(), d.Keyslots)
	}
	return nil
}

// key returns the digest of the volume key, of which there is exactly one.
func (m *metadata) key() digest {
	for _, d := range m.Digests {
		return d
	}
	return digest{}
}

func (m *metadata) haveSlots(ids []int) bool {
	for _, id := range ids {
		if _, ok := m.Keyslots[id]; !ok {
			return false
		}
	}
	return true
}
