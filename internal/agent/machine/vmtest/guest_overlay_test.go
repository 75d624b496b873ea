// SPDX-License-Identifier: Apache-2.0

package vmtest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"cofferdam.dev/internal/agent/machine"
)

const upperSize = 16 << 20

// rootfs is a target of an overlay for container n.
func rootfs(n int) string { return fmt.Sprintf("/run/gcs/c/%064x/rootfs", n) }

func (g *guest) overlay(t *testing.T, n int, scratch string, layers ...string) string {
	t.Helper()
	target := rootfs(n)
	if err := g.machine.MountOverlay(context.Background(), layers, scratch, upperSize, target); err != nil {
		t.Fatal(err)
	}
	return target
}

func (g *guest) unmount(t *testing.T, target string) {
	t.Helper()
	if err := g.machine.UnmountOverlay(context.Background(), target); err != nil {
		t.Error(err)
	}
}

func (g *guest) testOverlay(t *testing.T) {
	base, top := g.open(t, "base"), g.open(t, "top")
	target := g.overlay(t, 1, "", top, base)
	wantFile(t, target+"/changed", "top\n")
	wantFile(t, target+"/dir/kept", "kept\n")
	wantFile(t, target+"/dir/new", "new\n")
	wantFile(t, target+"/opaque/shown", "shown\n")
	for _, gone := range []string{"gone", "dir/old", "opaque/hidden", ".wh.gone", "opaque/.wh..wh..opq"} {
		wantGone(t, path.Join(target, gone))
	}
	info, err := os.Stat(target)
	if err != nil || info.Mode().Perm() != 0o750 {
		t.Errorf("the root is %v, %v; want the top layer's mode 0750", info, err)
	}
	if _, err := os.Open(target + "/null"); !errors.Is(err, unix.EACCES) {
		t.Errorf("opening a device node: %v, want EACCES", err)
	}
	if err := os.WriteFile(target+"/dir/kept", []byte("mine\n"), 0o644); err != nil {
		t.Error(err)
	}
	if err := errors.Join(os.Remove(target+"/changed"), os.Rename(target+"/dir/new", target+"/moved")); err != nil {
		t.Error(err)
	}
	wantFile(t, target+"/dir/kept", "mine\n")
	wantFile(t, target+"/moved", "new\n")
	wantGone(t, target+"/changed")
	wantFile(t, base+"/dir/kept", "kept\n")
	wantGone(t, path.Dir(target)+"/memory")
	if err := g.machine.CloseLayer(context.Background(), base); !errors.Is(err, machine.ErrInUse) {
		t.Errorf("closing a layer in use: %v, want ErrInUse", err)
	}
	f, err := os.Open(target + "/moved")
	if err != nil {
		t.Fatal(err)
	}
	if err := g.machine.UnmountOverlay(context.Background(), target); !errors.Is(err, unix.EBUSY) {
		t.Errorf("unmounting with an open file: %v, want EBUSY", err)
	}
	_ = f.Close()
	g.unmount(t, target)
	wantGone(t, path.Dir(target))
	// The same place again starts afresh.
	g.overlay(t, 1, "", top, base)
	wantFile(t, target+"/changed", "top\n")
	g.unmount(t, target)
	g.close(t, top, base)
}

func (g *guest) testOverlayRefused(t *testing.T) {
	base := g.open(t, "base")
	ctx := context.Background()
	for _, tc := range []struct {
		name, scratch string
		layers        []string
		memory        uint64
	}{
		{"no layers", "", nil, upperSize},
		{"too many layers", "", make([]string, 65), upperSize},
		{"layer that is none", "", []string{"/etc"}, upperSize},
		{"one layer that is none", "", []string{base, "/run"}, upperSize},
		{"layer twice", "", []string{base, base}, upperSize},
		{"no memory", "", []string{base}, 0},
		{"scratch that is none", "/run", []string{base}, upperSize},
	} {
		t.Run(tc.name, func(t *testing.T) {
			err := g.machine.MountOverlay(ctx, tc.layers, tc.scratch, tc.memory, rootfs(2))
			if err == nil {
				g.unmount(t, rootfs(2))
				t.Fatal("mounted")
			}
			t.Log(err)
		})
	}
	g.overlay(t, 2, "", base) // after the failures the place is free
	if err := g.machine.MountOverlay(ctx, []string{base}, "", upperSize, rootfs(2)); !errors.Is(err, machine.ErrInUse) {
		t.Errorf("a second overlay at the same target: %v, want ErrInUse", err)
	}
	g.unmount(t, rootfs(2))
	g.close(t, base)
}

func (g *guest) testOverlayMemoryLimit(t *testing.T) {
	base := g.open(t, "base")
	target := g.overlay(t, 3, "", base)
	err := os.WriteFile(target+"/fill", make([]byte, upperSize+1), 0o600)
	if !errors.Is(err, unix.ENOSPC) {
		t.Errorf("writing more than the limit: %v, want ENOSPC", err)
	}
	if err := os.Remove(target + "/fill"); err != nil {
		t.Error(err)
	}
	if err := os.WriteFile(target+"/small", []byte("fits"), 0o600); err != nil {
		t.Error(err)
	}
	g.unmount(t, target)
	g.close(t, base)
}

