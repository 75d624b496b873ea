// SPDX-License-Identifier: Apache-2.0

package blockcache

import (
	"context"
	"time"
)

// span is what one block contributes to a write.
type span struct {
	b      *block
	lo, hi int
	sent   uint64
}

// writeOut begins to write blocks that wait since before a time, the oldest first, as many as may be written at a time. When
// one has ended, it goes on. The caller has mu.
func (c *Cache) writeOut(before time.Time) {
	if before.After(c.urgent) {
		c.urgent = before
	}
	for c.writing < c.o.Parallel && c.life.Err() == nil {
		e := c.dirty.Front()
		if e == nil {
			return
		}
		b := e.Value.(*block) // nothing else is put there
		if b.since.After(c.urgent) {
			return
		}
		c.send(b)
	}
}

// send begins one write: of a block, and of those after it as far as they go on where it ends. The caller has mu.
func (c *Cache) send(b *block) {
	var run []span
	total := 0
	for next := b; ; {
		run = append(run, span{b: next, lo: next.lo, hi: next.hi, sent: next.made})
		total += next.hi - next.lo
		c.dirty.Remove(next.queued)
		next.queued, next.flying = nil, true
		joined := next.hi == c.o.Block
		next.lo, next.hi = 0, 0
		next = c.blocks[next.index+1]
		if !joined || next == nil || next.queued == nil || next.lo != 0 || total+next.hi > c.o.Request {
			break
		}
	}
	c.writing++
	c.work.Go(func() { c.fly(run, total) })
}

// fly writes what belongs together by one request, again while it fails for now.
func (c *Cache) fly(run []span, total int) {
	data := make([]byte, 0, total)
	for _, s := range run {
		s.b.access.RLock()
		data = append(data, s.b.data[s.lo:s.hi]...)
		s.b.access.RUnlock()
	}
	off := run[0].b.index*int64(c.o.Block) + int64(run[0].lo)
	retry := c.o.Retry
	retry.Attempt = max(retry.Attempt, retry.Deadline/2) // a slow network is no reason to begin again
	err := retry.Do(c.life, func(ctx context.Context) error {
		c.counts.writes.Add(1)
		return c.dst.WriteAt(ctx, data, off)
	})
	err = c.judge(err)
	if err == nil {
		c.counts.stored.Add(int64(total))
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.writing--
	for _, s := range run {
		c.land(s, err)
	}
	c.writeOut(c.urgent)
	c.wake()
}

// land notes how the write of a block ended. The caller has mu.
func (c *Cache) land(s span, err error) {
	b := s.b
	b.flying = false
	if err == nil {
		b.saved = s.sent
	} else {
		b.failures, b.failure = b.failures+1, err
		b.widen(s.lo, s.hi)
	}
	if b.hi != 0 {
		c.queue(b) // behind those that wait already
		return
	}
	c.unsaved -= int64(len(b.data))
}

// want is what a Flush waits for: the writes into a block up to a count, and without more failures than a count. A write to the
// storage that was under way before may fail: what the block then has is written again.
type want struct {
	b        *block
	made     uint64
	failures int
}

// Flush returns nil when the storage has every write that had returned before the call. If the storage fails to take one, it
// returns the error at once; nothing is forgotten, and the next Flush tries again.
func (c *Cache) Flush(ctx context.Context) error {
	if c.dst == nil {
		return nil
	}
	c.counts.flushes.Add(1)
	c.mu.Lock()
	var wants []want
	for _, b := range c.blocks {
		if b.hi == 0 && !b.flying {
			continue
		}
		w := want{b: b, made: b.made, failures: b.failures}
		if b.flying {
			w.failures++
		}
		wants = append(wants, w)
	}
	c.mu.Unlock()
	if err := c.settle(ctx, wants); err != nil {
		return err
	}
	if err := context.Cause(c.life); err != nil {
		return err
	}
	both, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	stop := context.AfterFunc(c.life, func() { cancel(context.Cause(c.life)) })
	defer stop()
	err := c.o.Retry.Do(both, c.dst.Flush)
	if err != nil && ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return c.judge(err)
}

// settle waits until blocks are written.
func (c *Cache) settle(ctx context.Context, wants []want) error {
	for {
		c.mu.Lock()
		c.writeOut(time.Now())
		change := c.changed
		left := wants[:0]
		var failed error
		for _, w := range wants {
			if w.b.saved < w.made {
				left = append(left, w)
				if w.b.failures > w.failures {
					failed = w.b.failure
				}
			}
		}
		c.mu.Unlock()
		if failed != nil {
			return failed
		}
		if len(left) == 0 {
			return nil
		}
		wants = left
		if err := c.await(ctx, change, nil); err != nil {
			return err
		}
	}
}
