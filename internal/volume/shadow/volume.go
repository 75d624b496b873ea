// SPDX-License-Identifier: Apache-2.0

package shadow

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"sync"
)

// Options say how a volume is opened. The zero Options open nothing: an anchor must be given, or its absence said.
type Options struct {
	// Anchor knows the last state of the volume.
	Anchor Anchor
	// Unanchored opens a volume without an anchor: what is read may be an old state, and nobody can tell.
	Unanchored bool
	// ReadOnly writes nothing, to the storage or to the anchor.
	ReadOnly bool
	// CacheNodes is how many nodes of 4 KiB are kept beside those that are to be written; 0 is 4096.
	CacheNodes int
	// DirtyNodes is how many changed nodes make a commit without being asked for one; 0 is 2048.
	DirtyNodes int
	// Random is where nonces come from; nil is crypto/rand.
	Random io.Reader
}

const (
	defaultCache = 4096
	defaultDirty = 2048
)

// ErrAnchorNeeded says that a volume was to be opened with no anchor, and that nobody said that this is meant.
var ErrAnchorNeeded = errors.New("an anchor is needed to tell the last state of a volume from an older one")

// Volume is an open volume. Its methods may be called from several goroutines at once.
type Volume struct {
	storage Storage
	opts    Options
	keys    *keys
	geo     geometry
	id      [16]byte // as it was created or opened; neither ever changes
	size    uint64   // blocks

	// writers hold writing for as long as they write, and state for moments; readers hold state alone.
	writing sync.Mutex
	state   sync.RWMutex
	nodes   *nodes
	sb      superblock // committed, but for root, which is the one to come
	rootWas uint8      // place of the committed root node
	anchor  Record     // what the anchor holds; zero without one
	sealed  uint64     // items of this epoch

	unpunched  bool   // the storage gives no room back
	broken     error  // nothing is written any more
	unfinished []byte // a superblock that may or may not be durable; nothing is written before it surely is
}

// ID is the volume's random ID.
func (v *Volume) ID() [16]byte { return v.id }

// Size is the volume's size in bytes.
func (v *Volume) Size() int64 { return int64(v.size) * BlockSize } // at most 2^52

// Generation is the number of the committed state.
func (v *Volume) Generation() uint64 {
	v.state.RLock()
	defer v.state.RUnlock()
	return v.sb.generation
}

// Anchored says whether the volume was held against an anchor.
func (v *Volume) Anchored() bool { return v.opts.Anchor != nil }

func (v *Volume) random(b []byte) error {
	r := rand.Reader
	if v.opts.Random != nil {
		r = v.opts.Random
	}
	_, err := io.ReadFull(r, b)
	if err != nil {
		return fmt.Errorf("drawing random bytes: %w", err)
	}
	return nil
}

// load returns a node, and reads it if need be. The state is held.
func (v *Volume) load(ctx context.Context, level int, index uint64) (*node, error) {
	n := v.nodes.get(level, index)
	if n != nil {
		return n, nil
	}
	e := v.sb.root
	if level < v.geo.levels {
		parent, err := v.load(ctx, level+1, index/fanOut)
		if err != nil {
			return nil, err
		}
		e = parent.entries[index%fanOut]
	}
	n = &node{level: level, index: index}
	if !e.empty() {
		buf := make([]byte, BlockSize+tagSize)
		err := v.fetch(ctx, &e, level, index, buf)
		if err != nil {
			return nil, err
		}
		for j := range n.entries {
			n.entries[j] = entry(buf[j*entrySize:])
		}
	}
	n.settle()
	return v.nodes.add(n), nil
}

// fetch reads and decrypts one item into the first block of buf.
func (v *Volume) fetch(ctx context.Context, e *entry, level int, index uint64, buf []byte) error {
	err := v.storage.ReadAt(ctx, buf[:BlockSize], v.geo.offset(level, index, e.place()))
	if err != nil {
		return fmt.Errorf("reading from the storage: %w", err)
	}
	return v.unlock(e, level, index, buf)
}

// unlock decrypts one item that was read.
func (v *Volume) unlock(e *entry, level int, index uint64, buf []byte) error {
	if e.epoch() == 0 || uint64(e.epoch()) > v.sb.epoch {
		return damaged(level, index)
	}
	c, err := v.keys.cipher(e.epoch())
	if err != nil {
		return err
	}
	l := v.keys.label(level, index)
	if open(c, e, buf, &l) != nil {
		return damaged(level, index)
	}
	return nil
}
