// SPDX-License-Identifier: Apache-2.0

package layer

import (
	"archive/tar"
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"cofferdam.dev/internal/testcap"
)

// generated is a layer with many files that never lies in memory.
type generated struct {
	files, size int
	diffID      string
}

func (g generated) write(w io.Writer) error {
	t := tar.NewWriter(w)
	content := strings.Repeat("0123456789abcdef", g.size/16+1)[:g.size]
	for i := range g.files {
		err := t.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: fmt.Sprintf("d%02d/f%06d", i%64, i), Mode: 0o644, Size: int64(g.size)})
		if err != nil {
			return err
		}
		_, err = io.WriteString(t, content)
		if err != nil {
			return err
		}
	}
	return t.Close()
}

func generate(files, size int) generated {
	g := generated{files: files, size: size}
	h := sha256.New()
	_ = g.write(h) // a hash never fails
	g.diffID = "sha256:" + hex.EncodeToString(h.Sum(nil))
	return g
}

func (g generated) DiffID() string { return g.diffID }

func (g generated) Uncompressed(context.Context) (io.ReadCloser, error) {
	r, w := io.Pipe()
	go func() { w.CloseWithError(g.write(w)) }()
	return r, nil
}

// TestMemory converts 256 MiB in a process of its own and looks now and then at what is in use. Garbage does not count: how much
// of that there is depends on when the collector gets a processor.
func TestMemory(t *testing.T) {
	if os.Getenv(childDir) == "" {
		cmd := child(t, t.TempDir())
		cmd.Args = []string{cmd.Args[0], "-test.v", "-test.run=^TestMemory$"}
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		t.Logf("%s", out)
		return
	}
	c, err := OpenCache(os.Getenv(childDir))
	if err != nil {
		t.Fatal(err)
	}
	source := generate(4096, 64<<10)
	before, peak, looks := inUse(), uint64(0), 0
	_, err = c.Get(t.Context(), source, func(e Event) {
		if !e.Done && e.Read>>20%16 == 0 {
			peak = max(peak, inUse())
			looks++
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	const most = 16 << 20
	if peak > before+most || looks < 10 {
		t.Errorf("converting took %d bytes of memory in %d looks, want at most %d", int64(peak-before), looks, most)
	} else {
		t.Logf("converting took %d bytes", int64(peak-before))
	}
}

// inUse returns how much memory is allocated and not garbage, in bytes.
func inUse() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// memoryUse returns a size from /proc/self/status in KiB.
func memoryUse(t *testing.T, field string) int {
	t.Helper()
	f, err := os.Open("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	for s := bufio.NewScanner(f); s.Scan(); {
		var kib int
		_, err = fmt.Sscanf(s.Text(), field+": %d kB", &kib)
		if err == nil {
			return kib
		}
	}
	t.Fatalf("/proc/self/status has no %s", field)
	return 0
}

func TestDiskFull(t *testing.T) {
	t.Parallel()
	testcap.Require(t, testcap.Root)
	base := t.TempDir()
	err := unix.Mount("tmpfs", base, "tmpfs", 0, "size=1m")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { testcap.Unmount(t, base) })
	c, err := OpenCache(base)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }() // or the file system stays busy
	_, err = c.Get(t.Context(), layerOf(makeTar(t, reg("a", strings.Repeat("a", 2<<20)))), nil)
	if !errors.Is(err, syscall.ENOSPC) || !strings.Contains(err.Error(), "the disk that holds the layer cache is full") {
		t.Errorf("error is %v, want one that says that the disk is full", err)
	}
	checkNothingLeft(t, c)
}
