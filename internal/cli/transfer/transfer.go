// SPDX-License-Identifier: Apache-2.0

// Package transfer packs files of this machine into a tar stream for a container, and unpacks what a container sends.
//
// What comes from a container is hostile: it is unpacked below one directory, as plain files and directories of the caller's, and
// within bounds. It makes no links, and none that was there before leads out of that directory. What is written to the disk is what
// came. It never sets owners, special bits or devices.
package transfer

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
)

const (
	// maxEntries and maxBytes bound what one copy brings.
	maxEntries = 1 << 20
	maxBytes   = 1 << 40
)

// Pack writes the file or directory at name to w, under its last element.
func Pack(w io.Writer, name string) error {
	name = filepath.Clean(name)
	root, err := filepath.Abs(name)
	if err != nil {
		return fmt.Errorf("packing %s: %w", name, err)
	}
	t := tar.NewWriter(w)
	err = filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(filepath.Dir(root), p)
		if err != nil {
			return err
		}
		return packOne(t, p, filepath.ToSlash(rel), d)
	})
	err = errors.Join(err, t.Close())
	if err != nil {
		return fmt.Errorf("packing %s: %w", name, err)
	}
	return nil
}

func packOne(t *tar.Writer, p, rel string, d fs.DirEntry) error {
	info, err := d.Info()
	if err != nil {
		return err
	}
	link := ""
	if info.Mode()&fs.ModeSymlink != 0 {
		link, err = os.Readlink(p)
		if err != nil {
			return err
		}
	} else if !info.Mode().IsRegular() && !info.IsDir() {
		return fmt.Errorf("%s is neither a file, a directory nor a link", p)
	}
	h, err := tar.FileInfoHeader(info, link)
	if err != nil {
		return err
	}
	h.Name, h.Uid, h.Gid, h.Uname, h.Gname = rel, 0, 0, "", ""
	if info.IsDir() {
		h.Name += "/"
	}
	err = t.WriteHeader(h)
	if err != nil || !info.Mode().IsRegular() {
		return err
	}
	f, err := os.Open(p)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }() // only read
	_, err = io.CopyN(t, f, h.Size)
	return err
}

// Unpack reads a stream that holds name, and everything below it, into dir; it is called rename there, if that is not
// empty. The stream is read to its end.
func Unpack(dir, name, rename string, r io.Reader) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return fmt.Errorf("unpacking into %s: %w", dir, err)
	}
	defer func() { _ = root.Close() }() // only a directory
	u := unpacker{root: root, name: name, rename: rename}
	t := tar.NewReader(r)
	for {
		h, err := t.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err == nil {
			err = u.one(h, t)
		}
		if err != nil {
			return fmt.Errorf("unpacking into %s: %w", dir, err)
		}
	}
	_, err = io.Copy(io.Discard, r) // what follows the archive, so that its writer ends
	if err != nil {
		return fmt.Errorf("unpacking into %s: %w", dir, err)
	}
	if u.entries == 0 {
		return fmt.Errorf("unpacking into %s: nothing came", dir)
	}
	return nil
}

type unpacker struct {
	root         *os.Root
	name, rename string
	entries      int
	bytes        int64
}

func (u *unpacker) one(h *tar.Header, r io.Reader) error {
	p := path.Clean(h.Name)
	if p != u.name && !strings.HasPrefix(p, u.name+"/") {
		return fmt.Errorf("entry %q is not what was asked for", h.Name)
	}
	if u.rename != "" {
		p = u.rename + strings.TrimPrefix(p, u.name)
	}
	u.entries++
	u.bytes += h.Size
	if u.entries > maxEntries || h.Size < 0 || u.bytes > maxBytes {
		return fmt.Errorf("it is more than %d entries or %d bytes", maxEntries, int64(maxBytes))
	}
	mode := fs.FileMode(h.Mode) & 0o777 // nine bits
	for key := range h.PAXRecords {
		if strings.HasPrefix(key, "GNU.sparse.") { // a few bytes that stand for as many as there are
			return fmt.Errorf("entry %q is a sparse file", h.Name)
		}
	}
	switch h.Typeflag {
	case tar.TypeDir:
		err := u.root.Mkdir(p, mode|0o700)
		if errors.Is(err, fs.ErrExist) {
			return nil
		}
		return err
	case tar.TypeReg:
		return u.file(p, mode, r)
	}
	return fmt.Errorf("entry %q is neither a file nor a directory: copy what it leads to", h.Name)
}

// file writes one file anew. A link or file that was there is replaced, not followed.
func (u *unpacker) file(p string, mode fs.FileMode, r io.Reader) error {
	err := u.root.Remove(p)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	f, err := u.root.OpenFile(p, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode|0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, r)
	return errors.Join(err, f.Close())
}
