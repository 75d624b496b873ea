// SPDX-License-Identifier: Apache-2.0

package layer

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/Microsoft/hcsshim/ext4/dmverity"
	"github.com/Microsoft/hcsshim/ext4/tar2ext4"
	"github.com/google/go-cmp/cmp"

	"cofferdam.dev/internal/verity"
)

// memory is a layer in memory.
type memory struct {
	diffID string
	tar    []byte
	open   func() (io.ReadCloser, error) // instead of tar
}

func (m memory) DiffID() string { return m.diffID }

func (m memory) Uncompressed(context.Context) (io.ReadCloser, error) {
	if m.open != nil {
		return m.open()
	}
	return io.NopCloser(bytes.NewReader(m.tar)), nil
}

func layerOf(b []byte) memory { return memory{diffID: digestOf(b), tar: b} }

func digestOf(b []byte) string {
	sum := sha256.Sum256(b)
	return "sha256:" + hex.EncodeToString(sum[:])
}

// entry is a tar entry of a test.
type entry struct {
	tar.Header
	content string
}

func reg(name, content string) entry {
	return entry{tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644}, content}
}

func dir(name string) entry {
	return entry{tar.Header{Typeflag: tar.TypeDir, Name: name, Mode: 0o755}, ""}
}

func hardlink(name, target string) entry {
	return entry{tar.Header{Typeflag: tar.TypeLink, Name: name, Linkname: target}, ""}
}

