// SPDX-License-Identifier: Apache-2.0

package fusefile

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"cofferdam.dev/internal/volume/attach"
	"cofferdam.dev/internal/volume/blob"
	"cofferdam.dev/internal/volume/descriptor"
)

// benchSize is the size of what is measured, in bytes: it fits into memory together with its copies.
const benchSize = 256 << 20

// plainFile is a device that hands on what it is asked to: the passthrough that others are compared with.
type plainFile struct {
	f    *os.File
	size int64
}

func (p plainFile) Size() int64  { return p.size }
func (plainFile) BlockSize() int { return 4096 }
func (p plainFile) ReadAt(_ context.Context, b []byte, off int64) error {
	_, err := p.f.ReadAt(b, off)
	return err
}

func (p plainFile) WriteAt(_ context.Context, b []byte, off int64) error {
	_, err := p.f.WriteAt(b, off)
	return err
}
func (p plainFile) Flush(context.Context) error { return p.f.Sync() }

// subjects are the devices, all on files in memory if there is such a filesystem, full of data.
func subjects(b *testing.B) map[string]Device {
	b.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "cofferdam-bench-")
	if err != nil {
		dir = b.TempDir()
	}
	b.Cleanup(func() { _ = os.RemoveAll(dir) })
	out := map[string]Device{}
	f, err := os.Create(filepath.Join(dir, "plain"))
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = f.Close() })
	if err := f.Truncate(benchSize); err != nil {
		b.Fatal(err)
	}
	out["plain"] = plainFile{f, benchSize}
	for _, kind := range []descriptor.Kind{descriptor.LUKS2, descriptor.Shadow} {
		out[string(kind)] = encrypted(b, filepath.Join(dir, string(kind)), kind)
	}
	data, random := make([]byte, maxRequest), rand.NewChaCha8([32]byte{})
	for name, d := range out {
		for off := int64(0); off < benchSize; off += maxRequest {
			_, _ = random.Read(data) // never fails
			if err := d.WriteAt(b.Context(), data, off); err != nil {
				b.Fatalf("%s: %v", name, err)
			}
		}
		if err := d.Flush(b.Context()); err != nil {
			b.Fatal(err)
		}
	}
	out["sealed"] = sealedSubject(b, dir)
	return out
}

func encrypted(b *testing.B, path string, kind descriptor.Kind) Device {
	b.Helper()
	n := attach.New{Kind: kind, Size: benchSize, Anchor: descriptor.Anchor{Kind: descriptor.NoAnchor}, Now: time.Now(),
		Openers: []attach.Opener{{Slot: descriptor.Slot{Kind: descriptor.FileSlot}, Secret: make([]byte, 32)}}}
	size, err := n.ImageSize()
	if err == nil {
		err = errors.Join(os.WriteFile(path, nil, 0o600), os.Truncate(path, size))
	}
	if err != nil {
		b.Fatal(err)
	}
	d, key, err := attach.Create(b.Context(), path, n)
	if err != nil {
		b.Fatal(err)
	}
	src, err := blob.Open(b.Context(), path, blob.Options{Write: true})
	if err != nil {
		b.Fatal(err)
	}
	v, err := attach.Open(b.Context(), src, attach.Options{Descriptor: d, Key: key, Write: true})
	if err != nil {
		b.Fatal(err)
	}
	return v.Device
}

// BenchmarkFile measures reading and writing through the kernel, against a file that is not encrypted in the same run.
func BenchmarkFile(b *testing.B) {
	devices := subjects(b)
	for _, name := range []string{"plain", "luks2", "shadow"} {
		m := show(b, devices[name], Options{Write: true})
		b.Run("sequential-read/"+name, func(b *testing.B) { benchRead(b, m) })
		b.Run("random-read-4k/"+name, func(b *testing.B) { benchRandom(b, m, unix.O_DIRECT) })
		b.Run("random-read-4k-cached/"+name, func(b *testing.B) { benchRandom(b, m, 0) })
		b.Run("sequential-write/"+name, func(b *testing.B) { benchWrite(b, m) })
		b.Run("fsynced-write-4k/"+name, func(b *testing.B) { benchSync(b, m) })
	}
	for _, through := range []bool{false, true} {
		m := show(b, devices["plain"], Options{Write: true, WriteThrough: through})
		b.Run(fmt.Sprintf("small-writes/through=%v", through), func(b *testing.B) { benchSmall(b, m) })
	}
}

// forget drops what the kernel has of the file.
func forget(b *testing.B, f *os.File) {
	b.Helper()
	if err := errors.Join(f.Sync(), unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED)); err != nil {
		b.Fatal(err)
	}
}

func benchRead(b *testing.B, m *Mount) {
	f := open(b, m, os.O_RDONLY)
	p := make([]byte, maxRequest)
	b.SetBytes(benchSize)
	for b.Loop() {
		forget(b, f)
		for off := int64(0); off < benchSize; off += maxRequest {
			if _, err := f.ReadAt(p, off); err != nil {
				b.Fatal(err)
			}
		}
	}
}

// benchRandom reads blocks that the kernel does not have, past its cache or through it.
func benchRandom(b *testing.B, m *Mount, flags int) {
	f := open(b, m, os.O_RDONLY|flags)
	forget(b, f)
	if err := unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_RANDOM); err != nil {
		b.Fatal(err)
	}
	p, err := unix.Mmap(-1, 0, 4096, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE) // aligned
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = unix.Munmap(p) }()
	r := rand.New(rand.NewPCG(1, 1))
	for b.Loop() {
		if _, err := f.ReadAt(p, 4096*r.Int64N(benchSize/4096)); err != nil {
			b.Fatal(err)
		}
	}
}

func benchWrite(b *testing.B, m *Mount) {
	f := open(b, m, os.O_RDWR)
	p := make([]byte, maxRequest)
	b.SetBytes(benchSize)
	for b.Loop() {
		for off := int64(0); off < benchSize; off += maxRequest {
			if _, err := f.WriteAt(p, off); err != nil {
				b.Fatal(err)
			}
		}
		if err := f.Sync(); err != nil {
			b.Fatal(err)
		}
	}
}

func benchSync(b *testing.B, m *Mount) {
	f := open(b, m, os.O_RDWR)
	p := make([]byte, 4096)
	r := rand.New(rand.NewPCG(1, 1))
	for b.Loop() {
		if _, err := f.WriteAt(p, 4096*r.Int64N(benchSize/4096)); err != nil {
			b.Fatal(err)
		}
		if err := f.Sync(); err != nil {
			b.Fatal(err)
		}
	}
}

// benchSmall writes 512 bytes at a time, in order, as a log does.
func benchSmall(b *testing.B, m *Mount) {
	f := open(b, m, os.O_RDWR)
	p := make([]byte, 512)
	b.SetBytes(8 << 20)
	for b.Loop() {
		for off := int64(0); off < 8<<20; off += 512 {
			if _, err := f.WriteAt(p, off); err != nil {
				b.Fatal(err)
			}
		}
		if err := f.Sync(); err != nil {
			b.Fatal(err)
		}
	}
}
