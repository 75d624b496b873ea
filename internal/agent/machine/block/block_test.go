// SPDX-License-Identifier: Apache-2.0

package block

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func page(serial string) []byte {
	return append([]byte{0, 0x80, byte(len(serial) >> 8), byte(len(serial))}, serial...)
}

// addDisk makes the sysfs entries of a disk under sys.
func addDisk(t *testing.T, sys, name string, entries map[string]string) {
	t.Helper()
	for file, content := range entries {
		path := filepath.Join(sys, "block", name, file)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

func disk(serial, dev, size string) map[string]string {
	return map[string]string{"device/vpd_pg80": string(page(serial)), "dev": dev + "\n", "size": size + "\n"}
}

func TestFind(t *testing.T) {
	t.Parallel()
	sys := t.TempDir()
	addDisk(t, sys, "sda", disk("layer0", "8:0", "88"))
	addDisk(t, sys, "sdb", disk("layer1", "8:16", "4096"))
	addDisk(t, sys, "sdc", disk("twin", "8:32", "1"))
	addDisk(t, sys, "sdd", disk("twin", "8:48", "1"))
	addDisk(t, sys, "sde", disk("bad-size", "8:64", "-1"))
	addDisk(t, sys, "sdf", disk("huge", "8:80", "36028797018963968"))
	addDisk(t, sys, "sdg", disk("bad-dev", "8", "1"))
	addDisk(t, sys, "sdh", map[string]string{"device/vpd_pg80": "\x00\x80\xff\xffx"})
	addDisk(t, sys, "dm-0", map[string]string{"dev": "253:0\n", "size": "1\n"})

	f := Finder{Sys: sys, Wait: -1}
	got, err := f.Find(context.Background(), "layer1")
	if want := (Disk{Name: "sdb", Major: 8, Minor: 16, Sectors: 4096}); err != nil || got != want {
		t.Errorf("layer1 is %+v, %v; want %+v", got, err, want)
	}
	if got.Number() != "8:16" || got.Bytes() != 2<<20 {
		t.Errorf("layer1 is device %s with %d bytes, want 8:16 with %d", got.Number(), got.Bytes(), 2<<20)
	}
	for _, serial := range []string{"", "nobody", "Layer0", "twin", "bad-size", "huge", "bad-dev", "../sda", strings.Repeat("a", MaxSerial+1)} {
		if d, err := f.Find(context.Background(), serial); err == nil {
			t.Errorf("serial %q found disk %+v", serial, d)
		}
	}
	if _, err := f.Find(context.Background(), "twin"); !errors.Is(err, ErrAmbiguous) {
		t.Errorf("two disks with one serial number give %v, want ErrAmbiguous", err)
	}
}

func TestFindWaits(t *testing.T) {
	t.Parallel()
	sys := t.TempDir()
	go func() {
		time.Sleep(5 * pollInterval)
		// The number and size appear first, as in the kernel.
		for _, file := range []string{"dev", "size", "device/vpd_pg80"} {
			path := filepath.Join(sys, "block", "sda", file)
			_ = os.MkdirAll(filepath.Dir(path), 0o755)
			_ = os.WriteFile(path+".new", []byte(disk("late", "8:0", "8")[file]), 0o644)
			_ = os.Rename(path+".new", path)
		}
	}()
	if _, err := (Finder{Sys: sys}).Find(context.Background(), "late"); err != nil {
		t.Error(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*pollInterval)
	defer cancel()
	if _, err := (Finder{Sys: sys}).Find(ctx, "never"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("error is %v, want a deadline", err)
	}
}

func TestParseSerialPageRefuses(t *testing.T) {
	t.Parallel()
	for name, raw := range map[string][]byte{
		"empty":               nil,
		"header only":         {0, 0x80, 0},
		"no serial":           page(""),
		"other page":          append([]byte{0, 0x83, 0, 1}, 'a'),
		"tape drive":          append([]byte{1, 0x80, 0, 1}, 'a'),
		"longer than it says": append(page("a"), 'b'),
		"shorter":             page("abc")[:5],
		"upper case":          page("LAYER0"),
		"inner space":         page("a b"),
		"NUL":                 page("a\x00"),
		"too long":            page(strings.Repeat("a", MaxSerial+1)),
	} {
		if s, err := ParseSerialPage(raw); err == nil {
			t.Errorf("%s: parsed as %q", name, s)
		}
	}
	if s, err := ParseSerialPage(page("layer0  ")); err != nil || s != "layer0" {
		t.Errorf("padded serial is %q, %v; want layer0", s, err)
	}
}

func FuzzParseSerialPage(f *testing.F) {
	f.Add(page("layer0"))
	f.Add(page(""))
	f.Fuzz(func(t *testing.T, raw []byte) {
		s, err := ParseSerialPage(raw)
		if err == nil && (CheckSerial(s) != nil || len(s) > len(raw)-4) {
			t.Errorf("page %x gave %q", raw, s)
		}
	})
}
