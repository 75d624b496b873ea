// SPDX-License-Identifier: Apache-2.0

package shadow

import (
	"context"
	"errors"
	"fmt"
)

// ErrRange says that a request is not within the volume, or not of whole blocks.
var ErrRange = errors.New("not within the volume, or not of whole blocks")

func (v *Volume) check(length int, off int64) error {
	if off < 0 || off%BlockSize != 0 || length%BlockSize != 0 || off > v.Size()-int64(length) {
		return fmt.Errorf("%d bytes at %d of %d: %w", length, off, v.Size(), ErrRange)
	}
	return nil
}

// ReadAt fills p with the bytes at off. Both are multiples of BlockSize. On an error nothing of p may be used.
func (v *Volume) ReadAt(ctx context.Context, p []byte, off int64) error {
	err := v.check(len(p), off)
	if err != nil {
		return err
	}
	v.state.RLock()
	defer v.state.RUnlock()
	index := uint64(off) / BlockSize
	for len(p) > 0 {
		leaf, err := v.load(ctx, 1, index/fanOut)
		if err != nil {
			return err
		}
		j := index % fanOut
		n := run(leaf, j, min(uint64(len(p))/BlockSize, fanOut-j))
		err = v.readRun(ctx, leaf, j, p[:n*BlockSize])
		if err != nil {
			return err
		}
		p, index = p[n*BlockSize:], index+n
	}
	return nil
}

// run is how many blocks from j on, at most limit, lie side by side in the image, or are all holes.
func run(leaf *node, j, limit uint64) uint64 {
	first := leaf.entries[j]
	n := uint64(1)
	for ; n < limit; n++ {
		e := leaf.entries[j+n]
		if e.empty() != first.empty() || !e.empty() && e.place() != first.place() {
			break
		}
	}
	return n
}

// readRun reads blocks that lie side by side. They are decrypted where they are wanted.
func (v *Volume) readRun(ctx context.Context, leaf *node, j uint64, p []byte) error {
	if leaf.entries[j].empty() {
		clear(p)
		return nil
	}
	first := leaf.index*fanOut + j
	err := v.storage.ReadAt(ctx, p, v.geo.offset(0, first, leaf.entries[j].place()))
	if err != nil {
		return fmt.Errorf("reading from the storage: %w", err)
	}
	for i := range uint64(len(p)) / BlockSize {
		err = v.unlock(&leaf.entries[j+i], 0, first+i, p[i*BlockSize:])
		if err != nil {
			return err
		}
	}
	return nil
}
