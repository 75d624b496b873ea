// SPDX-License-Identifier: Apache-2.0

package layertar

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"

	"cofferdam.dev/internal/layer"
)

// write makes a layer of the named entries; a name that ends in a slash is a directory, name=content a file.
// compress is gzip, zstd or nothing.
func write(t *testing.T, compress string, entries ...string) string {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, e := range entries {
		name, content, _ := strings.Cut(e, "=")
		h := &tar.Header{Name: name, Mode: 0o644, Size: int64(len(content)), ModTime: time.Unix(0, 0), Typeflag: tar.TypeReg}
		if strings.HasSuffix(name, "/") {
			h.Typeflag, h.Mode = tar.TypeDir, 0o755
		}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(content)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	var z bytes.Buffer
	var c io.WriteCloser
	switch compress {
	case "gzip":
		c = gzip.NewWriter(&z)
	case "zstd":
		var err error
		c, err = zstd.NewWriter(&z)
		if err != nil {
			t.Fatal(err)
		}
	}
	if c != nil {
		_, err := c.Write(b.Bytes())
		if err = errors.Join(err, c.Close()); err != nil {
			t.Fatal(err)
		}
		b = z
	}
	file := filepath.Join(t.TempDir(), "layer.tar")
	if err := os.WriteFile(file, b.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// TestGoldenRoots converts layers whose roots are known from elsewhere.
func TestGoldenRoots(t *testing.T) {
	t.Parallel()
	cache, err := layer.OpenCache(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cache.Close() })
	for _, c := range []struct {
		entries []string
		root    string
	}{
		{nil, "8b4842f06982817534a75bcf71865213b09dfa8313229c384e5201dadbd75e25"},
		{[]string{"etc/nsswitch.conf=x\n"}, "712d8cdb2fdb8d65e1a8c1978db07912ca2e6e13617827a254b0c7c1be50e353"},
		{[]string{"etc/", "etc/nsswitch.conf=x\n"}, "712d8cdb2fdb8d65e1a8c1978db07912ca2e6e13617827a254b0c7c1be50e353"},
		{[]string{"a=1", "b=2"}, "1a44d1d1daa57e5798ecfa04d0684f0ebc6f3aa2af6dd5e27962bdf51e011ee1"},
		{[]string{"b=2", "a=1"}, "f47a16d6a4be116f0a1e38df07a41f3ba244b51860ea2b39d9d8dde67f4b8259"},
	} {
		for _, compress := range []string{"", "gzip", "zstd"} {
			f, err := Open(t.Context(), write(t, compress, c.entries...))
			if err != nil {
				t.Fatal(err)
			}
			e, err := cache.Get(t.Context(), f, nil)
			if err != nil {
				t.Fatal(err)
			}
			if got := fmt.Sprintf("%x", e.RootHash); got != c.root {
				t.Errorf("%q: root %s, want %s", c.entries, got, c.root)
			}
		}
	}
}

func TestOrphans(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ entries, want []string }{
		"none":                {[]string{"./", "etc/", "etc/a=1", "b=1"}, nil},
		"no directory":        {[]string{"etc/ssl/a=1", "etc/ssl/b=1", "etc/c=1"}, []string{"etc/ssl/a"}},
		"directory later":     {[]string{"etc/a=1", "etc/"}, []string{"etc/a"}},
		"file for directory":  {[]string{"x=1", "x/y=1"}, []string{"x/y"}},
		"nothing":             {},
		"roots of every kind": {[]string{"/abs/", "/abs/a=1", "./rel/", "rel/b=1"}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f, err := Open(t.Context(), write(t, "", c.entries...))
			if err != nil {
				t.Fatal(err)
			}
			got, err := Orphans(t.Context(), f)
			if err != nil || !slices.Equal(got, c.want) {
				t.Errorf("%q, %v; want %q", got, err, c.want)
			}
		})
	}
}

func TestOpenRefuses(t *testing.T) {
	t.Parallel()
	for content, want := range map[string]string{
		"":                     "the file is empty",
		"\x1f\x8bx":            "unexpected EOF",
		"\x28\xb5\x2f\xfdrest": "reading layer",
	} {
		file := filepath.Join(t.TempDir(), "f")
		if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(t.Context(), file); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: error %v, want one with %q", content, err, want)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Open(ctx, write(t, "", "a=1")); !errors.Is(err, context.Canceled) {
		t.Errorf("after cancellation: %v", err)
	}
}
