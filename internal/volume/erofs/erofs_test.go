// SPDX-License-Identifier: Apache-2.0

package erofs

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"math/rand/v2"
	"path"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// tree is a tree in memory with extended attributes.
type tree struct {
	fstest.MapFS
	xattrs map[string][]Xattr
}

func (t tree) Xattrs(name string) ([]Xattr, error) { return t.xattrs[name], nil }

var epoch = time.Unix(1_700_000_000, 123_456_789)

// dirFile is an entry of a tree for a directory.
func dirFile() *fstest.MapFile {
	return &fstest.MapFile{Mode: fs.ModeDir | 0o755, ModTime: epoch, Sys: &Stat{}}
}

// randomTree draws a tree in which every way to lie in an image occurs.
func randomTree(r *rapid.T) tree {
	t := tree{fstest.MapFS{".": dirFile()}, map[string][]Xattr{}}
	dirs := []string{"."}
	sizes := rapid.OneOf(rapid.IntRange(0, 100), rapid.IntRange(3900, 4200), rapid.IntRange(8000, 8300), rapid.IntRange(0, 20_000), rapid.Just(600_000))
	names := rapid.OneOf(rapid.StringMatching(`[!-.0-~]{1,8}`), rapid.StringMatching(`[a-z0-9äß]{1,120}`))
	for n := range rapid.IntRange(0, 60).Draw(r, "files") {
		name := names.Draw(r, "name")
		if name == "." || name == ".." {
			continue
		}
		name = path.Join(rapid.SampledFrom(dirs).Draw(r, "directory"), name)
		if t.MapFS[name] != nil {
			continue
		}
		f := &fstest.MapFile{
			Mode:    fs.FileMode(rapid.Uint32Range(0, 0o777).Draw(r, "mode")),
			ModTime: rapid.SampledFrom([]time.Time{epoch, epoch, epoch.Add(-time.Hour), time.Unix(1, 0)}).Draw(r, "time"),
			Sys:     &Stat{UID: rapid.Uint32().Draw(r, "uid") >> (n % 32), GID: rapid.Uint32().Draw(r, "gid") >> (n % 32)},
		}
		switch rapid.IntRange(0, 9).Draw(r, "kind") {
		case 0, 1:
			f.Mode |= fs.ModeDir
			dirs = append(dirs, name)
		case 2:
			f.Mode, f.Data = fs.ModeSymlink|0o777, []byte(strings.Repeat("x", rapid.IntRange(1, 4095).Draw(r, "target")))
		case 3:
			f.Mode |= fs.ModeDevice
			f.Sys.(*Stat).Major, f.Sys.(*Stat).Minor = 0xfff&rapid.Uint32().Draw(r, "major"), 0xfffff&rapid.Uint32().Draw(r, "minor")
		case 4:
			f.Mode |= rapid.SampledFrom([]fs.FileMode{fs.ModeNamedPipe, fs.ModeSocket, fs.ModeDevice | fs.ModeCharDevice}).Draw(r, "special")
		default:
			f.Mode |= rapid.SampledFrom([]fs.FileMode{0, fs.ModeSetuid, fs.ModeSetgid, fs.ModeSticky}).Draw(r, "bits")
			f.Data = noise(sizes.Draw(r, "size"))
			if rapid.IntRange(0, 3).Draw(r, "linked") == 0 {
				f.Sys.(*Stat).Link = Link{1, uint64(n)}
				linked := path.Join(rapid.SampledFrom(dirs).Draw(r, "link in"), fmt.Sprintf("link-%d", n))
				t.MapFS[linked] = f
			}
		}
		t.MapFS[name] = f
		if rapid.IntRange(0, 3).Draw(r, "has attributes") == 0 && (f.Sys.(*Stat).Link == Link{}) {
			t.xattrs[name] = randomXattrs(r)
		}
	}
	return t
}

