// SPDX-License-Identifier: Apache-2.0

// Package cpio writes and reads the archive form that the Linux kernel takes as its initramfs ("newc", see
// Documentation/driver-api/early-userspace/buffer-format.rst in the kernel's sources).
//
// An archive is part of what a launch measures, so its bytes depend on its content alone: entries are sorted by name,
// inode numbers count from one, and every owner and time is zero. Parent directories must be present, because the
// kernel drops an entry whose directory is missing without a word; Write refuses such a list.
//
// Read is strict and bounded, and is meant for archives that Write made: it serves tests and `guest show`. The package
// never touches the file system.
package cpio

import (
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
)

// The kinds of entries, as the type bits of st_mode.
const (
	TypeDir     = 0o040000
	TypeFile    = 0o100000
	TypeSymlink = 0o120000
	TypeChar    = 0o020000
)

const (
	typeMask    = 0o170000
	permMask    = 0o7777
	headerSize  = 110
	magic       = "070701"
	trailer     = "TRAILER!!!"
	maxName     = 4095
	maxFileSize = 1<<32 - 1
)

// ErrFormat is wrapped by every error about an archive's form.
var ErrFormat = errors.New("cpio archive is malformed")

// Entry is one file of an archive.
type Entry struct {
	Name         string // relative, slash-separated, clean
	Mode         uint32 // type and permission bits
	Data         []byte // content of a file, or target of a symlink
	Major, Minor uint32 // of a device
}

// Dir makes an entry for a directory.
func Dir(name string, perm uint32) Entry { return Entry{Name: name, Mode: TypeDir | perm} }

// File makes an entry for a regular file.
func File(name string, perm uint32, data []byte) Entry {
	return Entry{Name: name, Mode: TypeFile | perm, Data: data}
}

// Char makes an entry for a character device.
func Char(name string, perm, major, minor uint32) Entry {
	return Entry{Name: name, Mode: TypeChar | perm, Major: major, Minor: minor}
}

// sorted returns the entries in the archive's order, or an error if they do not make a tree.
func sorted(entries []Entry) ([]Entry, error) {
	out := slices.Clone(entries)
	slices.SortFunc(out, func(a, b Entry) int { return strings.Compare(a.Name, b.Name) })
	seen := map[string]uint32{".": TypeDir}
	for _, e := range out {
		if err := e.check(); err != nil {
			return nil, err
		}
		if _, dup := seen[e.Name]; dup {
			return nil, fmt.Errorf("%w: %q appears twice", ErrFormat, e.Name)
		}
		if seen[path.Dir(e.Name)]&typeMask != TypeDir {
			return nil, fmt.Errorf("%w: %q has no directory entry before it", ErrFormat, e.Name)
		}
		seen[e.Name] = e.Mode
	}
	return out, nil
}

func (e Entry) check() error {
	if e.Name == "" || e.Name == "." || len(e.Name) > maxName || strings.HasPrefix(e.Name, "/") ||
		path.Clean(e.Name) != e.Name || strings.HasPrefix(e.Name, "..") || strings.ContainsRune(e.Name, 0) || e.Name == trailer {
		return fmt.Errorf("%w: name %q is not a clean relative path", ErrFormat, e.Name)
	}
	if e.Mode&^(typeMask|permMask) != 0 {
		return fmt.Errorf("%w: %q has mode %o", ErrFormat, e.Name, e.Mode)
	}
	if int64(len(e.Data)) > maxFileSize {
		return fmt.Errorf("%w: %q has %d bytes", ErrFormat, e.Name, len(e.Data))
	}
	switch e.Mode & typeMask {
	case TypeFile, TypeSymlink:
		if e.Major != 0 || e.Minor != 0 {
			return fmt.Errorf("%w: %q is no device, but has a device number", ErrFormat, e.Name)
		}
	case TypeDir, TypeChar:
		if len(e.Data) != 0 {
			return fmt.Errorf("%w: %q is no file, but has data", ErrFormat, e.Name)
		}
	default:
		return fmt.Errorf("%w: %q has type %o", ErrFormat, e.Name, e.Mode&typeMask)
	}
	return nil
}
