// SPDX-License-Identifier: Apache-2.0

package sealed

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"sync"
	"testing"
	"testing/fstest"

	"pgregory.net/rapid"

	"cofferdam.dev/internal/testcap"
	"cofferdam.dev/internal/volume/erofs"
)

func TestMain(m *testing.M) { os.Exit(testcap.NoLeaks(m)) }

// storage is an image in memory.
type storage struct {
	mu   sync.Mutex
	b    []byte
	fail error // what reads return
	n    int   // how many there were
}

func (s *storage) Size() int64 { return int64(len(s.b)) }

func (s *storage) ReadAt(_ context.Context, p []byte, off int64) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.n++
	if s.fail != nil {
		return 0, s.fail
	}
	return copy(p, s.b[off:]), nil
}

func (s *storage) WriteAt(p []byte, off int64) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fail != nil {
		return 0, s.fail
	}
	if grow := int(off) + len(p) - len(s.b); grow > 0 {
		s.b = append(s.b, make([]byte, grow)...)
	}
	return copy(s.b[off:], p), nil
}

// at is a block of the image.
func (s *storage) at(block uint64) []byte { return s.b[block*BlockSize:][:BlockSize] }

var testKey = Key{1, 2, 3}

// files is a tree with a file of a size.
func files(size int) fstest.MapFS {
	b := make([]byte, size)
	r := rand.NewChaCha8([32]byte{byte(size)})
	_, _ = r.Read(b) // never fails
	return fstest.MapFS{"data": {Data: b, Mode: 0o644}, "dir/note": {Data: []byte("a note"), Mode: 0o600}}
}

// plain is the filesystem that a volume should show.
func plain(t testing.TB, tree fstest.MapFS, f Facts) []byte {
	t.Helper()
	p, err := erofs.NewPlan(t.Context(), tree, erofs.Options{UUID: f.ID})
	if err != nil {
		t.Fatal(err)
	}
	s := &storage{}
	if err := p.Write(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	return s.b
}

func build(t testing.TB, tree fstest.MapFS, o Options) (*storage, Facts) {
	t.Helper()
	s := &storage{}
	f, err := Build(t.Context(), tree, s, testKey, o)
	if err != nil {
		t.Fatal(err)
	}
	if want, err := ImageSize(f.Size); err != nil || want != s.Size() {
		t.Fatalf("the image has %d bytes, want %d: %v", s.Size(), want, err)
	}
	return s, f
}

func mustOpen(t testing.TB, s Source, f Facts, o OpenOptions) *Device {
	t.Helper()
	d, err := Open(t.Context(), s, testKey, f, o)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// short skips what takes long.
func short(t *testing.T, size int) {
	t.Helper()
	if testing.Short() && size > 16<<20 {
		t.Skip("takes more than two seconds")
	}
}

// TestReads reads volumes with trees of one, two and three levels anyhow.
func TestReads(t *testing.T) {
	t.Parallel()
	for name, size := range map[string]int{"one level": 100_000, "full level": 126 * BlockSize, "two levels": 3 << 20, "three levels": 65 << 20} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			short(t, size)
			tree := files(size)
			s, f := build(t, tree, Options{})
			want := plain(t, tree, f)
			if f.Size != int64(len(want)) {
				t.Fatalf("the device has %d bytes, want %d", f.Size, len(want))
			}
			for _, cache := range []int{0, 1} {
				d := mustOpen(t, s, f, OpenOptions{CacheBlocks: cache})
				got := make([]byte, len(want))
				if n, err := d.ReadAt(got, 0); n != len(got) || err != nil || !bytes.Equal(got, want) {
					t.Fatalf("reading all: %d, %v", n, err)
				}
				rapid.Check(t, func(r *rapid.T) {
					off := rapid.IntRange(0, len(want)+2).Draw(r, "offset")
					n := rapid.OneOf(rapid.IntRange(0, 10_000), rapid.IntRange(0, 2<<20)).Draw(r, "length")
					p := bytes.Repeat([]byte{0xa5}, n)
					got, err := d.ReadAt(p, int64(off))
					end := max(0, min(n, len(want)-off))
					if got != end || (err == nil) != (end == n) || err != nil && !errors.Is(err, io.EOF) || end > 0 && !bytes.Equal(p[:end], want[off:off+end]) {
						r.Fatalf("reading %d bytes at %d: %d, %v", n, off, got, err)
					}
				})
			}
			report, err := mustOpen(t, s, f, OpenOptions{CacheBlocks: 1}).Verify(t.Context(), nil)
			if err != nil || report.Damaged != 0 || report.Blocks != uint64(f.Size)/BlockSize {
				t.Errorf("verifying: %+v, %v", report, err)
			}
		})
	}
}

func TestRange(t *testing.T) {
	t.Parallel()
	s, f := build(t, files(100), Options{})
	d := mustOpen(t, s, f, OpenOptions{})
	for _, off := range []int64{-1, f.Size, f.Size - 9, 1<<63 - 1, -1 << 63} {
		if err := d.ReadContext(t.Context(), make([]byte, 10), off); !errors.Is(err, ErrRange) {
			t.Errorf("at %d: %v", off, err)
		}
	}
	if _, err := d.ReadAt(make([]byte, 10), -1); !errors.Is(err, ErrRange) {
		t.Errorf("before the beginning: %v", err)
	}
}

