// SPDX-License-Identifier: Apache-2.0

package shadow

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

var testKey = Key{1, 2, 3}

const small = 300 * BlockSize // three leaves, the last one not full, and a level above

func create(t testing.TB, s Storage, o Options) *Volume {
	t.Helper()
	v, err := Create(t.Context(), s, testKey, small, small, o)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func reopen(t testing.TB, s Storage, o Options) *Volume {
	t.Helper()
	v, err := Open(t.Context(), s, testKey, o)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func content(t testing.TB, v *Volume) []byte {
	t.Helper()
	p := make([]byte, v.Size())
	err := v.ReadAt(t.Context(), p, 0)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// What was written is what is read, whatever the order, before and after commits and openings.
func TestModel(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		d, anchor := newDisk(), newCounter()
		o := Options{Anchor: anchor, CacheNodes: rapid.IntRange(1, 4).Draw(rt, "cache"), DirtyNodes: rapid.IntRange(1, 6).Draw(rt, "dirty")}
		v, err := Create(context.Background(), d, testKey, small, small, o)
		if err != nil {
			rt.Fatal(err)
		}
		model := make([]byte, small)
		for range rapid.IntRange(1, 20).Draw(rt, "steps") {
			first := rapid.IntRange(0, small/BlockSize-1).Draw(rt, "first")
			n := rapid.IntRange(0, small/BlockSize-first).Draw(rt, "n")
			off, length := first*BlockSize, n*BlockSize
			switch rapid.SampledFrom([]string{"write", "write", "discard", "flush", "open", "read"}).Draw(rt, "step") {
			case "write":
				p := bytes.Repeat([]byte{rapid.Byte().Draw(rt, "fill")}, length)
				copy(model[off:], p)
				err = v.WriteAt(context.Background(), p, int64(off))
			case "discard":
				clear(model[off : off+length])
				err = v.Discard(context.Background(), int64(length), int64(off))
			case "flush":
				err = v.Flush(context.Background())
			case "open":
				err = v.Flush(context.Background())
				if err == nil {
					v, err = Open(context.Background(), d.clone(), testKey, Options{Anchor: anchor, ReadOnly: true})
				}
				if err == nil {
					v, err = Open(context.Background(), d, testKey, o)
				}
			case "read":
				p := make([]byte, length)
				err = v.ReadAt(context.Background(), p, int64(off))
				if err == nil && !bytes.Equal(p, model[off:off+length]) {
					err = errors.New("it reads otherwise than it was written")
				}
			}
			if err != nil {
				rt.Fatal(err)
			}
		}
		p := make([]byte, small)
		err = v.ReadAt(context.Background(), p, 0)
		if err != nil || !bytes.Equal(p, model) {
			rt.Fatalf("it reads otherwise than it was written (%v)", err)
		}
	})
}

// history is what a volume held at each of its commits, to which a crash may throw it back, but not beyond what was
// acknowledged.
func TestCrashes(t *testing.T) {
	t.Parallel()
	rounds := 400
	if testing.Short() {
		rounds = 60
	}
	for seed := range rounds {
		crashOnce(t, rand.New(rand.NewPCG(uint64(seed), 7)))
	}
}

func crashOnce(t *testing.T, r *rand.Rand) {
	t.Helper()
	ctx := t.Context()
	d, anchor := newDisk(), newCounter()
	o := Options{Anchor: anchor, DirtyNodes: 1 + r.IntN(8), CacheNodes: 1 + r.IntN(4)}
	v := create(t, d, o)
	model := make([]byte, small/BlockSize) // what each block is full of
	for life := range 3 {
		possible := []string{string(model)} // states that a crash may leave: the acknowledged one and all after it
		d.left = r.IntN(120)
		var err error
		for err == nil {
			first := r.IntN(len(model))
			n := 1 + r.IntN(min(20, len(model)-first))
			b := byte(r.IntN(256))
			if r.IntN(6) == 0 {
				b = 0
				err = v.Discard(ctx, int64(n)*BlockSize, int64(first)*BlockSize)
			} else {
				err = v.WriteAt(ctx, bytes.Repeat([]byte{b}, n*BlockSize), int64(first)*BlockSize)
			}
			// A write may commit by itself, with a part of it: any state after whole blocks is possible.
			for i := range n {
				model[first+i] = b
				possible = append(possible, string(model))
			}
			if err == nil && r.IntN(4) == 0 {
				err = v.Flush(ctx)
				if err == nil {
					possible = []string{string(model)}
				}
			}
		}
		if !errors.Is(err, errLost) && !errors.Is(err, ErrUnfinished) {
			t.Fatalf("life %d ended with %v", life, err)
		}
		d = d.crash(r)
		v = reopen(t, d, o)
		model = fills(t, v)
		if !slices.Contains(possible, string(model)) {
			t.Fatalf("life %d: the volume is in none of %d states", life, len(possible))
		}
	}
}

// fills is what each block is full of.
func fills(t *testing.T, v *Volume) []byte {
	t.Helper()
	p := content(t, v)
	out := make([]byte, 0, len(p)/BlockSize)
	for i := 0; i < len(p); i += BlockSize {
		if !bytes.Equal(p[i:i+BlockSize], bytes.Repeat(p[i:i+1], BlockSize)) {
			t.Fatalf("block %d is of two writes", i/BlockSize)
		}
		out = append(out, p[i])
	}
	return out
}

// Whatever is done to the storage, what is read is what was written, or an error.
func TestAttacks(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	anchor := newCounter()
	d := newDisk()
	v := create(t, d, Options{Anchor: anchor})
	fill := func(b byte) []byte { return bytes.Repeat([]byte{b}, 4*BlockSize) }
	write := func(b byte) {
		t.Helper()
		err := errors.Join(v.WriteAt(ctx, fill(b), 8*BlockSize), v.Flush(ctx))
		if err != nil {
			t.Fatal(err)
		}
	}
	write(1)
	first := d.clone()
	write(2)
	second := d.clone()
	write(3)
	at := func(block uint64, p uint8) int64 { return v.geo.offset(0, block, p) }
	leaf, err := v.load(ctx, 1, 0)
	if err != nil {
		t.Fatal(err)
	}
	place := leaf.entries[8].place()
	move := func(d *disk, from, to int64) {
		for i := int64(0); i < BlockSize; i += sector {
			d.durable[to+i] = d.durable[from+i]
		}
	}
	from := func(d, other *disk, off int64) {
		for i := int64(0); i < BlockSize; i += sector {
			d.durable[off+i] = other.durable[off+i]
		}
	}
	for name, tc := range map[string]struct {
		change func(*disk)
		key    Key
		opens  error // of opening
		reads  error // of reading, if it opens
	}{
		"nothing":                 {change: func(*disk) {}, key: testKey},
		"a flipped bit":           {change: func(d *disk) { flip(d, at(8, place)+100) }, key: testKey, reads: ErrDamaged},
		"a flipped bit elsewhere": {change: func(d *disk) { flip(d, at(8, 1-place)+100) }, key: testKey},
		"two blocks swapped": {change: func(d *disk) {
			move(d, at(8, place), at(20, 0))
			move(d, at(9, place), at(8, place))
			move(d, at(20, 0), at(9, place))
		}, key: testKey, reads: ErrDamaged},
		"a block put back":           {change: func(d *disk) { from(d, first, at(8, place)) }, key: testKey, reads: ErrDamaged},
		"its other place":            {change: func(d *disk) { move(d, at(8, 1-place), at(8, place)) }, key: testKey, reads: ErrDamaged},
		"a node put back":            {change: func(d *disk) { both(func(p uint8) { from(d, first, v.geo.offset(1, 0, p)) }) }, key: testKey, reads: ErrDamaged},
		"the root node put back":     {change: func(d *disk) { both(func(p uint8) { from(d, first, v.geo.offset(2, 0, p)) }) }, key: testKey, reads: ErrDamaged},
		"the image put back":         {change: func(d *disk) { *d = *first.clone() }, key: testKey, opens: ErrRolledBack},
		"put back by one":            {change: func(d *disk) { *d = *second.clone() }, key: testKey, opens: ErrRolledBack},
		"superblocks put back":       {change: func(d *disk) { from(d, first, 0); from(d, first, BlockSize) }, key: testKey, opens: ErrRolledBack},
		"the newest one lost":        {change: func(d *disk) { wipe(d, int64(v.Generation()%2)*BlockSize) }, key: testKey, opens: ErrRolledBack},
		"both superblocks lost":      {change: func(d *disk) { wipe(d, 0); wipe(d, BlockSize) }, key: testKey, opens: ErrNoVolume},
		"superblocks swapped":        {change: func(d *disk) { move(d, 0, 8*BlockSize); move(d, BlockSize, 0); move(d, 8*BlockSize, BlockSize) }, key: testKey, opens: ErrNoVolume},
		"a superblock's bit flipped": {change: func(d *disk) { flip(d, int64(v.Generation()%2)*BlockSize+60) }, key: testKey, opens: ErrRolledBack},
		"data cut off":               {change: func(d *disk) { cut(d, at(8, 0)) }, key: testKey, reads: ErrDamaged},
		"another key":                {change: func(*disk) {}, key: Key{9}, opens: ErrNoVolume},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := d.clone()
			tc.change(d)
			opened, err := Open(ctx, d, tc.key, Options{Anchor: anchor, ReadOnly: true})
			if !errors.Is(err, tc.opens) || tc.opens == nil && err != nil {
				t.Fatalf("opening: %v, want %v", err, tc.opens)
			}
			if err != nil {
				return
			}
			p := make([]byte, 4*BlockSize)
			err = opened.ReadAt(ctx, p, 8*BlockSize)
			if tc.reads == nil && (err != nil || !bytes.Equal(p, fill(3))) || !errors.Is(err, tc.reads) {
				t.Errorf("reading: %v", err)
			}
			report, err := opened.Verify(ctx, nil)
			if err != nil || (report.Damaged > 0) != (tc.reads != nil) {
				t.Errorf("report %+v (%v)", report, err)
			}
		})
	}
}

