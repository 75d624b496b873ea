// SPDX-License-Identifier: Apache-2.0

package attach

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"cofferdam.dev/internal/volume/anchor"
	"cofferdam.dev/internal/volume/blob"
	"cofferdam.dev/internal/volume/descriptor"
	"cofferdam.dev/internal/volume/luks2"
	"cofferdam.dev/internal/volume/shadow"
)

var secret = bytes.Repeat([]byte("0123456789abcdef"), 2)

const testSize = 1 << 20

// owner is somebody who made a volume.
type owner struct {
	path    string
	d       *descriptor.Descriptor
	key     descriptor.Key
	records *anchor.Dir
}

func newOwner(t testing.TB, kind descriptor.Kind, anchored bool) *owner {
	t.Helper()
	dir := t.TempDir()
	o := &owner{path: filepath.Join(dir, "image")}
	n := New{Kind: kind, Size: testSize, Anchor: descriptor.Anchor{Kind: descriptor.NoAnchor}, Now: time.Unix(1.8e9, 0),
		Openers: []Opener{{descriptor.Slot{Kind: descriptor.FileSlot}, secret}}}
	if anchored {
		var err error
		if o.records, err = anchor.NewDir(filepath.Join(dir, "anchors")); err != nil {
			t.Fatal(err)
		}
		n.Anchor.Kind, n.Records = descriptor.FileAnchor, o.records
	}
	size, err := n.ImageSize()
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.Create(o.path)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(f.Truncate(size), f.Close()); err != nil {
		t.Fatal(err)
	}
	if o.d, o.key, err = Create(t.Context(), o.path, n); err != nil {
		t.Fatal(err)
	}
	return o
}

// open opens the volume; change may change how.
func (o *owner) open(t testing.TB, write bool, change func(*Options)) (*Volume, error) {
	t.Helper()
	src, err := blob.Open(t.Context(), o.path, blob.Options{Write: write})
	if err != nil {
		t.Fatal(err)
	}
	opts := Options{Descriptor: o.d, Key: o.key, Write: write}
	if o.records != nil {
		opts.Anchor = o.records
	}
	if change != nil {
		change(&opts)
	}
	v, err := Open(t.Context(), src, opts)
	if err != nil {
		return nil, errors.Join(err, src.Close())
	}
	return v, nil
}

func (o *owner) write(t testing.TB, b byte) {
	t.Helper()
	v, err := o.open(t, true, nil)
	if err != nil {
		t.Fatal(err)
	}
	err = v.WriteAt(t.Context(), bytes.Repeat([]byte{b}, 2*4096), 4096)
	if err := errors.Join(err, v.Close(t.Context())); err != nil {
		t.Fatal(err)
	}
}

func (o *owner) read(t testing.TB) byte {
	t.Helper()
	v, err := o.open(t, false, nil)
	if err != nil {
		t.Fatal(err)
	}
	p := make([]byte, 4096)
	err = v.ReadAt(t.Context(), p, 8192)
	if err := errors.Join(err, v.Close(t.Context())); err != nil {
		t.Fatal(err)
	}
	return p[7]
}

func TestKinds(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		kind     descriptor.Kind
		anchored bool
	}{{descriptor.LUKS2, false}, {descriptor.Shadow, false}, {descriptor.Shadow, true}} {
		o := newOwner(t, c.kind, c.anchored)
		o.write(t, 7)
		if got := o.read(t); got != 7 {
			t.Errorf("%+v: read %d", c, got)
		}
		v, err := o.open(t, false, nil)
		if err != nil {
			t.Fatal(err)
		}
		f := v.Facts
		if f.Kind != c.kind || f.ID != o.d.UUID() || f.Size != testSize || f.Writable || f.Anchored != c.anchored || !f.Pinned ||
			f.Authenticated != (c.kind == descriptor.Shadow) || (len(f.Warnings) == 0) != c.anchored {
			t.Errorf("%+v", f)
		}
		if err := v.WriteAt(t.Context(), make([]byte, 4096), 0); err == nil {
			t.Errorf("%+v: a volume that is only read is written", c)
		}
		if err := v.Close(t.Context()); err != nil {
			t.Error(err)
		}
		raw, err := os.ReadFile(o.path)
		if err != nil || bytes.Contains(raw, bytes.Repeat([]byte{7}, 64)) || bytes.Contains(raw, o.key.Expose()) {
			t.Errorf("%+v: the image shows what is in it (%v)", c, err)
		}
	}
}

