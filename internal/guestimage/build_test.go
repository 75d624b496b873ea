// SPDX-License-Identifier: Apache-2.0

package guestimage

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"cofferdam.dev/internal/guestimage/cpio"
	"cofferdam.dev/internal/guestimage/scratchfmt"
	"cofferdam.dev/internal/testcap"
)

// staticProgram builds the benchmark's PID 1, which stands for agent and runtime.
func staticProgram(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "init")
	cmd := exec.Command("go", "build", "-trimpath", "-buildvcs=false", "-ldflags=-s -w -buildid=", "-o", path, "./bareinit")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("building: %v\n%s", err, out)
	}
	return path
}

// testBuild builds an image of program with the kernel package that `make guest` fetched.
func testBuild(t *testing.T, home, program string) (*Image, []string) {
	t.Helper()
	var steps []string
	img, err := Build(context.Background(), BuildOptions{
		Home: home, AgentPath: program, RuncPath: program,
		CacheDir: filepath.Join(testcap.Dir(), "home", "guest", "cache"),
		Progress: func(step string) { steps = append(steps, step) },
		Warn:     func(message string) { t.Log(message) },
	})
	if err != nil {
		t.Fatal(err)
	}
	return img, steps
}

func TestSameInputsGiveTheSameBytes(t *testing.T) {
	t.Parallel()
	testcap.Require(t, testcap.GuestImage)
	program := staticProgram(t)
	one, _ := testBuild(t, t.TempDir(), program)
	homeTwo := filepath.Join(t.TempDir(), "elsewhere")
	two, steps := testBuild(t, homeTwo, program)
	if one.Digest() != two.Digest() {
		t.Errorf("digests are %x and %x", one.Digest(), two.Digest())
	}
	for _, name := range []string{FileVmlinux, FileVmlinuz, FileInitrd, fileManifest} {
		a, errA := os.ReadFile(filepath.Join(one.Dir(), name))
		b, errB := os.ReadFile(filepath.Join(two.Dir(), name))
		if errA != nil || errB != nil || !bytes.Equal(a, b) {
			t.Errorf("%s differs (%v, %v)", name, errA, errB)
		}
		if bytes.Contains(b, []byte(homeTwo)) {
			t.Errorf("%s names the directory that it was built in", name)
		}
	}
	if err := two.Verify(context.Background()); err != nil {
		t.Error(err)
	}
	again, moreSteps := testBuild(t, homeTwo, program)
	if again.Dir() != two.Dir() || !slices.Equal(moreSteps, []string{"image is up to date"}) {
		t.Errorf("second build went to %s with steps %q after %q", again.Dir(), moreSteps, steps)
	}
	checkInitrd(t, one)
}

// checkInitrd compares the list of the initramfs with the golden one. Sizes of programs are left out.
func checkInitrd(t *testing.T, img *Image) {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(img.Dir(), FileInitrd))
	if err != nil {
		t.Fatal(err)
	}
	entries, err := cpio.Read(data)
	if err != nil {
		t.Fatal(err)
	}
	var list, modules strings.Builder
	for _, e := range entries {
		fmt.Fprintf(&list, "%06o %s\n", e.Mode, e.Name)
		if e.Name == ModuleList {
			modules.Write(e.Data)
		}
		if strings.HasPrefix(e.Name, scratchfmt.Dir[1:]+"/") {
			if _, err := scratchfmt.Read(bytes.NewReader(e.Data)); err != nil {
				t.Errorf("%s: %v", e.Name, err)
			}
		}
	}
	if !img.Manifest().Kernel.Pinned {
		t.Log("the kernel is not the pinned one: its modules are not compared")
		return
	}
	golden(t, "initrd.golden", []byte(list.String()))
	golden(t, "modules.golden", []byte(modules.String()))
	checkRecipe(t, img, entries)
}

// checkRecipe compares everything in the initramfs but the programs with what the recorded version of the recipe made
// of it. If this fails, raise recipeVersion and run with -update.
func checkRecipe(t *testing.T, img *Image, entries []cpio.Entry) {
	t.Helper()
	without := slices.DeleteFunc(slices.Clone(entries), func(e cpio.Entry) bool { return e.Name == "init" || e.Name == "usr/bin/runc" })
	h := sha256.New()
	if err := cpio.Write(h, without); err != nil {
		t.Fatal(err)
	}
	var line strings.Builder
	for _, i := range img.Manifest().Inputs {
		if i.Name == "kernel" || i.Name == "mke2fs" || i.Name == "go" || i.Name == "recipe" {
			fmt.Fprintf(&line, "%s %s\n", i.Name, i.Version)
		}
	}
	inputs := line.String()
	recorded, err := os.ReadFile(filepath.Join("testdata", "recipe.golden"))
	if err == nil && !*update && !strings.HasPrefix(string(recorded), inputs) {
		t.Logf("recipe.golden was recorded with other tools or another recipe; these are\n%s", inputs)
		return
	}
	golden(t, "recipe.golden", fmt.Appendf(nil, "%sinitramfs without programs %x\n", inputs, h.Sum(nil)))
}

