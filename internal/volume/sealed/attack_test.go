// SPDX-License-Identifier: Apache-2.0

package sealed

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"cofferdam.dev/internal/verity"
)

// large is a tree whose volume has a tree of two levels: 6 leaves, and the top.
func large() fstest.MapFS { return files(3 << 20) }

// TestAttacks has the storage's owner do what he can. What is read afterwards is what was sealed, or an error.
func TestAttacks(t *testing.T) {
	t.Parallel()
	s, f := build(t, large(), Options{})
	want := plain(t, large(), f)
	data := uint64(f.Size) / BlockSize
	other, _ := build(t, large(), Options{})                       // another volume of the same content and key
	older, _ := build(t, files(3<<20-1), Options{ID: [16]byte{1}}) // another volume of the same size
	leaf, top := data+2, data+1
	for name, c := range map[string]struct {
		change  func(b []byte, at func(uint64) []byte)
		opens   bool
		damaged uint64 // as Verify has it
	}{
		"a bit of data":             {func(_ []byte, at func(uint64) []byte) { at(7)[5] ^= 1 }, true, 1},
		"the last bit of data":      {func(_ []byte, at func(uint64) []byte) { at(data - 1)[4095] ^= 0x80 }, true, 1},
		"a block of zeros":          {func(_ []byte, at func(uint64) []byte) { clear(at(300)) }, true, 1},
		"two blocks swapped":        {func(_ []byte, at func(uint64) []byte) { swap(at(3), at(400)) }, true, 2},
		"a block copied":            {func(_ []byte, at func(uint64) []byte) { copy(at(3), at(4)) }, true, 1},
		"a block of another volume": {func(_ []byte, at func(uint64) []byte) { copy(at(3), other.at(3)) }, true, 1},
		"a bit of a leaf":           {func(_ []byte, at func(uint64) []byte) { at(leaf)[0] ^= 1 }, true, 1},
		"leaves swapped":            {func(_ []byte, at func(uint64) []byte) { swap(at(leaf), at(leaf+1)) }, true, 2},
		"a leaf and its blocks, of another": {func(b []byte, at func(uint64) []byte) {
			copy(b, other.b[:fanOut*BlockSize])
			copy(at(leaf), other.at(leaf))
		}, true, 1},
		"the unused end of a leaf":            {func(_ []byte, at func(uint64) []byte) { at(leaf + 6)[4000] ^= 1 }, true, 1},
		"the superblock":                      {func(_ []byte, at func(uint64) []byte) { at(data)[100] ^= 1 }, true, 1},
		"the top":                             {func(_ []byte, at func(uint64) []byte) { at(top)[100] ^= 1 }, false, 1},
		"the top for a leaf":                  {func(_ []byte, at func(uint64) []byte) { copy(at(leaf), at(top)) }, true, 1},
		"the whole image of another volume":   {func(b []byte, _ func(uint64) []byte) { copy(b, other.b) }, false, 0},
		"the whole image of an older volume":  {func(b []byte, _ func(uint64) []byte) { copy(b, older.b) }, false, 0},
		"an older image with the tree of now": {func(b []byte, _ func(uint64) []byte) { copy(b, older.b[:data*BlockSize]) }, true, data},
		"zeros":                               {func(b []byte, _ func(uint64) []byte) { clear(b) }, false, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			bad := &storage{b: bytes.Clone(s.b)}
			c.change(bad.b, bad.at)
			d, err := Open(t.Context(), bad, testKey, f, OpenOptions{})
			if (err == nil) != c.opens || err != nil && !errors.Is(err, ErrDamaged) {
				t.Fatalf("opening: %v", err)
			}
			if !c.opens {
				return
			}
			honest(t, d, want)
			report, err := d.Verify(t.Context(), nil)
			if err != nil || report.Damaged != c.damaged || len(report.First) != int(min(c.damaged, maxNamed)) {
				t.Errorf("verifying: %+v, %v; want %d damaged", report, err, c.damaged)
			}
		})
	}
}

func swap(a, b []byte) {
	saved := slices.Clone(a)
	copy(a, b)
	copy(b, saved)
}

// honest reads every block, one at a time and all at once: it holds what was sealed, or there is an error.
func honest(t *testing.T, d *Device, want []byte) {
	t.Helper()
	failed := 0
	for off := 0; off < len(want); off += BlockSize {
		p := bytes.Repeat([]byte{0xa5}, BlockSize)
		err := d.ReadContext(t.Context(), p, int64(off))
		if err != nil && (!errors.Is(err, ErrDamaged) || bytes.Count(p, []byte{0}) != len(p)) {
			t.Errorf("at %d: %v, and %x…", off, err, p[:8])
		}
		if err == nil && !bytes.Equal(p, want[off:off+BlockSize]) {
			t.Errorf("at %d was read what was not sealed", off)
		}
		if err != nil {
			failed++
		}
	}
	p := bytes.Repeat([]byte{0xa5}, len(want))
	n, err := d.ReadAt(p, 0)
	if failed > 0 && (n != 0 || !errors.Is(err, ErrDamaged) || bytes.Count(p, []byte{0}) != len(p)) || failed == 0 && (err != nil || !bytes.Equal(p, want)) {
		t.Errorf("reading all: %d, %v, with %d blocks damaged", n, err, failed)
	}
}

