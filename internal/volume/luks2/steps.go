// SPDX-License-Identifier: Apache-2.0

package luks2

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"io"
	"runtime"
)

// offset is where in the volume the encrypted data begin.
func (c *Conversion) offset() int64 { return int64(c.header.m.Segments[0].Offset) }

// headSize is how much of the data lies where the mark is put, in the place that plain data have.
func (c *Conversion) headSize() int64 { return min(2*c.header.b.size, c.s.Size) }

// crypt encrypts or decrypts data in place that begin at an offset.
func (c *Conversion) crypt(b []byte, off int64, with func(dst, src []byte, sectorSize int, number uint64) error) error {
	_, err := parallel(b, off, runtime.GOMAXPROCS(0), func(p []byte, off int64) error {
		return with(p, p, c.header.m.Segments[0].SectorSize, number(off))
	})
	return err
}

// begin writes the first state: from then on, and not before, the volume may change.
func (c *Conversion) begin(head []byte) error {
	if len(head) > 0 {
		if _, err := c.Journal.WriteAt(head, journalHead); err != nil {
			return err
		}
	}
	if err := c.Journal.Sync(); err != nil {
		return err
	}
	return c.save()
}

// save makes the state survive a crash, with all that was written to the journal before.
func (c *Conversion) save() error {
	if err := c.s.save(c.Journal, c.key); err != nil {
		return fmt.Errorf("writing the journal: %w", err)
	}
	if err := c.Journal.Sync(); err != nil {
		return fmt.Errorf("writing the journal: %w", err)
	}
	return nil
}

// run goes on from the state. Each of its parts can be done again from its beginning.
func (c *Conversion) run(ctx context.Context) error {
	if c.s.Stage == stageRunning {
		if err := c.mark(); err != nil {
			return fmt.Errorf("marking the volume: %w", err)
		}
		if err := c.work(ctx); err != nil {
			return err
		}
		c.s.Stage, c.s.Zone, c.s.ZoneSum = stageFinishing, 0, nil
		if err := c.save(); err != nil {
			return err
		}
	}
	if c.s.Stage == stageFinishing {
		if err := c.finish(); err != nil {
			return fmt.Errorf("finishing: %w", err)
		}
		c.s.Stage = stageDone
		return c.save()
	}
	return nil
}

// mark puts a header at the beginning of the volume that everybody refuses.
func (c *Conversion) mark() error {
	h := c.header.clone()
	switch c.s.Operation {
	case OpEncrypt:
		if err := c.Volume.Truncate(h.device); err != nil {
			return err
		}
	case OpRekey:
		var err error
		h, err = open(c.Volume, h.device) // the old header, whose key slots are still there
		if err != nil {
			return err
		}
		if h.unfinished() {
			return nil
		}
	}
	h.m.Config.Requirements = &requirements{[]string{unfinished}}
	return h.write(c.Volume)
}

// work goes through the data: backwards to encrypt, because they move up, forwards to decrypt, because they move down.
func (c *Conversion) work(ctx context.Context) error {
	if c.s.Operation == OpRekey {
		if err := c.replay(); err != nil {
			return err
		}
	}
	buf := make([]byte, c.step)
	defer clear(buf)
	todo := c.s.Size
	if c.s.Operation != OpRekey {
		todo -= c.headSize()
	}
	for c.s.Done < todo {
		if err := ctx.Err(); err != nil {
			return err
		}
		if c.Progress != nil {
			c.Progress(c.s.Done, c.s.Size)
		}
		b := buf[:min(c.step, todo-c.s.Done)]
		var err error
		switch c.s.Operation {
		case OpEncrypt:
			err = c.encryptStep(b, c.s.Size-c.s.Done-int64(len(b)))
		case OpDecrypt:
			err = c.decryptStep(b, c.headSize()+c.s.Done)
		case OpRekey:
			err = c.rekeyStep(b, c.s.Done)
		default:
			err = fmt.Errorf("operation %q is unknown", c.s.Operation)
		}
		if err != nil {
			return fmt.Errorf("after %d of %d bytes: %w", c.s.Done, c.s.Size, err)
		}
	}
	if c.Progress != nil {
		c.Progress(c.s.Size, c.s.Size)
	}
	return nil
}

// encryptStep moves data up by the offset. The place that they come from is overwritten by a later step only, and never before
// the state says that this one is done.
func (c *Conversion) encryptStep(b []byte, at int64) error {
	if err := readFull(c.Volume, b, at); err != nil {
		return err
	}
	if err := c.crypt(b, at, c.cipher.Encrypt); err != nil {
		return err
	}
	return c.put(b, c.offset()+at)
}