func makeTar(t testing.TB, entries ...entry) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, e := range entries {
		h := e.Header
		h.Size = int64(len(e.content))
		if h.ModTime.IsZero() && h.Typeflag != tar.TypeXGlobalHeader {
			h.ModTime = time.Unix(0, 0)
		}
		err := w.WriteHeader(&h)
		if err != nil {
			t.Fatalf("writing header of %s: %v", h.Name, err)
		}
		_, err = io.WriteString(w, e.content)
		if err != nil {
			t.Fatalf("writing %s: %v", h.Name, err)
		}
	}
	err := w.Close()
	if err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func openCache(t testing.TB) *Cache {
	t.Helper()
	c, err := OpenCache(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// TestGoldenRoots holds the roots that other implementations of the scheme agree on.
func TestGoldenRoots(t *testing.T) {
	t.Parallel()
	nsswitch := reg("etc/nsswitch.conf", "x\n")
	tests := []struct {
		name    string
		entries []entry
		root    string
	}{
		{"empty", nil, "8b4842f06982817534a75bcf71865213b09dfa8313229c384e5201dadbd75e25"},
		{"file without a parent", []entry{nsswitch}, "712d8cdb2fdb8d65e1a8c1978db07912ca2e6e13617827a254b0c7c1be50e353"},
		{"file with a parent", []entry{dir("etc/"), nsswitch}, "712d8cdb2fdb8d65e1a8c1978db07912ca2e6e13617827a254b0c7c1be50e353"},
		{"a then b", []entry{reg("a", "1"), reg("b", "2")}, "1a44d1d1daa57e5798ecfa04d0684f0ebc6f3aa2af6dd5e27962bdf51e011ee1"},
		{"b then a", []entry{reg("b", "2"), reg("a", "1")}, "f47a16d6a4be116f0a1e38df07a41f3ba244b51860ea2b39d9d8dde67f4b8259"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			c := openCache(t)
			e, err := c.Get(t.Context(), layerOf(makeTar(t, tt.entries...)), nil)
			if err != nil {
				t.Fatal(err)
			}
			if got := hex.EncodeToString(e.RootHash[:]); got != tt.root {
				t.Errorf("root is %s, want %s", got, tt.root)
			}
			err = c.Verify(t.Context(), e)
			if err != nil {
				t.Errorf("verifying the disk: %v", err)
			}
		})
	}
}

// corpus is one layer for each thing that layers do.
func corpus() map[string][]entry {
	xattrs := func(pairs ...string) map[string]string {
		m := map[string]string{}
		for i := 0; i < len(pairs); i += 2 {
			m["SCHILY.xattr."+pairs[i]] = pairs[i+1]
		}
		return m
	}
	at := func(e entry, change func(*tar.Header)) entry {
		change(&e.Header)
		return e
	}
	long := strings.Repeat("n", 255)
	return map[string][]entry{
		"whiteouts":       {dir("d/"), reg("d/.wh.gone", ""), reg(".wh.top", "")},
		"opaque":          {dir("d/"), reg("d/.wh..wh..opq", ""), reg("d/new", "x")},
		"opaque root":     {reg(".wh..wh..opq", ""), reg("new", "x")},
		"opaque no dir":   {reg("d/e/.wh..wh..opq", "")},
		"hard links":      {reg("a", "content"), hardlink("b", "a"), hardlink("d/c", "a")},
		"symbolic links":  {{tar.Header{Typeflag: tar.TypeSymlink, Name: "s", Linkname: "t"}, ""}, {tar.Header{Typeflag: tar.TypeSymlink, Name: "l", Linkname: strings.Repeat("x", 300)}, ""}},
		"directory twice": {dir("d/"), reg("d/f", "x"), at(dir("d/"), func(h *tar.Header) { h.Mode = 0o700; h.Uid = 5 })},
		"empty twice":     {reg("f", ""), reg("f", "")},
		"long names":      {reg(long, "x"), reg(strings.Repeat("d/", 100)+long, "y")},
		"devices": {
			{tar.Header{Typeflag: tar.TypeChar, Name: "null", Devmajor: 1, Devminor: 3, Mode: 0o666}, ""},
			{tar.Header{Typeflag: tar.TypeBlock, Name: "disk", Devmajor: 259, Devminor: 65537}, ""},
			{tar.Header{Typeflag: tar.TypeFifo, Name: "fifo"}, ""},
		},
		"extended attributes": {
			at(reg("small", "x"), func(h *tar.Header) { h.PAXRecords = xattrs("user.a", "b", "security.capability", "\x01\x00\x00\x02") }),
			at(reg("large", "x"), func(h *tar.Header) { h.PAXRecords = xattrs("user.big", strings.Repeat("v", 3000), "user.c", "d") }),
			at(dir("d/"), func(h *tar.Header) { h.PAXRecords = xattrs("user.big", strings.Repeat("v", 3000)) }),
			reg("d/.wh..wh..opq", ""),
		},
		"owners and modes": {
			at(reg("f", "x"), func(h *tar.Header) { h.Mode, h.Uid, h.Gid = 0o104755, 70000, 1<<31 }),
			at(dir("d/"), func(h *tar.Header) { h.Mode, h.Uid = 0o1777, 1000 }),
		},
		"times": {at(reg("f", "x"), func(h *tar.Header) {
			h.Format, h.ModTime, h.AccessTime, h.ChangeTime = tar.FormatPAX, time.Unix(1<<33, 123456789), time.Unix(-5, 1), time.Unix(7, 0)
		})},
		"root entry":      {at(dir("./"), func(h *tar.Header) { h.Mode, h.Uid = 0o711, 9 }), reg("./f", "x")},
		"absolute names":  {dir("/d/"), reg("/d/../e", "x")},
		"global header":   {{tar.Header{Typeflag: tar.TypeXGlobalHeader, PAXRecords: map[string]string{"comment": "c"}}, ""}, reg("f", "x")},
		"block boundary":  {reg("a", strings.Repeat("a", 4096)), reg("b", strings.Repeat("b", 4095)), reg("c", strings.Repeat("c", 4097))},
		"buffer boundary": {reg("a", strings.Repeat("a", 1<<20)), reg("b", strings.Repeat("b", (1<<19)-1)), reg("c", "c")},
	}
}

// checkAgainstReference converts b in both ways and compares roots, or that both refuse.
func checkAgainstReference(t testing.TB, b []byte) {
	t.Helper()
	want, wantErr := tar2ext4.ConvertAndComputeRootDigest(bytes.NewReader(b))
	c := openCache(t)
	e, err := c.Get(t.Context(), layerOf(b), nil)
	if err != nil {
		// Refusing what the reference accepts is allowed for the entries that check lists, and never silently.
		if wantErr == nil && !errors.Is(err, ErrEntry) {
			t.Fatalf("refused what the reference accepts: %v", err)
		}
		checkNothingLeft(t, c)
		return
	}
	if wantErr != nil {
		t.Fatalf("accepted what the reference refuses: %v", wantErr)
	}
	if got := hex.EncodeToString(e.RootHash[:]); got != want {
		t.Fatalf("root is %s, the reference computes %s", got, want)
	}
	err = c.Verify(t.Context(), e)
	if err != nil {
		t.Fatal(err)
	}
}

func checkNothingLeft(t testing.TB, c *Cache) {
	t.Helper()
	for _, pattern := range []string{"*.img", "*.json", "tmp/*"} {
		names, err := filepath.Glob(filepath.Join(c.dir, pattern))
		if err != nil {
			t.Fatal(err)
		}
		if len(names) > 0 {
			t.Errorf("left behind: %v", names)
		}
	}
}

func TestCorpusAgainstReference(t *testing.T) {
	t.Parallel()
	for name, entries := range corpus() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			checkAgainstReference(t, makeTar(t, entries...))
		})
	}
}

