// SPDX-License-Identifier: Apache-2.0

package shadow

import (
	"context"
	"errors"
	"fmt"
)

// Errors of writing.
var (
	// ErrReadOnly says that the volume was opened for reading.
	ErrReadOnly = errors.New("the volume is open for reading only")
	// ErrUnfinished says that a commit could neither be completed nor be undone. Flush tries again.
	ErrUnfinished = errors.New("the last commit is not complete")
)

// maxRun bounds how much is encrypted at once.
const maxRun = 64

// WriteAt writes p at off. Both are multiples of BlockSize. It is durable when a later Flush has returned. What a crash
// leaves is what was written up to some moment after the last Flush: many changes are committed without being asked. After
// an error each of its blocks holds what it held, p, or nothing that can be read; with ErrUnfinished it is written.
func (v *Volume) WriteAt(ctx context.Context, p []byte, off int64) error {
	return v.change(ctx, len(p), off, false, func(leaf *node, index, n uint64) error {
		at := index*BlockSize - uint64(off)
		return v.put(ctx, leaf, index%fanOut, p[at:at+n*BlockSize])
	})
}

// Discard makes blocks zeros that take no room: the next commit gives back what they took, where the storage can. Both numbers are multiples of BlockSize.
func (v *Volume) Discard(ctx context.Context, length, off int64) error {
	if length < 0 || length > v.Size() {
		return fmt.Errorf("%d bytes at %d: %w", length, off, ErrRange)
	}
	return v.change(ctx, int(length), off, true, func(leaf *node, index, n uint64) error {
		for j := index % fanOut; j < index%fanOut+n; j++ {
			leaf.free(j)
		}
		return nil
	})
}

// change calls do for each leaf's part of a range, with the state to itself. It may pass over what was never written.
func (v *Volume) change(ctx context.Context, length int, off int64, pass bool, do func(leaf *node, index, n uint64) error) error {
	err := v.check(length, off)
	if err != nil {
		return err
	}
	v.writing.Lock()
	defer v.writing.Unlock()
	switch {
	case v.opts.ReadOnly:
		return ErrReadOnly
	case v.broken != nil:
		return v.broken
	case v.unfinished != nil:
		return ErrUnfinished
	}
	index, left := uint64(off)/BlockSize, uint64(length)/BlockSize
	for left > 0 {
		n, err := uint64(0), context.Cause(ctx)
		if pass && err == nil {
			n, err = v.hole(ctx, index)
			n = min(left, n)
		}
		if n == 0 && err == nil {
			n = min(left, fanOut-index%fanOut, maxRun)
			err = v.changeLeaf(ctx, index, n, do)
		}
		if err == nil && (v.nodes.dirtied() >= v.opts.DirtyNodes || v.sealed >= itemsPerEpoch) {
			err = v.commit(ctx)
		}
		if err != nil {
			return err
		}
		index, left = index+n, left-n
	}
	return nil
}

// hole is how many blocks from index on are known to be holes: all below an empty entry. It is zero for a block that is none.
func (v *Volume) hole(ctx context.Context, index uint64) (uint64, error) {
	v.state.Lock() // as for all that writers do: the nodes may be about to change
	defer v.state.Unlock()
	span := uint64(1) // blocks below an entry
	for range v.geo.levels - 1 {
		span *= fanOut
	}
	for level := v.geo.levels; level > 0; level, span = level-1, span/fanOut {
		n, err := v.load(ctx, level, index/span/fanOut)
		if err != nil {
			return 0, err
		}
		at := index / span
		if !n.entries[at%fanOut].empty() {
			continue
		}
		if below := v.nodes.get(level-1, at); below != nil && below.dirty {
			continue // its entry is made at the commit
		}
		return (at+1)*span - index, nil
	}
	return 0, nil
}

func (v *Volume) changeLeaf(ctx context.Context, index, n uint64, do func(leaf *node, index, n uint64) error) error {
	v.state.Lock()
	defer v.state.Unlock()
	if v.sealed >= itemsPerEpoch { // the commit before this had no other epoch to go to
		return ErrUsedUp
	}
	leaf, err := v.path(ctx, index/fanOut)
	if err != nil {
		return err
	}
	return do(leaf, index, n)
}

// path loads the nodes from the root to a leaf and marks them as changed, so that none of them is forgotten before the
// commit. It begins at the root: whatever fails, a changed node always has a changed node above it.
func (v *Volume) path(ctx context.Context, leaf uint64) (n *node, err error) {
	for level := v.geo.levels; level > 0; level-- {
		index := leaf
		for range level - 1 {
			index /= fanOut
		}
		n, err = v.load(ctx, level, index)
		if err != nil {
			return nil, err
		}
		v.nodes.soil(n)
	}
	return n, nil
}

// put encrypts blocks into the places that the committed state does not refer to, and changes their entries when the
// storage has them.
func (v *Volume) put(ctx context.Context, leaf *node, j uint64, p []byte) error {
	count := uint64(len(p)) / BlockSize
	out := make([]byte, len(p)+tagSize)
	entries := make([]entry, count)
	for i := range count {
		index := leaf.index*fanOut + j + i
		err := v.encrypt(&entries[i], leaf.other(j+i), 0, index, out[i*BlockSize:], p[i*BlockSize:(i+1)*BlockSize])
		if err != nil {
			return err
		}
	}
	for i := uint64(0); i < count; {
		n := uint64(1)
		for i+n < count && entries[i+n].place() == entries[i].place() {
			n++
		}
		err := v.storage.WriteAt(ctx, out[i*BlockSize:(i+n)*BlockSize], v.geo.offset(0, leaf.index*fanOut+j+i, entries[i].place()))
		if err != nil {
			// What the places held is lost, and an entry may refer to it: a block that was written since the last commit. It
			// reads as damaged, as a block does whose writing failed.
			return fmt.Errorf("writing to the storage: %w", err)
		}
		i += n
	}
	copy(leaf.entries[j:], entries)
	return nil
}

// encrypt fills in the entry of an item and encrypts it into out, which has room for a tag.
func (v *Volume) encrypt(e *entry, place uint8, level int, index uint64, out, plain []byte) error {
	epoch := uint32(v.sb.epoch) // at most maxEpoch
	c, err := v.keys.cipher(epoch)
	if err != nil {
		return err
	}
	e.set(place, epoch)
	err = v.random(e.nonce())
	if err != nil {
		return err
	}
	l := v.keys.label(level, index)
	seal(c, e, out, plain, &l)
	v.sealed++
	return nil
}
