// SPDX-License-Identifier: Apache-2.0

package luks2

import (
	"bytes"
	"context"
	"crypto/hmac"
	"errors"
	"fmt"

	"cofferdam.dev/internal/volume/xts"
)

// Resizable is a file that can be made longer and shorter. *os.File is one.
type Resizable interface {
	File
	Truncate(size int64) error
}

// Conversion works through all data of a volume in place: Volume is changed, Journal is a second file, empty at the
// beginning, that must survive as long as the conversion is unfinished. When one ends early, by an error, by the end of its
// context or of its process, or by a loss of power, [Conversion.Resume] goes on. Meanwhile the volume carries a mark, a
// requirement that only this package knows, so that nobody opens it. Nobody else may use the volume at the time.
type Conversion struct {
	Volume  Resizable
	Journal File
	// Progress is told how much of the data is done, in bytes, if it is there.
	Progress func(done, total int64)

	s      state
	header *Header     // in the journal: the one that the volume gets, or had in front of its decryption
	key    VolumeKey   // which the header in the journal is for
	cipher *xts.Cipher // of key
	was    *xts.Cipher // of the old key
	step   int64
}

// Encrypt turns plain data into a volume. They are size bytes, a multiple of the sector size, and all that the file has; it
// becomes longer by the offset of the data (16 MiB unless the options say otherwise).
func (c *Conversion) Encrypt(ctx context.Context, size int64, key VolumeKey, o FormatOptions) (*Header, error) {
	err := c.beginEncrypt(size, key, o)
	if err == nil {
		err = c.run(ctx)
	}
	var h *Header
	if err == nil {
		h, err = c.result()
	}
	if err != nil {
		return nil, fmt.Errorf("encrypting a volume: %w", err)
	}
	return h, nil
}

func (c *Conversion) beginEncrypt(size int64, key VolumeKey, o FormatOptions) error {
	if err := unused(c.Journal); err != nil {
		return err
	}
	if o.Offset == 0 {
		o.Offset = defaultOffset
	}
	if size < 0 || size > maxSize-o.Offset || o.DataSize != 0 && o.DataSize != size {
		return fmt.Errorf("%w: %d bytes of plain data, %d of data in the volume", ErrFormat, size, o.DataSize)
	}
	h, err := newHeader(size+o.Offset, key, o)
	if err != nil {
		return err
	}
	if err := h.create(section{c.Journal, journalHeader}, key, o.Slots); err != nil {
		return err
	}
	if err := c.use(h, key, state{Operation: OpEncrypt, Stage: stageRunning, Size: size}); err != nil {
		return err
	}
	head := make([]byte, c.headSize())
	if err := readFull(c.Volume, head, 0); err != nil {
		return err
	}
	if bytes.HasPrefix(head, primaryMagic) {
		return fmt.Errorf("%w: it is a volume already", ErrFormat)
	}
	if err := c.crypt(head, 0, c.cipher.Encrypt); err != nil {
		return err
	}
	return c.begin(head)
}

// Decrypt turns a volume into plain data, which are all that the file has then. The header is the volume's, the key its volume key.
func (c *Conversion) Decrypt(ctx context.Context, h *Header, key VolumeKey) error {
	err := c.beginDecrypt(h, key)
	if err == nil {
		err = c.run(ctx)
	}
	if err != nil {
		return fmt.Errorf("decrypting a volume: %w", err)
	}
	return nil
}

func (c *Conversion) beginDecrypt(h *Header, key VolumeKey) error {
	err := errors.Join(unused(c.Journal), h.checkKey(key))
	if err != nil {
		return err
	}
	now, err := h.fresh(c.Volume)
	if err != nil {
		return err
	}
	if now.repair {
		return fmt.Errorf("%w: one copy of the header is damaged: repair it first", ErrFormat)
	}
	if err := copySparse(section{c.Journal, journalHeader}, c.Volume, h.m.areasEnd(h.b.size)); err != nil {
		return err
	}
	if err := c.use(h, key, state{Operation: OpDecrypt, Stage: stageRunning, Size: h.dataSize()}); err != nil {
		return err
	}
	head := make([]byte, c.headSize())
	if err := readFull(c.Volume, head, c.offset()); err != nil {
		return err
	}
	return c.begin(head)
}

