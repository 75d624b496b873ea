// SPDX-License-Identifier: Apache-2.0

package scratchfmt

import (
	"bytes"
	"compress/flate"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

func block(c byte) []byte { return bytes.Repeat([]byte{c}, BlockSize) }

func sample() *Template {
	return &Template{Size: 10 * BlockSize, Extents: []Extent{
		{Offset: 0, Data: append(block(1), block(2)...)},
		{Offset: 9 * BlockSize, Data: block(3)},
	}}
}

func marshal(t interface{ Fatal(...any) }, x *Template) []byte {
	var b bytes.Buffer
	if err := Write(&b, x); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestRoundTrip(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(r *rapid.T) {
		want := &Template{}
		for range rapid.IntRange(0, 5).Draw(r, "extents") {
			e := Extent{Offset: want.Size + BlockSize*rapid.Int64Range(0, 3).Draw(r, "gap")}
			for range rapid.IntRange(1, 3).Draw(r, "blocks") {
				e.Data = append(e.Data, block(rapid.Byte().Draw(r, "fill"))...)
			}
			want.Extents = append(want.Extents, e)
			want.Size = e.Offset + int64(len(e.Data))
		}
		want.Size += BlockSize
		got, err := Read(bytes.NewReader(marshal(r, want)))
		if err != nil {
			r.Fatal(err)
		}
		if diff := cmp.Diff(want.Extents, got.Extents, cmp.Comparer(bytes.Equal)); diff != "" && len(want.Extents) > 0 {
			r.Fatal(diff)
		}
		if got.Size != want.Size || got.Bytes() != want.Bytes() {
			r.Fatalf("size %d with %d bytes, want %d with %d", got.Size, got.Bytes(), want.Size, want.Bytes())
		}
	})
}

func TestFromImage(t *testing.T) {
	t.Parallel()
	image := bytes.Join([][]byte{block(1), block(0), block(2), block(3), block(0), block(4)}, nil)
	got, err := FromImage(bytes.NewReader(image), int64(len(image)), []Range{{0, 3 * BlockSize}, {3 * BlockSize, 2 * BlockSize}})
	if err != nil {
		t.Fatal(err)
	}
	want := &Template{Size: int64(len(image)), Extents: []Extent{
		{Offset: 0, Data: block(1)},
		{Offset: 2 * BlockSize, Data: append(block(2), block(3)...)}, // joined over the ranges' border; the last block is in none
	}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if _, err := FromImage(bytes.NewReader(image), int64(len(image)), []Range{{0, 7 * BlockSize}}); err == nil {
		t.Error("a range beyond the image was accepted")
	}
}

func TestWriteRefuses(t *testing.T) {
	t.Parallel()
	for name, x := range map[string]*Template{
		"no size":          {},
		"broken size":      {Size: BlockSize + 1},
		"immense size":     {Size: MaxSize + BlockSize},
		"empty extent":     {Size: BlockSize, Extents: []Extent{{}}},
		"half a block":     {Size: BlockSize, Extents: []Extent{{Data: block(1)[:100]}}},
		"unaligned":        {Size: 2 * BlockSize, Extents: []Extent{{Offset: 1, Data: block(1)}}},
		"beyond the end":   {Size: BlockSize, Extents: []Extent{{Offset: BlockSize, Data: block(1)}}},
		"negative offset":  {Size: BlockSize, Extents: []Extent{{Offset: -BlockSize, Data: block(1)}}},
		"overlap":          {Size: 2 * BlockSize, Extents: []Extent{{Data: block(1)}, {Data: block(1)}}},
		"descending":       {Size: 2 * BlockSize, Extents: []Extent{{Offset: BlockSize, Data: block(1)}, {Data: block(1)}}},
		"too many extents": {Size: MaxSize, Extents: make([]Extent, MaxExtents+1)},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if err := Write(&bytes.Buffer{}, x); !errors.Is(err, ErrFormat) {
				t.Errorf("got %v, want ErrFormat", err)
			}
		})
	}
}