// What whoever keeps storage and descriptor can try, and what becomes of it.
func TestAttacks(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		kind     descriptor.Kind
		anchored bool
		attack   func(*testing.T, *owner) func(*Options)
		want     error
	}{
		"no descriptor": {descriptor.Shadow, false, func(*testing.T, *owner) func(*Options) { return func(o *Options) { o.Descriptor = nil } }, nil},
		"another key": {descriptor.Shadow, false, func(t *testing.T, o *owner) func(*Options) {
			other := newOwner(t, descriptor.Shadow, false)
			return func(opts *Options) { opts.Key = other.key }
		}, descriptor.ErrChanged},
		"the zero key": {descriptor.LUKS2, false, func(*testing.T, *owner) func(*Options) { return func(o *Options) { o.Key = descriptor.Key{} } }, descriptor.ErrKey},
		"the descriptor's anchor taken away": {descriptor.Shadow, true, func(_ *testing.T, o *owner) func(*Options) {
			o.d.Anchor.Kind, o.records = descriptor.NoAnchor, nil
			return nil
		}, descriptor.ErrChanged},
		"no anchor given": {descriptor.Shadow, true, func(_ *testing.T, o *owner) func(*Options) { o.records = nil; return nil }, ErrAnchorMissing},
		"an empty anchor": {descriptor.Shadow, true, func(t *testing.T, o *owner) func(*Options) {
			o.records, _ = anchor.NewDir(t.TempDir())
			return nil
		}, shadow.ErrNoRecord},
		"the image put back": {descriptor.Shadow, true, func(t *testing.T, o *owner) func(*Options) {
			old := readAll(t, o.path)
			o.write(t, 2)
			writeAll(t, o.path, old)
			return nil
		}, shadow.ErrRolledBack},
		"another volume of this owner": {descriptor.Shadow, true, func(t *testing.T, o *owner) func(*Options) {
			other := newOwner(t, descriptor.Shadow, true)
			writeAll(t, o.path, readAll(t, other.path))
			return nil
		}, shadow.ErrNoVolume},
		"a block changed": {descriptor.Shadow, false, func(t *testing.T, o *owner) func(*Options) {
			b := readAll(t, o.path)
			b[100] ^= 1 // of a superblock
			b[4096+100] ^= 1
			writeAll(t, o.path, b)
			return nil
		}, shadow.ErrNoVolume},
		"the image cut": {descriptor.Shadow, false, func(t *testing.T, o *owner) func(*Options) {
			writeAll(t, o.path, make([]byte, 8192))
			return nil
		}, shadow.ErrNoVolume},
		"a header of a stranger": {descriptor.LUKS2, false, func(t *testing.T, o *owner) func(*Options) {
			other := newOwner(t, descriptor.LUKS2, false)
			writeAll(t, o.path, readAll(t, other.path))
			return nil
		}, luks2.ErrPin},
		"a header with another sector size": {descriptor.LUKS2, false, func(t *testing.T, o *owner) func(*Options) {
			f, err := os.OpenFile(o.path, os.O_RDWR, 0)
			if err != nil {
				t.Fatal(err)
			}
			key, err := luks2.NewVolumeKey(o.key.Expose())
			if err == nil {
				_, err = luks2.Format(f, DataOffset+testSize, key, luks2.FormatOptions{UUID: o.d.UUID(), SectorSize: 512, DataSize: testSize})
			}
			if err := errors.Join(err, f.Close()); err != nil {
				t.Fatal(err)
			}
			return nil
		}, luks2.ErrPin},
		"no volume at all": {descriptor.LUKS2, false, func(t *testing.T, o *owner) func(*Options) {
			writeAll(t, o.path, make([]byte, 1<<20))
			return nil
		}, luks2.ErrFormat},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := newOwner(t, c.kind, c.anchored)
			o.write(t, 1)
			change := c.attack(t, o)
			for _, write := range []bool{false, true} {
				v, err := o.open(t, write, change)
				if err == nil || c.want != nil && !errors.Is(err, c.want) {
					t.Errorf("%v, want %v", err, c.want)
				}
				if v != nil {
					_ = v.Close(t.Context())
				}
			}
		})
	}
}

