// SPDX-License-Identifier: Apache-2.0

package luks2

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"slices"

	"cofferdam.dev/internal/volume/xts"
)

// Slot is a key slot to be made: a passphrase, or the content of a key file, that opens the volume.
type Slot struct {
	Passphrase []byte
	KDF        KDF
}

// maxPassphrase bounds a passphrase in bytes, as cryptsetup bounds key files.
const maxPassphrase = 8 << 20

// Unlock returns the volume key by a passphrase or the content of a key file. It tries the key slots, those to prefer
// first, but none that is marked to be ignored. The error wraps ErrKey when none opens. The key is that of the header as it
// was found: only [Header.Verify] tells whether it is the right one.
func (h *Header) Unlock(r io.ReaderAt, passphrase []byte) (VolumeKey, error) {
	key, _, err := h.Find(r, passphrase)
	return key, err
}

// Find is Unlock that says which key slot opened.
func (h *Header) Find(r io.ReaderAt, passphrase []byte) (VolumeKey, int, error) {
	ids := h.m.slots()
	slices.SortStableFunc(ids, func(a, b int) int { return h.m.Keyslots[b].priority() - h.m.Keyslots[a].priority() })
	for _, id := range ids {
		if h.m.Keyslots[id].priority() == 0 {
			continue
		}
		key, err := h.UnlockSlot(r, id, passphrase)
		if err == nil || !errors.Is(err, ErrKey) {
			return key, id, err
		}
	}
	return VolumeKey{}, 0, fmt.Errorf("unlocking a volume: %w: no key slot opens with this passphrase", ErrKey)
}

// UnlockSlot is Unlock with one key slot.
func (h *Header) UnlockSlot(r io.ReaderAt, id int, passphrase []byte) (VolumeKey, error) {
	key, err := h.unlock(r, id, passphrase)
	if err != nil {
		return VolumeKey{}, fmt.Errorf("unlocking key slot %d: %w", id, err)
	}
	return key, nil
}

func (h *Header) unlock(r io.ReaderAt, id int, passphrase []byte) (VolumeKey, error) {
	k, ok := h.m.Keyslots[id]
	if !ok {
		return VolumeKey{}, fmt.Errorf("%w: there is no such slot", ErrKey)
	}
	if len(passphrase) > maxPassphrase {
		return VolumeKey{}, fmt.Errorf("%w: a passphrase has at most %d bytes", ErrKey, maxPassphrase)
	}
	material := make([]byte, k.KeySize*stripes)
	if err := readFull(r, material, int64(k.Area.Offset)); err != nil {
		return VolumeKey{}, err
	}
	defer clear(material)
	if err := k.crypt(material, passphrase, (*xts.Cipher).Decrypt); err != nil {
		return VolumeKey{}, err
	}
	key := VolumeKey{merge(material, newHash(k.AF.Hash))}
	if err := h.checkKey(key); err != nil {
		key.Destroy()
		return VolumeKey{}, err
	}
	return key, nil
}

// crypt encrypts or decrypts the content of a slot in place.
func (k keyslot) crypt(material, passphrase []byte, with func(*xts.Cipher, []byte, []byte, int, uint64) error) error {
	derived, err := k.KDF.derive(passphrase, k.Area.KeySize)
	if err != nil {
		return err
	}
	defer clear(derived)
	c, err := xts.New(derived)
	if err != nil {
		return err
	}
	return with(c, material, material, slotSector, 0)
}

// AddKey makes a key slot for the volume key, and returns its number. A crash leaves the header with the slot or without it.
func (h *Header) AddKey(f File, key VolumeKey, s Slot) (int, error) {
	id := 0
	err := h.update(f, func(next *Header) error {
		for id < maxSlots && next.m.haveSlots([]int{id}) {
			id++
		}
		return next.addSlot(f, id, key, s)
	})
	if err != nil {
		return 0, fmt.Errorf("adding a key slot: %w", err)
	}
	return id, nil
}

// RemoveKey destroys a key slot: first what opens with its passphrase, then its entry. The last one may go; only the volume
// key itself opens the volume then.
func (h *Header) RemoveKey(f File, id int) error {
	err := h.update(f, func(next *Header) error {
		k, ok := next.m.Keyslots[id]
		if !ok {
			return fmt.Errorf("%w: there is no such slot", ErrKey)
		}
		next.dropSlot(id)
		return wipe(f, k.Area)
	})
	if err != nil {
		return fmt.Errorf("removing key slot %d: %w", id, err)
	}
	return nil
}

