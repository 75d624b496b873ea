// SPDX-License-Identifier: Apache-2.0

package guestimage

import (
	"bytes"
	"context"
	"crypto/sha256"
	"debug/buildinfo"
	"debug/elf"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"strings"

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
	entries = append(entries, cpio.File("init", 0o555, b.agent.data), cpio.File("usr/bin/runc", 0o555, b.runc.data))
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

// WriteBareInitramfs writes an initramfs of one program and what it needs to be PID 1. With internal/guestimage/bareinit
// it is the reference that the benchmark compares an image with; no image holds it.
func WriteBareInitramfs(w io.Writer, initPath string) error {
	p, err := readProgram(initPath)
	if err != nil {
		return fmt.Errorf("making bare initramfs: %w", err)
	}
	return cpio.Write(w, []cpio.Entry{
		cpio.Dir("dev", 0o755), cpio.Char("dev/console", 0o600, 5, 1), cpio.Dir("sys", 0o555), cpio.File("init", 0o555, p.data),
	})
}

// program is an executable file of the guest. It is read once, so that what the manifest names is what the image holds.
type program struct {
	data    []byte
	sha256  string
	version string // what it was built from, as far as it tells
}

// readProgram refuses a program that needs an interpreter, because the guest has no libraries.
func readProgram(name string) (program, error) {
	data, err := os.ReadFile(name)
	if err != nil {
		return program{}, err
	}
	f, err := elf.NewFile(bytes.NewReader(data))
	if err != nil {
		return program{}, fmt.Errorf("%s is no ELF file: %w", name, err)
	}
	if f.Machine != elf.EM_X86_64 {
		return program{}, fmt.Errorf("%s is for %v, want %v", name, f.Machine, elf.EM_X86_64)
	}
	for _, p := range f.Progs {
		if p.Type == elf.PT_INTERP {
			return program{}, fmt.Errorf("%s is dynamically linked", name)
		}
	}
	sum := sha256.Sum256(data)
	return program{data: data, sha256: hex.EncodeToString(sum[:]), version: buildVersion(data)}, nil
}

// buildVersion is the version of a Go program's main package, if it came from a module, and of the compiler.
func buildVersion(data []byte) string {
	info, err := buildinfo.Read(bytes.NewReader(data))
	if err != nil {
		return ""
	}
	for _, m := range append(info.Deps, &info.Main) {
		if m.Path != "" && m.Version != "(devel)" && (info.Path == m.Path || strings.HasPrefix(info.Path, m.Path+"/")) {
			return strings.TrimSpace(m.Version + " " + info.GoVersion)
		}
	}
	return info.GoVersion
}