func randomXattrs(r *rapid.T) []Xattr {
	all := map[string][]byte{}
	for range rapid.IntRange(1, 4).Draw(r, "attributes") {
		name := rapid.SampledFrom([]string{"user.", "trusted.", "security.", aclAccess, aclDefault}).Draw(r, "prefix")
		if strings.HasSuffix(name, ".") {
			name += rapid.StringMatching(`[a-z]{1,20}`).Draw(r, "attribute")
		}
		all[name] = noise(rapid.SampledFrom([]int{0, 1, 20, 3000, 60_000}).Draw(r, "value"))
	}
	var out []Xattr
	for name, value := range all {
		out = append(out, Xattr{name, value})
	}
	slices.SortFunc(out, func(a, b Xattr) int { return strings.Compare(a.Name, b.Name) })
	return out
}

func noise(n int) []byte {
	b := make([]byte, n)
	r := rand.NewChaCha8([32]byte{byte(n), byte(n >> 8)})
	_, _ = r.Read(b) // never fails
	return b
}

// want is what the reader should find of a tree, without places.
func want(t tree) map[string]file {
	out := map[string]file{}
	names := map[Link]uint32{}
	for _, f := range t.MapFS {
		names[f.Sys.(*Stat).Link]++
	}
	for name, f := range t.MapFS {
		mode, err := unixMode(f.Mode)
		if err != nil {
			panic(err)
		}
		s := f.Sys.(*Stat)
		w := file{
			Mode: mode, UID: s.UID, GID: s.GID, Links: 1, Seconds: f.ModTime.Unix(), Nanoseconds: uint32(f.ModTime.Nanosecond()),
			Size: int64(len(f.Data)), Content: string(f.Data), Xattrs: t.xattrs[name],
		}
		if s.Link != (Link{}) {
			w.Links = names[s.Link]
		}
		if f.Mode&fs.ModeDevice != 0 {
			w.Dev = s.Minor&0xff | s.Major<<8 | s.Minor>>8<<20
		}
		if name != "." {
			name = "./" + name
		}
		out[name] = w
	}
	return out
}

// build makes an image of a tree.
func build(ctx context.Context, t fs.FS, o Options) ([]byte, error) {
	p, err := NewPlan(ctx, t, o)
	if err != nil {
		return nil, err
	}
	return image(p, func(w io.WriterAt) error { return p.Write(ctx, w) })
}

// TestRandomTrees reads images of random trees with a reader of the test's own.
func TestRandomTrees(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(r *rapid.T) {
		in := randomTree(r)
		b, err := build(t.Context(), in, Options{})
		if err != nil {
			r.Fatal(err)
		}
		got, err := readImage(b)
		if err != nil {
			r.Fatal(err)
		}
		nids := map[uint64]Link{}
		for name, f := range got {
			link := Link{}
			if m := in.MapFS[strings.TrimPrefix(name, "./")]; m != nil {
				link = m.Sys.(*Stat).Link
			}
			if other, ok := nids[f.NID]; ok && (other != link || link == Link{}) {
				r.Fatalf("%s shares its inode", name)
			}
			nids[f.NID] = link
			if f.Mode&modeType == modeDir {
				f.Links, f.Size = 1, 0
			}
			f.NID, f.compact, f.inlineTail = 0, false, false
			got[name] = f
		}
		if diff := cmp.Diff(want(in), got, cmp.AllowUnexported(file{}), cmp.Comparer(bytes.Equal)); diff != "" {
			r.Fatalf("the image differs (-want +got):\n%s", diff)
		}
		again, err := build(t.Context(), in, Options{})
		if err != nil || !bytes.Equal(b, again) {
			r.Fatalf("made again it differs: %v", err)
		}
	})
}

