// SPDX-License-Identifier: Apache-2.0

package erofs

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// Dir is a directory of the operating system as a tree. Names may be any bytes. Nothing outside of it is opened, nor a symbolic
// link as the file that it leads to.
type Dir struct {
	root *os.Root
}

var (
	_ fs.ReadDirFS  = (*Dir)(nil)
	_ fs.ReadLinkFS = (*Dir)(nil)
	_ XattrFS       = (*Dir)(nil)
)

// OpenDir opens a directory.
func OpenDir(path string) (*Dir, error) {
	root, err := os.OpenRoot(path)
	if err != nil {
		return nil, err
	}
	return &Dir{root}, nil
}

// Close closes the directory.
func (d *Dir) Close() error { return d.root.Close() }

// Open opens a file or directory to be read. It does not wait for the other end of a pipe.
func (d *Dir) Open(name string) (fs.File, error) {
	f, err := d.open(name, unix.O_NONBLOCK)
	if err != nil {
		return nil, err
	}
	return f, nil
}

// open opens what has a name, and not what it leads to.
func (d *Dir) open(name string, flags int) (*os.File, error) {
	named, err := d.root.Lstat(name)
	if err != nil {
		return nil, err
	}
	f, err := d.root.OpenFile(name, unix.O_RDONLY|flags, 0)
	if err != nil {
		return nil, err
	}
	opened, err := f.Stat()
	if err == nil && !os.SameFile(named, opened) {
		err = fmt.Errorf("opening %s: %w: it is a symbolic link", f.Name(), ErrChanged)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// ReadDir returns the entries of a directory, sorted by name.
func (d *Dir) ReadDir(name string) ([]fs.DirEntry, error) {
	f, err := d.open(name, unix.O_DIRECTORY)
	if err != nil {
		return nil, err
	}
	names, err := f.Readdirnames(-1)
	err = errors.Join(err, f.Close())
	if err != nil {
		return nil, err
	}
	slices.Sort(names)
	entries := make([]fs.DirEntry, len(names))
	for i, n := range names {
		info, err := d.Lstat(name + "/" + n)
		if err != nil {
			return nil, err
		}
		entries[i] = fs.FileInfoToDirEntry(info)
	}
	return entries, nil
}

// Lstat returns what a file is, or a symbolic link itself.
func (d *Dir) Lstat(name string) (fs.FileInfo, error) { return d.root.Lstat(name) }

// ReadLink returns the target of a symbolic link.
func (d *Dir) ReadLink(name string) (string, error) { return d.root.Readlink(name) }

// Xattrs returns the attributes that belong to a file wherever it is: user.*, trusted.*, access control lists and
// capabilities. Labels of security modules are the machine's, and are left out.
//
// They are those of one file that is held open, of a symbolic link itself: what has its name, or is in the way to it, may be
// exchanged meanwhile.
func (d *Dir) Xattrs(name string) ([]Xattr, error) {
	f, err := d.root.OpenFile(name, unix.O_PATH|unix.O_NOFOLLOW, 0)
	if err != nil {
		return nil, err
	}
	out, err := xattrs(f)
	return out, errors.Join(err, f.Close())
}

// xattrs reads the attributes of a file that was opened as a place (O_PATH), which the kernel gives out by this name alone: it
// leads to the file itself, without a look at its name.
func xattrs(f *os.File) ([]Xattr, error) {
	at := fmt.Sprintf("/proc/self/fd/%d", f.Fd())
	list, err := grow(func(b []byte) (int, error) { return unix.Listxattr(at, b) })
	if errors.Is(err, unix.ENOTSUP) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("listing the attributes of %s: %w", f.Name(), err)
	}
	var out []Xattr
	for n := range bytes.SplitSeq(list, []byte{0}) {
		attr := string(n)
		if !portable(attr) {
			continue
		}
		value, err := grow(func(b []byte) (int, error) { return unix.Getxattr(at, attr, b) })
		if err != nil {
			return nil, fmt.Errorf("reading the attribute %s of %s: %w", attr, f.Name(), err)
		}
		out = append(out, Xattr{attr, value})
	}
	return out, nil
}

func portable(name string) bool {
	switch name {
	case "security.capability", aclAccess, aclDefault:
		return true
	}
	return strings.HasPrefix(name, "user.") || strings.HasPrefix(name, "trusted.")
}

// grow calls a function that says how much it has, and then for that; again if it has become more in between.
func grow(get func([]byte) (int, error)) ([]byte, error) {
	for {
		n, err := get(nil)
		if err != nil || n == 0 {
			return nil, err
		}
		b := make([]byte, n)
		n, err = get(b)
		if errors.Is(err, unix.ERANGE) {
			continue
		}
		if err != nil {
			return nil, err
		}
		return b[:n], nil
	}
}
