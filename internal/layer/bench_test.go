// SPDX-License-Identifier: Apache-2.0

package layer

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/Microsoft/hcsshim/ext4/tar2ext4"
	"golang.org/x/sys/unix"

	"cofferdam.dev/internal/image"
	"cofferdam.dev/internal/testcap"
	"cofferdam.dev/internal/verity"
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

// onDisk is a layer in a file, as layers come: conversions have no more memory than they take themselves.
type onDisk struct {
	path, diffID string
	size         int64
}

func (l onDisk) DiffID() string { return l.diffID }

func (l onDisk) Uncompressed(context.Context) (io.ReadCloser, error) { return os.Open(l.path) }

// store writes a layer to a file.
func store(b *testing.B, write func(io.Writer) error) onDisk {
	b.Helper()
	f, err := os.Create(filepath.Join(b.TempDir(), "layer.tar"))
	if err != nil {
		b.Fatal(err)
	}
	h := sha256.New()
	err = write(io.MultiWriter(f, h))
	size, seekErr := f.Seek(0, io.SeekEnd)
	err = errors.Join(err, seekErr, f.Close())
	if err != nil {
		b.Fatal(err)
	}
	return onDisk{path: f.Name(), diffID: fmt.Sprintf("sha256:%x", h.Sum(nil)), size: size}
}

// synthetic is a layer of about 200 MB with files of the sizes that a distribution has.
func synthetic(out io.Writer) error {
	w := tar.NewWriter(out)
	block := make([]byte, 0, 1<<20)
	for i := uint64(0); len(block) < 1<<20; i++ {
		sum := sha256.Sum256(binary.BigEndian.AppendUint64(nil, i))
		block = append(block, sum[:]...)
	}
	for i, size := 0, 0; size < 200<<20; i++ {
		n := []int{300, 2000, 9000, 40000, 150000, 900000}[i%6]
		err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: fmt.Sprintf("usr/lib/d%03d/f%05d", i%200, i), Mode: 0o644, Size: int64(n), ModTime: time.Unix(0, 0)})
		if err == nil {
			_, err = w.Write(block[:n])
		}
		if err != nil {
			return err
		}
		size += n
	}
	return w.Close()
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

// measure runs one conversion of a layer for each iteration and reports throughput per processor second.
func measure(b *testing.B, l onDisk, convert func(io.Reader) error) {
	b.Helper()
	b.SetBytes(l.size)
	b.ReportAllocs()
	start := cpu(b)
	for b.Loop() {
		f, err := os.Open(l.path)
		if err != nil {
			b.Fatal(err)
		}
		err = errors.Join(convert(f), f.Close())
		if err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(l.size)*float64(b.N)/1e6/(cpu(b)-start).Seconds(), "MB/cpu-s")
}

// BenchmarkConvert compares this package, which also checks the layer's digest and keeps a synced disk, with the
// reference, which does neither, and with the reference plus the digest. What both can not do without is the SHA-256 of
// the file system's blocks, and of the stream where the digest is checked: "sha256" is those two alone.
func BenchmarkConvert(b *testing.B) {
	layers := map[string]onDisk{"synthetic": store(b, synthetic)}
	path := filepath.Join(testcap.Dir(), "images", "python.tar")
	if _, err := os.Stat(path); err == nil {
		layers["python"] = store(b, func(w io.Writer) error {
			_, err := w.Write(largest(b, path))
			return err
		})
	}
	for name, l := range layers {
		b.Run(name+"/reference", func(b *testing.B) {
			measure(b, l, func(r io.Reader) error {
				_, err := tar2ext4.ConvertAndComputeRootDigest(r)
				return err
			})
		})
		b.Run(name+"/reference+digest", func(b *testing.B) {
			measure(b, l, func(r io.Reader) error {
				_, err := tar2ext4.ConvertAndComputeRootDigest(io.TeeReader(r, sha256.New()))
				return err
			})
		})
		b.Run(name+"/sha256", func(b *testing.B) {
			measure(b, l, func(r io.Reader) error {
				blocks, buf := verity.NewHasher(), make([]byte, chunkSize)
				_, err := io.CopyBuffer(writeOnly{sha256.New(), blocks}, r, buf)
				return err
			})
		})
		b.Run(name+"/cofferdam", func(b *testing.B) {
			c := openCache(b)
			measure(b, l, func(io.Reader) error {
				e, err := c.Get(b.Context(), l, nil)
				return errors.Join(err, os.Remove(e.Path))
			})
		})
		b.Run(name+"/cached", func(b *testing.B) {
			c := openCache(b)
			_, err := c.Get(b.Context(), l, nil)
			for b.Loop() && err == nil {
				_, err = c.Get(b.Context(), l, nil)
			}
			if err != nil {
				b.Fatal(err)
			}
		})
	}
}

// writeOnly hashes what it is given as a stream and as blocks.
type writeOnly struct {
	stream io.Writer
	blocks *verity.Hasher
}

func (w writeOnly) Write(p []byte) (int, error) {
	_ = w.blocks.Append(nil, p)
	return w.stream.Write(p)
}

// BenchmarkMemory converts layers of which one is ten times the other, each in a process of its own, and reports the
// most memory that it had.
func BenchmarkMemory(b *testing.B) {
	for name, files := range map[string]int{"128MB": 2000, "1280MB": 20000} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				cmd := exec.CommandContext(b.Context(), os.Args[0], "-test.v", "-test.run=^TestConvertGenerated$")
				cmd.Env = append(os.Environ(), childDir+"="+b.TempDir(), fmt.Sprintf("%s=%d", childFiles, files))
				out, err := cmd.CombinedOutput()
				if err != nil {
					b.Fatalf("%v\n%s", err, out)
				}
				var kib int
				_, found, _ := strings.Cut(string(out), peakMark)
				_, err = fmt.Sscanf(found, "%d", &kib)
				if err != nil {
					b.Fatalf("no peak of memory in %q: %v", out, err)
				}
				b.ReportMetric(float64(kib)/1024, "MiB")
			}
		})
	}
}

const (
	// childFiles is how many files of 64 KiB TestConvertGenerated converts.
	childFiles = "LAYER_TEST_FILES"
	// peakMark stands before the most memory in KiB that it had.
	peakMark = "peak of memory in KiB: "
)

// TestConvertGenerated is what BenchmarkMemory measures.
func TestConvertGenerated(t *testing.T) {
	files, err := strconv.Atoi(os.Getenv(childFiles))
	if err != nil {
		t.Skip("a part of a benchmark")
	}
	c, err := OpenCache(os.Getenv(childDir))
	if err != nil {
		t.Fatal(err)
	}
	_, err = c.Get(t.Context(), generate(files, 64<<10), nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Log(peakMark + strconv.Itoa(memoryUse(t, "VmHWM")))
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
