// SPDX-License-Identifier: Apache-2.0

package shadow

import (
	"context"
	"errors"
	"fmt"
)

// Flush returns when everything that was written before is durable and, with an anchor, can not be put back unseen.
func (v *Volume) Flush(ctx context.Context) error {
	v.writing.Lock()
	defer v.writing.Unlock()
	switch {
	case v.opts.ReadOnly:
		return nil
	case v.broken != nil:
		return v.broken
	}
	if v.unfinished != nil {
		err := v.finish(ctx)
		if err != nil {
			return err
		}
	}
	if v.nodes.dirtied() == 0 {
		return nil
	}
	return v.commit(ctx)
}

// commit makes the state to come the committed one. Nobody else writes; readers go on.
func (v *Volume) commit(ctx context.Context) error {
	v.state.Lock()
	err := v.putNodes(ctx)
	v.state.Unlock()
	if err != nil {
		return err
	}
	err = v.storage.Flush(ctx)
	if err != nil { // what was not written is not known, and asking again would not tell
		v.broken = fmt.Errorf("making the blocks durable: %w", err)
		return v.broken
	}
	next := v.sb
	next.generation++
	if v.sealed >= itemsPerEpoch && next.epoch < maxEpoch {
		next.epoch++
	}
	v.unfinished = next.marshal(v.keys.superblock)
	return v.finish(ctx)
}

// putNodes encrypts the changed nodes, bottom up, into their other places. It may be done again when it failed: the places
// are the same.
func (v *Volume) putNodes(ctx context.Context) error {
	plain, out := make([]byte, BlockSize), make([]byte, BlockSize+tagSize)
	for level := 1; level <= v.geo.levels; level++ {
		for _, n := range v.nodes.changed(level) {
			for j := range n.entries {
				copy(plain[j*entrySize:], n.entries[j][:])
			}
			err := v.putNode(ctx, n, plain, out)
			if err != nil {
				return err
			}
		}
	}
	return nil
}

func (v *Volume) putNode(ctx context.Context, n *node, plain, out []byte) error {
	place := free(v.rootWas)
	to := &v.sb.root
	if n.level < v.geo.levels {
		parent := v.nodes.get(n.level+1, n.index/fanOut) // kept: it is dirty, too
		if parent == nil {
			return fmt.Errorf("node %d of level %d lost its parent", n.index, n.level)
		}
		place, to = parent.other(n.index%fanOut), &parent.entries[n.index%fanOut]
	}
	if zero(plain) { // nothing below is left
		*to = entry{}
		return nil
	}
	var e entry
	err := v.encrypt(&e, place, n.level, n.index, out, plain)
	if err != nil {
		return err
	}
	err = v.storage.WriteAt(ctx, out[:BlockSize], v.geo.offset(n.level, n.index, place))
	if err != nil {
		return fmt.Errorf("writing to the storage: %w", err)
	}
	*to = e
	return nil
}

// finish writes the superblock that is not surely durable yet, and moves the anchor to it. Until that has succeeded, both
// the state before and the one after it may be the durable one, and nothing that either refers to may be overwritten.
func (v *Volume) finish(ctx context.Context) error {
	raw := v.unfinished
	next, err := parseSuperblock(raw, v.keys.superblock)
	if err != nil {
		return fmt.Errorf("checking the superblock to write: %w", err)
	}
	err = v.storage.WriteAt(ctx, raw, int64(next.generation%2)*BlockSize)
	if err == nil {
		err = v.storage.Flush(ctx)
	}
	if err != nil {
		return fmt.Errorf("%w: writing the superblock: %w", ErrUnfinished, err)
	}
	to := record(next, raw)
	err = v.moveAnchor(ctx, to)
	if err != nil {
		return err
	}
	v.punch(ctx, v.settled(next, to))
	return nil
}

// settled notes that a superblock is the committed one, and returns what is not needed any more.
func (v *Volume) settled(next *superblock, to Record) []hole {
	v.state.Lock()
	defer v.state.Unlock()
	if next.epoch != v.sb.epoch {
		v.sealed = 0
	}
	v.sb, v.anchor, v.unfinished, v.rootWas = *next, to, nil, none
	if !next.root.empty() {
		v.rootWas = next.root.place()
	}
	list := v.holes()
	v.nodes.settled()
	return list
}

// moveAnchor moves the anchor to a superblock that is durable. An anchor that moved before, and whose answer was lost, is
// where it shall be: nobody else has this record, because of the session in it.
func (v *Volume) moveAnchor(ctx context.Context, to Record) error {
	if v.opts.Anchor == nil || v.anchor == to {
		return nil
	}
	err := v.opts.Anchor.Move(ctx, v.anchor, to)
	if errors.Is(err, ErrMoved) {
		now, errLoad := v.opts.Anchor.Load(ctx, to.Volume)
		switch {
		case errLoad != nil:
			err = errLoad
		case now == to:
			return nil
		default:
			v.broken = fmt.Errorf("moving the anchor: %w", err)
			return v.broken
		}
	}
	if err != nil {
		return fmt.Errorf("%w: moving the anchor: %w", ErrUnfinished, err)
	}
	return nil
}
