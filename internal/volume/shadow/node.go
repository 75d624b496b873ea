// SPDX-License-Identifier: Apache-2.0

package shadow

import (
	"container/list"
	"sync"
)

// node is one node of the tree, decrypted.
type node struct {
	level   int
	index   uint64
	entries [fanOut]entry
	// was are the places that the committed state refers to, none where it has no item. What is written between two
	// commits goes to the other ones.
	was [fanOut]uint8
	// freed has a bit for each item that had content and was discarded since the last commit; of leaves alone.
	freed [fanOut / 64]uint64
	dirty bool
}

const none = 2

// settle notes that what the entries say is committed.
func (n *node) settle() {
	for j := range n.entries {
		n.was[j] = none
		if !n.entries[j].empty() {
			n.was[j] = n.entries[j].place()
		}
	}
	n.freed = [fanOut / 64]uint64{}
	n.dirty = false
}

// other is the place that the committed state does not refer to.
func (n *node) other(j uint64) uint8 { return free(n.was[j]) }

func free(was uint8) uint8 {
	if was == 0 {
		return 1
	}
	return 0
}

type nodeKey struct {
	level int
	index uint64
}

// nodes keeps nodes: all that are dirty, and of the others those that were used last.
type nodes struct {
	mu    sync.Mutex
	limit int
	by    map[nodeKey]*list.Element // of *node
	order *list.List                // most recently used first; dirty nodes are in it, too
	dirty int
}

func newNodes(limit int) *nodes {
	return &nodes{limit: limit, by: map[nodeKey]*list.Element{}, order: list.New()}
}

func (c *nodes) get(level int, index uint64) *node {
	c.mu.Lock()
	defer c.mu.Unlock()
	e, ok := c.by[nodeKey{level, index}]
	if !ok {
		return nil
	}
	c.order.MoveToFront(e)
	return e.Value.(*node)
}

// add keeps n, unless somebody was quicker, and returns the node that is kept.
func (c *nodes) add(n *node) *node {
	c.mu.Lock()
	defer c.mu.Unlock()
	key := nodeKey{n.level, n.index}
	if e, ok := c.by[key]; ok {
		return e.Value.(*node)
	}
	c.by[key] = c.order.PushFront(n)
	for e := c.order.Back(); e != nil && len(c.by)-c.dirty > c.limit; {
		before := e.Prev()
		if old := e.Value.(*node); !old.dirty && old != n {
			delete(c.by, nodeKey{old.level, old.index})
			c.order.Remove(e)
		}
		e = before
	}
	return n
}

// soil marks a node as changed. It stays until it is settled.
func (c *nodes) soil(n *node) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !n.dirty {
		n.dirty = true
		c.dirty++
	}
}

// changed are the dirty nodes of a level.
func (c *nodes) changed(level int) []*node {
	c.mu.Lock()
	defer c.mu.Unlock()
	var out []*node
	for key, e := range c.by {
		if n := e.Value.(*node); key.level == level && n.dirty {
			out = append(out, n)
		}
	}
	return out
}

// dirtied is how many nodes are dirty.
func (c *nodes) dirtied() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.dirty
}

// settled notes that all dirty nodes are committed.
func (c *nodes) settled() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, e := range c.by {
		if n := e.Value.(*node); n.dirty {
			n.settle()
		}
	}
	c.dirty = 0
}
