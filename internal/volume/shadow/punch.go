// SPDX-License-Identifier: Apache-2.0

package shadow

import (
	"context"
	"slices"
)

// Puncher is a Storage that can give back the room of a part of it, which reads as zeros, or as it was, then. To ask is a favour:
// an error only means that the room is not given back.
type Puncher interface {
	Punch(ctx context.Context, length, off int64) error
}

// hole is a part of the image that no committed state needs, in bytes.
type hole struct{ off, length int64 }

// free discards a block of a leaf, and notes that it had content. Its places are free when that is committed: until then
// the committed state may refer to one of them.
func (n *node) free(j uint64) {
	if n.was[j] != none || !n.entries[j].empty() {
		n.freed[j/64] |= 1 << (j % 64)
	}
	n.entries[j] = entry{}
}

// holes are the places of what was discarded since the last commit and is not written since: of blocks, and of nodes that
// describe nothing any more.
func (v *Volume) holes() []hole {
	if _, can := v.storage.(Puncher); !can {
		return nil
	}
	var list []hole
	add := func(level int, index uint64) {
		for place := range uint8(2) {
			list = append(list, hole{v.geo.offset(level, index, place), BlockSize})
		}
	}
	for level := 1; level <= v.geo.levels; level++ {
		for _, n := range v.nodes.changed(level) {
			empty := true
			for j := range uint64(fanOut) {
				if !n.entries[j].empty() {
					empty = false
				} else if n.freed[j/64]>>(j%64)&1 == 1 {
					add(0, n.index*fanOut+j)
				}
			}
			if empty {
				add(level, n.index)
			}
		}
	}
	return join(list)
}

// join makes one hole of those that touch.
func join(list []hole) []hole {
	slices.SortFunc(list, func(a, b hole) int { return int(min(max(a.off-b.off, -1), 1)) })
	var out []hole
	for _, h := range list {
		if n := len(out); n > 0 && out[n-1].off+out[n-1].length == h.off {
			out[n-1].length += h.length
			continue
		}
		out = append(out, h)
	}
	return out
}

// punch gives back what no committed state needs. Nobody else writes.
func (v *Volume) punch(ctx context.Context, list []hole) {
	p, can := v.storage.(Puncher)
	if !can || v.unpunched {
		return
	}
	for _, h := range list {
		if p.Punch(ctx, h.length, h.off) != nil {
			v.unpunched = ctx.Err() == nil // it would not go better with the next one
			return
		}
	}
}
