// SPDX-License-Identifier: Apache-2.0

package shadow

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"testing"
)

// Volumes grow by little and by much, with data at their ends and without any, once and again: what was there is there, what
// is new is zeros and can be written.
func TestGrow(t *testing.T) {
	t.Parallel()
	const leaf = fanOut * BlockSize
	for name, c := range map[string]struct {
		size, capacity int64
		to             []int64
		empty          bool
	}{
		"within the capacity":       {size: small, capacity: 2 * small, to: []int64{small + BlockSize, 2 * small}},
		"beyond it":                 {size: small, to: []int64{small + leaf, 3 * small}},
		"by one block":              {size: 3 * leaf, to: []int64{3*leaf + BlockSize, 3*leaf + 2*BlockSize}},
		"by one level":              {size: leaf, to: []int64{200 * leaf}},
		"by many levels":            {size: BlockSize, to: []int64{1 << 40, 1 << 41}},
		"without data":              {size: small, to: []int64{2 * small, 200 * leaf}, empty: true},
		"to what it has, and again": {size: small, to: []int64{small, 2 * small, 2 * small}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx := t.Context()
			d, o := newDisk(), Options{Anchor: newCounter()}
			v, err := Create(ctx, d, testKey, c.size, c.capacity, o)
			if err != nil {
				t.Fatal(err)
			}
			marks := map[int64]byte{}
			mark := func(off int64) {
				t.Helper()
				marks[off] = byte(len(marks) + 1)
				if err := errors.Join(v.WriteAt(ctx, bytes.Repeat([]byte{marks[off]}, BlockSize), off), v.Flush(ctx)); err != nil {
					t.Fatal(err)
				}
			}
			if !c.empty {
				mark(0)
				mark(c.size - BlockSize)
			}
			for _, size := range c.to {
				image, err := GrownSize(v.Capacity(), size)
				if err != nil {
					t.Fatal(err)
				}
				before := v.Size()
				if err := Grow(ctx, d, testKey, size, o); err != nil {
					t.Fatal(err)
				}
				v = reopen(t, d, o)
				if v.Size() != size || v.Capacity() < size || int64(v.geo.blocks)*BlockSize != image {
					t.Fatalf("%d bytes of %d in an image of %d, want %d in %d", v.Size(), v.Capacity(), v.geo.blocks*BlockSize, size, image)
				}
				p := make([]byte, BlockSize)
				for off, b := range marks {
					if err := v.ReadAt(ctx, p, off); err != nil || !bytes.Equal(p, bytes.Repeat([]byte{b}, BlockSize)) {
						t.Errorf("the block at %d is %d (%v), want %d", off, p[0], err, b)
					}
				}
				if size > before {
					for _, off := range []int64{before, size - BlockSize} {
						if err := v.ReadAt(ctx, p, off); err != nil || !zero(p) {
							t.Errorf("the new block at %d is not zeros: %v", off, err)
						}
					}
					mark(before)
					mark(size - BlockSize)
				}
			}
			if r, err := v.Verify(ctx, nil); err != nil || r.Damaged > 0 || int(r.Blocks) != len(marks) {
				t.Errorf("%+v, %v; want %d blocks", r, err, len(marks))
			}
			for _, size := range []int64{0, v.Size() - BlockSize, v.Size() + 1, -BlockSize, maxCapacity*BlockSize + BlockSize} {
				if err := Grow(ctx, d, testKey, size, o); !errors.Is(err, ErrRange) {
					t.Errorf("grown to %d: %v", size, err)
				}
			}
			if err := Grow(ctx, d, testKey, v.Size()+BlockSize, Options{Anchor: o.Anchor, ReadOnly: true}); !errors.Is(err, ErrReadOnly) {
				t.Errorf("grown without writing: %v", err)
			}
		})
	}
}

