// SPDX-License-Identifier: Apache-2.0

// Package kmod picks the kernel modules that go into the guest: it finds them in an unpacked kernel package, unpacks
// them, and orders them so that each comes after those it needs.
//
// The order is computed from the modules themselves (the "depends" and "softdep" entries of their .modinfo section),
// because a package that was never installed has no modules.dep. The files come from a package whose hash was checked;
// sizes are bounded regardless. The package never loads a module: that is the guest's business.
package kmod

import (
	"bytes"
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/ulikunitz/xz"
)

// MaxModule bounds the size of one unpacked module.
const MaxModule = 32 << 20

// ErrModule is wrapped by every error about a module's form or absence.
var ErrModule = errors.New("kernel module")

// Module is one unpacked module.
type Module struct {
	Name  string // as the kernel knows it, with underscores
	Data  []byte
	Needs // modules to be loaded before it
}

// Needs is what a module says about the modules that come before it.
type Needs struct {
	Hard []string // it can not be loaded without them
	Soft []string // it works better with them; they may not exist
}

// Tree is the set of modules of one kernel.
type Tree struct {
	files   map[string]string // name to path
	builtin map[string]bool
	loaded  map[string]*Module
}

// OpenTree indexes a directory such as lib/modules/6.12.95+deb12-cloud-amd64 of an unpacked package.
func OpenTree(dir string) (*Tree, error) {
	t := &Tree{files: map[string]string{}, builtin: map[string]bool{}, loaded: map[string]*Module{}}
	list, err := os.ReadFile(filepath.Join(dir, "modules.builtin"))
	if err != nil {
		return nil, fmt.Errorf("opening modules: %w", err)
	}
	for line := range strings.Lines(string(list)) {
		t.builtin[nameOf(strings.TrimSpace(line))] = true
	}
	err = filepath.WalkDir(filepath.Join(dir, "kernel"), func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.Type().IsRegular() && (strings.HasSuffix(path, ".ko") || strings.HasSuffix(path, ".ko.xz")) {
			t.files[nameOf(path)] = path
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("opening modules: %w", err)
	}
	return t, nil
}

// Resolve returns the named modules and all that they need, each after its needs, leaving out what is built into the
// kernel and what except names. The order depends on the modules and the names alone.
func (t *Tree) Resolve(names []string, except map[string]bool) ([]*Module, error) {
	var out []*Module
	state := map[string]int{} // 1: being visited, 2: done
	var visit func(name, wantedBy string) error
	visit = func(name, wantedBy string) error {
		if t.builtin[name] || except[name] || state[name] == 2 {
			return nil
		}
		if state[name] == 1 {
			return fmt.Errorf("%w: %s and %s need each other", ErrModule, name, wantedBy)
		}
		state[name] = 1
		m, err := t.load(name)
		if err != nil {
			return fmt.Errorf("%w (wanted by %s)", err, wantedBy)
		}
		for _, d := range m.Soft {
			if _, exists := t.files[d]; !exists {
				continue
			}
			if err := visit(d, name); err != nil {
				return err
			}
		}
		for _, d := range m.Hard {
			if err := visit(d, name); err != nil {
				return err
			}
		}
		state[name] = 2
		out = append(out, m)
		return nil
	}
	for _, n := range names {
		if err := visit(n, "the guest"); err != nil {
			return nil, err
		}
	}
	return out, nil
}

func (t *Tree) load(name string) (*Module, error) {
	if m := t.loaded[name]; m != nil {
		return m, nil
	}
	path, ok := t.files[name]
	if !ok {
		return nil, fmt.Errorf("%w %s: neither built in nor a file of the package", ErrModule, name)
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("%w %s: %w", ErrModule, name, err)
	}
	defer func() { _ = f.Close() }() // read only
	data, err := unpack(f, strings.HasSuffix(path, ".xz"))
	if err != nil {
		return nil, fmt.Errorf("%w %s: unpacking: %w", ErrModule, name, err)
	}
	needs, err := ReadNeeds(data)
	if err != nil {
		return nil, fmt.Errorf("%w %s: %w", ErrModule, name, err)
	}
	m := &Module{Name: name, Data: data, Needs: needs}
	t.loaded[name] = m
	return m, nil
}

func unpack(r io.Reader, compressed bool) ([]byte, error) {
	if compressed {
		x, err := xz.ReaderConfig{DictCap: 1 << 20, SingleStream: true}.NewReader(r)
		if err != nil {
			return nil, err
		}
		r = x
	}
	data, err := io.ReadAll(io.LimitReader(r, MaxModule+1))
	if err != nil {
		return nil, err
	}
	if len(data) > MaxModule {
		return nil, fmt.Errorf("more than %d bytes", MaxModule)
	}
	return data, nil
}

// ReadNeeds reads the "depends" entries of a module and those of its "softdep" entries that are marked "pre".
func ReadNeeds(module []byte) (Needs, error) {
	f, err := elf.NewFile(bytes.NewReader(module))
	if err != nil {
		return Needs{}, fmt.Errorf("reading ELF file: %w", err)
	}
	s := f.Section(".modinfo")
	if s == nil || s.Type != elf.SHT_PROGBITS || s.Size > uint64(len(module)) {
		return Needs{}, errors.New("no usable .modinfo section")
	}
	info, err := s.Data()
	if err != nil {
		return Needs{}, fmt.Errorf("reading .modinfo: %w", err)
	}
	var n Needs
	for entry := range strings.SplitSeq(string(info), "\x00") {
		key, value, _ := strings.Cut(entry, "=")
		switch key {
		case "depends":
			n.Hard = append(n.Hard, splitNames(value)...)
		case "softdep":
			n.Soft = append(n.Soft, preNames(value)...)
		}
	}
	return n, nil
}

func splitNames(list string) []string {
	var names []string
	for n := range strings.SplitSeq(list, ",") {
		if n != "" {
			names = append(names, normal(n))
		}
	}
	return names
}

// preNames reads "pre: a b post: c".
func preNames(value string) []string {
	var names []string
	pre := false
	for word := range strings.FieldsSeq(value) {
		switch {
		case strings.HasSuffix(word, ":"):
			pre = word == "pre:"
		case pre:
			names = append(names, normal(word))
		}
	}
	return names
}

func nameOf(path string) string {
	base := strings.TrimSuffix(filepath.Base(path), ".xz")
	return normal(strings.TrimSuffix(base, ".ko"))
}

func normal(name string) string { return strings.ReplaceAll(name, "-", "_") }