// A volume is opened without its anchor only by the name that says so, and then tells.
func TestWithoutAnchor(t *testing.T) {
	t.Parallel()
	o := newOwner(t, descriptor.Shadow, true)
	old := readAll(t, o.path)
	o.write(t, 2)
	writeAll(t, o.path, old)
	v, err := o.open(t, false, func(o *Options) { o.WithoutAnchor = true })
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = v.Close(t.Context()) }()
	if v.Facts.Anchored || len(v.Facts.Warnings) != 1 {
		t.Errorf("%+v", v.Facts)
	}
	before := readAll(t, o.path)
	if _, err := o.open(t, true, func(o *Options) { o.WithoutAnchor = true }); !errors.Is(err, shadow.ErrAnchorNeeded) {
		t.Errorf("it is opened to be written: %v", err)
	}
	if !bytes.Equal(readAll(t, o.path), before) {
		t.Error("it was written")
	}
}

// Another volume under the same key is refused before it is written, also where no anchor would notice.
func TestAnotherVolumeIsNotWritten(t *testing.T) {
	t.Parallel()
	for name, size := range map[string]int64{"as large": testSize, "larger": 2 * testSize} {
		o := newOwner(t, descriptor.Shadow, false)
		image, err := shadow.ImageSize(size, 0)
		if err := errors.Join(err, os.Truncate(o.path, 0), os.Truncate(o.path, image)); err != nil {
			t.Fatal(err)
		}
		f, err := blob.OpenFile(o.path, true)
		if err != nil {
			t.Fatal(err)
		}
		b, err := newBlocks(f, true)
		if err == nil {
			_, err = shadow.Create(t.Context(), b, shadow.Key(o.key.Expose()), size, 0, shadow.Options{Unanchored: true})
		}
		if err := errors.Join(err, f.Close()); err != nil {
			t.Fatal(err)
		}
		before := readAll(t, o.path)
		for _, write := range []bool{false, true} {
			if _, err := o.open(t, write, nil); !errors.Is(err, ErrMismatch) {
				t.Errorf("%s: %v, want %v", name, err, ErrMismatch)
			}
		}
		if !bytes.Equal(readAll(t, o.path), before) {
			t.Errorf("%s: it was written", name)
		}
	}
}

// The original's volumes are opened by their passphrase alone, with warnings.
func TestWithoutPin(t *testing.T) {
	t.Parallel()
	o := newOwner(t, descriptor.LUKS2, false)
	o.write(t, 9)
	for _, tc := range []struct {
		secret []byte
		want   error
	}{{secret, nil}, {[]byte("another secret"), luks2.ErrKey}} {
		src, err := blob.Open(t.Context(), o.path, blob.Options{})
		if err != nil {
			t.Fatal(err)
		}
		v, err := OpenLUKS2WithoutPin(t.Context(), src, tc.secret, false)
		if !errors.Is(err, tc.want) {
			t.Errorf("%v, want %v", err, tc.want)
		}
		if v == nil {
			_ = src.Close()
			continue
		}
		p := make([]byte, 4096)
		if err := v.ReadAt(t.Context(), p, 4096); err != nil || p[0] != 9 {
			t.Errorf("read %d (%v)", p[0], err)
		}
		if v.Facts.Pinned || v.Facts.Authenticated || len(v.Facts.Warnings) != 2 {
			t.Errorf("%+v", v.Facts)
		}
		if err := v.Close(t.Context()); err != nil {
			t.Error(err)
		}
	}
	src, err := blob.Open(t.Context(), o.path, blob.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = src.Close() }()
	d, err := Describe(t.Context(), src, []Opener{{descriptor.Slot{Kind: descriptor.FileSlot}, secret}}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	if o.d = d; o.read(t) != 9 || d.Slots[0].KeySlot == nil || *d.Slots[0].KeySlot != 0 {
		t.Errorf("what was described does not open, or has no key slot: %+v", d.Slots)
	}
	other := []Opener{{descriptor.Slot{Kind: descriptor.FileSlot}, bytes.Repeat([]byte{1}, 32)}}
	if _, err := Describe(t.Context(), src, other, time.Now()); !errors.Is(err, luks2.ErrKey) {
		t.Errorf("described with another secret: %v", err)
	}
}

func readAll(t testing.TB, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func writeAll(t testing.TB, path string, b []byte) {
	t.Helper()
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
}
