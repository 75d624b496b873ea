// SPDX-License-Identifier: Apache-2.0

package mount

import (
	"errors"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"cofferdam.dev/internal/volume/descriptor"
)

const (
	benchImage = 256 << 20
	benchFile  = 192 << 20
	benchPiece = 1 << 20
)

// BenchmarkMounted measures a file of an ext4 filesystem in a volume, against the same filesystem in a file that is not
// encrypted and that the kernel alone serves.
func BenchmarkMounted(b *testing.B) {
	needs(b)
	inMemory(b)
	b.Run("plain", func(b *testing.B) {
		image := filepath.Join(b.TempDir(), "image")
		if err := errors.Join(os.WriteFile(image, nil, 0o600), os.Truncate(image, 256<<20)); err != nil {
			b.Fatal(err)
		}
		if out, err := exec.Command("mke2fs", "-q", "-F", "-t", "ext4", image).CombinedOutput(); err != nil {
			b.Fatalf("%v: %s", err, out)
		}
		l, err := newLoop(image, true)
		if err != nil {
			b.Fatal(err)
		}
		dir := b.TempDir()
		if err := unix.Mount(l.path, dir, Ext4, 0, ""); err != nil {
			b.Fatal(err)
		}
		benchMounted(b, dir, image)
		if err := errors.Join(unix.Unmount(dir, 0), l.Close()); err != nil {
			b.Fatal(err)
		}
	})
	for _, kind := range []descriptor.Kind{descriptor.Shadow, descriptor.LUKS2} {
		b.Run(string(kind), func(b *testing.B) {
			i := newImage(b, kind, 256<<20)
			i.format(b)
			v := i.open(b, true)
			dir := b.TempDir()
			m, err := Mount(b.Context(), v, dir, Options{Write: true})
			if err != nil {
				b.Fatal(err)
			}
			benchMounted(b, dir, m.file.Path())
			if err := errors.Join(m.Close(b.Context()), v.Close(b.Context())); err != nil {
				b.Fatal(err)
			}
		})
	}
}

// forget drops what the kernel has of a file in its cache.
func forget(b *testing.B, name string) {
	b.Helper()
	f, err := os.Open(name)
	if err != nil {
		b.Fatal(err)
	}
	err = f.Sync()
	if errors.Is(err, unix.EINVAL) { // EROFS has nothing to sync
		err = nil
	}
	if err := errors.Join(err, unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED), f.Close()); err != nil {
		b.Fatal(err)
	}
}

// benchMounted measures a file of a filesystem, below which is another file.
func benchMounted(b *testing.B, dir, below string) {
	b.Helper()
	name := filepath.Join(dir, "file")
	p := make([]byte, benchPiece)
	_, _ = rand.NewChaCha8([32]byte{}).Read(p) // never fails
	b.Run("write", func(b *testing.B) {
		b.SetBytes(benchFile)
		for b.Loop() {
			f, err := os.Create(name)
			if err != nil {
				b.Fatal(err)
			}
			for off := 0; off < benchFile && err == nil; off += benchPiece {
				_, err = f.Write(p)
			}
			if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("read", func(b *testing.B) {
		b.SetBytes(benchFile)
		for b.Loop() {
			forget(b, name)
			forget(b, below)
			f, err := os.Open(name)
			if err != nil {
				b.Fatal(err)
			}
			for off := int64(0); off < benchFile; off += benchPiece {
				if _, err := f.ReadAt(p, off); err != nil {
					b.Fatal(err)
				}
			}
			if err := f.Close(); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("fsynced-4k", func(b *testing.B) {
		f, err := os.OpenFile(name, os.O_RDWR, 0)
		if err != nil {
			b.Fatal(err)
		}
		r := rand.New(rand.NewPCG(1, 1))
		for b.Loop() {
			_, err := f.WriteAt(p[:4096], 4096*r.Int64N(benchFile/4096))
			if err := errors.Join(err, f.Sync()); err != nil {
				b.Fatal(err)
			}
		}
		if err := f.Close(); err != nil {
			b.Fatal(err)
		}
	})
}