// TestTruncated changes the size of an image.
func TestTruncated(t *testing.T) {
	t.Parallel()
	s, f := build(t, large(), Options{})
	for _, n := range []int{0, 1, BlockSize, len(s.b) - BlockSize, len(s.b) - 1, len(s.b) + 1, len(s.b) + BlockSize} {
		b := append(bytes.Clone(s.b), make([]byte, BlockSize)...)
		if _, err := Open(t.Context(), &storage{b: b[:n]}, testKey, f, OpenOptions{}); !errors.Is(err, ErrDamaged) {
			t.Errorf("%d bytes of %d: %v", n, len(s.b), err)
		}
	}
}

// TestOtherSecrets opens with what does not belong to the image.
func TestOtherSecrets(t *testing.T) {
	t.Parallel()
	s, f := build(t, large(), Options{})
	for name, change := range map[string]func(*Facts, *Key){
		"another key":  func(_ *Facts, k *Key) { k[31] ^= 1 },
		"another root": func(f *Facts, _ *Key) { f.Root[31] ^= 1 },
		"another ID":   func(f *Facts, _ *Key) { f.ID[15] ^= 1 },
	} {
		facts, key := f, testKey
		change(&facts, &key)
		if _, err := Open(t.Context(), s, key, facts, OpenOptions{}); !errors.Is(err, ErrDamaged) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := Open(t.Context(), s, Key{}, f, OpenOptions{}); err == nil {
		t.Error("no key at all opens it")
	}
}

// TestEveryByte flips bits all over a small image. Verify names the block; reading notices wherever data depend on it.
func TestEveryByte(t *testing.T) {
	t.Parallel()
	s, f := build(t, files(9000), Options{})
	want := plain(t, files(9000), f)
	step := 5 // so that every bit has its turn
	if testing.Short() {
		step = 37
	}
	for at := 0; at < len(s.b); at += step {
		s.b[at] ^= 1 << (at % 8)
		d, err := Open(t.Context(), s, testKey, f, OpenOptions{})
		if top := at/BlockSize == len(s.b)/BlockSize-1; top != (err != nil) {
			t.Fatalf("byte %d: opening: %v", at, err)
		}
		if err == nil {
			everyByte(t, d, want, at)
		}
		s.b[at] ^= 1 << (at % 8)
	}
}

func everyByte(t *testing.T, d *Device, want []byte, at int) {
	t.Helper()
	report, err := d.Verify(t.Context(), nil)
	if err != nil || report.Damaged != 1 {
		t.Fatalf("byte %d: verifying: %+v, %v", at, report, err)
	}
	p := make([]byte, len(want))
	_, err = d.ReadAt(p, 0)
	if (err == nil) != (at >= len(want)) || err == nil && !bytes.Equal(p, want) {
		t.Fatalf("byte %d: reading: %v", at, err)
	}
}

// TestChangedLater changes an open volume: what is in memory of the tree does not vouch for other data.
func TestChangedLater(t *testing.T) {
	t.Parallel()
	s, f := build(t, large(), Options{})
	d := mustOpen(t, s, f, OpenOptions{})
	p := make([]byte, BlockSize)
	if err := d.ReadContext(t.Context(), p, 0); err != nil {
		t.Fatal(err)
	}
	s.b[0] ^= 1
	if err := d.ReadContext(t.Context(), p, 0); !errors.Is(err, ErrDamaged) || !strings.Contains(err.Error(), "block 0:") {
		t.Errorf("reading what was changed: %v", err)
	}
	s.b[0] ^= 1
	clear(s.b[f.Size:]) // the tree, whose top and first leaf are in memory
	if err := d.ReadContext(t.Context(), p, 0); err != nil {
		t.Errorf("reading with the tree in memory: %v", err)
	}
	if err := d.ReadContext(t.Context(), p, fanOut*BlockSize); !errors.Is(err, ErrDamaged) {
		t.Errorf("reading under a leaf that is gone: %v", err)
	}
	report, err := d.Verify(t.Context(), nil)
	if err != nil || report.Damaged != 2 || report.Blocks != 0 {
		t.Errorf("verifying: %+v, %v; want the superblock and the top", report, err)
	}
}

// TestFacts has facts that no volume has. Nothing is read, nor memory taken, for them.
func TestFacts(t *testing.T) {
	t.Parallel()
	good := Facts{ID: [16]byte{1}, Size: 2 * BlockSize, Root: [32]byte{1}}
	s := &storage{}
	for name, change := range map[string]func(*Facts){
		"no ID": func(f *Facts) { f.ID = [16]byte{} }, "no root": func(f *Facts) { f.Root = [32]byte{} },
		"none": func(f *Facts) { *f = Facts{} }, "no data": func(f *Facts) { f.Size = 0 }, "negative": func(f *Facts) { f.Size = -BlockSize },
		"one block": func(f *Facts) { f.Size = BlockSize }, "odd": func(f *Facts) { f.Size++ }, "too large": func(f *Facts) { f.Size = MaxSize + BlockSize },
		"overflowing": func(f *Facts) { f.Size = 1<<63 - BlockSize },
	} {
		f := good
		change(&f)
		if _, err := Open(t.Context(), s, testKey, f, OpenOptions{}); !errors.Is(err, ErrFacts) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := Open(t.Context(), s, testKey, good, OpenOptions{CacheBlocks: -1}); err == nil || s.n != 0 {
		t.Errorf("a negative cache: %v, after %d reads", err, s.n)
	}
	good.Size = MaxSize
	if _, err := Open(t.Context(), s, testKey, good, OpenOptions{}); !errors.Is(err, ErrDamaged) || s.n != 0 {
		t.Errorf("an empty image of the largest volume: %v, after %d reads", err, s.n)
	}
	for _, size := range []int64{-1, 0, 1, BlockSize, MaxSize + BlockSize, 1<<63 - 1} {
		if n, err := ImageSize(size); !errors.Is(err, ErrFacts) || n != 0 {
			t.Errorf("the image of %d bytes has %d, %v", size, n, err)
		}
	}
	n, err := ImageSize(MaxSize)
	if want := int64(1<<32+1+1+16+1<<11+1<<18+1<<25) * BlockSize; n != want || err != nil {
		t.Errorf("the largest image has %d bytes, want %d: %v", n, want, err)
	}
}

// FuzzOpen opens images that are anything, with facts that are anything, and reads them: there is an error, since nobody
// finds what a digest is of.
func FuzzOpen(f *testing.F) {
	s, facts := build(f, files(9000), Options{ID: [16]byte{1}})
	f.Add(s.b, facts.Root[:], facts.Size, []byte{1})
	f.Add(s.b[:3*BlockSize], facts.Root[:], int64(BlockSize), []byte{1, 2})
	f.Add([]byte{}, []byte{}, int64(-1), []byte{})
	want := plain(f, files(9000), facts)
	f.Fuzz(func(t *testing.T, image, root []byte, size int64, id []byte) {
		var fs Facts
		fs.Size = size
		copy(fs.Root[:], root)
		copy(fs.ID[:], id)
		d, err := Open(t.Context(), &storage{b: image}, testKey, fs, OpenOptions{})
		if err != nil {
			return
		}
		if fs != facts {
			t.Fatalf("it opens with %+v", fs)
		}
		p := make([]byte, d.Size())
		if _, err := d.ReadAt(p, 0); err == nil && !bytes.Equal(p, want) {
			t.Fatal("it reads as something else")
		}
	})
}

// TestTreeInAnyOrder puts digests in any order, and in pieces of any size.
func TestTreeInAnyOrder(t *testing.T) {
	t.Parallel()
	const items = 20_000
	geo, err := newGeometry(items * BlockSize)
	if err != nil {
		t.Fatal(err)
	}
	s, err := newSealer(testKey, [16]byte{1})
	if err != nil {
		t.Fatal(err)
	}
	digests := make([]byte, items*verity.DigestSize)
	source := rand.NewChaCha8([32]byte{})
	_, _ = source.Read(digests) // never fails
	var first map[position][]byte
	for seed := range uint64(5) {
		r, got := rand.New(rand.NewPCG(1, seed)), map[position][]byte{}
		b := &builder{sealer: s}
		tr := tree{geo: &geo, open: map[position]*branch{}, digest: b.digest, emit: func(level int, index uint64, block []byte) error {
			if got[position{level, index}] != nil {
				t.Errorf("block %d of level %d comes twice", index, level)
			}
			got[position{level, index}] = bytes.Clone(block)
			return nil
		}}
		type piece struct{ from, to int }
		var pieces []piece
		for at := 0; at < items; {
			n := min(1+r.IntN(300), items-at)
			pieces = append(pieces, piece{at, at + n})
			at += n
		}
		if seed > 0 {
			r.Shuffle(len(pieces), func(i, j int) { pieces[i], pieces[j] = pieces[j], pieces[i] })
		}
		for i, p := range pieces {
			if _, err := tr.finish(); err == nil {
				t.Fatalf("it is finished after %d of %d pieces", i, len(pieces))
			}
			if err := tr.put(0, uint64(p.from), digests[p.from*verity.DigestSize:p.to*verity.DigestSize]); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := tr.finish(); err != nil || len(got) != 157+2+1 {
			t.Fatalf("it has %d blocks: %v", len(got), err)
		}
		if first == nil {
			first = got
		}
		for at, b := range got {
			if !bytes.Equal(b, first[at]) {
				t.Errorf("in another order %+v differs", at)
			}
		}
	}
}
