// SPDX-License-Identifier: Apache-2.0

package shadow

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
)

// moody is a storage and an anchor of which any call may fail: before it has done anything, in the middle, or after it has
// done everything.
type moody struct {
	*disk
	anchor *counter

	mu    sync.Mutex
	r     *rand.Rand
	share float64 // of calls that fail
	// next, if it is positive, is the call that fails, counted from now.
	next int
}

func (m *moody) mood() (before, after error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.next--
	if m.next != 0 && m.r.Float64() >= m.share {
		return nil, nil
	}
	if m.r.IntN(2) == 0 {
		return errLost, nil
	}
	return nil, errLost
}

func (m *moody) ReadAt(ctx context.Context, p []byte, off int64) error {
	before, after := m.mood()
	if before != nil {
		return before
	}
	return errors.Join(m.disk.ReadAt(ctx, p, off), after)
}

func (m *moody) WriteAt(ctx context.Context, p []byte, off int64) error {
	before, after := m.mood()
	if before != nil {
		return before
	}
	if after != nil && len(p) > BlockSize {
		p = p[:len(p)/2+sector/2*(len(p)/sector%2)] // in the middle of a block, or between two
	}
	return errors.Join(m.disk.WriteAt(ctx, p[:len(p)/sector*sector], off), after)
}

func (m *moody) Flush(ctx context.Context) error {
	before, after := m.mood()
	if before != nil {
		return before
	}
	return errors.Join(m.disk.Flush(ctx), after)
}

func (m *moody) Load(ctx context.Context, id [16]byte) (Record, error) {
	before, after := m.mood()
	if err := errors.Join(before, after); err != nil {
		return Record{}, err
	}
	return m.anchor.Load(ctx, id)
}

func (m *moody) Move(ctx context.Context, was, next Record) error {
	before, after := m.mood()
	if before != nil {
		return before
	}
	return errors.Join(m.anchor.Move(ctx, was, next), after)
}

// belief is what blocks may hold: now, and after the volume is opened again.
type belief struct {
	now   [small / BlockSize][]byte // more than one after a write that failed: then it may be damaged, too
	later [small / BlockSize][]byte
}

func newBelief() *belief {
	b := &belief{}
	for i := range b.now {
		b.now[i], b.later[i] = []byte{0}, []byte{0}
	}
	return b
}

func (b *belief) wrote(first, n int, fill byte, err error) {
	for i := first; i < first+n; i++ {
		if err == nil {
			b.now[i] = nil
		}
		b.now[i] = append(b.now[i], fill)
		b.later[i] = append(b.later[i], fill)
	}
}

func (b *belief) flushed() {
	for i := range b.now {
		b.later[i] = slices.Clone(b.now[i])
	}
}

// check reads every block of a volume.
func (b *belief) check(t *testing.T, v *Volume, may *[small / BlockSize][]byte, seed int) {
	t.Helper()
	p := make([]byte, BlockSize)
	for i := range may {
		err := v.ReadAt(t.Context(), p, int64(i)*BlockSize)
		switch {
		case errors.Is(err, errLost), errors.Is(err, ErrDamaged) && len(may[i]) > 1:
			continue
		case err != nil:
			t.Fatalf("seed %d: block %d: %v", seed, i, err)
		case !bytes.Equal(p, bytes.Repeat(p[:1], BlockSize)) || !slices.Contains(may[i], p[0]):
			t.Fatalf("seed %d: block %d is full of %d, expected one of %v", seed, i, p[0], may[i])
		}
	}
}

// Whatever call fails, and whenever: who goes on with the same volume reads what was written, and what a flush acknowledged
// is there when it is opened again.
func TestFaults(t *testing.T) {
	t.Parallel()
	rounds := 60
	if testing.Short() {
		rounds = 8
	}
	for seed := range rounds {
		faultsOnce(t, seed)
	}
}

