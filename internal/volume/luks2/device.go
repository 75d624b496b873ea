// SPDX-License-Identifier: Apache-2.0

package luks2

import (
	"errors"
	"fmt"
	"io"
	"runtime"
	"sync"
	"sync/atomic"

	"cofferdam.dev/internal/volume/xts"
)

// Device is the decrypted data of a volume. It is safe for concurrent use: writes that touch the same sector do not undo one
// another, and reads see each sector before a write or after it as far as the storage below sees to that.
type Device struct {
	below  io.ReaderAt
	cipher *xts.Cipher
	offset int64
	size   int64
	sector int64

	// partial is held for writes of whole sectors by many, for writes of parts of sectors by one.
	partial sync.RWMutex
	// running is how many requests are under way.
	running atomic.Int32
}

// ErrReadOnly says that the storage below a device can not be written.
var ErrReadOnly = errors.New("the volume is read-only")

// chunk is how much is encrypted at a time, in bytes: a multiple of every sector size, small enough for a processor's cache,
// and large enough for requests to remote storage that are made of it in parallel.
const chunk = 128 << 10

var chunks = sync.Pool{New: func() any { return new([chunk]byte) }}

// Device returns the decrypted data of a volume whose header is what the pin fixes. The storage must be safe for concurrent
// use, and may be read-only; it is written, and synced, through the methods WriteAt and Sync if it has them.
func (h *Header) Device(below io.ReaderAt, p Pin, key VolumeKey) (*Device, error) {
	if err := h.Verify(p, key); err != nil {
		return nil, err
	}
	return h.open(below, key)
}

// DeviceWithoutPin returns the decrypted data of a volume whose header nobody vouches for: whoever keeps the storage decides
// what the key is used on. It is for volumes that never left their owner, and for looking into strange ones.
func (h *Header) DeviceWithoutPin(below io.ReaderAt, key VolumeKey) (*Device, error) {
	if err := h.checkKey(key); err != nil {
		return nil, fmt.Errorf("opening a volume: %w", err)
	}
	return h.open(below, key)
}

func (h *Header) open(below io.ReaderAt, key VolumeKey) (*Device, error) {
	c, err := xts.New(key.b)
	if err != nil {
		return nil, fmt.Errorf("opening a volume: %w", err)
	}
	s := h.m.Segments[0]
	return &Device{below: below, cipher: c, offset: int64(s.Offset), size: h.dataSize(), sector: int64(s.SectorSize)}, nil
}

// Size returns the size of the data in bytes.
func (d *Device) Size() int64 { return d.size }

// SectorSize returns the size of a sector in bytes. Writes of whole sectors need not read first.
func (d *Device) SectorSize() int { return int(d.sector) }

// Sync makes what was written survive a crash, if the storage below can.
func (d *Device) Sync() error {
	if s, ok := d.below.(interface{ Sync() error }); ok {
		return s.Sync()
	}
	return nil
}

// ReadAt implements io.ReaderAt.
func (d *Device) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 {
		return 0, fmt.Errorf("reading a volume: offset %d", off)
	}
	if off >= d.size && len(p) > 0 {
		return 0, io.EOF
	}
	n := int(min(int64(len(p)), max(d.size-off, 0)))
	done, err := d.each(p[:n], off, false)
	if err == nil && n < len(p) {
		err = io.EOF
	}
	return done, err
}

// WriteAt implements io.WriterAt. Nothing is written behind the end of the data.
func (d *Device) WriteAt(p []byte, off int64) (int, error) {
	if _, ok := d.below.(io.WriterAt); !ok {
		return 0, fmt.Errorf("writing a volume: %w", ErrReadOnly)
	}
	if off < 0 || off > d.size-int64(len(p)) {
		return 0, fmt.Errorf("writing a volume: %d bytes at byte %d, of %d bytes", len(p), off, d.size)
	}
	return d.each(p, off, true)
}

