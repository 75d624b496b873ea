// SPDX-License-Identifier: Apache-2.0

package vmtest

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"cofferdam.dev/internal/agent/machine"
	"cofferdam.dev/internal/agent/machine/devmapper"
)

func (g *guest) testLayer(t *testing.T) {
	start := time.Now()
	target := g.open(t, "base")
	t.Logf("the layer was open after %v", time.Since(start).Round(100*time.Microsecond))
	wantFile(t, target+"/dir/old", "old\n")
	wantFile(t, target+"/link", "base\n")
	start = time.Now()
	if got, err := os.ReadFile(target + "/big"); err != nil || !bytes.Equal(got, bigData()) {
		t.Errorf("big: %d bytes, %v; not what was stored", len(got), err)
	}
	t.Logf("%d KiB were verified in %v", bigSize>>10, time.Since(start).Round(100*time.Microsecond))
	if info, err := os.Stat(target + "/setuid"); err != nil || info.Mode()&os.ModeSetuid == 0 {
		t.Errorf("setuid: %v, %v; want the bit to be kept", info, err)
	}
	if _, err := os.Open(target + "/null"); !errors.Is(err, unix.EACCES) {
		t.Errorf("opening a device node of the layer: %v, want EACCES", err)
	}
	if err := os.WriteFile(target+"/x", nil, 0o600); !errors.Is(err, unix.EROFS) {
		t.Errorf("writing: %v, want EROFS", err)
	}
	if err := g.tryOpen(t, "top", target); !errors.Is(err, machine.ErrInUse) {
		t.Errorf("a second layer at the same target: %v, want ErrInUse", err)
	}
	start = time.Now()
	g.close(t, target)
	t.Logf("and closed in %v", time.Since(start).Round(100*time.Microsecond))
	wantGone(t, target+"/dir")
	if err := g.machine.CloseLayer(context.Background(), target); !errors.Is(err, machine.ErrNotMounted) {
		t.Errorf("closing again: %v, want ErrNotMounted", err)
	}
}

func (g *guest) testLayerRefused(t *testing.T) {
	base := g.plan.Layers["base"]
	good := root(t, base.Root)
	wrong := good
	wrong[0] ^= 1
	ctx := context.Background()
	tests := []struct {
		name, serial string
		root         [32]byte
		blocks       uint64
		target       string
		want         error // nil: any
	}{
		{"wrong root", "base", wrong, base.Blocks, g.target(), unix.EIO},
		{"zero root", "base", [32]byte{}, base.Blocks, g.target(), unix.EIO},
		{"root of another layer", "top", good, base.Blocks, g.target(), nil},
		{"one block less", "base", good, base.Blocks - 1, g.target(), nil},
		{"one block more", "base", good, base.Blocks + 1, g.target(), nil},
		{"no blocks", "base", good, 0, g.target(), nil},
		{"blocks beyond all bounds", "base", good, 1 << 60, g.target(), nil},
		{"changed filesystem superblock", "flipped-super", good, base.Blocks, g.target(), unix.EIO},
		{"changed tree", "flipped-tree", good, base.Blocks, g.target(), unix.EIO},
		{"other superblock version", "sb-version", good, base.Blocks, g.target(), nil},
		{"other number of blocks in the superblock", "sb-blocks", good, base.Blocks, g.target(), nil},
		{"no superblock", "sb-gone", good, base.Blocks, g.target(), nil},
		{"other salt", "sb-other-salt", good, base.Blocks, g.target(), nil},
		{"zeros", "not-a-layer-at", good, base.Blocks, g.target(), nil},
		{"tree over more than the filesystem", "forged", root(t, g.plan.Layers["forged"].Root), g.plan.Layers["forged"].Blocks, g.target(), nil},
		{"no such disk", "nobody", good, base.Blocks, g.target(), os.ErrNotExist},
		{"bad serial", "../sda", good, base.Blocks, g.target(), nil},
		{"relative target", "base", good, base.Blocks, "run/x", nil},
		{"target with dots", "base", good, base.Blocks, "/run/../etc", nil},
		{"target with a comma", "base", good, base.Blocks, "/run/a,b", nil},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			err := g.machine.OpenLayer(ctx, tc.serial, tc.root, tc.blocks, tc.target)
			if err == nil {
				t.Fatal("the layer was opened")
			}
			if tc.want != nil && !errors.Is(err, tc.want) {
				t.Errorf("error is %v, want one that wraps %v", err, tc.want)
			}
			t.Log(err)
			if left := mapped(t); len(left) > 0 {
				t.Errorf("devices are left: %v", left)
			}
		})
	}
}

// testLayerNotUndone holds the mapped device of a layer that does not open: it stays, and the error says so.
func (g *guest) testLayerNotUndone(t *testing.T) {
	base := g.plan.Layers["base"]
	for end := time.Now().Add(5 * time.Minute); time.Now().Before(end); { // until the device is caught while it exists
		held, stop := make(chan *os.File, 1), make(chan struct{})
		go func() {
			defer close(held)
			for {
				f, err := os.Open("/dev/dm-0")
				if err == nil {
					held <- f
					return
				}
				select {
				case <-stop:
					return
				case <-time.After(20 * time.Microsecond):
				}
			}
		}()
		err := g.machine.OpenLayer(context.Background(), "base", [32]byte{}, base.Blocks, g.target())
		close(stop)
		f := <-held
		if f == nil {
			continue
		}
		name := strings.TrimSpace(read(t, "/sys/block/dm-0/dm/name"))
		_ = f.Close()
		if !errors.Is(err, machine.ErrNotUndone) || !errors.Is(err, unix.EIO) {
			t.Errorf("a layer whose device stays: %v, want ErrNotUndone and EIO", err)
		}
		dm, err := devmapper.Open()
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(dm.Remove(context.Background(), devmapper.Device{Name: name}), dm.Close()); err != nil {
			t.Error(err)
		}
		return
	}
	t.Error("the device was never there for long enough")
}

func (g *guest) testLayerFlippedBit(t *testing.T) {
	target := g.open(t, "flipped-data")
	got, err := os.ReadFile(target + "/big")
	if !errors.Is(err, unix.EIO) {
		t.Errorf("reading a file with a flipped bit: %v, want EIO", err)
	}
	if !bytes.HasPrefix(bigData(), got) {
		t.Error("changed data came out")
	}
	wantFile(t, target+"/dir/kept", "kept\n") // other blocks are not affected
	g.close(t, target)
}

func (g *guest) testLayerChangedWhileMounted(t *testing.T) {
	target := g.open(t, "live")
	wantFile(t, target+"/changed", "base\n")
	raw := rawDisk(t, "live")
	b := make([]byte, g.plan.Layers["live"].Blocks*4096)
	if _, err := raw.ReadAt(b, 0); err != nil {
		t.Fatal(err)
	}
	at := bytes.Index(b, bigData()[bigSize/2:bigSize/2+32])
	if at < 0 {
		t.Fatal("the file's data are not on the disk")
	}
	if _, err := raw.WriteAt([]byte{b[at] ^ 0x80}, int64(at)); err != nil {
		t.Fatal(err)
	}
	dropCaches(t)
	got, err := os.ReadFile(filepath.Join(target, "big"))
	if !errors.Is(err, unix.EIO) || !bytes.HasPrefix(bigData(), got) {
		t.Errorf("reading what was changed while mounted: %v, want EIO and no changed data", err)
	}
	g.close(t, target)
}