func faultsOnce(t *testing.T, seed int) {
	t.Helper()
	r := rand.New(rand.NewPCG(uint64(seed), 11))
	m := &moody{disk: newDisk(), anchor: newCounter(), r: rand.New(rand.NewPCG(uint64(seed), 12))}
	o := Options{Anchor: m, CacheNodes: 1 + r.IntN(3), DirtyNodes: 1 + r.IntN(8)}
	v := create(t, m, o)
	b := newBelief()
	for range 4 {
		m.share = []float64{0.01, 0.05, 0.3}[r.IntN(3)]
		for range 60 {
			step(t, r, v, b)
			b.check(t, v, &b.now, seed)
		}
		m.share = 0
		if err := v.Flush(t.Context()); err == nil {
			b.flushed()
		} else if v.broken == nil {
			t.Fatalf("seed %d: nothing fails any more, but for the flush: %v", seed, err)
		}
		m.disk = m.crash(r)
		v = reopen(t, m, o)
		b.check(t, v, &b.later, seed)
		now := newBelief()
		for i := range now.now { // what it holds is what it holds from now on
			p := make([]byte, BlockSize)
			now.now[i] = b.later[i]
			if err := v.ReadAt(t.Context(), p, int64(i)*BlockSize); err == nil {
				now.now[i] = p[:1]
			}
			now.later[i] = slices.Clone(now.now[i])
		}
		b = now
	}
}

func step(t *testing.T, r *rand.Rand, v *Volume, b *belief) {
	t.Helper()
	first := r.IntN(len(b.now))
	n := 1 + r.IntN(min(70, len(b.now)-first))
	off := int64(first) * BlockSize
	var err error
	switch r.IntN(5) {
	case 0:
		if err = v.Flush(t.Context()); err == nil {
			b.flushed()
		}
		return
	case 1:
		err = v.Discard(t.Context(), int64(n)*BlockSize, off)
		b.wrote(first, n, 0, err)
	default:
		fill := byte(1 + r.IntN(255))
		err = v.WriteAt(t.Context(), bytes.Repeat([]byte{fill}, n*BlockSize), off)
		b.wrote(first, n, fill, err)
	}
}

// A process dies with its last superblock not yet durable, another one goes on from it, and then the power fails: nothing
// that either acknowledged is lost, and the anchor never knows of more than the storage keeps.
func TestPowerFailsAfterARestart(t *testing.T) {
	t.Parallel()
	for seed := range uint64(60) {
		for _, anchored := range []bool{true, false} {
			r := rand.New(rand.NewPCG(seed, 13))
			d := newDisk()
			o := Options{Unanchored: true}
			if anchored {
				o = Options{Anchor: newCounter()}
			}
			v := create(t, d, o)
			write := func(fill byte) error {
				return errors.Join(v.WriteAt(t.Context(), bytes.Repeat([]byte{fill}, BlockSize), 0), v.Flush(t.Context()))
			}
			if err := errors.Join(write(1), write(2)); err != nil {
				t.Fatal(err)
			}
			d.left = 4 + r.IntN(3) // the block, two nodes, the flush of them; the superblock; its flush
			_ = write(3)
			d.left = r.IntN(6)
			_, _ = Open(t.Context(), d, testKey, o) // dies in the middle
			d = d.crash(r)
			v, err := Open(t.Context(), d, testKey, o)
			if err != nil {
				t.Fatalf("seed %d, anchored %v: %v", seed, anchored, err)
			}
			if got := content(t, v)[0]; got != 2 && got != 3 {
				t.Fatalf("seed %d, anchored %v: the block is full of %d", seed, anchored, got)
			}
		}
	}
}

// An anchor that has moved, and whose answer is lost, is asked where it is.
func TestLostAnswerOfTheAnchor(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	d, anchor := newDisk(), &forgetful{counter: newCounter()}
	v := create(t, d, Options{Anchor: anchor})
	anchor.lose = true
	err := errors.Join(v.WriteAt(ctx, make([]byte, BlockSize), 0))
	if err != nil {
		t.Fatal(err)
	}
	if err = v.Flush(ctx); !errors.Is(err, ErrUnfinished) {
		t.Fatalf("the answer is lost: %v", err)
	}
	anchor.lose = false
	if err = v.Flush(ctx); err != nil {
		t.Errorf("the flush is not completed: %v", err)
	}
	if err = errors.Join(v.WriteAt(ctx, make([]byte, BlockSize), 0), v.Flush(ctx)); err != nil {
		t.Errorf("the volume does not go on: %v", err)
	}
}