func both(do func(p uint8)) { do(0); do(1) }

func flip(d *disk, off int64) {
	b := d.durable[off/sector*sector]
	b[off%sector] ^= 1
	d.durable[off/sector*sector] = b
}

func wipe(d *disk, off int64) {
	for i := int64(0); i < BlockSize; i += sector {
		delete(d.durable, off+i)
	}
}

func cut(d *disk, off int64) {
	for at := range d.durable {
		if at >= off {
			delete(d.durable, at)
		}
	}
}

// Every byte of a small image counts, or is never looked at: no change of one makes other content readable.
func TestEveryByteOfTheImage(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	d, anchor := newDisk(), newCounter()
	v := create(t, d, Options{Anchor: anchor})
	want := bytes.Repeat([]byte("abcdefgh"), BlockSize/8)
	err := errors.Join(v.WriteAt(ctx, want, 0), v.Flush(ctx))
	if err != nil {
		t.Fatal(err)
	}
	step := int64(1)
	if testing.Short() {
		step = 37
	}
	for at := range d.durable {
		for i := int64(0); i < sector; i += step {
			flip(d, at+i)
			got := make([]byte, BlockSize)
			opened, err := Open(ctx, d, testKey, Options{Anchor: anchor, ReadOnly: true})
			if err == nil {
				err = opened.ReadAt(ctx, got, 0)
			}
			if err == nil && !bytes.Equal(got, want) {
				t.Fatalf("a change of byte %d is read", at+i)
			}
			flip(d, at+i)
		}
	}
}