// Rekey encrypts a volume with another key, which has key slots of its own. UUID, label, and place and size of the data stay;
// tokens go. Whoever has the old key reads old copies of the storage as before.
func (c *Conversion) Rekey(ctx context.Context, h *Header, old, key VolumeKey, slots []Slot) (*Header, error) {
	err := c.beginRekey(h, old, key, slots)
	if err == nil {
		err = c.run(ctx)
	}
	var now *Header
	if err == nil {
		now, err = c.result()
	}
	if err != nil {
		return nil, fmt.Errorf("re-encrypting a volume: %w", err)
	}
	return now, nil
}

func (c *Conversion) beginRekey(h *Header, old, key VolumeKey, slots []Slot) error {
	err := errors.Join(unused(c.Journal), h.checkKey(old))
	if err != nil {
		return err
	}
	if hmac.Equal(old.b, key.b) {
		return fmt.Errorf("%w: the new key is the old one", ErrKey)
	}
	if _, err := h.fresh(c.Volume); err != nil {
		return err
	}
	s := h.m.Segments[0]
	next, err := newHeader(h.device, key, FormatOptions{
		Label: h.b.label, Subsystem: h.b.subsystem, UUID: h.b.uuid, SectorSize: s.SectorSize, Offset: int64(s.Offset), DataSize: int64(s.Size),
	})
	if err != nil {
		return err
	}
	next.b.sequence = h.b.sequence + 1 // that of the mark
	if err := next.create(section{c.Journal, journalHeader}, key, slots); err != nil {
		return err
	}
	id, err := old.mac("identity", []byte(h.b.uuid))
	if err != nil {
		return err
	}
	if c.was, err = xts.New(old.b); err != nil {
		return err
	}
	if err := c.use(next, key, state{Operation: OpRekey, Stage: stageRunning, Size: h.dataSize(), Old: id}); err != nil {
		return err
	}
	return c.begin(nil)
}

// Resume goes on with an unfinished conversion. The key is the new one of a volume that is encrypted or re-encrypted, or the
// only one of a volume that is decrypted; the old one is needed to re-encrypt. It returns the header of the volume, or nil
// when the volume was decrypted. To resume what was finished changes nothing.
func (c *Conversion) Resume(ctx context.Context, key, old VolumeKey) (*Header, error) {
	h, err := c.resume(ctx, key, old)
	if err != nil {
		return nil, fmt.Errorf("resuming a conversion: %w", err)
	}
	return h, nil
}

func (c *Conversion) resume(ctx context.Context, key, old VolumeKey) (*Header, error) {
	s, err := authentic(c.Journal, key)
	if err != nil {
		return nil, err
	}
	h, err := openJournalHeader(c.Journal, s.Size)
	if err != nil {
		return nil, err
	}
	mac, err := h.mac(key)
	if err != nil {
		return nil, err
	}
	if !hmac.Equal(mac, s.Header) {
		return nil, fmt.Errorf("%w: the header in the journal was changed", ErrFormat)
	}
	if s.Operation == OpRekey && s.Stage == stageRunning {
		id, err := old.mac("identity", []byte(h.b.uuid))
		if err != nil {
			return nil, fmt.Errorf("old key: %w", err)
		}
		if !hmac.Equal(id, s.Old) {
			return nil, fmt.Errorf("old key: %w", ErrKey)
		}
		if c.was, err = xts.New(old.b); err != nil {
			return nil, err
		}
	}
	if err := c.use(h, key, s); err != nil {
		return nil, err
	}
	if err := c.run(ctx); err != nil {
		return nil, err
	}
	if s.Operation == OpDecrypt {
		return nil, nil // plain data have no header
	}
	return c.result()
}

// result returns the header that the volume has now.
func (c *Conversion) result() (*Header, error) {
	h, err := Open(c.Volume, c.header.device)
	if err == nil {
		err = h.checkKey(c.key)
	}
	if err != nil {
		return nil, fmt.Errorf("reading back the header: %w", err)
	}
	return h, nil
}

// use sets up what all steps need.
func (c *Conversion) use(h *Header, key VolumeKey, s state) error {
	cipher, err := xts.New(key.b)
	if err != nil {
		return err
	}
	c.header, c.key, c.cipher, c.s = h, key, cipher, s
	// Never more than the distance between the old and the new place of data: a step must not overwrite what it reads.
	c.step = min(maxStep, c.offset()/alignment*alignment)
	if c.s.Header == nil {
		c.s.Header, err = h.mac(key)
	}
	return err
}
