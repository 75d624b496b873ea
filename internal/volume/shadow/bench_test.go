// SPDX-License-Identifier: Apache-2.0

package shadow

import (
	"context"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
)

// plainFile is a file as storage.
type plainFile struct{ f *os.File }

func (p plainFile) ReadAt(_ context.Context, b []byte, off int64) error {
	n, err := p.f.ReadAt(b, off)
	if n < len(b) {
		clear(b[n:])
		return nil
	}
	return err
}

func (p plainFile) WriteAt(_ context.Context, b []byte, off int64) error {
	_, err := p.f.WriteAt(b, off)
	return err
}

func (p plainFile) Flush(context.Context) error { return p.f.Sync() }

// BenchmarkVolume measures a volume against the file that it lies in: the same requests, in the same run.
func BenchmarkVolume(b *testing.B) {
	const size = 256 << 20
	f, err := os.Create(filepath.Join(b.TempDir(), "image"))
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	s := plainFile{f}
	v, err := Create(b.Context(), s, testKey, size, size, Options{Unanchored: true})
	if err != nil {
		b.Fatal(err)
	}
	p := make([]byte, 1<<20)
	for off := int64(0); off < size; off += int64(len(p)) {
		err = v.WriteAt(b.Context(), p, off)
		if err != nil {
			b.Fatal(err)
		}
	}
	err = v.Flush(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	for _, of := range []struct {
		name  string
		read  func(context.Context, []byte, int64) error
		write func(context.Context, []byte, int64) error
	}{{"volume", v.ReadAt, v.WriteAt}, {"file", s.ReadAt, s.WriteAt}} {
		for name, length := range map[string]int{"1MiB": 1 << 20, "4KiB": BlockSize} {
			buf := make([]byte, length)
			b.Run(of.name+"/sequential-read/"+name, func(b *testing.B) {
				b.SetBytes(int64(length))
				b.ReportAllocs()
				off := int64(0)
				for b.Loop() {
					if of.read(b.Context(), buf, off) != nil {
						b.Fatal("it can not be read")
					}
					off = (off + int64(length)) % size
				}
			})
			b.Run(of.name+"/random-read/"+name, func(b *testing.B) {
				b.SetBytes(int64(length))
				for b.Loop() {
					if of.read(b.Context(), buf, rand.Int64N(size/int64(length))*int64(length)) != nil {
						b.Fatal("it can not be read")
					}
				}
			})
		}
		b.Run(of.name+"/sequential-write/1MiB", func(b *testing.B) {
			b.SetBytes(int64(len(p)))
			off := int64(0)
			for b.Loop() {
				if of.write(b.Context(), p, off) != nil {
					b.Fatal("it can not be written")
				}
				off = (off + int64(len(p))) % size
			}
		})
	}
}