func TestAnchor(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	p := make([]byte, BlockSize)
	setup := func(t *testing.T) (*disk, *counter, *Volume) {
		d, anchor := newDisk(), newCounter()
		return d, anchor, create(t, d, Options{Anchor: anchor})
	}
	t.Run("needed", func(t *testing.T) {
		t.Parallel()
		d, anchor, _ := setup(t)
		for _, o := range []Options{{}, {Anchor: anchor, Unanchored: true}} {
			_, err := Open(ctx, d, testKey, o)
			if !errors.Is(err, ErrAnchorNeeded) {
				t.Errorf("%+v opens: %v", o, err)
			}
		}
		_, err := Open(ctx, d, testKey, Options{Anchor: newCounter()})
		if !errors.Is(err, ErrNoRecord) {
			t.Errorf("an anchor that knows nothing: %v", err)
		}
	})
	t.Run("unreachable", func(t *testing.T) {
		t.Parallel()
		d, anchor, v := setup(t)
		anchor.fail = errLost
		err := errors.Join(v.WriteAt(ctx, p, 0))
		if err != nil {
			t.Fatal(err)
		}
		for range 3 {
			err = v.Flush(ctx)
			if !errors.Is(err, errLost) || !errors.Is(err, ErrUnfinished) {
				t.Fatalf("a flush without its anchor: %v", err)
			}
		}
		if err = v.WriteAt(ctx, p, 0); !errors.Is(err, ErrUnfinished) {
			t.Errorf("a write into one of two states: %v", err)
		}
		died := d.clone()
		anchor.fail = nil
		if err = v.Flush(ctx); err != nil {
			t.Errorf("the anchor is back: %v", err)
		}
		reopen(t, died, Options{Anchor: anchor, ReadOnly: true})
	})
	t.Run("a writer that died before the anchor", func(t *testing.T) {
		t.Parallel()
		d, anchor, v := setup(t)
		anchor.fail = errLost
		_ = v.WriteAt(ctx, p, 0)
		_ = v.Flush(ctx)
		anchor.fail = nil
		g := reopen(t, d, Options{Anchor: anchor}).Generation()
		if r, _ := anchor.Load(ctx, v.ID()); r.Generation != g {
			t.Errorf("the anchor is at %d, the volume at %d", r.Generation, g)
		}
	})
	t.Run("an anchor that was put back", func(t *testing.T) {
		t.Parallel()
		d, anchor, v := setup(t)
		old, _ := anchor.Load(ctx, v.ID())
		for range 3 {
			_ = v.WriteAt(ctx, p, 0)
			_ = v.Flush(ctx)
		}
		anchor.records[v.ID()] = old
		_, err := Open(ctx, d, testKey, Options{Anchor: anchor})
		if !errors.Is(err, ErrForeignAnchor) {
			t.Errorf("%v", err)
		}
	})
	t.Run("two writers", func(t *testing.T) {
		t.Parallel()
		d, anchor, v := setup(t)
		other := reopen(t, d, Options{Anchor: anchor})
		one := bytes.Repeat([]byte{1}, BlockSize)
		_ = v.WriteAt(ctx, one, 0)
		err := v.Flush(ctx)
		if !errors.Is(err, ErrMoved) {
			t.Fatalf("the writer that was overtaken: %v", err)
		}
		if err = v.WriteAt(ctx, one, 0); !errors.Is(err, ErrMoved) {
			t.Errorf("it writes on: %v", err)
		}
		two := bytes.Repeat([]byte{2}, BlockSize)
		err = errors.Join(other.WriteAt(ctx, two, 0), other.Flush(ctx))
		if err != nil {
			t.Fatal(err)
		}
		if got := content(t, reopen(t, d, Options{Anchor: anchor}))[:BlockSize]; !bytes.Equal(got, two) {
			t.Error("the winner's block is not there")
		}
	})
	t.Run("a fork", func(t *testing.T) {
		t.Parallel()
		d, anchor, v := setup(t)
		before := d.clone()
		anchor.fail = errLost
		_ = v.WriteAt(ctx, p, 0)
		_ = v.Flush(ctx)
		fork := d.clone() // one state further, of which the anchor knows nothing
		anchor.fail = nil
		other := reopen(t, before, Options{Anchor: anchor})
		_ = other.Flush(ctx)
		alone := fork.clone()
		wipe(alone, int64((v.Generation())%2)*BlockSize) // the state that both histories began with
		for _, d := range []*disk{fork, alone} {
			_, err := Open(ctx, d, testKey, Options{Anchor: anchor})
			if !errors.Is(err, ErrRolledBack) {
				t.Errorf("the other history opens: %v", err)
			}
		}
	})
}

