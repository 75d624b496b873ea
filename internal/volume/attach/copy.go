// SPDX-License-Identifier: Apache-2.0

package attach

import (
	"bytes"
	"context"
	"fmt"
	"io"
)

// copyChunk is how much is copied at a time, in bytes: a multiple of every block size.
const copyChunk = 1 << 20

// Reader is what is copied from. Offsets and lengths are multiples of the target's block size, and of its own.
type Reader interface {
	ReadAt(ctx context.Context, p []byte, off int64) error
}

// Copy copies size bytes to a device, from its beginning on, and flushes it. A new shadow volume is zeros already: then
// fresh leaves out what is zeros. Progress, if it is set, is told how far it is, in bytes.
func Copy(ctx context.Context, to Device, from Reader, size int64, fresh bool, progress func(done, total int64)) error {
	if size > to.Size() {
		return fmt.Errorf("copying %d bytes to a volume of %d", size, to.Size())
	}
	buf, zeros := make([]byte, copyChunk), make([]byte, copyChunk)
	for off := int64(0); off < size; {
		if err := ctx.Err(); err != nil {
			return err
		}
		p := buf[:min(copyChunk, size-off)]
		if err := from.ReadAt(ctx, p, off); err != nil {
			return fmt.Errorf("copying to a volume: %w", err)
		}
		if !fresh || !bytes.Equal(p, zeros[:len(p)]) {
			if err := to.WriteAt(ctx, p, off); err != nil {
				return fmt.Errorf("copying to a volume: %w", err)
			}
		}
		off += int64(len(p))
		if progress != nil {
			progress(off, size)
		}
	}
	if err := to.Flush(ctx); err != nil {
		return fmt.Errorf("copying to a volume: %w", err)
	}
	return nil
}

// Plain is a Reader of a file that is not encrypted. What is behind its end is zeros.
type Plain struct{ io.ReaderAt }

// ReadAt fills p.
func (r Plain) ReadAt(_ context.Context, p []byte, off int64) error {
	n, err := r.ReaderAt.ReadAt(p, off)
	clear(p[n:])
	if err == io.EOF {
		return nil
	}
	return err
}
