// SPDX-License-Identifier: Apache-2.0

package machine

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"cofferdam.dev/internal/agent/machine/devmapper"
)

func TestVerityTarget(t *testing.T) {
	t.Parallel()
	got := verityTarget("8:16", [32]byte{0xab, 31: 0xcd}, 279)
	const want = "1 8:16 8:16 4096 4096 279 280 sha256 " +
		"ab000000000000000000000000000000000000000000000000000000000000cd " +
		"0000000000000000000000000000000000000000000000000000000000000000"
	if string(got.Params) != want || got.Type != "verity" || got.Start != 0 || got.Sectors != 279*8 {
		t.Errorf("target is %+v with %q", got, got.Params)
	}
}

func TestIntegrityTarget(t *testing.T) {
	t.Parallel()
	got := integrityTarget("8:32", 8)
	if string(got.Params) != "8:32 0 32 D 2 block_size:4096 fix_padding" || got.Type != "integrity" || got.Sectors != 8 {
		t.Errorf("target is %+v with %q", got, got.Params)
	}
}

func TestProvidedSectors(t *testing.T) {
	t.Parallel()
	line := func(params string) []devmapper.Target {
		return []devmapper.Target{{Type: "integrity", Params: []byte(params)}}
	}
	if n, err := providedSectors(line("0 524288 -")); err != nil || n != 524288 {
		t.Errorf("sectors are %d, %v; want 524288", n, err)
	}
	for name, status := range map[string][]devmapper.Target{
		"no target": nil, "other type": {{Type: "crypt", Params: []byte("0 1 -")}}, "two": append(line("0 1 -"), line("0 1 -")...),
		"few fields": line("0 1"), "no number": line("0 x -"), "negative": line("0 -1 -"), "huge": line("0 18014398509481984 -"),
	} {
		if n, err := providedSectors(status); err == nil {
			t.Errorf("%s: %d sectors", name, n)
		}
	}
}

func TestReadMemory(t *testing.T) {
	t.Parallel()
	write := func(text string) string {
		path := filepath.Join(t.TempDir(), "meminfo")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	total, available, err := readMemory(write("MemTotal:         744000 kB\nMemFree:  1 kB\nMemAvailable:     600000 kB\n"))
	if err != nil || total != 744000<<10 || available != 600000<<10 {
		t.Errorf("memory is %d, %d, %v", total, available, err)
	}
	for _, text := range []string{"", "MemTotal: 1 kB\n", "MemTotal: 1\nMemAvailable: 1 kB\n", "MemTotal: x kB\nMemAvailable: 1 kB\n"} {
		if total, available, err := readMemory(write(text)); err == nil {
			t.Errorf("%q gave %d, %d", text, total, available)
		}
	}
}

func TestPaths(t *testing.T) {
	t.Parallel()
	for _, good := range []string{"/run/mounts/scsi/m0", "/run/gcs/c/" + strings.Repeat("a", 64) + "/rootfs"} {
		if err := checkPath(good); err != nil {
			t.Error(err)
		}
	}
	for _, bad := range []string{
		"", "/", "run", "/run/", "/run//x", "/run/./x", "/run/../x", "/run/a b", "/run/a:b", "/run/a,b", "/run/a\\b", "/run/a\nb", "/run/ä",
		"/" + strings.Repeat("a", maxPath),
	} {
		if checkPath(bad) == nil {
			t.Errorf("path %q is allowed", bad)
		}
	}
}

// TestOneOperationAtATime is about requests that race for one target.
func TestOneOperationAtATime(t *testing.T) {
	t.Parallel()
	m := New(Config{})
	done, err := m.begin("/run/x")
	if err != nil {
		t.Fatal(err)
	}
	ctx := context.Background()
	for name, err := range map[string]error{
		"OpenLayer": m.OpenLayer(ctx, "a", [32]byte{}, 1, "/run/x"), "CloseLayer": m.CloseLayer(ctx, "/run/x"),
		"OpenScratch": m.OpenScratch(ctx, "a", "/run/x"), "CloseScratch": m.CloseScratch(ctx, "/run/x"),
		"MountOverlay": m.MountOverlay(ctx, []string{"/run/y"}, "", 1, "/run/x"), "UnmountOverlay": m.UnmountOverlay(ctx, "/run/x"),
	} {
		if !errors.Is(err, ErrInUse) {
			t.Errorf("%s during another operation: %v, want ErrInUse", name, err)
		}
	}
	done()
	for name, err := range map[string]error{
		"CloseLayer": m.CloseLayer(ctx, "/run/x"), "CloseScratch": m.CloseScratch(ctx, "/run/x"),
		"UnmountOverlay": m.UnmountOverlay(ctx, "/run/x"), "MountOverlay": m.MountOverlay(ctx, []string{"/run/y"}, "", 1, "/run/x"),
	} {
		if !errors.Is(err, ErrNotMounted) {
			t.Errorf("%s of what is not mounted: %v, want ErrNotMounted", name, err)
		}
	}
}

// TestOverlayHoldsItsParts is about closing what a new overlay is made of, before and after it is recorded.
func TestOverlayHoldsItsParts(t *testing.T) {
	t.Parallel()
	m := New(Config{})
	m.layers["/run/l"] = devmapper.Device{}
	m.scratch["/run/s"] = scratchDisk{}
	o := overlay{layers: []string{"/run/l"}, upperParent: "/run/s"}
	for _, part := range []string{"/run/l", "/run/s"} {
		done, err := m.begin(part)
		if err != nil {
			t.Fatal(err)
		}
		if err := m.claim(o, "/run/o"); !errors.Is(err, ErrNotMounted) {
			t.Errorf("claim while %s is being closed: %v, want ErrNotMounted", part, err)
		}
		done()
	}
	if err := m.claim(o, "/run/o"); err != nil {
		t.Fatal(err)
	}
	ctx := context.Background()
	if err := m.CloseLayer(ctx, "/run/l"); !errors.Is(err, ErrInUse) {
		t.Errorf("closing a layer of an overlay: %v, want ErrInUse", err)
	}
	if err := m.CloseScratch(ctx, "/run/s"); !errors.Is(err, ErrInUse) {
		t.Errorf("closing the scratch disk of an overlay: %v, want ErrInUse", err)
	}
	if err := m.OpenLayer(ctx, "a", [32]byte{}, 1, "/run/o"); !errors.Is(err, ErrInUse) {
		t.Errorf("opening a layer over an overlay: %v, want ErrInUse", err)
	}
}

func TestUndone(t *testing.T) {
	t.Parallel()
	why, undo := errors.New("why"), errors.New("and this")
	if err := undone(why, nil); !errors.Is(err, why) || errors.Is(err, ErrNotUndone) {
		t.Errorf("what was undone counts as left: %v", err)
	}
	if err := undone(why, undo); !errors.Is(err, why) || !errors.Is(err, undo) || !errors.Is(err, ErrNotUndone) {
		t.Errorf("what was not undone is %v, want both errors and ErrNotUndone", err)
	}
	if err := undone(nil, undo); !errors.Is(err, ErrNotUndone) {
		t.Errorf("a device that stays is %v, want ErrNotUndone", err)
	}
}
