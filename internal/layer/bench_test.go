// SPDX-License-Identifier: Apache-2.0

package layer

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/Microsoft/hcsshim/ext4/tar2ext4"
	"golang.org/x/sys/unix"

	"cofferdam.dev/internal/image"
	"cofferdam.dev/internal/testcap"
)

// reference computes a root by the reference implementation. It may panic on hostile input, which is an error here.
func reference(b []byte) (root string, err error) {
	defer func() {
		p := recover()
		if p != nil {
			err = fmt.Errorf("the reference panicked: %v", p)
		}
	}()
	return tar2ext4.ConvertAndComputeRootDigest(bytes.NewReader(b))
}

// synthetic is a layer of about 200 MB with files of the sizes that a distribution has.
func synthetic(b *testing.B) []byte {
	b.Helper()
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	block := make([]byte, 0, 1<<20)
	for i := uint64(0); len(block) < 1<<20; i++ {
		sum := sha256.Sum256(binary.BigEndian.AppendUint64(nil, i))
		block = append(block, sum[:]...)
	}
	for i := 0; out.Len() < 200<<20; i++ {
		size := []int{300, 2000, 9000, 40000, 150000, 900000}[i%6]
		err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: fmt.Sprintf("usr/lib/d%03d/f%05d", i%200, i), Mode: 0o644, Size: int64(size), ModTime: time.Unix(0, 0)})
		if err == nil {
			_, err = w.Write(block[:size])
		}
		if err != nil {
			b.Fatal(err)
		}
	}
	err := w.Close()
	if err != nil {
		b.Fatal(err)
	}
	return out.Bytes()
}

// cpu returns the processor time that this process has used.
func cpu(b *testing.B) time.Duration {
	b.Helper()
	var u unix.Rusage
	err := unix.Getrusage(unix.RUSAGE_SELF, &u)
	if err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// measure runs one conversion of size bytes for each iteration and reports throughput per processor second.
func measure(b *testing.B, size int64, convert func()) {
	b.Helper()
	b.SetBytes(size)
	b.ReportAllocs()
	start := cpu(b)
	for b.Loop() {
		convert()
	}
	b.ReportMetric(float64(size)*float64(b.N)/1e6/(cpu(b)-start).Seconds(), "MB/cpu-s")
}

// BenchmarkConvert compares this package, which also checks the layer's digest and keeps a synced disk, with the
// reference, which does neither, and with the reference plus the digest.
func BenchmarkConvert(b *testing.B) {
	layers := map[string][]byte{"synthetic": synthetic(b)}
	path := filepath.Join(testcap.Dir(), "images", "python.tar")
	if _, err := os.Stat(path); err == nil {
		layers["python"] = largest(b, path)
	}
	for name, layer := range layers {
		b.Run(name+"/reference", func(b *testing.B) {
			measure(b, int64(len(layer)), func() {
				_, err := reference(layer)
				if err != nil {
					b.Fatal(err)
				}
			})
		})
		b.Run(name+"/reference+digest", func(b *testing.B) {
			measure(b, int64(len(layer)), func() {
				h := sha256.New()
				_, err := tar2ext4.ConvertAndComputeRootDigest(io.TeeReader(bytes.NewReader(layer), h))
				if err != nil {
					b.Fatal(err)
				}
			})
		})
		source := layerOf(layer)
		b.Run(name+"/cofferdam", func(b *testing.B) {
			base := b.TempDir()
			measure(b, int64(len(layer)), func() {
				c, err := OpenCache(base)
				if err != nil {
					b.Fatal(err)
				}
				e, err := c.Get(b.Context(), source, nil)
				if err != nil {
					b.Fatal(err)
				}
				err = os.Remove(e.Path)
				if err != nil {
					b.Fatal(err)
				}
			})
		})
		b.Run(name+"/cached", func(b *testing.B) {
			c := openCache(b)
			_, err := c.Get(b.Context(), source, nil)
			if err != nil {
				b.Fatal(err)
			}
			for b.Loop() {
				_, err = c.Get(b.Context(), source, nil)
				if err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// largest returns the largest layer of an image.
func largest(b *testing.B, path string) []byte {
	b.Helper()
	img, err := image.Open(b.Context(), "oci-archive:"+path, image.Options{})
	if err != nil {
		b.Fatal(err)
	}
	var most []byte
	for _, l := range img.Layers() {
		r, err := l.Uncompressed(b.Context())
		if err != nil {
			b.Fatal(err)
		}
		content, err := io.ReadAll(r)
		if err != nil {
			b.Fatal(err)
		}
		_ = r.Close()
		if len(content) > len(most) {
			most = content
		}
	}
	return most
}
