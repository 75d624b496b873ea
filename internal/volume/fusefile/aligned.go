// SPDX-License-Identifier: Apache-2.0

package fusefile

import (
	"context"
	"sync"
)

// aligned takes requests of any offset and length within a device, and makes requests of whole blocks of them.
type aligned struct {
	device Device
	block  int64
	// partial is held for writes of whole blocks by many, for writes of parts of blocks, which read first, by one.
	partial sync.RWMutex
}

// whole says whether a request is of whole blocks.
func (a *aligned) whole(length int, off int64) bool {
	return (off|int64(length))&(a.block-1) == 0
}

// around are the first block of a request, and the end of its last one.
func (a *aligned) around(length int, off int64) (from, to int64) {
	return off &^ (a.block - 1), (off + int64(length) + a.block - 1) &^ (a.block - 1)
}

func (a *aligned) read(ctx context.Context, p []byte, off int64) error {
	if a.whole(len(p), off) {
		return a.device.ReadAt(ctx, p, off)
	}
	from, to := a.around(len(p), off)
	buf := make([]byte, to-from)
	err := a.device.ReadAt(ctx, buf, from)
	copy(p, buf[off-from:])
	return err
}

func (a *aligned) write(ctx context.Context, p []byte, off int64) error {
	if a.whole(len(p), off) {
		a.partial.RLock()
		defer a.partial.RUnlock()
		return a.device.WriteAt(ctx, p, off)
	}
	from, to := a.around(len(p), off)
	buf := make([]byte, to-from)
	a.partial.Lock()
	defer a.partial.Unlock()
	// Only the first and the last block are of use, and may be the same.
	err := a.device.ReadAt(ctx, buf[:a.block], from)
	if last := to - a.block; err == nil && last > from {
		err = a.device.ReadAt(ctx, buf[last-from:], last)
	}
	if err != nil {
		return err
	}
	copy(buf[off-from:], p)
	return a.device.WriteAt(ctx, buf, from)
}

// zero makes a range zeros: whole blocks are discarded, if the device can, and parts of blocks are written.
func (a *aligned) zero(ctx context.Context, length, off int64) error {
	d, can := a.device.(Discarder)
	end := off + length
	from, to := (off+a.block-1)&^(a.block-1), end&^(a.block-1)
	if !can || from >= to {
		return a.clear(ctx, off, end)
	}
	if err := a.clear(ctx, off, from); err != nil {
		return err
	}
	a.partial.RLock()
	err := d.Discard(ctx, to-from, from)
	a.partial.RUnlock()
	if err != nil {
		return err
	}
	return a.clear(ctx, to, end)
}

// clear writes zeros.
func (a *aligned) clear(ctx context.Context, from, to int64) error {
	zeros := make([]byte, min(to-from, maxRequest))
	for from < to {
		n := min(to-from, maxRequest)
		if err := a.write(ctx, zeros[:n], from); err != nil {
			return err
		}
		from += n
	}
	return nil
}