// ChangeKey puts another passphrase into a key slot. A crash leaves the old one or the new one; what opened with the old
// one is overwritten last.
func (h *Header) ChangeKey(f File, id int, key VolumeKey, s Slot) error {
	var old keyslot
	err := h.update(f, func(next *Header) error {
		var ok bool
		old, ok = next.m.Keyslots[id]
		if !ok {
			return fmt.Errorf("%w: there is no such slot", ErrKey)
		}
		return next.replaceSlot(f, id, key, s)
	})
	if err == nil {
		err = wipe(f, old.Area)
	}
	if err != nil {
		return fmt.Errorf("changing key slot %d: %w", id, err)
	}
	return nil
}

func (h *Header) addSlot(f File, id int, key VolumeKey, s Slot) error {
	if id >= maxSlots {
		return fmt.Errorf("%w: all %d are taken", ErrFull, maxSlots)
	}
	if err := h.replaceSlot(f, id, key, s); err != nil {
		return err
	}
	for at, d := range h.m.Digests {
		d.Keyslots = append(slices.Clone(d.Keyslots), id)
		h.m.Digests[at] = d
	}
	return nil
}

// replaceSlot writes a slot to a place that no slot has, and makes the entry for it.
func (h *Header) replaceSlot(f File, id int, key VolumeKey, s Slot) error {
	if err := h.checkKey(key); err != nil {
		return err
	}
	if len(s.Passphrase) == 0 || len(s.Passphrase) > maxPassphrase {
		return fmt.Errorf("%w: a passphrase has 1 to %d bytes, got %d", ErrKey, maxPassphrase, len(s.Passphrase))
	}
	d, err := s.KDF.salted()
	if err != nil {
		return err
	}
	n := int64(len(key.b) * stripes)
	place, err := h.freeArea((n + alignment - 1) / alignment * alignment)
	if err != nil {
		return err
	}
	k := keyslot{
		Type: "luks2", KeySize: len(key.b), Priority: h.m.Keyslots[id].Priority, AF: splitter{"luks1", stripes, "sha256"},
		Area: area{"raw", place, decimal((n + alignment - 1) / alignment * alignment), Cipher, 64}, KDF: d,
	}
	material := split(key.b, newHash(k.AF.Hash))
	defer clear(material)
	if err := k.crypt(material, s.Passphrase, (*xts.Cipher).Encrypt); err != nil {
		return err
	}
	if _, err := f.WriteAt(material, int64(place)); err != nil {
		return fmt.Errorf("writing %d bytes at byte %d: %w", len(material), place, err)
	}
	h.m.Keyslots[id] = k
	return f.Sync()
}

// freeArea finds the first gap of a size between the areas.
func (h *Header) freeArea(size int64) (decimal, error) {
	at := 2 * h.b.size
	for _, a := range h.m.areas() {
		if int64(a.Offset)-at >= size {
			break
		}
		at = a.end()
	}
	if end := h.m.areasEnd(h.b.size); end-at < size {
		return 0, fmt.Errorf("%w: the place for key slots ends at byte %d", ErrFull, end)
	}
	return decimal(at), nil
}

func (h *Header) dropSlot(id int) {
	delete(h.m.Keyslots, id)
	other := func(list []int) []int {
		return slices.DeleteFunc(slices.Clone(list), func(n int) bool { return n == id })
	}
	for at, d := range h.m.Digests {
		d.Keyslots = other(d.Keyslots)
		h.m.Digests[at] = d
	}
	for at, t := range h.m.Tokens {
		h.m.Tokens[at] = token{t.fields, other(t.keyslots)}
	}
}

// wipe overwrites an area. On storage that keeps what was overwritten, nothing can.
func wipe(f File, a area) error {
	b := make([]byte, a.Size)
	_, _ = rand.Read(b) // never fails
	if _, err := f.WriteAt(b, int64(a.Offset)); err != nil {
		return fmt.Errorf("overwriting %d bytes at byte %d: %w", a.Size, a.Offset, err)
	}
	return f.Sync()
}