// TestScratchTemplates writes each template into a sparse file and lets e2fsck, which did not make it, judge. It also
// holds the room for files in it against what its class says.
func TestScratchTemplates(t *testing.T) {
	t.Parallel()
	for _, c := range scratchfmt.Classes() {
		t.Run(c.Name, func(t *testing.T) {
			t.Parallel()
			template, err := makeScratch(context.Background(), t.TempDir(), c.Bytes)
			if err != nil {
				t.Fatal(err)
			}
			path := filepath.Join(t.TempDir(), "disk")
			f, err := os.Create(path)
			if err != nil {
				t.Fatal(err)
			}
			if err := f.Truncate(template.Size); err != nil {
				t.Fatal(err)
			}
			for _, e := range template.Extents {
				if _, err := f.WriteAt(e.Data, e.Offset); err != nil {
					t.Fatal(err)
				}
			}
			if err := f.Close(); err != nil {
				t.Fatal(err)
			}
			if free := freeBytes(t, template) - min(c.Bytes/50, 4096*scratchfmt.BlockSize); free < c.Room {
				t.Errorf("class %+v has room for %d bytes, want %d", c, free, c.Room)
			}
			fsck := filepath.Join(filepath.Dir(mke2fsPath()), "e2fsck")
			if out, err := exec.Command(fsck, "-f", "-n", path).CombinedOutput(); err != nil {
				t.Errorf("e2fsck: %v\n%s", err, out)
			}
		})
	}
}

// freeBytes reads the number of free blocks in the superblock.
func freeBytes(t *testing.T, template *scratchfmt.Template) int64 {
	t.Helper()
	if len(template.Extents) == 0 || template.Extents[0].Offset != 0 {
		t.Fatal("the template has no superblock")
	}
	sb := template.Extents[0].Data[extSuperblock:]
	low, high := binary.LittleEndian.Uint32(sb[0x0c:]), binary.LittleEndian.Uint32(sb[0x158:])
	return (int64(high)<<32 | int64(low)) * scratchfmt.BlockSize
}

func TestBuildRefuses(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	script := filepath.Join(dir, "script")
	if err := os.WriteFile(script, []byte("#!/bin/sh\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	shell, err := filepath.EvalSymlinks("/bin/sh")
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		o    BuildOptions
		want string
	}{
		"nothing":           {BuildOptions{}, "must be named"},
		"no runtime":        {BuildOptions{Home: dir, AgentPath: shell}, "must be named"},
		"agent absent":      {BuildOptions{Home: dir, AgentPath: script + "x", RuncPath: shell}, "no such file"},
		"agent not ELF":     {BuildOptions{Home: dir, AgentPath: script, RuncPath: shell}, "no ELF file"},
		"agent not static":  {BuildOptions{Home: dir, AgentPath: shell, RuncPath: shell}, "dynamically linked"},
		"home is not a dir": {BuildOptions{Home: script, AgentPath: shell, RuncPath: shell}, "not a directory"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := Build(context.Background(), c.o)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
}

func TestModulesDir(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		dirs []string
		want string
	}{
		"Debian 12":   {[]string{"lib/modules/6.12.1"}, "lib/modules/6.12.1"},
		"Debian 13":   {[]string{"usr/lib/modules/6.12.2"}, "usr/lib/modules/6.12.2"},
		"none":        {[]string{"usr/lib"}, ""},
		"two kernels": {[]string{"lib/modules/1", "usr/lib/modules/2"}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			root := t.TempDir()
			for _, d := range c.dirs {
				if err := os.MkdirAll(filepath.Join(root, d), 0o700); err != nil {
					t.Fatal(err)
				}
			}
			got, err := modulesDir(root)
			if (err == nil) != (c.want != "") || (err == nil && got != filepath.Join(root, c.want)) {
				t.Errorf("got %q, %v, want %q", got, err, c.want)
			}
		})
	}
}