// each divides a request into parts of sectors at its ends, and whole ones between. It returns how many bytes are done.
func (d *Device) each(p []byte, off int64, write bool) (int, error) {
	workers := runtime.GOMAXPROCS(0) / int(d.running.Add(1))
	defer d.running.Add(-1)
	done := 0
	for done < len(p) {
		at := off + int64(done)
		rest := p[done:]
		within := at % d.sector
		n := len(rest) - len(rest)%int(d.sector)
		if within != 0 || n == 0 {
			n = int(min(int64(len(rest)), d.sector-within))
			if err := d.part(rest[:n], at, write); err != nil {
				return done, err
			}
			done += n
			continue
		}
		if n <= chunk { // without what it costs to make functions of methods
			if err := d.whole(rest[:n], at, write); err != nil {
				return done, err
			}
			done += n
			continue
		}
		well, err := parallel(rest[:n], at, workers, func(p []byte, off int64) error { return d.whole(p, off, write) })
		done += well
		if err != nil {
			return done, err
		}
	}
	return done, nil
}

// whole reads or writes whole sectors, at most a chunk of them.
func (d *Device) whole(p []byte, off int64, write bool) error {
	if !write {
		return d.readWhole(p, off)
	}
	d.partial.RLock()
	defer d.partial.RUnlock()
	return d.write(p, off)
}

// part reads or writes a part of one sector.
func (d *Device) part(p []byte, off int64, write bool) error {
	if write {
		return d.writePart(p, off)
	}
	return d.readPart(p, off)
}

// parallel runs f over chunks, by up to as many workers at a time. With other requests under way there is one: what is not handed
// from one processor to another is still in its cache when it is needed next. It returns how many bytes from the beginning are
// done without an error, and the first error.
func parallel(p []byte, off int64, workers int, f func(p []byte, off int64) error) (int, error) {
	n := (len(p) + chunk - 1) / chunk
	workers = min(n, workers)
	if workers <= 1 {
		for at := 0; at < len(p); at += chunk {
			if err := f(p[at:min(at+chunk, len(p))], off+int64(at)); err != nil {
				return at, err
			}
		}
		return len(p), nil
	}
	errs := make([]error, n)
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			for i := w; i < n; i += workers {
				at := i * chunk
				if errs[i] = f(p[at:min(at+chunk, len(p))], off+int64(at)); errs[i] != nil {
					return
				}
			}
		})
	}
	wg.Wait()
	for i, err := range errs {
		if err != nil {
			return i * chunk, err
		}
	}
	return len(p), nil
}

// number is the number of the sector at an offset, as it goes into the cipher.
func number(off int64) uint64 { return uint64(off / xts.Unit) }

// readWhole reads whole sectors. What could not be decrypted is never left in p.
func (d *Device) readWhole(p []byte, off int64) error {
	err := readFull(d.below, p, d.offset+off)
	if err == nil {
		err = d.cipher.Decrypt(p, p, int(d.sector), number(off))
	}
	if err != nil {
		clear(p)
		return fmt.Errorf("reading a volume: %w", err)
	}
	return nil
}

func (d *Device) readPart(p []byte, off int64) error {
	b := chunks.Get().(*[chunk]byte)
	defer chunks.Put(b)
	within := off % d.sector
	sector := b[:d.sector]
	if err := d.readWhole(sector, off-within); err != nil {
		return err
	}
	copy(p, sector[within:])
	clear(sector)
	return nil
}

func (d *Device) write(p []byte, off int64) error {
	b := chunks.Get().(*[chunk]byte)
	defer chunks.Put(b)
	if err := d.cipher.Encrypt(b[:len(p)], p, int(d.sector), number(off)); err != nil {
		return fmt.Errorf("writing a volume: %w", err)
	}
	if _, err := d.below.(io.WriterAt).WriteAt(b[:len(p)], d.offset+off); err != nil {
		return fmt.Errorf("writing a volume: %w", err)
	}
	return nil
}

// writePart changes a part of one sector: nobody else may write that sector between the reading and the writing of it.
func (d *Device) writePart(p []byte, off int64) error {
	d.partial.Lock()
	defer d.partial.Unlock()
	b := chunks.Get().(*[chunk]byte)
	defer chunks.Put(b)
	within := off % d.sector
	sector := b[:d.sector]
	defer clear(sector)
	if err := d.readWhole(sector, off-within); err != nil {
		return err
	}
	copy(sector[within:], p)
	return d.write(sector, off-within)
}
