// SPDX-License-Identifier: Apache-2.0

package attach

import (
	"context"
	"errors"
	"fmt"
	"io"

	"cofferdam.dev/internal/volume/blob"
	"cofferdam.dev/internal/volume/luks2"
	"cofferdam.dev/internal/volume/shadow"
)

// blocks are the storage of a shadow volume, or of what the kernel decrypts: what lies beyond its end is zeros, and can not be written.
type blocks struct {
	blob.Source
	w blob.Writable // nil when it is only read
}

func newBlocks(s blob.Source, write bool) (*blocks, error) {
	w, err := writable(s, write)
	return &blocks{s, w}, err
}

// writable is the storage as it is written, or nil when it is not to be.
func writable(s blob.Source, write bool) (blob.Writable, error) {
	if !write {
		return nil, nil //nolint:nilnil // it is not to be written
	}
	w, ok := s.(blob.Writable)
	if !ok {
		return nil, fmt.Errorf("the storage can not be written: %w", ErrReadOnly)
	}
	return w, nil
}

// sectorSize is what storage is read and written in multiples of, in bytes.
const sectorSize = 512

// BlockSize is that of storage.
func (*blocks) BlockSize() int { return sectorSize }

// ReadAt fills p.
func (b *blocks) ReadAt(ctx context.Context, p []byte, off int64) error {
	n := max(0, min(int64(len(p)), b.Size()-off))
	clear(p[n:])
	if n == 0 {
		return nil
	}
	_, err := b.Source.ReadAt(ctx, p[:n], off)
	return err
}

// WriteAt writes p.
func (b *blocks) WriteAt(ctx context.Context, p []byte, off int64) error {
	if b.w == nil {
		return ErrReadOnly
	}
	return b.w.WriteAt(ctx, p, off)
}

// Flush makes what was written durable.
func (b *blocks) Flush(ctx context.Context) error {
	if b.w == nil {
		return nil
	}
	return b.w.Flush(ctx)
}

// Punch gives back the room of a part of the image, where the storage can.
func (b *blocks) Punch(ctx context.Context, length, off int64) error {
	p, can := b.Source.(shadow.Puncher)
	if !can || b.w == nil {
		return errors.ErrUnsupported
	}
	if length = min(length, b.Size()-off); length <= 0 {
		return nil // it is behind the end, where nothing is
	}
	return p.Punch(ctx, length, off)
}

// shadowDevice is a shadow volume as a Device.
type shadowDevice struct{ *shadow.Volume }

// BlockSize is that of shadow volumes.
func (shadowDevice) BlockSize() int { return shadow.BlockSize }

// luksDevice is a LUKS2 volume as a Device. Its requests end when the storage's own deadline does: the cache of a remote
// object has one.
type luksDevice struct{ d *luks2.Device }

// Size is the size of the data in bytes.
func (l luksDevice) Size() int64 { return l.d.Size() }

// BlockSize is the volume's sector size.
func (l luksDevice) BlockSize() int { return l.d.SectorSize() }

// ReadAt fills p.
func (l luksDevice) ReadAt(_ context.Context, p []byte, off int64) error {
	n, err := l.d.ReadAt(p, off)
	if n < len(p) && errors.Is(err, io.EOF) {
		return fmt.Errorf("reading a volume: %d bytes at %d of %d", len(p), off, l.d.Size())
	}
	if n == len(p) {
		return nil
	}
	return err
}

// WriteAt writes p.
func (l luksDevice) WriteAt(_ context.Context, p []byte, off int64) error {
	_, err := l.d.WriteAt(p, off)
	return err
}

// Flush makes what was written durable.
func (l luksDevice) Flush(context.Context) error { return l.d.Sync() }

// below is the storage of a LUKS2 volume.
func below(s blob.Source, write bool) (io.ReaderAt, error) {
	w, err := writable(s, write)
	if err != nil {
		return nil, err
	}
	// The device is used for as long as it is open; each request to remote storage has a deadline of its own.
	r := blob.ReaderAt(context.Background(), s)
	if w == nil {
		return r, nil
	}
	return &file{r, w}, nil
}

// file is a storage that is written as a file is.
type file struct {
	io.ReaderAt
	w blob.Writable
}

// WriteAt writes p.
func (f *file) WriteAt(p []byte, off int64) (int, error) {
	if err := f.w.WriteAt(context.Background(), p, off); err != nil {
		return 0, err
	}
	return len(p), nil
}

// Sync makes what was written durable.
func (f *file) Sync() error { return f.w.Flush(context.Background()) }
