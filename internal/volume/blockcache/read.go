// SPDX-License-Identifier: Apache-2.0

package blockcache

import (
	"context"
	"fmt"
	"time"
)

// grace is how much longer than a request's deadline a reader waits, which only a source that ignores its context needs.
const grace = 2 * time.Second

// ReadAt fills p with the bytes at off, or fails. They must lie in the object.
func (c *Cache) ReadAt(ctx context.Context, p []byte, off int64) (int, error) {
	if err := c.inside("reading", len(p), off); err != nil {
		return 0, err
	}
	if err := context.Cause(c.life); err != nil {
		return 0, err
	}
	c.counts.read.Add(int64(len(p)))
	c.follow(off, int64(len(p)))
	// What is asked for at once is loaded at once, but never more than half of the memory.
	step := int(max(c.o.MaxBytes/4, int64(c.o.Block)))
	for done := 0; done < len(p); {
		n := min(len(p)-done, step)
		if err := c.readSome(ctx, p[done:done+n], off+int64(done)); err != nil {
			return 0, err
		}
		done += n
	}
	return len(p), nil
}

// inside fails if a call is not about bytes of the object.
func (c *Cache) inside(doing string, n int, off int64) error {
	if off < 0 || off > c.size-int64(n) {
		return fmt.Errorf("%s %d bytes at %d: the object has %d", doing, n, off, c.size)
	}
	return nil
}

func (c *Cache) readSome(ctx context.Context, p []byte, off int64) error {
	if len(p) == 0 {
		return nil
	}
	size := int64(c.o.Block)
	first, last := off/size, (off+int64(len(p))-1)/size
	if first < last {
		c.prepare(first, last)
	}
	for i := first; i <= last; i++ {
		b, err := c.use(ctx, i)
		if err != nil {
			return err
		}
		from := max(0, off-i*size)
		b.access.RLock()
		n := copy(p, b.data[from:])
		b.access.RUnlock()
		c.unpin(b)
		p, off = p[n:], off+int64(n)
	}
	return nil
}

// use returns a block that is loaded, pinned, loading it if it has to. It fails as loading does.
func (c *Cache) use(ctx context.Context, index int64) (*block, error) {
	if err := c.request(ctx, index); err != nil { // returns with mu
		return nil, err
	}
	b := c.blocks[index]
	b.pins++
	c.recent.MoveToFront(b.place)
	if b.ahead {
		b.ahead = false
		c.counts.aheadUsed.Add(1)
	}
	c.mu.Unlock()
	if err := c.wait(ctx, b); err != nil {
		c.unpin(b)
		return nil, err
	}
	return b, nil
}

// wait waits until a block is loaded.
func (c *Cache) wait(ctx context.Context, b *block) error {
	select {
	case <-b.ready:
		return b.err
	default:
	}
	limit := time.NewTimer(c.o.Retry.Deadline + grace)
	defer limit.Stop()
	if err := c.await(ctx, b.ready, limit.C); err != nil {
		return err
	}
	return b.err
}

func (c *Cache) unpin(b *block) {
	c.mu.Lock()
	defer c.mu.Unlock()
	b.pins--
	if b.evictable() && c.used+int64(c.o.Block) > c.o.MaxBytes {
		c.wake() // somebody may wait for room
	}
}

// prepare begins to load together what is wanted together, as far as there is room.
func (c *Cache) prepare(first, last int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i := first; i <= last && c.life.Err() == nil; i++ {
		if c.blocks[i] == nil && !c.load(i, last, false) {
			return
		}
	}
}

// request begins to load a block, unless it is there. If there is no room, it waits for some. When it succeeds, the caller has
// mu, and the block is there, though not loaded perhaps.
func (c *Cache) request(ctx context.Context, index int64) error {
	var limit <-chan time.Time
	c.mu.Lock()
	for {
		if c.blocks[index] != nil {
			return nil
		}
		if c.life.Err() != nil {
			c.mu.Unlock()
			return context.Cause(c.life)
		}
		if c.load(index, index, false) {
			continue
		}
		change := c.changed
		c.writeOut(time.Now())
		c.mu.Unlock()
		if limit == nil {
			timer := time.NewTimer(c.o.Retry.Deadline + grace)
			defer timer.Stop()
			limit = timer.C
		}
		if err := c.await(ctx, change, limit); err != nil {
			return err
		}
		c.mu.Lock()
	}
}