// No byte of what is written shows in the image.
func TestNothingShows(t *testing.T) {
	t.Parallel()
	d := newDisk()
	v := create(t, d, Options{Unanchored: true})
	canary := []byte("the canary sings in the mine")
	p := bytes.Repeat(append(canary, 0, 0, 0, 0), BlockSize/32)
	err := errors.Join(v.WriteAt(t.Context(), p, 0), v.Flush(t.Context()))
	if err != nil {
		t.Fatal(err)
	}
	for at, b := range d.durable {
		if bytes.Contains(b[:], canary[:8]) || bytes.Contains(b[:], testKey[:8]) {
			t.Errorf("it shows at %d", at)
		}
	}
	if s := fmt.Sprintf("%v %+v %#v %s %x", testKey, testKey, testKey, testKey, testKey); strings.Contains(s, "1, 2, 3") || strings.Contains(s, "0102") {
		t.Errorf("the key shows: %s", s)
	}
}

// A new volume costs a few blocks, whatever its size, and a flushed block the path above it.
func TestCosts(t *testing.T) {
	t.Parallel()
	d := newDisk()
	v, err := Create(t.Context(), d, testKey, 1<<40, 1<<42, Options{Unanchored: true})
	if err != nil {
		t.Fatal(err)
	}
	if d.writes > 2 || len(d.durable) > 2*BlockSize/sector {
		t.Errorf("a new volume takes %d writes and %d bytes", d.writes, len(d.durable)*sector)
	}
	d.writes, d.flushes = 0, 0
	err = errors.Join(v.WriteAt(t.Context(), make([]byte, BlockSize), 1<<39), v.Flush(t.Context()))
	if err != nil || d.writes != 2+v.geo.levels || d.flushes != 2 {
		t.Errorf("a block takes %d writes and %d flushes (%v), with %d levels", d.writes, d.flushes, err, v.geo.levels)
	}
}