func (g *guest) testOverlayManyLayers(t *testing.T) {
	var layers []string
	start := time.Now()
	for i := range manyLayers {
		layers = append([]string{g.open(t, fmt.Sprintf("many%d", i))}, layers...)
	}
	opened := time.Since(start)
	target := g.overlay(t, 4, "", layers...)
	t.Logf("%d layers were open after %v, the overlay took %v", manyLayers, opened.Round(time.Millisecond),
		(time.Since(start) - opened).Round(100*time.Microsecond))
	wantFile(t, target+"/last", fmt.Sprint(manyLayers-1))
	names, err := os.ReadDir(target)
	if err != nil || len(names) != manyLayers+2 { // and lost+found
		t.Errorf("the root has %d entries, %v; want %d", len(names), err, manyLayers+2)
	}
	g.unmount(t, target)
	g.close(t, layers...)
}

// testOverlaySameLayerTwice covers images that list one layer several times: the disk is opened at two targets.
func (g *guest) testOverlaySameLayerTwice(t *testing.T) {
	a, b, top := g.open(t, "base"), g.open(t, "base"), g.open(t, "top")
	target := g.overlay(t, 5, "", a, top, b)
	wantFile(t, target+"/gone", "gone\n")
	wantFile(t, target+"/changed", "base\n")
	g.unmount(t, target)
	g.close(t, a, b, top)
}

func (g *guest) testScratch(t *testing.T) {
	ctx := context.Background()
	for _, serial := range []string{"scratch-1g", "scratch-a"} {
		scratch := path.Dir(rootfs(6))
		start := time.Now()
		if err := g.machine.OpenScratch(ctx, serial, scratch); err != nil {
			t.Fatal(err)
		}
		t.Logf("%s was open after %v", serial, time.Since(start).Round(time.Millisecond))
		base := g.open(t, "base")
		target := g.overlay(t, 6, scratch, base)
		secret := strings.Repeat(secretText, 20000)
		start = time.Now()
		if err := os.WriteFile(target+"/secret", []byte(secret), 0o600); err != nil {
			t.Fatal(err)
		}
		for i := range 200 {
			if err := os.WriteFile(fmt.Sprintf("%s/dir/f%d", target, i), []byte(secretText), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		dropCaches(t)
		wantFile(t, target+"/secret", secret)
		wantFile(t, target+"/dir/f199", secretText)
		t.Logf("%d KiB and 200 files were written and read in %v", len(secret)>>10, time.Since(start).Round(time.Millisecond))
		if err := g.machine.CloseScratch(ctx, scratch); !errors.Is(err, machine.ErrInUse) {
			t.Errorf("closing a scratch disk in use: %v, want ErrInUse", err)
		}
		wantNoPlaintext(t, serial)
		g.unmount(t, target)
		if err := g.machine.MountOverlay(ctx, []string{base}, scratch, 0, target); err == nil {
			t.Error("a scratch disk was used for a second overlay")
		}
		if err := g.machine.CloseScratch(ctx, scratch); err != nil {
			t.Fatal(err)
		}
		g.close(t, base)
	}
	wantGone(t, path.Dir(rootfs(6)))
}

func wantNoPlaintext(t *testing.T, serial string) {
	t.Helper()
	raw := rawDisk(t, serial)
	b := make([]byte, 64<<20)
	if _, err := raw.ReadAt(b, 0); err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(b, []byte(secretText[:20])) {
		t.Error("the disk holds plaintext")
	}
}

func (g *guest) testScratchRefused(t *testing.T) {
	ctx := context.Background()
	for _, serial := range []string{"scratch-small", "nobody", "base"} {
		if err := g.machine.OpenScratch(ctx, serial, "/run/gcs/c/x"); err == nil {
			t.Errorf("disk %s was opened as scratch", serial)
		} else {
			t.Log(err)
		}
	}
	if left := mapped(t); len(left) > 0 {
		t.Errorf("devices are left: %v", left)
	}
}

// testScratchTampered changes one bit in every block of the disk that holds something.
func (g *guest) testScratchTampered(t *testing.T) {
	ctx := context.Background()
	scratch := path.Dir(rootfs(7))
	if err := g.machine.OpenScratch(ctx, "scratch-b", scratch); err != nil {
		t.Fatal(err)
	}
	want := bigData()
	if err := os.WriteFile(scratch+"/file", want, 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(scratch + "/file") // keeps the inode in memory, so that the data are read and not the inode
	if err != nil {
		t.Fatal(err)
	}
	dropCaches(t)
	raw := rawDisk(t, "scratch-b")
	changed := 0
	b := make([]byte, 1<<20)
	for at := int64(1 << 20); ; at += int64(len(b)) { // behind the superblock of dm-integrity
		n, err := raw.ReadAt(b, at)
		for i := 0; i+4096 <= n; i += 4096 {
			if !bytes.Equal(b[i:i+4096], make([]byte, 4096)) {
				b[i+100] ^= 1
				changed++
			}
		}
		if n > 0 {
			if _, err := raw.WriteAt(b[:n], at); err != nil {
				t.Fatal(err)
			}
		}
		if err != nil {
			break
		}
	}
	if changed < bigSize/4096 {
		t.Fatalf("only %d blocks were found to change", changed)
	}
	dropCaches(t)
	got := make([]byte, len(want))
	n, err := f.Read(got)
	if err == nil || n > 0 {
		t.Errorf("reading changed blocks gave %d bytes, %v; want an error", n, err)
	}
	t.Logf("%d blocks changed: %v", changed, err)
	_ = f.Close()
	if err := g.machine.CloseScratch(ctx, scratch); err != nil {
		t.Error(err)
	}
}
