// SPDX-License-Identifier: Apache-2.0

package layer

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
)

// TestWideDirectories has directories with thousands of entries, which take many blocks: the converter's own tools
// compute the same root.
func TestWideDirectories(t *testing.T) {
	t.Parallel()
	const entries = 6000
	for name, one := range map[string]func(i int) entry{
		"files":       func(i int) entry { return reg(fmt.Sprintf("d/file-%05d", i), fmt.Sprint(i)) },
		"long names":  func(i int) entry { return reg(fmt.Sprintf("d/%s%05d", strings.Repeat("n", 250), i), "") },
		"directories": func(i int) entry { return dir(fmt.Sprintf("d/%05d/", i)) },
		"hard links":  func(i int) entry { return hardlink(fmt.Sprintf("d/%05d", i), "target") },
		"whiteouts":   func(i int) entry { return reg(fmt.Sprintf("d/.wh.%05d", i), "") },
		"top level":   func(i int) entry { return reg(fmt.Sprintf("%05d", entries-i), "x") },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			list := []entry{reg("target", "x")}
			for i := range entries {
				list = append(list, one(i))
			}
			checkAgainstReference(t, makeTar(t, list...))
		})
	}
}

// TestLargeFile has a file, sparse in the tar, whose extents no longer fit into its inode: from 512 MiB on they have a
// block of their own.
func TestLargeFile(t *testing.T) {
	if testing.Short() {
		t.Skip("writes some gigabytes")
	}
	checkAgainstReference(t, sparseTar(513<<20+1, 300<<20, bytes.Repeat([]byte("content "), 1000)))
}

// TestHugeFile declares a file beyond what the converter places. It is refused by name before its content is read.
func TestHugeFile(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		size    int64
		limit   int64
		wrapped error
	}{
		"too large for the file system": {maxFile + 1, 0, ErrEntry},
		"too large for the limit":       {maxFile, 1 << 30, ErrTooLarge},
		"too large for any disk":        {1 << 62, 0, ErrTooLarge},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var b bytes.Buffer
			err := tar.NewWriter(&b).WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: "var/lib/huge.db", Size: c.size, Format: tar.FormatGNU})
			if err != nil {
				t.Fatal(err)
			}
			l := layerOf(b.Bytes())
			l.open = func() (io.ReadCloser, error) {
				return io.NopCloser(io.MultiReader(bytes.NewReader(b.Bytes()), readerFunc(func(p []byte) (int, error) {
					clear(p) // as much as anybody wants
					return len(p), nil
				}))), nil
			}
			cache, err := OpenCacheLimited(t.TempDir(), Limits{Size: c.limit})
			if err != nil {
				t.Fatal(err)
			}
			_, err = cache.Get(t.Context(), l, nil)
			if !errors.Is(err, c.wrapped) || !strings.Contains(err.Error(), `"var/lib/huge.db"`) {
				t.Errorf("error is %v, want one that wraps %v and names the entry", err, c.wrapped)
			}
			checkNothingLeft(t, cache)
		})
	}
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }
