// SPDX-License-Identifier: Apache-2.0

package mount

import (
	"context"
	"errors"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"cofferdam.dev/internal/volume/blob"
	"cofferdam.dev/internal/volume/descriptor"
	"cofferdam.dev/internal/volume/erofs"
	"cofferdam.dev/internal/volume/fusefile"
	"cofferdam.dev/internal/volume/sealed"
)

// plainDevice is a file that is not encrypted, as a device.
type plainDevice struct {
	f    *os.File
	size int64
}

func newPlain(b *testing.B) plainDevice {
	b.Helper()
	f, err := os.Create(filepath.Join(b.TempDir(), "plain"))
	if err == nil {
		err = f.Truncate(benchImage)
	}
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = f.Close() })
	return plainDevice{f, benchImage}
}

func (p plainDevice) Size() int64  { return p.size }
func (plainDevice) BlockSize() int { return 4096 }

func (p plainDevice) ReadAt(_ context.Context, b []byte, off int64) error {
	_, err := p.f.ReadAt(b, off)
	return err
}

func (p plainDevice) WriteAt(_ context.Context, b []byte, off int64) error {
	_, err := p.f.WriteAt(b, off)
	return err
}
func (p plainDevice) Flush(context.Context) error { return p.f.Sync() }

// sealedDevice is a sealed volume as a device.
type sealedDevice struct{ *sealed.Device }

func (sealedDevice) BlockSize() int { return sealed.BlockSize }

func (s sealedDevice) ReadAt(ctx context.Context, p []byte, off int64) error {
	return s.ReadContext(ctx, p, off)
}

func (sealedDevice) WriteAt(context.Context, []byte, int64) error { return errors.ErrUnsupported }
func (sealedDevice) Flush(context.Context) error                  { return nil }

func newSealed(b *testing.B) fusefile.Device {
	b.Helper()
	in := b.TempDir()
	fill(b, filepath.Join(in, "file"))
	tree, err := erofs.OpenDir(in)
	if err != nil {
		b.Fatal(err)
	}
	path, key := filepath.Join(b.TempDir(), "sealed"), sealed.Key{1}
	f, err := os.Create(path)
	if err != nil {
		b.Fatal(err)
	}
	facts, err := sealed.Build(b.Context(), tree, f, key, sealed.Options{})
	if err := errors.Join(err, f.Close(), tree.Close()); err != nil {
		b.Fatal(err)
	}
	src, err := blob.Open(b.Context(), path, blob.Options{})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = src.Close() }) // only read
	d, err := sealed.Open(b.Context(), src, key, facts, sealed.OpenOptions{})
	if err != nil {
		b.Fatal(err)
	}
	return sealedDevice{d}
}

// fill writes the file that is read.
func fill(b *testing.B, name string) {
	b.Helper()
	f, err := os.Create(name)
	if err != nil {
		b.Fatal(err)
	}
	p, random := make([]byte, benchPiece), rand.NewChaCha8([32]byte{1})
	for range benchFile / benchPiece {
		_, _ = random.Read(p) // never fails
		if _, err := f.Write(p); err != nil {
			b.Fatal(err)
		}
	}
	if err := errors.Join(f.Sync(), f.Close()); err != nil {
		b.Fatal(err)
	}
}

// mounted mounts a device and returns the file to read, and the file below.
func mounted(b *testing.B, d fusefile.Device, write bool) []string {
	b.Helper()
	dir := b.TempDir()
	m, err := Mount(b.Context(), d, dir, Options{Write: write})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := m.Close(context.WithoutCancel(b.Context())); err != nil {
			b.Error(err)
		}
	})
	name := filepath.Join(dir, "file")
	if write {
		fill(b, name)
	}
	return []string{name, m.file.Path()}
}

// shown shows a device as a file, and returns that.
func shown(b *testing.B, d fusefile.Device) string {
	b.Helper()
	m, err := fusefile.Serve(b.TempDir(), d, fusefile.Options{Write: true})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := m.Close(); err != nil {
			b.Error(err)
		}
	})
	return m.Path()
}

func makeExt4(b *testing.B, path string) {
	b.Helper()
	if out, err := exec.Command("mke2fs", "-q", "-F", "-t", "ext4", path).CombinedOutput(); err != nil {
		b.Fatalf("%v: %s", err, out)
	}
}

// subjects are the files that are read, each with those below it: a file through FUSE, and files of filesystems.
func subjects(b *testing.B) map[string][]string {
	b.Helper()
	out := map[string][]string{}
	p := newPlain(b)
	fill(b, p.f.Name())
	out["file"] = []string{shown(b, plainDevice{p.f, benchFile})}
	p = newPlain(b)
	makeExt4(b, p.f.Name())
	out["plain"] = mounted(b, p, true)
	for _, kind := range []descriptor.Kind{descriptor.LUKS2, descriptor.Shadow} {
		i := newImage(b, kind, benchImage)
		i.format(b)
		v := i.open(b, true)
		b.Cleanup(func() { _ = v.Close(context.WithoutCancel(b.Context())) }) // its files are gone with it
		out[string(kind)] = mounted(b, v, true)
	}
	out["sealed"] = mounted(b, newSealed(b), false)
	return out
}

// BenchmarkFilesystems reads a file in the filesystem of each kind of volume, in turn with one in a filesystem that is not
// encrypted and lies in a file through the same server, and with such a file itself. The reader is one process that reads a MiB at
// a time, in order; the kernel has nothing of what it reads in a cache, and all that lies below is in memory. A ratio is the time
// of what is compared with over that of the volume, of the same round. Some of the work is done by threads of the kernel, whose
// share of a machine that does other things is smaller: only the ratios to a filesystem say much then.
func BenchmarkFilesystems(b *testing.B) {
	needs(b)
	inMemory(b)
	files := subjects(b)
	names := slices.Sorted(maps.Keys(files))
	took := map[string][]float64{}
	for b.Loop() {
		for _, name := range names {
			for _, f := range files[name] {
				forget(b, f)
			}
			begun := time.Now()
			out, err := exec.Command("dd", "if="+files[name][0], "of=/dev/null", "bs=1M").CombinedOutput()
			if err != nil {
				b.Fatalf("%v: %s", err, out)
			}
			took[name] = append(took[name], time.Since(begun).Seconds())
		}
	}
	for _, name := range []string{"luks2", "shadow", "sealed"} {
		reportRatios(b, name+"/plain", took["plain"], took[name])
	}
	reportRatios(b, "plain/file", took["file"], took["plain"])
	rate := took["file"]
	slices.Sort(rate)
	b.ReportMetric(benchFile/1e6/rate[len(rate)/2], "file-MB/s")
}

// reportRatios reports the median of ratios, and their quartiles as the spread.
func reportRatios(b *testing.B, unit string, of, to []float64) {
	b.Helper()
	r := make([]float64, len(of))
	for i := range of {
		r[i] = of[i] / to[i]
	}
	slices.Sort(r)
	last := len(r) - 1
	b.ReportMetric(r[last/2], unit)
	b.ReportMetric(r[last/4], unit+"-q1")
	b.ReportMetric(r[last*3/4], unit+"-q3")
}

// inMemory has files of benchmarks in memory, if there is such a filesystem.
func inMemory(b *testing.B) {
	b.Helper()
	if _, err := os.Stat("/dev/shm"); err == nil {
		b.Setenv("TMPDIR", "/dev/shm")
	}
}