// TestLayout says where the ends of files lie, and which inodes are compact.
func TestLayout(t *testing.T) {
	t.Parallel()
	files := fstest.MapFS{".": dirFile()}
	for name, size := range map[string]int{"empty": 0, "one": 1, "fits": BlockSize - 32, "too-long": BlockSize - 31, "block": BlockSize, "more": BlockSize + 1} {
		files[name] = &fstest.MapFile{Data: noise(size), ModTime: epoch}
	}
	files["old"] = &fstest.MapFile{Data: []byte("x"), ModTime: epoch.Add(-1)}
	files["uid"] = &fstest.MapFile{Data: []byte("x"), ModTime: epoch, Sys: &Stat{UID: 1 << 16}}
	b, err := build(t.Context(), files, Options{})
	if err != nil {
		t.Fatal(err)
	}
	got, err := readImage(b)
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string][2]bool{ // inline, compact
		"empty": {false, true}, "one": {true, true}, "fits": {true, true}, "too-long": {false, true}, "block": {false, true}, "more": {true, true},
		"old": {true, false}, "uid": {true, false},
	} {
		if f := got["./"+name]; f.inlineTail != want[0] || f.compact != want[1] {
			t.Errorf("%s: inline and compact are %v and %v, want %v", name, f.inlineTail, f.compact, want)
		}
	}
}

// TestOptions has what differs between machines not show.
func TestOptions(t *testing.T) {
	t.Parallel()
	o := Options{Time: epoch, Owner: &Owner{7, 8}, NoXattrs: true, UUID: [16]byte{1, 2, 3}, Label: "0123456789abcdef"}
	one := tree{fstest.MapFS{".": dirFile(), "a": {Data: []byte("x"), ModTime: time.Unix(1, 0), Sys: &Stat{UID: 1}}}, map[string][]Xattr{"a": {{"user.x", nil}}}}
	other := tree{fstest.MapFS{".": {Mode: fs.ModeDir | 0o755}, "a": {Data: []byte("x"), Sys: &Stat{GID: 1 << 20}}}, nil}
	a, errA := build(t.Context(), one, o)
	b, errB := build(t.Context(), other, o)
	if err := errors.Join(errA, errB); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(a, b) {
		t.Error("the images differ")
	}
	files, err := readImage(a)
	if f := files["./a"]; err != nil || f.UID != 7 || f.GID != 8 || f.Seconds != epoch.Unix() || len(f.Xattrs) != 0 || !f.compact {
		t.Errorf("got %+v, %v", f, err)
	}
	if !bytes.Contains(a[:BlockSize], []byte(o.Label)) || !bytes.Contains(a[:BlockSize], o.UUID[:]) {
		t.Error("the superblock does not name the filesystem")
	}
}

// TestHuge plans what is too large to be written in a test, and what is too large for an image.
func TestHuge(t *testing.T) {
	t.Parallel()
	p, err := NewPlan(t.Context(), sized{"a": 5 << 40, "b": 1<<32 + 1, "c": 1<<32 - 1}, Options{Time: epoch})
	if err != nil {
		t.Fatal(err)
	}
	if want := int64(5<<40 + 1<<32 + 1<<32 + 2*BlockSize); p.Size() != want || p.Files() != 4 || p.Content() != 5<<40+1<<33 {
		t.Errorf("the image has %d bytes, %d files and %d bytes of them; want %d bytes", p.Size(), p.Files(), p.Content(), want)
	}
	for _, s := range []sized{{"a": 1 << 44}, {"a": 1 << 43, "b": 1 << 43}, {"a": 1<<63 - 1}, {"a": -1}} {
		if _, err := NewPlan(t.Context(), s, Options{}); !errors.Is(err, ErrTooLarge) {
			t.Errorf("%v: error is %v", s, err)
		}
	}
}

// sized is a tree of files that have a size and no content.
type sized map[string]int64

func (s sized) Open(name string) (fs.File, error) {
	f := fstest.MapFS{}
	for n := range maps.Keys(s) {
		f[n] = &fstest.MapFile{}
	}
	return f.Open(name)
}

func (s sized) ReadDir(name string) ([]fs.DirEntry, error) {
	var out []fs.DirEntry
	for _, n := range slices.Sorted(maps.Keys(s)) {
		out = append(out, fs.FileInfoToDirEntry(info{n, s[n]}))
	}
	return out, nil
}

type info struct {
	name string
	size int64
}

func (i info) Name() string     { return i.name }
func (i info) Size() int64      { return i.size }
func (info) Mode() fs.FileMode  { return 0o644 }
func (info) ModTime() time.Time { return epoch }
func (info) IsDir() bool        { return false }
func (info) Sys() any           { return nil }