func TestRequests(t *testing.T) {
	t.Parallel()
	v := create(t, newDisk(), Options{Unanchored: true})
	ctx := t.Context()
	for _, r := range [][2]int64{{1, 0}, {BlockSize, 1}, {BlockSize, -BlockSize}, {BlockSize, small}, {small + BlockSize, 0}, {BlockSize, 1 << 62}} {
		p := make([]byte, r[0])
		for name, err := range map[string]error{
			"read": v.ReadAt(ctx, p, r[1]), "write": v.WriteAt(ctx, p, r[1]), "discard": v.Discard(ctx, r[0], r[1]),
		} {
			if !errors.Is(err, ErrRange) {
				t.Errorf("%s of %d bytes at %d: %v", name, r[0], r[1], err)
			}
		}
	}
	for _, size := range []int64{0, -BlockSize, 1, BlockSize + 1, 1 << 62} {
		_, err := Create(ctx, newDisk(), testKey, size, size, Options{Unanchored: true})
		if !errors.Is(err, ErrRange) {
			t.Errorf("a volume of %d bytes: %v", size, err)
		}
	}
}

func TestGeometry(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		capacity := rapid.Uint64Range(1, maxCapacity/fanOut).Draw(t, "leaves") * fanOut
		g, err := newGeometry(capacity)
		if err != nil || g.items[g.levels] != 1 || g.levels < 1 {
			t.Fatalf("%+v, %v", g, err)
		}
		for level := range g.levels + 1 {
			last := g.items[level] - 1
			end := g.blocks
			if level < g.levels {
				end = g.start[level+1]
			}
			i := rapid.Uint64Range(0, last).Draw(t, "item")
			for _, at := range []int64{g.offset(level, i, 0), g.offset(level, i, 1), g.offset(level, last, 1)} {
				if b := uint64(at) / BlockSize; b < g.start[level] || b >= end {
					t.Fatalf("level %d: block %d is not within %d to %d", level, b, g.start[level], end)
				}
			}
			if g.offset(level, i, 0) == g.offset(level, i, 1) {
				t.Fatal("two places are one")
			}
		}
	})
}

func FuzzSuperblock(f *testing.F) {
	sb := superblock{id: [16]byte{1}, capacity: 128, size: 1, generation: 1, epoch: 1}
	key := []byte("key")
	f.Add(sb.marshal(key))
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := parseSuperblock(b, key)
		if err == nil && !bytes.Equal(s.marshal(key), b) {
			t.Errorf("%x is read, and written otherwise", b)
		}
	})
}
