// SPDX-License-Identifier: Apache-2.0

package sealed

import (
	"context"
	"io"
	"io/fs"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"cofferdam.dev/internal/volume/blob"
	"cofferdam.dev/internal/volume/blobtest"
	"cofferdam.dev/internal/volume/blockcache"
)

// zeros is a tree with one file of a size, without its content in memory.
type zeros struct {
	fstest.MapFS
	size int64
}

func newZeros(size int64) zeros { return zeros{fstest.MapFS{"zeros": {Mode: 0o644}}, size} }

func (z zeros) Open(name string) (fs.File, error) {
	f, err := z.MapFS.Open(name)
	if name == "zeros" {
		f = &zeroFile{f, z.size, z.size}
	}
	return f, err
}

func (z zeros) ReadDir(name string) ([]fs.DirEntry, error) {
	entries, err := z.MapFS.ReadDir(name)
	for i, e := range entries {
		info, err := e.Info()
		if err != nil {
			return nil, err
		}
		entries[i] = fs.FileInfoToDirEntry(sizedInfo{info, z.size})
	}
	return entries, err
}

type zeroFile struct {
	fs.File
	size, left int64
}

func (z *zeroFile) Stat() (fs.FileInfo, error) {
	info, err := z.File.Stat()
	return sizedInfo{info, z.size}, err
}

func (z *zeroFile) Read(p []byte) (int, error) {
	if z.left == 0 {
		return 0, io.EOF
	}
	p = p[:min(int64(len(p)), z.left)]
	clear(p)
	z.left -= int64(len(p))
	return len(p), nil
}

type sizedInfo struct {
	fs.FileInfo
	size int64
}

func (s sizedInfo) Size() int64 { return s.size }

// sealFile makes a volume in a file.
func sealFile(b testing.TB, tree fs.FS) (string, Facts) {
	b.Helper()
	path := filepath.Join(b.TempDir(), "image")
	f, err := os.Create(path)
	if err != nil {
		b.Fatal(err)
	}
	facts, err := Build(b.Context(), tree, f, testKey, Options{})
	if err != nil {
		b.Fatal(err)
	}
	if err := f.Close(); err != nil {
		b.Fatal(err)
	}
	return path, facts
}

// BenchmarkRead is to be read as a ratio: between a volume in a local file, and that file.
func BenchmarkRead(b *testing.B) {
	const size = 256 << 20
	path, facts := sealFile(b, newZeros(size))
	src, err := blob.OpenFile(path, false)
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = src.Close() }() // only read
	d := mustOpen(b, src, facts, OpenOptions{})
	for name, read := range map[string]func(p []byte, off int64) error{
		"file": func(p []byte, off int64) error {
			_, err := src.ReadAt(b.Context(), p, off)
			return err
		},
		"sealed": func(p []byte, off int64) error { return d.ReadContext(b.Context(), p, off) },
	} {
		for request, n := range map[string]int64{"1MiB": 1 << 20, "128KiB": 128 << 10} {
			b.Run("sequential-"+request+"/"+name, func(b *testing.B) {
				p, off := make([]byte, n), int64(0)
				b.SetBytes(n)
				b.ReportAllocs()
				for b.Loop() {
					if err := read(p, off); err != nil {
						b.Fatal(err)
					}
					off = (off + n) % size
				}
			})
		}
		b.Run("random-4KiB/"+name, func(b *testing.B) {
			p, r := make([]byte, BlockSize), rand.New(rand.NewPCG(1, 2))
			b.ReportAllocs()
			for b.Loop() {
				if err := read(p, r.Int64N(size/BlockSize)*BlockSize); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkBuild seals a file of zeros.
func BenchmarkBuild(b *testing.B) {
	const size = 256 << 20
	b.SetBytes(size)
	for b.Loop() {
		if _, err := Build(b.Context(), newZeros(size), discard{}, testKey, Options{}); err != nil {
			b.Fatal(err)
		}
	}
}

type discard struct{}

func (discard) WriteAt(p []byte, _ int64) (int, error) { return len(p), nil }

const objectPath = "/http/volume"

// remote opens a volume on a server, through a cache.
func remote(ctx context.Context, t testing.TB, url string, transport http.RoundTripper, f Facts) *Device {
	t.Helper()
	client := blob.NewHTTPClient(nil)
	if transport != nil {
		client = &http.Client{Transport: transport}
	}
	t.Cleanup(client.CloseIdleConnections)
	src, err := blob.Open(ctx, url+objectPath, blob.Options{HTTP: client})
	if err != nil {
		t.Fatal(err)
	}
	c, err := blockcache.Open(src, blockcache.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() }) // only read
	d, err := Open(ctx, c, testKey, f, OpenOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// distance is how long a request is on its way to a server in another place and back.
const distance = 20 * time.Millisecond

type afar struct{ http.RoundTripper }

func (a afar) RoundTrip(r *http.Request) (*http.Response, error) {
	time.Sleep(distance)
	return a.RoundTripper.RoundTrip(r)
}

// BenchmarkFirstByte opens a volume of 1 GiB on a server, and reads its first block and one in the middle.
func BenchmarkFirstByte(b *testing.B) {
	path, facts := sealFile(b, newZeros(1<<30))
	image, err := os.ReadFile(path)
	if err != nil {
		b.Fatal(err)
	}
	s := blobtest.New()
	b.Cleanup(s.Close)
	s.Put(objectPath, "", image)
	for name, transport := range map[string]http.RoundTripper{"near": nil, "distant": afar{blob.NewHTTPClient(nil).Transport}} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				d := remote(b.Context(), b, s.URL, transport, facts)
				p := make([]byte, BlockSize)
				for _, off := range []int64{0, facts.Size / 2} {
					if err := d.ReadContext(b.Context(), p, off); err != nil {
						b.Fatal(err)
					}
				}
			}
		})
	}
}

// TestRemote reads a volume through a cache from a server. The first bytes cost few requests and little of the image, however
// large it is.
func TestRemote(t *testing.T) {
	t.Parallel()
	const size = 8 << 20
	tree := files(size)
	image, facts := build(t, tree, Options{})
	s := blobtest.New()
	t.Cleanup(s.Close)
	s.Put(objectPath, "", image.b)
	d := remote(t.Context(), t, s.URL, nil, facts)
	p := make([]byte, BlockSize)
	if err := d.ReadContext(t.Context(), p, 0); err != nil {
		t.Fatal(err)
	}
	gets := 0
	for _, r := range s.Requests() {
		if strings.HasPrefix(r, http.MethodGet) {
			gets++
		}
	}
	if gets > 5 {
		t.Errorf("the first block took %d requests: %v", gets, s.Requests())
	}
	want := plain(t, tree, facts)
	got, err := io.ReadAll(io.NewSectionReader(d, 0, d.Size()))
	if err != nil || string(got) != string(want) {
		t.Errorf("reading all: %d bytes, %v", len(got), err)
	}
}