func TestRefused(t *testing.T) {
	t.Parallel()
	big := bytes.Repeat([]byte("x"), 1<<16)
	for name, in := range map[string]struct {
		t tree
		o Options
	}{
		"long label":       {o: Options{Label: "0123456789abcdefg"}},
		"irregular":        {t: tree{MapFS: fstest.MapFS{"a": {Mode: fs.ModeIrregular}}}},
		"empty link":       {t: tree{MapFS: fstest.MapFS{"a": {Mode: fs.ModeSymlink}}}},
		"long link":        {t: tree{MapFS: fstest.MapFS{"a": {Mode: fs.ModeSymlink, Data: big}}}},
		"long name":        {t: tree{MapFS: fstest.MapFS{strings.Repeat("n", 256): {}}}},
		"odd attribute":    {t: tree{fstest.MapFS{"a": {}}, map[string][]Xattr{"a": {{"system.odd", nil}}}}},
		"nameless":         {t: tree{fstest.MapFS{"a": {}}, map[string][]Xattr{"a": {{"user.", nil}}}}},
		"large attribute":  {t: tree{fstest.MapFS{"a": {}}, map[string][]Xattr{"a": {{"user.a", big}}}}},
		"large attributes": {t: tree{fstest.MapFS{"a": {}}, map[string][]Xattr{"a": {{"user.a", big[1:]}, {"user.b", big[1:]}, {"user.c", big[1:]}, {"user.d", big[1:]}}}}},
		"twice":            {t: tree{fstest.MapFS{"a": {}}, map[string][]Xattr{"a": {{"user.a", nil}, {"user.a", nil}}}}},
	} {
		if in.t.MapFS == nil {
			in.t.MapFS = fstest.MapFS{}
		}
		if _, err := NewPlan(t.Context(), in.t, in.o); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := NewPlan(ctx, fstest.MapFS{}, Options{}); !errors.Is(err, context.Canceled) {
		t.Errorf("canceled: error is %v", err)
	}
}

// TestChanged changes a file between the plan and the image.
func TestChanged(t *testing.T) {
	t.Parallel()
	for name, changed := range map[string]*fstest.MapFile{
		"shorter": {Data: noise(9999), ModTime: epoch}, "longer": {Data: noise(10_001), ModTime: epoch}, "later": {Data: noise(10_000), ModTime: epoch.Add(1)},
		"a directory": {Mode: fs.ModeDir, ModTime: epoch},
	} {
		files := fstest.MapFS{"a": {Data: noise(10_000), ModTime: epoch}}
		p, err := NewPlan(t.Context(), files, Options{})
		if err != nil {
			t.Fatal(err)
		}
		files["a"] = changed
		if err := p.Write(t.Context(), newMemory(p.Size())); !errors.Is(err, ErrChanged) {
			t.Errorf("%s: error is %v", name, err)
		}
	}
}

// lying is a file that does not hold as much as it says.
type lying struct {
	fs.File
	n int64
}

func (l *lying) Read(p []byte) (int, error) {
	if l.n == 0 {
		return 0, io.EOF
	}
	n, err := l.File.Read(p[:min(int64(len(p)), l.n)])
	l.n -= int64(n)
	return n, err
}

type lyingFS struct {
	fstest.MapFS
	n int64
}

func (l lyingFS) Open(name string) (fs.File, error) {
	f, err := l.MapFS.Open(name)
	if name == "a" {
		f = &lying{f, l.n}
	}
	return f, err
}

func TestCutWhileRead(t *testing.T) {
	t.Parallel()
	for _, n := range []int64{0, 1, BlockSize, BlockSize + 1, 10_000 - 1} {
		p, err := NewPlan(t.Context(), lyingFS{fstest.MapFS{"a": {Data: noise(10_000)}}, n}, Options{})
		if err != nil {
			t.Fatal(err)
		}
		if err := p.Write(t.Context(), newMemory(p.Size())); !errors.Is(err, ErrChanged) {
			t.Errorf("%d bytes: error is %v", n, err)
		}
	}
}