type forgetful struct {
	*counter
	lose bool
}

func (f *forgetful) Move(ctx context.Context, was, next Record) error {
	err := f.counter.Move(ctx, was, next)
	if err == nil && f.lose {
		return errLost
	}
	return err
}

// A node that could not be read keeps nobody from flushing what was written elsewhere.
func TestReadFailsWithinAWrite(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	d := newDisk()
	m := &moody{disk: d, r: rand.New(rand.NewPCG(1, 2))}
	v, err := Create(ctx, m, testKey, 1<<32, 1<<32, Options{Unanchored: true, CacheNodes: 1})
	if err != nil {
		t.Fatal(err)
	}
	p := bytes.Repeat([]byte{7}, BlockSize)
	for _, off := range []int64{0, 1 << 31} {
		if err = errors.Join(v.WriteAt(ctx, p, off), v.Flush(ctx)); err != nil {
			t.Fatal(err)
		}
	}
	for call := 1; call < 12; call++ {
		m.next = call
		_ = v.WriteAt(ctx, p, 0) // may fail
		m.next = 0
		if err = v.ReadAt(ctx, p, 1<<31); err != nil { // forgets what need not be known
			t.Fatal(err)
		}
		if err = v.Flush(ctx); err != nil {
			t.Fatalf("after call %d had failed: %v", call, err)
		}
	}
}

// Discarding a large volume neither takes room for it, nor writes anything where nothing was.
func TestDiscardEverything(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	d := newDisk()
	const size = (maxCapacity - fanOut) * BlockSize
	v, err := Create(ctx, d, testKey, size, size, Options{Unanchored: true, DirtyNodes: 32, CacheNodes: 16})
	if err != nil {
		t.Fatal(err)
	}
	written := []int64{0, 5 * fanOut * BlockSize, 1 << 40, size - BlockSize}
	for i := range int64(200) {
		written = append(written, 1<<30+i*fanOut*BlockSize)
	}
	p := bytes.Repeat([]byte{1}, BlockSize)
	for _, off := range written {
		if err = v.WriteAt(ctx, p, off); err != nil {
			t.Fatal(err)
		}
	}
	d.writes = 0
	if err = errors.Join(v.Discard(ctx, size, 0), v.Flush(ctx)); err != nil {
		t.Fatal(err)
	}
	if d.writes > 500 || len(v.nodes.by) > 16+32+8 {
		t.Errorf("it took %d writes, and %d nodes are kept", d.writes, len(v.nodes.by))
	}
	for _, off := range written {
		if err = v.ReadAt(ctx, p, off); err != nil || !zero(p) {
			t.Errorf("the block at %d is not zeros: %v", off, err)
		}
	}
	if !v.sb.root.empty() {
		t.Error("the tree is not empty")
	}
}

// No key encrypts more than it may, also when nobody flushes.
func TestItemsOfAnEpoch(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	d := newDisk()
	v := create(t, d, Options{Unanchored: true})
	p := make([]byte, BlockSize)
	v.sealed = itemsPerEpoch - 1
	if err := v.WriteAt(ctx, p, 0); err != nil || v.sb.epoch != 2 || v.sealed != 0 {
		t.Errorf("epoch %d after its last item (%v)", v.sb.epoch, err)
	}
	v.sb.epoch, v.sealed = maxEpoch, itemsPerEpoch-1
	if err := errors.Join(v.WriteAt(ctx, p, 0), v.Flush(ctx)); err != nil {
		t.Errorf("the very last item: %v", err)
	}
	if err := v.WriteAt(ctx, p, 0); !errors.Is(err, ErrUsedUp) {
		t.Errorf("a volume without epochs is written: %v", err)
	}
	if err := v.Flush(ctx); err != nil {
		t.Errorf("what was written is not kept: %v", err)
	}
	if _, err := Open(ctx, d, testKey, Options{Unanchored: true}); !errors.Is(err, ErrUsedUp) {
		t.Errorf("a volume without epochs is opened to be written: %v", err)
	}
	reopen(t, d, Options{Unanchored: true, ReadOnly: true})
}

