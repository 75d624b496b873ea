// SPDX-License-Identifier: Apache-2.0

package blockcache_test

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"cofferdam.dev/internal/volume/blob"
	"cofferdam.dev/internal/volume/blob/azure"
	"cofferdam.dev/internal/volume/blobtest"
	"cofferdam.dev/internal/volume/blockcache"
)

const (
	benchSize   = 64 << 20
	benchVolume = 1 << 30
	serialRange = 512 << 10 // what a reader asks for that asks for one range after the other
	kernelRead  = 128 << 10 // what a kernel asks a file system in user space for
)

// BenchmarkRemote reads a blob in order, through a cache and by one range after the other, in turns at the same server; and
// the first bytes of a large one. The cache is new each time: nothing is in memory before.
func BenchmarkRemote(b *testing.B) {
	a := blobtest.StartAzurite(b)
	key, err := azure.NewSharedKey(a.Account, blob.NewSecret(a.Key))
	if err != nil {
		b.Fatal(err)
	}
	keyed := blob.Options{AccountKey: key}
	uploadBench(b, a.URL+"/public/block", benchSize, blob.UploadOptions{Options: keyed})
	uploadBench(b, a.URL+"/public/page", benchSize, blob.UploadOptions{Options: keyed, PageBlob: true})
	uploadBench(b, a.URL+"/public/large", benchVolume, blob.UploadOptions{Options: keyed, PageBlob: true})
	distant := keyed
	distant.HTTP = &http.Client{Transport: afar{blob.NewHTTPClient(nil).Transport}}
	for _, c := range []struct {
		name, url string
		options   blob.Options
	}{
		{"block-anonymous", a.URL + "/public/block", blob.Options{}},
		{"block-signed", a.URL + "/public/block", keyed},
		{"page-signed", a.URL + "/public/page", keyed},
		{"distant", a.URL + "/public/block", distant},
	} {
		b.Run(c.name, func(b *testing.B) { benchSequential(b, c.url, c.options) })
	}
	b.Run("first-byte", func(b *testing.B) { benchFirstByte(b, a.URL+"/public/large", keyed) })
	b.Run("write", func(b *testing.B) { benchWrite(b, a.URL+"/public/page", keyed) })
}

// distance is how long a request is on its way to a server in another place and back.
const distance = 20 * time.Millisecond

// afar makes a server answer as from a distance.
type afar struct{ http.RoundTripper }

func (a afar) RoundTrip(r *http.Request) (*http.Response, error) {
	time.Sleep(distance)
	return a.RoundTripper.RoundTrip(r)
}

// uploadBench uploads a file with something in its first megabytes and in its last.
func uploadBench(b *testing.B, url string, size int64, o blob.UploadOptions) {
	b.Helper()
	f, err := os.Create(filepath.Join(b.TempDir(), "volume"))
	if err != nil {
		b.Fatal(err)
	}
	head := pattern(int(min(size, benchSize)))
	for _, err := range []error{f.Truncate(size), writeAll(f, head, 0), writeAll(f, head[:4096], size-4096), f.Close()} {
		if err != nil {
			b.Fatal(err)
		}
	}
	begun := time.Now()
	if err := blob.Upload(b.Context(), f.Name(), url, o); err != nil {
		b.Fatal(err)
	}
	b.Logf("uploaded %d MiB in %v", size>>20, time.Since(begun).Round(time.Millisecond))
}

func writeAll(f *os.File, p []byte, off int64) error {
	_, err := f.WriteAt(p, off)
	return err
}

func benchSequential(b *testing.B, url string, o blob.Options) {
	var cached, serial, spent time.Duration
	for b.Loop() {
		before := cpu(b)
		cached += timed(b, func() error { return readCached(b, url, o) })
		spent += cpu(b) - before
		serial += timed(b, func() error { return readSerial(b, url, o) })
	}
	rate := func(d time.Duration) float64 { return float64(b.N) * benchSize / 1e6 / d.Seconds() }
	b.ReportMetric(rate(cached), "MB/s")
	b.ReportMetric(rate(serial), "serial-MB/s")
	b.ReportMetric(rate(cached)/rate(serial), "x-serial")
	b.ReportMetric(rate(spent), "MB/cpu-s")
	b.ReportMetric(0, "ns/op")
}