// TestDiskLayout reads a disk with the reference's own reader.
func TestDiskLayout(t *testing.T) {
	t.Parallel()
	c := openCache(t)
	e, err := c.Get(t.Context(), layerOf(makeTar(t, reg("f", strings.Repeat("x", 3<<20)))), nil)
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(e.Path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	size, blockSize, err := tar2ext4.Ext4FileSystemSize(f)
	if err != nil {
		t.Fatal(err)
	}
	if size != int64(e.DataBlocks)*verity.BlockSize || blockSize != verity.BlockSize {
		t.Errorf("the file system has %d bytes in blocks of %d, want %d in blocks of %d", size, blockSize, e.DataBlocks*verity.BlockSize, verity.BlockSize)
	}
	info, err := dmverity.ReadDMVerityInfo(e.Path, size)
	if err != nil {
		t.Fatal(err)
	}
	want := &dmverity.VerityInfo{
		HashOffsetInBlocks: int64(e.DataBlocks), SuperBlock: true, RootDigest: hex.EncodeToString(e.RootHash[:]),
		Salt: strings.Repeat("00", 32), Algorithm: "sha256", DataBlockSize: 4096, HashBlockSize: 4096, DataBlocks: e.DataBlocks, Version: 1,
	}
	if diff := cmp.Diff(want, info); diff != "" {
		t.Errorf("dm-verity information differs (-want +got):\n%s", diff)
	}
}

// TestOrphans tells of entries without their directories, from a new disk and from its record.
func TestOrphans(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		entries []entry
		want    Orphans
	}{
		"none":            {[]entry{dir("./"), dir("etc/"), reg("etc/a", "1"), reg("b", "1")}, Orphans{}},
		"no directory":    {[]entry{reg("etc/ssl/a", "1"), reg("etc/ssl/b", "1"), reg("etc/c", "1")}, Orphans{Count: 1, First: `"etc/ssl/a"`}},
		"directory later": {[]entry{reg("etc/a", "1"), dir("etc/"), reg("x/y", "1")}, Orphans{Count: 2, First: `"etc/a"`}},
		"nothing":         {nil, Orphans{}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cache, l := openCache(t), layerOf(makeTar(t, c.entries...))
			for range 2 {
				e, err := cache.Get(t.Context(), l, nil)
				if err != nil {
					t.Fatal(err)
				}
				if e.Orphans != c.want {
					t.Errorf("orphans are %+v, want %+v", e.Orphans, c.want)
				}
			}
		})
	}
}

func TestReproducible(t *testing.T) {
	t.Parallel()
	b := makeTar(t, corpus()["extended attributes"]...)
	var disks [2][]byte
	for i := range disks {
		e, err := openCache(t).Get(t.Context(), layerOf(b), nil)
		if err != nil {
			t.Fatal(err)
		}
		disks[i], err = os.ReadFile(e.Path)
		if err != nil {
			t.Fatal(err)
		}
	}
	if !bytes.Equal(disks[0], disks[1]) {
		t.Error("the same layer gave two different disks")
	}
}
