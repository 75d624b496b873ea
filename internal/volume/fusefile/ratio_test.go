// SPDX-License-Identifier: Apache-2.0

package fusefile

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"cofferdam.dev/internal/volume/blob"
	"cofferdam.dev/internal/volume/erofs"
	"cofferdam.dev/internal/volume/sealed"
)

// ratios are how one thing did against another, measured in turn.
type ratios []float64

func (r ratios) quantile(q float64) float64 {
	slices.Sort(r)
	return r[int(q*float64(len(r)-1))]
}

// report shows the median, and the quartiles as the spread.
func (r ratios) report(b *testing.B, unit string) {
	b.Helper()
	b.ReportMetric(r.quantile(0.5), unit)
	b.ReportMetric(r.quantile(0.25), unit+"-q1")
	b.ReportMetric(r.quantile(0.75), unit+"-q3")
}

// cost is what something took, by the clock and of processors.
type cost struct{ clock, cpu time.Duration }

// measure runs something, of which this process and those that it waited for are the cost.
func measure(b *testing.B, do func() error) cost {
	b.Helper()
	cpu, clock := processors(b), time.Now()
	if err := do(); err != nil {
		b.Fatal(err)
	}
	return cost{time.Since(clock), processors(b) - cpu}
}

// processors is how much processor time was used so far, by this process and by those that it waited for.
func processors(b *testing.B) time.Duration {
	b.Helper()
	var sum time.Duration
	for _, who := range []int{unix.RUSAGE_SELF, unix.RUSAGE_CHILDREN} {
		var u unix.Rusage
		if err := unix.Getrusage(who, &u); err != nil {
			b.Fatal(err)
		}
		sum += time.Duration(u.Utime.Nano() + u.Stime.Nano())
	}
	return sum
}

// sealedVolume is a sealed volume as a device.
type sealedVolume struct{ *sealed.Device }

func (sealedVolume) BlockSize() int { return sealed.BlockSize }

func (s sealedVolume) ReadAt(ctx context.Context, p []byte, off int64) error {
	return s.ReadContext(ctx, p, off)
}

func (sealedVolume) WriteAt(context.Context, []byte, int64) error { return errors.ErrUnsupported }
func (sealedVolume) Flush(context.Context) error                  { return nil }

// sealedSubject is a sealed volume with a file of benchSize bytes, in a directory.
func sealedSubject(b *testing.B, dir string) Device {
	b.Helper()
	in, path := filepath.Join(dir, "in"), filepath.Join(dir, "sealed")
	if err := os.Mkdir(in, 0o700); err != nil {
		b.Fatal(err)
	}
	content := make([]byte, benchSize)
	_, _ = rand.NewChaCha8([32]byte{1}).Read(content) // never fails
	if err := os.WriteFile(filepath.Join(in, "file"), content, 0o600); err != nil {
		b.Fatal(err)
	}
	tree, err := erofs.OpenDir(in)
	if err != nil {
		b.Fatal(err)
	}
	f, err := os.Create(path)
	if err != nil {
		b.Fatal(err)
	}
	key := sealed.Key{1}
	facts, err := sealed.Build(b.Context(), tree, f, key, sealed.Options{})
	if err := errors.Join(err, f.Close(), tree.Close(), os.RemoveAll(in)); err != nil {
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
	return sealedVolume{d}
}

// BenchmarkAgainstPlain reads volumes and a file that is not encrypted through the same server in turn, so that whatever else
// the machine does meets all of them. The reader is one process that reads a MiB at a time, in order; nothing of what it reads
// is in the kernel's cache before, and all that lies below is in memory. A ratio is plain's time over the volume's, of the same round.
func BenchmarkAgainstPlain(b *testing.B) {
	devices := subjects(b)
	names := []string{"luks2", "shadow", "sealed"}
	mounts := map[string]*Mount{"plain": show(b, devices["plain"], Options{Write: true})}
	for _, name := range names {
		mounts[name] = show(b, devices[name], Options{Write: name != "sealed"})
	}
	sequential := func(name string) func() error {
		return func() error {
			out, err := exec.Command("dd", "if="+mounts[name].Path(), "of=/dev/null", "bs=1M", fmt.Sprintf("count=%d", benchSize>>20)).CombinedOutput()
			if err != nil {
				return fmt.Errorf("%w: %s", err, out)
			}
			return nil
		}
	}
	b.Run("sequential-read", func(b *testing.B) { inTurn(b, mounts, names, sequential) })
	b.Run("random-read-4k", func(b *testing.B) { randomInTurn(b, mounts, names) })
}

// inTurn measures rounds of plain and of others.
func inTurn(b *testing.B, mounts map[string]*Mount, names []string, do func(name string) func() error) {
	clock, cpu := map[string]ratios{}, map[string]ratios{}
	var rates ratios
	for b.Loop() {
		costs := map[string]cost{}
		for _, name := range append([]string{"plain"}, names...) {
			f := open(b, mounts[name], os.O_RDONLY)
			forget(b, f)
			if err := f.Close(); err != nil {
				b.Fatal(err)
			}
			costs[name] = measure(b, do(name))
		}
		plain := costs["plain"]
		rates = append(rates, benchSize/1e6/plain.clock.Seconds())
		for _, name := range names {
			clock[name] = append(clock[name], plain.clock.Seconds()/costs[name].clock.Seconds())
			cpu[name] = append(cpu[name], plain.cpu.Seconds()/costs[name].cpu.Seconds())
		}
	}
	b.ReportMetric(rates.quantile(0.5), "plain-MB/s")
	for _, name := range names {
		clock[name].report(b, name+"/plain")
		b.ReportMetric(cpu[name].quantile(0.5), name+"/plain-cpu")
	}
}

// randomInTurn measures single reads of blocks that the kernel does not have, past its cache.
func randomInTurn(b *testing.B, mounts map[string]*Mount, names []string) {
	const reads = 500 // in a row of each
	took := map[string][]time.Duration{}
	r := rand.New(rand.NewPCG(1, 1))
	p, err := unix.Mmap(-1, 0, 4096, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE) // aligned
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = unix.Munmap(p) }()
	for b.Loop() {
		for _, name := range append([]string{"plain"}, names...) {
			f := open(b, mounts[name], os.O_RDONLY|unix.O_DIRECT)
			for range reads {
				begun := time.Now()
				if _, err := f.ReadAt(p, 4096*r.Int64N(benchSize/4096)); err != nil {
					b.Fatal(err)
				}
				took[name] = append(took[name], time.Since(begun))
			}
			if err := f.Close(); err != nil {
				b.Fatal(err)
			}
		}
	}
	for name, t := range took {
		slices.SortFunc(t, cmp.Compare)
		b.ReportMetric(float64(t[len(t)/2].Nanoseconds())/1000, name+"-µs")
	}
}
