// SPDX-License-Identifier: Apache-2.0

package vault

import (
	"context"
	"errors"
	"sync"
	"time"

	"cofferdam.dev/internal/store"
)

// batch writes entries of many callers in one transaction: a sync of the disk for each of them would be what bounds the
// number of releases. The first caller writes for those that come while it waits for its turn.
type batch struct {
	writing sync.Mutex // held by the caller that writes

	mu      sync.Mutex
	pending *group
}

// group is entries that are written together.
type group struct {
	entries []store.Entry
	done    chan struct{}
	err     error
}

// maxGroup and maxGroupBytes bound what is written together, by what the store takes in a transaction.
const (
	// writeWait bounds how long a group is written.
	writeWait     = 30 * time.Second
	maxGroup      = store.MaxTracked / 2
	maxGroupBytes = store.MaxValueSize
)

// put returns once the entry is stored.
func (b *batch) put(ctx context.Context, s store.Store, key string, value []byte) error {
	g, leads := b.join(store.Entry{Key: key, Value: value})
	if !leads {
		<-g.done
		return g.err
	}
	b.write(ctx, s, g)
	return g.err
}

var errWriter = errors.New("the writer of a group of entries did not come to its end")

// write stores a group. Whatever becomes of the caller that writes, nobody waits for it for ever.
func (b *batch) write(ctx context.Context, s store.Store, g *group) {
	b.writing.Lock()
	defer b.writing.Unlock()
	b.mu.Lock()
	if b.pending == g {
		b.pending = nil // nobody joins any more
	}
	b.mu.Unlock()
	g.err = errWriter
	defer close(g.done)
	// What others wait for must not end with the request of one.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), writeWait)
	defer cancel()
	g.err = s.Update(ctx, func(tx store.Tx) error {
		for _, e := range g.entries {
			if err := tx.Put(e.Key, e.Value); err != nil {
				return err
			}
		}
		return nil
	})
}

// join adds the entry to the group that is waiting, or begins one.
func (b *batch) join(e store.Entry) (g *group, leads bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	size := len(e.Value)
	if b.pending != nil {
		for _, o := range b.pending.entries {
			size += len(o.Value)
		}
		if len(b.pending.entries) < maxGroup && size <= maxGroupBytes {
			b.pending.entries = append(b.pending.entries, e)
			return b.pending, false
		}
	}
	b.pending = &group{entries: []store.Entry{e}, done: make(chan struct{})}
	return b.pending, true
}