// TestManyReaders reads from many goroutines through a cache that holds next to nothing.
func TestManyReaders(t *testing.T) {
	t.Parallel()
	tree := files(5 << 20)
	s, f := build(t, tree, Options{})
	want := plain(t, tree, f)
	d := mustOpen(t, s, f, OpenOptions{CacheBlocks: 3})
	var work sync.WaitGroup
	for i := range 8 {
		work.Go(func() {
			r := rand.New(rand.NewPCG(1, uint64(i)))
			p := make([]byte, 300_000)
			for range 40 {
				off := r.IntN(len(want) - len(p))
				if _, err := d.ReadAt(p, int64(off)); err != nil || !bytes.Equal(p, want[off:off+len(p)]) {
					t.Errorf("at %d: %v", off, err)
				}
			}
		})
	}
	work.Wait()
	if n := len(d.cache.by); n > 3 || d.cache.order.Len() != n {
		t.Errorf("the cache has %d blocks, may have 3", n)
	}
}

// TestSame makes a volume again, and one of the same content with another ID.
func TestSame(t *testing.T) {
	t.Parallel()
	tree, o := files(1<<20), Options{ID: [16]byte{9}}
	a, fa := build(t, tree, o)
	b, fb := build(t, tree, o)
	if fa != fb || !bytes.Equal(a.b, b.b) {
		t.Error("made again it differs")
	}
	c, fc := build(t, tree, Options{})
	if fc.ID == fa.ID || fc.Root == fa.Root || len(c.b) != len(a.b) {
		t.Errorf("another volume has %+v", fc)
	}
	for i := range uint64(len(a.b) / BlockSize) {
		if bytes.Equal(a.at(i), c.at(i)) {
			t.Errorf("block %d is the same in two volumes", i)
		}
	}
	seen := map[string]bool{} // of a file of zeros
	z, _ := build(t, fstest.MapFS{"zeros": {Data: make([]byte, 1<<20)}}, Options{})
	for i := range uint64(len(z.b) / BlockSize) {
		if seen[string(z.at(i))] {
			t.Errorf("block %d is the same as another one", i)
		}
		seen[string(z.at(i))] = true
	}
}

func TestProgress(t *testing.T) {
	t.Parallel()
	var last, total int64
	s, f := build(t, files(3<<20), Options{Progress: func(done, of int64) {
		if done <= last || done > of {
			t.Errorf("%d of %d follows %d", done, of, last)
		}
		last, total = done, of
	}})
	if last != s.Size() || total != s.Size() {
		t.Errorf("in the end it was %d of %d, want %d", last, total, s.Size())
	}
	last = 0
	_, err := mustOpen(t, s, f, OpenOptions{}).Verify(t.Context(), func(done, of int64) { last, total = done, of })
	if err != nil || last != f.Size || total != f.Size {
		t.Errorf("in the end it was %d of %d, want %d: %v", last, total, f.Size, err)
	}
}

// TestBuildFails has the storage, the context, the tree and the key be bad.
func TestBuildFails(t *testing.T) {
	t.Parallel()
	full := errors.New("the disk is full")
	if _, err := Build(t.Context(), files(3<<20), &storage{fail: full}, testKey, Options{}); !errors.Is(err, full) {
		t.Errorf("a full disk: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	_, err := Build(ctx, files(30<<20), &storage{}, testKey, Options{Progress: func(int64, int64) { cancel() }})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("canceled: %v", err)
	}
	if _, err := Build(t.Context(), files(1), &storage{}, Key{}, Options{}); err == nil {
		t.Error("there is a volume without a key")
	}
	if _, err := Build(t.Context(), fstest.MapFS{"a": {Mode: 1 << 19}}, &storage{}, testKey, Options{}); err == nil {
		t.Error("there is a volume of a file that no image can have")
	}
}

// TestStorageFails tells a storage that does not answer from one that lies.
func TestStorageFails(t *testing.T) {
	t.Parallel()
	s, f := build(t, files(3<<20), Options{})
	d := mustOpen(t, s, f, OpenOptions{})
	away := errors.New("the storage is away")
	s.fail = away
	p := bytes.Repeat([]byte{1}, 9999)
	if n, err := d.ReadAt(p, 5); n != 0 || !errors.Is(err, away) || errors.Is(err, ErrDamaged) || bytes.Count(p, []byte{0}) != len(p) {
		t.Errorf("reading: %d, %v", n, err)
	}
	if _, err := d.Verify(t.Context(), nil); !errors.Is(err, away) {
		t.Errorf("verifying: %v", err)
	}
	if _, err := Open(t.Context(), s, testKey, f, OpenOptions{}); !errors.Is(err, away) || errors.Is(err, ErrDamaged) {
		t.Errorf("opening: %v", err)
	}
	s.fail = nil
	if err := d.ReadContext(t.Context(), p, 5); err != nil {
		t.Errorf("when it is back: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := d.Verify(ctx, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("verifying, canceled: %v", err)
	}
}

// TestNoAllocation reads what is large, with what is needed of the tree in memory.
func TestNoAllocation(t *testing.T) {
	s, f := build(t, files(4<<20), Options{})
	d := mustOpen(t, s, f, OpenOptions{})
	p := make([]byte, 1<<20)
	read := func() {
		if err := d.ReadContext(t.Context(), p, 0); err != nil {
			t.Error(err)
		}
	}
	read()
	// A few for the goroutines; pools may give their content back at any garbage collection. There are 256 blocks.
	if n := testing.AllocsPerRun(20, read); n > 64 {
		t.Errorf("%v allocations", n)
	}
}

func TestKeysDoNotShow(t *testing.T) {
	t.Parallel()
	keys, err := Derive(testKey, [16]byte{1})
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range []any{testKey, &testKey, keys, &keys, struct{ K Key }{testKey}} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%x", "%s", "%d"} {
			if s := fmt.Sprintf(verb, v); !bytes.Contains([]byte(s), []byte(redacted)) {
				t.Errorf("%s of %T is %s", verb, v, s)
			}
		}
	}
}