// Readers, writers and flushes at once: a reader never sees a block of two writes, nor one older than it saw before.
func TestConcurrent(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	v := create(t, newDisk(), Options{Anchor: newCounter(), CacheNodes: 2, DirtyNodes: 5})
	const writers, rounds, width = 3, 40, 90
	var wg, readers sync.WaitGroup
	done := make(chan struct{})
	for w := range int64(writers) {
		wg.Go(func() {
			for n := range byte(rounds) {
				off := w*width + int64(n)%7
				err := v.WriteAt(ctx, bytes.Repeat([]byte{n + 1}, (width-10)*BlockSize), off*BlockSize)
				if err == nil && n%5 == 0 {
					err = v.Flush(ctx)
				}
				if err != nil {
					t.Error(err)
					return
				}
				_, _, _ = v.Size(), v.ID(), v.Generation()
			}
		})
		readers.Go(func() {
			p, last := make([]byte, 3*BlockSize), byte(0)
			for ended := false; !ended; {
				select {
				case <-done:
					ended = true
				default:
				}
				err := v.ReadAt(ctx, p, (w*width+20)*BlockSize)
				if err != nil || !bytes.Equal(p, bytes.Repeat(p[:1], len(p))) && p[0] == p[2*BlockSize] || p[0] < last {
					t.Errorf("reads %d after %d (%v)", p[0], last, err)
					return
				}
				last = p[0]
			}
			if last != rounds {
				t.Errorf("the last write of %d is not there", w)
			}
		})
	}
	wg.Wait()
	close(done)
	readers.Wait()
	if err := v.Flush(ctx); err != nil {
		t.Error(err)
	}
	report, err := v.Verify(ctx, nil)
	if err != nil || report.Damaged > 0 {
		t.Errorf("%+v, %v", report, err)
	}
}

// One call fails, each in its turn, and whoever asked tries again: then all is well, unless it was the flush of the blocks,
// after which nothing is written and what was flushed before is there.
func TestOneFault(t *testing.T) {
	t.Parallel()
	for seed := range uint64(4) {
		for call := 1; ; call++ {
			m := &moody{disk: newDisk(), anchor: newCounter(), r: rand.New(rand.NewPCG(seed, uint64(call)))}
			o := Options{Anchor: m, CacheNodes: 1, DirtyNodes: 4}
			v := create(t, m, o)
			m.next = call
			model, acknowledged := make([]byte, small/BlockSize), make([]byte, small/BlockSize)
			for i, w := range []struct {
				first, n int
				fill     byte
			}{{0, 3, 1}, {200, 90, 2}, {1, 1, 3}, {0, 300, 0}, {130, 10, 4}, {1, 290, 5}, {5, 1, 6}} {
				p, off := bytes.Repeat([]byte{w.fill}, w.n*BlockSize), int64(w.first)*BlockSize
				_ = again(v, func() error { // what went wrong shows in what is read
					if w.fill == 0 {
						return v.Discard(t.Context(), int64(len(p)), off)
					}
					return v.WriteAt(t.Context(), p, off)
				})
				copy(model[w.first:], bytes.Repeat([]byte{w.fill}, w.n))
				if i%2 == 1 && again(v, func() error { return v.Flush(t.Context()) }) == nil {
					copy(acknowledged, model)
				}
			}
			err := again(v, func() error { return v.Flush(t.Context()) })
			got := fills(t, reopen(t, m.disk, Options{Anchor: m.anchor}))
			switch {
			case err == nil && bytes.Equal(got, model):
			case err != nil && v.broken != nil && bytes.Equal(got, acknowledged):
			default:
				t.Errorf("call %d: %v, and it holds %v", call, err, got)
			}
			if m.next > 0 { // there are no more calls
				if call < 30 {
					t.Errorf("only %d calls", call)
				}
				break
			}
		}
	}
}

// again does something until it succeeds, or twice more.
func again(v *Volume, do func() error) (err error) {
	for range 3 {
		if err = do(); err == nil || v.broken != nil {
			return err
		}
		if errors.Is(err, ErrUnfinished) {
			_ = v.Flush(context.Background()) // which is what completes it
		}
	}
	return err
}
