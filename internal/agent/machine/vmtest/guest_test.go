// SPDX-License-Identifier: Apache-2.0

package vmtest

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"cofferdam.dev/internal/agent/machine"
	"cofferdam.dev/internal/agent/machine/block"
)

// guest is what the tests in the machine share.
type guest struct {
	plan    plan
	machine *machine.Machine
	mounts  int
}

func runGuestTests(t *testing.T) {
	text, err := os.ReadFile(planFile)
	if err != nil {
		t.Fatal(err)
	}
	g := &guest{machine: machine.New(machine.Config{
		Disks: block.Finder{Wait: 2 * time.Second}, LoadModules: system.Modules.Load,
	})}
	if err := json.Unmarshal(text, &g.plan); err != nil {
		t.Fatal(err)
	}
	for serial := range g.plan.Layers { // the kernel finds disks one by one; later a missing one is waited for shortly
		if _, err := (block.Finder{Wait: 2 * time.Minute}).Find(context.Background(), serial); err != nil {
			t.Fatal(err)
		}
	}
	for _, tc := range []struct {
		name string
		run  func(*testing.T)
	}{
		{"Boot", g.testBoot},
		{"Network", g.testNetwork},
		{"Layer", g.testLayer},
		{"LayerRefused", g.testLayerRefused},
		{"LayerNotUndone", g.testLayerNotUndone},
		{"LayerFlippedBit", g.testLayerFlippedBit},
		{"LayerChangedWhileMounted", g.testLayerChangedWhileMounted},
		{"Overlay", g.testOverlay},
		{"OverlayRefused", g.testOverlayRefused},
		{"OverlayMemoryLimit", g.testOverlayMemoryLimit},
		{"OverlayManyLayers", g.testOverlayManyLayers},
		{"OverlaySameLayerTwice", g.testOverlaySameLayerTwice},
		{"Scratch", g.testScratch},
		{"ScratchRefused", g.testScratchRefused},
		{"ScratchTampered", g.testScratchTampered},
		{"SealedVolume", g.testSealed},
		{"Reaper", g.testReaper},
		{"CgroupOutOfMemory", g.testCgroup},
		{"Container", g.testContainer},
		{"Modules", g.testModules},
		{"NothingLeft", g.testNothingLeft},
	} {
		if strings.Contains(tc.name, g.plan.Only) {
			t.Run(tc.name, tc.run)
		}
	}
}

// target returns a fresh mount target of the form that the host uses.
func (g *guest) target() string {
	g.mounts++
	return fmt.Sprintf("/run/mounts/scsi/m%d", g.mounts)
}

func (g *guest) open(t *testing.T, serial string) string {
	t.Helper()
	target := g.target()
	if err := g.tryOpen(t, serial, target); err != nil {
		t.Fatal(err)
	}
	return target
}

func (g *guest) tryOpen(t *testing.T, serial, target string) error {
	t.Helper()
	l := g.plan.Layers[serial]
	return g.machine.OpenLayer(context.Background(), serial, root(t, l.Root), l.Blocks, target)
}

func (g *guest) close(t *testing.T, targets ...string) {
	t.Helper()
	for _, target := range targets {
		if err := g.machine.CloseLayer(context.Background(), target); err != nil {
			t.Error(err)
		}
	}
}

func root(t *testing.T, text string) [32]byte {
	t.Helper()
	b, err := hex.DecodeString(text)
	if err != nil || len(b) != 32 {
		t.Fatalf("root hash %q: %v", text, err)
	}
	return [32]byte(b)
}

func read(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Error(err)
	}
	return string(b)
}

func wantFile(t *testing.T, path, want string) {
	t.Helper()
	if got := read(t, path); got != want {
		t.Errorf("%s holds %q, want %q", path, got, want)
	}
}

func wantGone(t *testing.T, path string) {
	t.Helper()
	if _, err := os.Lstat(path); !os.IsNotExist(err) {
		t.Errorf("%s: %v, want that it does not exist", path, err)
	}
}

func dropCaches(t *testing.T) {
	t.Helper()
	unix.Sync()
	if err := os.WriteFile("/proc/sys/vm/drop_caches", []byte("3"), 0); err != nil {
		t.Fatal(err)
	}
}

// mapped lists the device-mapper devices.
func mapped(t *testing.T) []string {
	t.Helper()
	entries, err := os.ReadDir("/sys/block")
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), "dm-") {
			names = append(names, e.Name())
		}
	}
	return names
}

// rawDisk opens the disk under everything, as the host sees it.
func rawDisk(t *testing.T, serial string) *os.File {
	t.Helper()
	d, err := block.Finder{}.Find(context.Background(), serial)
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile("/dev/"+d.Name, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	return f
}

func (g *guest) testNothingLeft(t *testing.T) {
	if left := mapped(t); len(left) > 0 {
		t.Errorf("device-mapper devices are left: %v", left)
	}
	mounts := read(t, "/proc/self/mounts")
	for line := range strings.Lines(mounts) {
		if strings.Contains(line, "/run/mounts") || strings.Contains(line, "/run/gcs") {
			t.Errorf("a mount is left: %s", line)
		}
	}
	if bytes.Contains([]byte(mounts), []byte("overlay")) {
		t.Error("an overlay is left")
	}
}
