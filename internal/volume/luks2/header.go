// SPDX-License-Identifier: Apache-2.0

package luks2

import (
	"bytes"
	"crypto/pbkdf2"
	"crypto/subtle"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
)

// Info describes a header for people. All of it is a claim.
type Info struct {
	UUID       string     `json:"uuid"`
	Label      string     `json:"label,omitempty"`
	Subsystem  string     `json:"subsystem,omitempty"`
	Sequence   uint64     `json:"sequence"`
	Cipher     string     `json:"cipher"`
	KeySize    int        `json:"keySize,omitempty"` // in bytes; absent without key slots
	SectorSize int        `json:"sectorSize"`        // in bytes
	Offset     int64      `json:"offset"`            // of the data, in bytes
	Size       int64      `json:"size"`              // of the data, in bytes
	Dynamic    bool       `json:"dynamic"`           // the data end where the device does
	Slots      []SlotInfo `json:"slots,omitempty"`
	Tokens     int        `json:"tokens,omitempty"`
	Repair     bool       `json:"repair,omitempty"` // one copy of the header is damaged or old
}

// SlotInfo describes a key slot.
type SlotInfo struct {
	ID      int  `json:"id"`
	KDF     KDF  `json:"kdf"`
	Ignored bool `json:"ignored,omitempty"` // it is tried only when it is named
}

// Info returns what the header says.
func (h *Header) Info() Info {
	s := h.m.Segments[0]
	i := Info{
		UUID: h.b.uuid, Label: h.b.label, Subsystem: h.b.subsystem, Sequence: h.b.sequence, Cipher: s.Encryption, KeySize: h.m.keySize(),
		SectorSize: s.SectorSize, Offset: int64(s.Offset), Size: h.dataSize(), Dynamic: s.Size == 0, Tokens: len(h.m.Tokens), Repair: h.repair,
	}
	for _, id := range h.m.slots() {
		k := h.m.Keyslots[id]
		i.Slots = append(i.Slots, SlotInfo{ID: id, KDF: k.KDF.public(), Ignored: k.priority() == 0})
	}
	return i
}

func (h *Header) dataSize() int64 {
	s := h.m.Segments[0]
	if s.Size != 0 {
		return int64(s.Size)
	}
	return h.device - int64(s.Offset)
}

// canonical returns all that a header says, in one form: the copies of one header have the same.
func (h *Header) canonical() ([]byte, error) {
	return json.Marshal(struct {
		UUID, Label, Subsystem string
		Size                   int64
		Sequence               uint64
		Metadata               metadata
	}{h.b.uuid, h.b.label, h.b.subsystem, h.b.size, h.b.sequence, h.m})
}

func (h *Header) unfinished() bool {
	r := h.m.Config.Requirements
	return r != nil && slices.Contains(r.Mandatory, unfinished)
}

// checkKey tells whether a key is the one of which the header has a digest.
func (h *Header) checkKey(key VolumeKey) error {
	if n := h.m.keySize(); n != 0 && n != len(key.b) {
		return fmt.Errorf("%w: volume key of %d bytes, not %d", ErrKey, len(key.b), n)
	}
	if err := key.valid(); err != nil {
		return err
	}
	d := h.m.key()
	sum, err := pbkdf2.Key(newHash(d.Hash), string(key.b), d.Salt, d.Iterations, len(d.Digest))
	if err != nil {
		return err
	}
	if subtle.ConstantTimeCompare(sum, d.Digest) != 1 {
		return fmt.Errorf("%w: the digest of the volume key is another", ErrKey)
	}
	return nil
}

// clone returns a header that can be changed on its own.
func (h *Header) clone() *Header {
	c := *h
	c.m.Keyslots, c.m.Tokens = maps.Clone(h.m.Keyslots), maps.Clone(h.m.Tokens)
	c.m.Segments, c.m.Digests = maps.Clone(h.m.Segments), maps.Clone(h.m.Digests)
	return &c
}

// Repair writes both copies of the header anew, when one of them is damaged or old.
func (h *Header) Repair(f File) error {
	if !h.repair {
		return nil
	}
	if err := h.update(f, func(*Header) error { return nil }); err != nil {
		return fmt.Errorf("repairing a volume: %w", err)
	}
	return nil
}

// update changes the header on the storage, which must be the one that was read. The header in memory changes with it, or
// not at all.
func (h *Header) update(f File, change func(next *Header) error) error {
	now, err := h.fresh(f)
	if err != nil {
		return err
	}
	next := h.clone()
	next.repair, next.b.position = now.repair, now.b.position
	if err := change(next); err != nil {
		return err
	}
	if err := next.write(f); err != nil {
		return err
	}
	*h = *next
	return nil
}

// write raises the sequence number and writes both copies: the secondary one first, or first the one that does not count.
// At every moment there is a whole copy: a crash leaves the old header or the new one.
func (h *Header) write(f File) error {
	h.b.sequence++
	doc, err := json.Marshal(h.m)
	if err != nil {
		return err
	}
	if limit := int(h.b.size) - binarySize - 1; len(doc) > limit {
		return fmt.Errorf("%w: %d bytes of metadata, more than %d", ErrFull, len(doc), limit)
	}
	// What is written must be what is read: never write a header that Open would refuse.
	m, err := parseMetadata(doc)
	if err == nil {
		err = m.validate(h.b.size, h.device)
	}
	if err != nil {
		return err
	}
	order := []int64{h.b.size, 0}
	if h.repair && h.b.position != 0 {
		order = []int64{0, h.b.size}
	}
	for _, at := range order {
		b := h.b
		b.position = at
		if _, err := f.WriteAt(b.marshal(doc), at); err != nil {
			return fmt.Errorf("writing the header at byte %d: %w", at, err)
		}
		if err := f.Sync(); err != nil {
			return fmt.Errorf("writing the header at byte %d: %w", at, err)
		}
	}
	h.repair, h.b.position = false, 0
	return nil
}

// fresh makes sure that the header on the storage is still the one that was read, and returns it.
func (h *Header) fresh(r io.ReaderAt) (*Header, error) {
	now, err := open(r, h.device)
	if err != nil {
		return nil, err
	}
	was, err := h.canonical()
	if err != nil {
		return nil, err
	}
	is, err := now.canonical()
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(was, is) {
		return nil, fmt.Errorf("%w: number %d was read, %d is there", ErrStale, h.b.sequence, now.b.sequence)
	}
	return now, nil
}