// file builds a template file around a body, with a digest that fits.
func file(extents, size, data uint64, body []byte) []byte {
	b := []byte(magic)
	le := binary.LittleEndian
	b = le.AppendUint32(b, version)
	b = le.AppendUint32(b, uint32(extents))
	b = le.AppendUint64(b, size)
	b = le.AppendUint64(b, data)
	sum := sha256.Sum256(body)
	b = append(b, sum[:]...)
	var z bytes.Buffer
	w, _ := flate.NewWriter(&z, flate.BestSpeed) // the level is valid, so there is no error
	_, _ = w.Write(body)                         // to memory
	_ = w.Close()                                // the same
	return append(b, z.Bytes()...)
}

func TestReadRefuses(t *testing.T) {
	t.Parallel()
	good := marshal(t, sample())
	edit := func(f func(b []byte)) []byte { b := bytes.Clone(good); f(b); return b }
	records := func(v ...uint64) []byte {
		var b []byte
		for _, x := range v {
			b = binary.LittleEndian.AppendUint64(b, x)
		}
		return b
	}
	const bs = BlockSize
	for name, b := range map[string][]byte{
		"empty":             nil,
		"header cut":        good[:headerSize-1],
		"body missing":      good[:headerSize],
		"body cut":          good[:len(good)-6],
		"other magic":       edit(func(b []byte) { b[0] = 'X' }),
		"other version":     edit(func(b []byte) { b[8] = 2 }),
		"digest":            edit(func(b []byte) { b[40] ^= 1 }),
		"extents beyond":    edit(func(b []byte) { b[15] = 1 }),
		"size of zero":      edit(func(b []byte) { clear(b[16:24]) }),
		"data beyond":       edit(func(b []byte) { b[31] = 1 }),
		"fewer extents":     edit(func(b []byte) { b[12] = 1 }),
		"sum is false":      file(1, bs, 2*bs, append(records(0, bs), block(1)...)),
		"overlap":           file(2, 2*bs, 2*bs, append(records(0, bs, 0, bs), make([]byte, 2*bs)...)),
		"leaves the disk":   file(1, bs, bs, append(records(bs, bs), block(1)...)),
		"offset overflows":  file(1, bs, bs, append(records(1<<63, bs), block(1)...)),
		"length overflows":  file(1, bs, bs, append(records(0, 1<<63), block(1)...)),
		"empty extent":      file(1, bs, 0, records(0, 0)),
		"data missing":      file(1, bs, bs, records(0, bs)),
		"something follows": file(0, bs, 0, []byte{0}),
		"false length":      file(1, MaxSize, MaxDataBytes, records(0, MaxDataBytes)),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if _, err := Read(bytes.NewReader(b)); !errors.Is(err, ErrFormat) {
				t.Errorf("got %v, want ErrFormat", err)
			}
		})
	}
}

func TestClasses(t *testing.T) {
	t.Parallel()
	var last Class
	for _, c := range Classes() {
		if c.Room != 2*last.Room && last.Name != "" || c.Bytes <= c.Room || c.Bytes%BlockSize != 0 || c.DiskBytes()%BlockSize != 0 {
			t.Errorf("class %+v after %+v", c, last)
		}
		if got, ok := Smallest(c.Room); !ok || got != c {
			t.Errorf("Smallest(%d) = %+v, %v", c.Room, got, ok)
		}
		if got, ok := Smallest(last.Room + 1); !ok || got != c {
			t.Errorf("Smallest(%d) = %+v, %v", last.Room+1, got, ok)
		}
		if got, ok := Largest(c.Bytes); !ok || got != c {
			t.Errorf("Largest(%d) = %+v, %v", c.Bytes, got, ok)
		}
		last = c
	}
	if c, ok := Smallest(last.Room + 1); ok {
		t.Errorf("more than the largest has class %+v", c)
	}
	if c, ok := Largest(Classes()[0].Bytes - 1); ok {
		t.Errorf("a disk that is too small has class %+v", c)
	}
}

func FuzzRead(f *testing.F) {
	f.Add(marshal(f, sample()))
	f.Add(file(1, BlockSize, BlockSize, append(make([]byte, 16), block(1)...)))
	f.Fuzz(func(t *testing.T, b []byte) {
		x, err := Read(bytes.NewReader(b))
		if err != nil {
			return
		}
		if err := x.validate(); err != nil {
			t.Errorf("accepted what Write refuses: %v", err)
		}
	})
}