// decryptStep moves data down by the offset, in the same way.
func (c *Conversion) decryptStep(b []byte, at int64) error {
	if err := readFull(c.Volume, b, c.offset()+at); err != nil {
		return err
	}
	if err := c.crypt(b, at, c.cipher.Decrypt); err != nil {
		return err
	}
	return c.put(b, at)
}

func (c *Conversion) put(b []byte, at int64) error {
	if err := writeSync(c.Volume, b, at); err != nil {
		return err
	}
	c.s.Done += int64(len(b))
	return c.save()
}

// rekeyStep writes data over themselves. What is to be written lies in the journal before the first byte of the volume is
// lost, in the zone that the previous step did not use.
func (c *Conversion) rekeyStep(b []byte, at int64) error {
	if err := readFull(c.Volume, b, c.offset()+at); err != nil {
		return err
	}
	if err := c.crypt(b, at, c.was.Decrypt); err != nil {
		return err
	}
	if err := c.crypt(b, at, c.cipher.Encrypt); err != nil {
		return err
	}
	if _, err := c.Journal.WriteAt(b, zone(c.s.Counter+1)); err != nil {
		return fmt.Errorf("writing the journal: %w", err)
	}
	sum := sha256.Sum256(b)
	c.s.Zone, c.s.ZoneSum = len(b), sum[:]
	if err := c.save(); err != nil {
		return err
	}
	if err := writeSync(c.Volume, b, c.offset()+at); err != nil {
		return err
	}
	// Only the next state says so to the journal. Until then this step may be done again out of the zone.
	c.s.Done += int64(len(b))
	return nil
}

// replay writes again what the last step may have written in part. If its zone is not whole, the crash came before the volume
// was touched, and the step is done from its beginning.
func (c *Conversion) replay() error {
	if c.s.Zone <= 0 || int64(c.s.Zone) > c.step {
		return nil
	}
	b := make([]byte, c.s.Zone)
	if _, err := (section{c.Journal, zone(c.s.Counter)}).ReadAt(b, 0); err != nil {
		return err
	}
	if sum := sha256.Sum256(b); subtle.ConstantTimeCompare(sum[:], c.s.ZoneSum) != 1 {
		return nil
	}
	if err := writeSync(c.Volume, b, c.offset()+c.s.Done); err != nil {
		return err
	}
	c.s.Done += int64(c.s.Zone)
	return nil
}

// finish writes what lies in the journal: the first data, and the header.
func (c *Conversion) finish() error {
	head := make([]byte, c.headSize())
	if err := readFull(section{c.Journal, journalHead}, head, 0); err != nil {
		return err
	}
	switch c.s.Operation {
	case OpEncrypt:
		if err := writeSync(c.Volume, head, c.offset()); err != nil {
			return err
		}
		return c.putHeader()
	case OpDecrypt:
		if err := c.crypt(head, 0, c.cipher.Decrypt); err != nil {
			return err
		}
		defer clear(head)
		if err := writeSync(c.Volume, head, 0); err != nil {
			return err
		}
		return errors.Join(c.Volume.Truncate(c.s.Size), c.Volume.Sync())
	case OpRekey:
		return c.putHeader()
	}
	return fmt.Errorf("operation %q is unknown", c.s.Operation)
}

// putHeader copies key slots and then the header of the journal into the volume, over plain data or old key slots.
func (c *Conversion) putHeader() error {
	h := c.header.clone()
	from := section{c.Journal, journalHeader}
	rest := section{c.Volume, 2 * h.b.size}
	if err := zero(rest, c.offset()-2*h.b.size); err != nil {
		return err
	}
	for _, id := range h.m.slots() {
		a := h.m.Keyslots[id].Area
		b := make([]byte, a.Size)
		if err := readFull(from, b, int64(a.Offset)); err != nil {
			return err
		}
		if err := writeSync(c.Volume, b, int64(a.Offset)); err != nil {
			return err
		}
	}
	h.b.sequence++ // above the mark's
	return h.write(c.Volume)
}

func writeSync(f File, b []byte, at int64) error {
	if _, err := f.WriteAt(b, at); err != nil {
		return fmt.Errorf("writing %d bytes at byte %d: %w", len(b), at, err)
	}
	return f.Sync()
}

// copySparse copies n bytes, but does not write zeros where there are some.
func copySparse(to File, from io.ReaderAt, n int64) error {
	if err := zero(to, n); err != nil {
		return err
	}
	b := make([]byte, 1<<20)
	for at := int64(0); at < n; at += int64(len(b)) {
		part := b[:min(int64(len(b)), n-at)]
		if err := readFull(from, part, at); err != nil {
			return err
		}
		if allZero(part) {
			continue
		}
		if _, err := to.WriteAt(part, at); err != nil {
			return err
		}
	}
	return to.Sync()
}
