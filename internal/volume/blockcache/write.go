// SPDX-License-Identifier: Apache-2.0

package blockcache

import (
	"context"
	"fmt"
	"io/fs"
	"time"

	"cofferdam.dev/internal/volume/blob"
)

var _ blob.Writable = (*Cache)(nil)

// WriteAt writes p at off, within the object. It returns when the bytes are in the cache, from where they reach the storage
// after a while, with Flush, or with Close. It waits while too much is not written. After an error some of p may be written.
func (c *Cache) WriteAt(ctx context.Context, p []byte, off int64) error {
	if err := c.inside("writing", len(p), off); err != nil {
		return err
	}
	if c.dst == nil {
		return fmt.Errorf("writing %d bytes at %d: the object was opened to be read only: %w", len(p), off, fs.ErrPermission)
	}
	if err := context.Cause(c.life); err != nil {
		return err
	}
	c.counts.written.Add(int64(len(p)))
	size := int64(c.o.Block)
	for len(p) > 0 {
		index, from := off/size, int(off%size)
		n := min(len(p), c.o.Block-from)
		if err := c.writeBlock(ctx, index, from, p[:n]); err != nil {
			return err
		}
		p, off = p[n:], off+int64(n)
	}
	return nil
}

// writeBlock writes into one block.
func (c *Cache) writeBlock(ctx context.Context, index int64, from int, p []byte) error {
	if err := c.admit(ctx, index); err != nil {
		return err
	}
	if c.writeWhole(index, p) {
		return nil
	}
	b, err := c.use(ctx, index)
	if err != nil {
		return err
	}
	defer c.unpin(b)
	// The bytes first, the mark after: a write to storage in between takes the bytes along, and the mark has them written
	// again. The other way round it could take the mark and miss the bytes.
	b.access.Lock()
	defer b.access.Unlock()
	copy(b.data[from:], p)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.mark(b, from, from+len(p))
	return nil
}

// admit waits until one more block may be waiting to be written.
func (c *Cache) admit(ctx context.Context, index int64) error {
	var limit <-chan time.Time
	c.mu.Lock()
	for {
		b := c.blocks[index]
		if b != nil && (b.hi != 0 || b.flying) || c.unsaved+int64(c.o.Block) <= c.o.MaxDirty {
			c.mu.Unlock()
			return nil
		}
		c.writeOut(time.Now())
		change := c.changed
		c.mu.Unlock()
		if limit == nil {
			timer := time.NewTimer(c.o.Retry.Deadline + grace)
			defer timer.Stop()
			limit = timer.C
		}
		if err := c.await(ctx, change, limit); err != nil {
			return fmt.Errorf("waiting for earlier writes: %w", err)
		}
		c.mu.Lock()
	}
}

// writeWhole makes a block of p, if p is all of a block that is not in memory, and there is room for it. What the storage
// has of it need not be read.
func (c *Cache) writeWhole(index int64, p []byte) bool {
	whole := min(int64(c.o.Block), c.size-index*int64(c.o.Block))
	c.mu.Lock()
	if int64(len(p)) != whole || c.blocks[index] != nil {
		c.mu.Unlock()
		return false
	}
	b := c.add(index, false)
	c.mu.Unlock()
	if b == nil {
		return false
	}
	copy(b.data, p) // nobody else touches it before it is ready
	c.mu.Lock()
	defer c.mu.Unlock()
	b.loaded = true
	c.mark(b, 0, len(p))
	close(b.ready)
	return true
}

// mark notes that a range of a block is to be written. The caller has mu.
func (c *Cache) mark(b *block, lo, hi int) {
	lo, hi = lo/sector*sector, min((hi+sector-1)/sector*sector, len(b.data))
	if b.hi == 0 && !b.flying {
		c.unsaved += int64(len(b.data))
	}
	b.widen(lo, hi)
	b.made++
	c.queue(b)
	if c.unsaved > c.o.MaxDirty/2 {
		c.writeOut(time.Now())
	}
}

// widen makes the dirty range of a block cover another one.
func (b *block) widen(lo, hi int) {
	if b.hi == 0 {
		b.lo, b.hi = lo, hi
		return
	}
	b.lo, b.hi = min(b.lo, lo), max(b.hi, hi)
}

// queue has a block wait to be written, unless a write of it is under way: then it waits after that. The caller has mu.
func (c *Cache) queue(b *block) {
	if b.queued == nil && !b.flying {
		b.since = time.Now()
		b.queued = c.dirty.PushBack(b)
	}
}