// cpu is the processor time of this process, which the server is not part of.
func cpu(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func timed(b *testing.B, f func() error) time.Duration {
	begun := time.Now()
	if err := f(); err != nil {
		b.Fatal(err)
	}
	return time.Since(begun)
}

func readCached(b *testing.B, url string, o blob.Options) error {
	src, err := blob.Open(b.Context(), url, o)
	if err != nil {
		return err
	}
	c, err := blockcache.Open(src, blockcache.Options{})
	if err != nil {
		return err
	}
	p := make([]byte, kernelRead)
	for off := int64(0); off < c.Size(); off += kernelRead {
		if _, err := c.ReadAt(b.Context(), p, off); err != nil {
			return err
		}
	}
	return c.Close()
}

func readSerial(b *testing.B, url string, o blob.Options) error {
	src, err := blob.Open(b.Context(), url, o)
	if err != nil {
		return err
	}
	p := make([]byte, serialRange)
	for off := int64(0); off < src.Size(); off += serialRange {
		if _, err := src.ReadAt(b.Context(), p, off); err != nil {
			return err
		}
	}
	return src.Close()
}

// benchFirstByte opens a large volume, with nothing of it known before, and reads a page in its middle and at its end.
func benchFirstByte(b *testing.B, url string, o blob.Options) {
	for b.Loop() {
		o.HTTP = blob.NewHTTPClient(nil) // no connection is open either
		src, err := blob.Open(b.Context(), url, o)
		if err != nil {
			b.Fatal(err)
		}
		c, err := blockcache.Open(src, blockcache.Options{})
		if err != nil {
			b.Fatal(err)
		}
		if _, err := c.ReadAt(b.Context(), make([]byte, 4096), c.Size()-4096); err != nil {
			b.Fatal(err)
		}
		if err := c.Close(); err != nil {
			b.Fatal(err)
		}
		o.HTTP.CloseIdleConnections()
	}
	b.ReportMetric(float64(b.Elapsed().Milliseconds())/float64(b.N), "ms/first-byte")
}

// benchWrite writes a page blob in order, and has it stored.
func benchWrite(b *testing.B, url string, o blob.Options) {
	p := pattern(kernelRead)
	o.Write = true
	var took time.Duration
	for b.Loop() {
		src, err := blob.Open(b.Context(), url, o)
		if err != nil {
			b.Fatal(err)
		}
		c, err := blockcache.Open(src, blockcache.Options{})
		if err != nil {
			b.Fatal(err)
		}
		took += timed(b, func() error {
			for off := int64(0); off < benchSize; off += kernelRead {
				if err := c.WriteAt(b.Context(), p, off); err != nil {
					return err
				}
			}
			return c.Flush(b.Context())
		})
		if err := c.Close(); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.N)*benchSize/1e6/took.Seconds(), "MB/s")
}

// BenchmarkMemory is what the cache itself costs: of blocks that are in memory, and of a source that takes no time.
func BenchmarkMemory(b *testing.B) {
	m := &memory{data: pattern(64 << 20)}
	b.Run("cold", func(b *testing.B) {
		b.SetBytes(m.Size())
		p := make([]byte, kernelRead)
		for b.Loop() {
			c, err := blockcache.Open(m, blockcache.Options{MaxBytes: 16 << 20})
			if err != nil {
				b.Fatal(err)
			}
			for off := int64(0); off < c.Size(); off += kernelRead {
				if _, err := c.ReadAt(b.Context(), p, off); err != nil {
					b.Fatal(err)
				}
			}
			if err := c.Close(); err != nil {
				b.Fatal(err)
			}
		}
	})
	for _, n := range []int{4 << 10, kernelRead} {
		b.Run(fmt.Sprintf("warm-%dKiB", n>>10), func(b *testing.B) {
			c := open(b, m, blockcache.Options{})
			p := make([]byte, n)
			if _, err := io.Copy(io.Discard, io.NewSectionReader(blob.ReaderAt(b.Context(), c), 0, c.Size())); err != nil {
				b.Fatal(err)
			}
			b.SetBytes(int64(n))
			b.ResetTimer()
			for i := 0; b.Loop(); i++ {
				if _, err := c.ReadAt(b.Context(), p, int64(i)*7919*4096%(c.Size()-kernelRead)); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