// A crash at any operation leaves the old size or the new one, and all that was there; to grow again completes it.
func TestGrowCrashes(t *testing.T) {
	t.Parallel()
	const size = 3 * small
	for seed := range uint64(3) {
		for left := 0; ; left++ {
			r := rand.New(rand.NewPCG(seed, uint64(left)))
			d, o := newDisk(), Options{Anchor: newCounter()}
			v := create(t, d, o)
			want := bytes.Repeat([]byte{7}, small)
			if err := errors.Join(v.WriteAt(t.Context(), want, 0), v.Flush(t.Context())); err != nil {
				t.Fatal(err)
			}
			d.left = left
			ended := Grow(t.Context(), d, testKey, size, o)
			d = d.crash(r)
			v = reopen(t, d, o)
			if ended == nil && v.Size() != size || v.Size() != small && v.Size() != size {
				t.Fatalf("crash at operation %d: %d bytes (%v)", left, v.Size(), ended)
			}
			if err := Grow(t.Context(), d, testKey, size, o); err != nil {
				t.Fatalf("crash at operation %d, and again: %v", left, err)
			}
			if got := content(t, reopen(t, d, o)); !bytes.Equal(got[:small], want) || !zero(got[small:]) {
				t.Fatalf("crash at operation %d: the content is another", left)
			}
			if ended == nil {
				break
			}
		}
	}
}

// A volume with a damaged node is not grown, and stays as it was. One whose state before is put back is rolled back.
func TestGrowAttacked(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	d, o := newDisk(), Options{Anchor: newCounter()}
	v := create(t, d, o)
	if err := errors.Join(v.WriteAt(ctx, bytes.Repeat([]byte{7}, small), 0), v.Flush(ctx)); err != nil {
		t.Fatal(err)
	}
	root, err := v.load(ctx, 2, 0)
	if err != nil {
		t.Fatal(err)
	}
	at := v.geo.offset(1, 1, root.entries[1].place())
	flip(d, at)
	if err := Grow(ctx, d, testKey, 3*small, o); !errors.Is(err, ErrDamaged) {
		t.Errorf("a damaged volume: %v", err)
	}
	flip(d, at)
	v = reopen(t, d, o)
	if v.Size() != small || !bytes.Equal(content(t, v), bytes.Repeat([]byte{7}, small)) {
		t.Error("it is another volume")
	}
	before := d.clone()
	if err := Grow(ctx, d, testKey, 3*small, o); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(ctx, before, testKey, o); !errors.Is(err, ErrRolledBack) {
		t.Errorf("the volume from before opens: %v", err)
	}
}

// What is discarded takes no room after the next commit, and nothing that the storage had brings it back.
func TestDiscardGivesBack(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	d, o := newDisk(), Options{Anchor: newCounter()}
	v := create(t, d, o)
	write := func(fill byte) {
		t.Helper()
		if err := errors.Join(v.WriteAt(ctx, bytes.Repeat([]byte{fill}, small), 0), v.Flush(ctx)); err != nil {
			t.Fatal(err)
		}
	}
	write(1)
	write(2)
	full := d.clone()
	if got := d.used(); got < 2*small {
		t.Fatalf("%d bytes are used of two states of %d", got, small)
	}
	if err := v.Discard(ctx, small-BlockSize, 0); err != nil {
		t.Fatal(err)
	}
	if d.punched != 0 {
		t.Errorf("%d bytes are gone before the discarding is committed", d.punched)
	}
	if err := v.Flush(ctx); err != nil {
		t.Fatal(err)
	}
	// The last block and what leads to it: the superblocks, two states of two nodes, two of the block.
	if got := d.used(); got > 8*BlockSize {
		t.Errorf("%d bytes are used of a volume of one block", got)
	}
	changed := d.clone()
	for block := range uint64(300) { // whatever was there
		for place := range uint8(2) {
			for i := int64(0); i < BlockSize; i += sector {
				at := v.geo.offset(0, block, place) + i
				changed.durable[at] = full.durable[at]
			}
		}
	}
	got := content(t, reopen(t, changed, Options{Anchor: o.Anchor, ReadOnly: true}))
	if !zero(got[:small-BlockSize]) || got[small-1] != 2 {
		t.Error("what was discarded is back")
	}
	v = reopen(t, d, o)
	if err := errors.Join(v.Discard(ctx, small, 0), v.Flush(ctx)); err != nil {
		t.Fatal(err)
	}
	if got := d.used(); got > 2*BlockSize {
		t.Errorf("%d bytes are used of an empty volume", got)
	}
	write(3)
	if got := fills(t, reopen(t, d, o)); got[0] != 3 || got[299] != 3 {
		t.Error("it can not be written again")
	}
}
