// SPDX-License-Identifier: Apache-2.0

package blockcache

import (
	"context"
	"errors"
	"time"

	"cofferdam.dev/internal/volume/blob"
)

// load begins one request for the blocks from first on that are not there, up to last, to the next that is there, or to what
// one request may read. It reports false if there is no room for any. The caller has mu.
func (c *Cache) load(first, last int64, ahead bool) bool {
	var run []*block
	for i := first; i <= last && c.blocks[i] == nil && (len(run)+1)*c.o.Block <= c.o.Request; i++ {
		b := c.add(i, ahead)
		if b == nil {
			break
		}
		run = append(run, b)
	}
	if len(run) == 0 {
		return false
	}
	if ahead {
		c.ahead++
	}
	c.work.Go(func() { c.fetch(run, ahead) })
	return true
}

// add makes a block that is to be loaded, if there is room for it. The caller has mu.
func (c *Cache) add(index int64, ahead bool) *block {
	n := min(int64(c.o.Block), c.size-index*int64(c.o.Block))
	if !c.makeRoom(n) {
		return nil
	}
	b := &block{index: index, ready: make(chan struct{}), ahead: ahead, data: c.memory(n)}
	b.place = c.recent.PushFront(b)
	c.blocks[index] = b
	c.used += n
	return b
}

// makeRoom forgets the blocks that were used longest ago until n more bytes fit. The caller has mu.
func (c *Cache) makeRoom(n int64) bool {
	for e := c.recent.Back(); e != nil && c.used+n > c.o.MaxBytes; {
		b := e.Value.(*block) // nothing else is put there
		e = e.Prev()
		if b.evictable() {
			c.drop(b)
			if len(c.free) < maxFree && len(b.data) == c.o.Block {
				c.free = append(c.free, b.data) // nobody looks at it: it was not pinned
			}
			c.counts.evictions.Add(1)
			if b.ahead {
				c.counts.aheadWasted.Add(1)
			}
		}
	}
	return c.used+n <= c.o.MaxBytes
}

// memory returns a slice for a block. The caller has mu.
func (c *Cache) memory(n int64) []byte {
	if last := len(c.free) - 1; last >= 0 && n == int64(c.o.Block) {
		p := c.free[last]
		c.free = c.free[:last]
		return p
	}
	return make([]byte, n)
}

// drop forgets a block. The caller has mu.
func (c *Cache) drop(b *block) {
	c.recent.Remove(b.place)
	delete(c.blocks, b.index)
	c.used -= int64(len(b.data))
}

// fetch reads blocks that follow each other, and lets those who wait for them know of each.
func (c *Cache) fetch(run []*block, ahead bool) {
	done := 0
	retry := c.o.Retry
	retry.Attempt = retry.Deadline // fetchOnce has a bound of its own
	err := retry.Do(c.life, func(ctx context.Context) error {
		return c.fetchOnce(ctx, run, &done)
	})
	err = c.judge(err)
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, b := range run[done:] { // those that failed; whoever asks next tries again
		b.err = err
		c.drop(b)
		close(b.ready)
	}
	if ahead {
		c.ahead--
	}
	if ahead && err == nil {
		for i := range c.streams {
			c.readAhead(&c.streams[i])
		}
	}
	c.wake()
}

// errStalled says that a request was given up because it brought nothing more.
var errStalled = errors.New("no block arrived in the time that one attempt has")

// fetchOnce makes one request for the blocks that are not done. Each of them may take as long as an attempt may: a slow network
// is no reason to give up, and to begin again.
func (c *Cache) fetchOnce(ctx context.Context, run []*block, done *int) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	stall := time.AfterFunc(c.o.Retry.Attempt, func() { cancel(errStalled) })
	defer stall.Stop()
	left := run[*done:]
	base := *done
	buffers := make([][]byte, len(left))
	for i, b := range left {
		buffers[i] = b.data
	}
	c.counts.fetches.Add(1)
	off := left[0].index * int64(c.o.Block)
	finish := func(i int) {
		b := left[i]
		c.mu.Lock()
		b.loaded = true
		c.mu.Unlock()
		c.counts.fetched.Add(int64(len(b.data)))
		close(b.ready)
		*done = base + i + 1
		stall.Reset(c.o.Retry.Attempt)
	}
	if v, ok := c.src.(blob.VectorReader); ok {
		return v.ReadVectorAt(ctx, buffers, off, finish)
	}
	for i, p := range buffers {
		n, err := c.src.ReadAt(ctx, p, off)
		if err != nil {
			return err
		}
		if n != len(p) {
			return errors.New("the source returned less than it was asked for")
		}
		finish(i)
		off += int64(n)
	}
	return nil
}
