// SPDX-License-Identifier: Apache-2.0

package sealed

import (
	"container/list"
	"sync"
)

// block is a block of the tree that was verified.
type block [BlockSize]byte

// cache keeps the blocks of the tree that were used last.
type cache struct {
	mu    sync.Mutex
	limit int
	by    map[position]*list.Element // of *cached
	order *list.List                 // most recently used first
}

type cached struct {
	at    position
	block *block
}

func newCache(limit int) *cache {
	return &cache{limit: limit, by: map[position]*list.Element{}, order: list.New()}
}

func (c *cache) get(at position) *block {
	c.mu.Lock()
	defer c.mu.Unlock()
	e := c.by[at]
	if e == nil {
		return nil
	}
	c.order.MoveToFront(e)
	return e.Value.(*cached).block // nothing else is put there
}

// add keeps a block, and forgets the one that was used longest ago. Those who have it go on with it.
func (c *cache) add(at position, b *block) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.by[at] != nil {
		return // somebody was quicker; both were verified
	}
	c.by[at] = c.order.PushFront(&cached{at, b})
	for len(c.by) > c.limit {
		last := c.order.Back()
		delete(c.by, last.Value.(*cached).at)
		c.order.Remove(last)
	}
}
