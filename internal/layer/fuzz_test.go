// SPDX-License-Identifier: Apache-2.0

package layer

import (
	"archive/tar"
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// FuzzLayerTar feeds arbitrary bytes to both converters. Whatever the reference makes of them, no panic may leave this
// package, and a root must be the reference's.
func FuzzLayerTar(f *testing.F) {
	for _, entries := range corpus() {
		f.Add(makeTar(f, entries...))
	}
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) > 1<<20 {
			t.Skip("nothing new in more bytes")
		}
		c, err := OpenCacheLimited(t.TempDir(), Limits{Size: 16 << 20, Entries: 10000})
		if err != nil {
			t.Fatal(err)
		}
		e, err := c.Get(t.Context(), layerOf(b), nil)
		if err != nil {
			checkNothingLeft(t, c)
			return
		}
		want, err := reference(b)
		if err != nil {
			t.Fatalf("accepted what the reference refuses: %v", err)
		}
		if got := fmt.Sprintf("%x", e.RootHash); got != want {
			t.Fatalf("root is %s, the reference computes %s", got, want)
		}
	})
}

// TestRandomLayers compares roots over random layers, most of them valid.
func TestRandomLayers(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(r *rapid.T) {
		b := drawTar(r)
		want, wantErr := reference(b)
		c, err := OpenCache(t.TempDir())
		if err != nil {
			r.Fatal(err)
		}
		e, err := c.Get(t.Context(), layerOf(b), nil)
		if (err == nil) != (wantErr == nil) {
			r.Fatalf("error is %v, the reference's is %v", err, wantErr)
		}
		if got := fmt.Sprintf("%x", e.RootHash); err == nil && got != want {
			r.Fatalf("root is %s, the reference computes %s", got, want)
		}
	})
}

// drawTar draws a layer of a few dozen entries whose names collide now and then.
func drawTar(r *rapid.T) []byte {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	names := rapid.StringMatching(`([abc]/){0,3}(\.wh\.)?[a-h]{1,4}|([abc]/){1,3}\.wh\.\.wh\.\.opq`)
	sizes := rapid.OneOf(rapid.Just(0), rapid.IntRange(1, 100), rapid.IntRange(4000, 5000), rapid.IntRange(500_000, 600_000))
	for range rapid.IntRange(0, 30).Draw(r, "entries") {
		h := tar.Header{
			Name: names.Draw(r, "name"), Mode: rapid.Int64Range(0, 0o7777).Draw(r, "mode"),
			Uid: rapid.IntRange(0, 1<<32-1).Draw(r, "uid"), Gid: rapid.IntRange(0, 70000).Draw(r, "gid"),
			ModTime: time.Unix(rapid.Int64Range(-1<<31, 1<<34).Draw(r, "mtime"), 0), Format: tar.FormatPAX,
			Typeflag: rapid.SampledFrom([]byte{tar.TypeReg, tar.TypeReg, tar.TypeDir, tar.TypeSymlink, tar.TypeLink, tar.TypeChar, tar.TypeFifo}).Draw(r, "type"),
		}
		var content string
		switch h.Typeflag {
		case tar.TypeReg:
			size := sizes.Draw(r, "size")
			content = strings.Repeat("0123456789abcdef", size/16+1)[:size]
			h.Size = int64(size)
		case tar.TypeSymlink, tar.TypeLink:
			h.Linkname = names.Draw(r, "target")
		}
		if rapid.IntRange(0, 5).Draw(r, "has attributes") == 0 {
			h.PAXRecords = map[string]string{"SCHILY.xattr.user." + names.Draw(r, "attribute"): strings.Repeat("v", rapid.IntRange(0, 4000).Draw(r, "value"))}
		}
		err := w.WriteHeader(&h)
		if err == nil {
			_, err = w.Write([]byte(content))
		}
		if err != nil {
			r.Fatal(err)
		}
	}
	err := w.Close()
	if err != nil {
		r.Fatal(err)
	}
	return b.Bytes()
}
