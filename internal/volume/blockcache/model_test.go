// SPDX-License-Identifier: Apache-2.0

package blockcache_test

import (
	"bytes"
	"context"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"cofferdam.dev/internal/volume/blockcache"
)

// TestLikeAFile compares a cache with a slice: whatever is read, written and flushed, in whatever order.
func TestLikeAFile(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		size := rapid.IntRange(1, 40*4096).Draw(t, "size")
		m := &memory{data: pattern(size)}
		model := bytes.Clone(m.data)
		o := small
		o.Retry = quick(time.Minute)
		c, err := blockcache.Open(m, o)
		if err != nil {
			t.Fatal(err)
		}
		for range rapid.IntRange(1, 40).Draw(t, "steps") {
			off := rapid.IntRange(0, size-1).Draw(t, "off")
			n := rapid.IntRange(0, min(size-off, 20000)).Draw(t, "n")
			switch rapid.IntRange(0, 5).Draw(t, "what") {
			case 0, 1:
				p := make([]byte, n)
				if _, err := c.ReadAt(context.Background(), p, int64(off)); err != nil {
					t.Fatal(err)
				}
				if !bytes.Equal(p, model[off:off+n]) {
					t.Fatalf("reading %d bytes at %d returned something else", n, off)
				}
			case 2, 3, 4:
				p := bytes.Repeat([]byte{byte(rapid.IntRange(0, 255).Draw(t, "byte"))}, n)
				if err := c.WriteAt(context.Background(), p, int64(off)); err != nil {
					t.Fatal(err)
				}
				copy(model[off:], p)
			case 5:
				if err := c.Flush(context.Background()); err != nil {
					t.Fatal(err)
				}
				if !bytes.Equal(m.content(), model) {
					t.Fatal("after a flush the storage has something else")
				}
			}
			if s := c.Stats(); s.CachedBytes > o.MaxBytes {
				t.Fatalf("%d bytes are in memory, of %d", s.CachedBytes, o.MaxBytes)
			}
		}
		if err := c.Close(); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(m.content(), model) {
			t.Fatal("after closing the storage has something else")
		}
	})
}

// TestManyAtOnce has many readers and writers share little memory, while one request in three fails for now.
func TestManyAtOnce(t *testing.T) {
	t.Parallel()
	const area, writers = 64 << 10, 6
	m := &memory{data: pattern(area * (writers + 1))}
	var mu sync.Mutex
	r := rand.New(rand.NewPCG(1, 2))
	fails := func(context.Context, int64, int) error {
		mu.Lock()
		defer mu.Unlock()
		if r.IntN(3) == 0 {
			return errNow
		}
		return nil
	}
	m.onRead, m.onWrite = fails, fails
	still := bytes.Clone(m.data[area*writers:])
	c := open(t, m, small)

	var all sync.WaitGroup
	want := make([][]byte, writers)
	for w := range writers {
		base := area * w
		want[w] = bytes.Clone(m.data[base : base+area])
		all.Go(func() { writer(t, c, want[w], base, uint64(w)) })
		all.Go(func() { reader(t, c, still, area*writers, uint64(w)) })
	}
	all.Wait()
	if err := c.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(m.content()[:area*writers], bytes.Join(want, nil)) {
		t.Error("the storage has something else than what was written last")
	}
	if s := c.Stats(); s.Retries == 0 || s.Failures != 0 || s.UnsavedBytes != 0 || s.CachedBytes > small.MaxBytes {
		t.Errorf("counts are %+v", s)
	}
}

// writer writes into an area of its own, and reads it back.
func writer(t *testing.T, c *blockcache.Cache, model []byte, base int, seed uint64) {
	r := rand.New(rand.NewPCG(3, seed))
	for i := range 150 {
		off := r.IntN(len(model))
		n := r.IntN(min(len(model)-off, 9000) + 1)
		p := bytes.Repeat([]byte{byte(i)}, n)
		if err := c.WriteAt(t.Context(), p, int64(base+off)); err != nil {
			t.Error(err)
			return
		}
		copy(model[off:], p)
		got := make([]byte, n)
		if _, err := c.ReadAt(t.Context(), got, int64(base+off)); err != nil || !bytes.Equal(got, p) {
			t.Errorf("what was just written reads back as something else: %v", err)
			return
		}
		if i%20 == 0 {
			if err := c.Flush(t.Context()); err != nil {
				t.Error(err)
				return
			}
		}
	}
}

// reader reads what nobody writes, in order and not.
func reader(t *testing.T, c *blockcache.Cache, model []byte, base int, seed uint64) {
	r := rand.New(rand.NewPCG(4, seed))
	off := 0
	for range 150 {
		if r.IntN(4) == 0 {
			off = r.IntN(len(model))
		}
		n := min(len(model)-off, r.IntN(9000)+1)
		p := make([]byte, n)
		if _, err := c.ReadAt(t.Context(), p, int64(base+off)); err != nil || !bytes.Equal(p, model[off:off+n]) {
			t.Errorf("reading %d bytes at %d returned something else: %v", n, off, err)
			return
		}
		off = (off + n) % len(model)
	}
}
