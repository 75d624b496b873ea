// SPDX-License-Identifier: Apache-2.0

package guestimage

import (
	"bytes"
	"context"
	"debug/buildinfo"
	"debug/elf"
	"fmt"
	"os"
	"path"

	"cofferdam.dev/internal/guestimage/cpio"
	"cofferdam.dev/internal/guestimage/kmod"
	"cofferdam.dev/internal/guestimage/scratchfmt"
)

// skeleton is the part of the initramfs that is the same in every image. The directories are mount points.
func skeleton() []cpio.Entry {
	return []cpio.Entry{
		cpio.Dir("dev", 0o755),
		cpio.Char("dev/console", 0o600, 5, 1), // the kernel opens it for PID 1 before anything is mounted
		cpio.Dir("etc", 0o755),
		cpio.Dir("etc/cofferdam", 0o755),
		cpio.File("etc/group", 0o444, []byte("root:x:0:\n")),
		cpio.File("etc/hosts", 0o444, []byte("127.0.0.1 localhost\n::1 localhost\n")),
		cpio.File("etc/passwd", 0o444, []byte("root:x:0:0:root:/:/nonexistent\n")),
		cpio.Dir("proc", 0o555),
		cpio.Dir("run", 0o755),
		cpio.Dir("sys", 0o555),
		cpio.Dir("tmp", 0o1777),
		cpio.Dir("usr", 0o755),
		cpio.Dir("usr/bin", 0o755),
		cpio.Dir("usr/lib", 0o755),
		cpio.Dir("usr/lib/cofferdam", 0o755),
		cpio.Dir(scratchfmt.Dir[1:], 0o755),
		cpio.Dir(moduleDir, 0o755),
	}
}

// initramfs makes the archive that the kernel unpacks as its root, with work for temporary files. It is not compressed: unpacking costs an emulated
// processor more than copying.
func (b *builder) initramfs(ctx context.Context, tree *kmod.Tree, work string) ([]byte, error) {
	entries := skeleton()
	for _, program := range []struct{ path, name string }{{b.AgentPath, "init"}, {b.RuncPath, "usr/bin/runc"}} {
		data, err := readStatic(program.path)
		if err != nil {
			return nil, fmt.Errorf("making initramfs: /%s: %w", program.name, err)
		}
		entries = append(entries, cpio.File(program.name, 0o555, data))
	}
	modules, err := moduleEntries(tree)
	if err != nil {
		return nil, fmt.Errorf("making initramfs: %w", err)
	}
	scratch, err := scratchEntries(ctx, work)
	if err != nil {
		return nil, fmt.Errorf("making initramfs: %w", err)
	}
	var archive bytes.Buffer
	if err := cpio.Write(&archive, append(append(entries, modules...), scratch...)); err != nil {
		return nil, fmt.Errorf("making initramfs: %w", err)
	}
	if archive.Len() > MaxInitrd {
		return nil, fmt.Errorf("making initramfs: %d bytes, at most %d allowed", archive.Len(), MaxInitrd)
	}
	return archive.Bytes(), nil
}

// readStatic reads a program and refuses one that needs an interpreter, because the guest has no libraries.
func readStatic(name string) ([]byte, error) {
	data, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	f, err := elf.NewFile(bytes.NewReader(data))
	if err != nil {
		return nil, fmt.Errorf("%s is no ELF file: %w", name, err)
	}
	if f.Machine != elf.EM_X86_64 {
		return nil, fmt.Errorf("%s is for %v, want %v", name, f.Machine, elf.EM_X86_64)
	}
	for _, p := range f.Progs {
		if p.Type == elf.PT_INTERP {
			return nil, fmt.Errorf("%s is dynamically linked", path.Base(name))
		}
	}
	return data, nil
}

// buildVersion says what a Go program was built from, as far as the program itself tells.
func buildVersion(name string) string {
	info, err := buildinfo.ReadFile(name)
	if err != nil {
		return ""
	}
	version := info.Main.Version
	if info.Main.Path == "" || info.Path != info.Main.Path {
		for _, d := range info.Deps {
			if d.Path == info.Path {
				version = d.Version
			}
		}
	}
	return version + " " + info.GoVersion
}
