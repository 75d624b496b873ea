// SPDX-License-Identifier: Apache-2.0

package container

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"syscall"

	"golang.org/x/sys/unix"
)

// Bounds of what an image may put into a volume: it takes the guest's memory.
const (
	maxCopyEntries = 1 << 16
	maxCopyBytes   = 64 << 20
	maxCopyDepth   = 64
)

// copyUp fills the new volume dst with what the image at rootfs has at destination. Nothing there, or something other
// than a directory there, leaves it empty. Files, directories and symbolic links are copied with owner, mode and time;
// devices, sockets and pipes are not, and neither are extended attributes. It returns what it took of limit bytes.
func copyUp(rootfs, destination string, dst *os.File, limit int64) (int64, error) {
	src, err := openIn(rootfs, destination, unix.O_RDONLY|unix.O_DIRECTORY)
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ELOOP) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	defer func() { _ = src.Close() }()
	from, err := rootOf(src)
	if err != nil {
		return 0, err
	}
	defer func() { _ = from.Close() }()
	to, err := rootOf(dst)
	if err != nil {
		return 0, err
	}
	defer func() { _ = to.Close() }()
	c := copier{from: from, to: to, entries: maxCopyEntries, bytes: limit, limit: limit}
	err = c.dir(".", 0)
	if err != nil {
		return 0, fmt.Errorf("copying what the image has at %s: %w", destination, err)
	}
	return limit - c.bytes, nil
}

// rootOf returns the directory as a root that no path leaves.
func rootOf(f *os.File) (*os.Root, error) {
	return os.OpenRoot(fmt.Sprintf("/proc/self/fd/%d", f.Fd()))
}

type copier struct {
	from, to *os.Root
	entries  int
	bytes    int64 // left of limit
	limit    int64
}

func (c *copier) dir(name string, depth int) error {
	if depth > maxCopyDepth {
		return fmt.Errorf("%s lies deeper than %d directories", name, maxCopyDepth)
	}
	d, err := c.from.Open(name)
	if err != nil {
		return err
	}
	defer func() { _ = d.Close() }()
	for {
		list, err := d.ReadDir(256)
		if errors.Is(err, io.EOF) {
			return c.attributes(name)
		}
		if err != nil {
			return err
		}
		c.entries -= len(list)
		if c.entries < 0 {
			return fmt.Errorf("more than %d entries", maxCopyEntries)
		}
		for _, e := range list {
			err = c.take(inodeCost)
			if err == nil {
				err = c.entry(path.Join(name, e.Name()), e.Type(), depth)
			}
			if err != nil {
				return err
			}
		}
	}
}

func (c *copier) entry(name string, kind fs.FileMode, depth int) error {
	switch {
	case kind.IsDir():
		err := c.to.Mkdir(name, 0o700)
		if err != nil {
			return err
		}
		return c.dir(name, depth+1)
	case kind.IsRegular():
		err := c.file(name)
		if err != nil {
			return err
		}
		return c.attributes(name)
	case kind&fs.ModeSymlink != 0:
		target, err := c.from.Readlink(name)
		if err != nil {
			return err
		}
		err = c.to.Symlink(target, name)
		if err != nil {
			return err
		}
		return c.owner(name)
	}
	return nil
}

func (c *copier) file(name string) error {
	in, err := c.from.OpenFile(name, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return err
	}
	defer func() { _ = in.Close() }()
	out, err := c.to.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	n, err := io.Copy(out, io.LimitReader(in, c.bytes+1))
	if err == nil {
		err = c.take(pages(n))
	}
	return errors.Join(err, out.Close())
}

// take counts what the copy costs.
func (c *copier) take(n int64) error {
	c.bytes -= n
	if c.bytes < 0 {
		return fmt.Errorf("more than %d bytes", c.limit)
	}
	return nil
}

// attributes copies owner, mode and time of a directory or file; the owner first, since that clears mode bits.
func (c *copier) attributes(name string) error {
	info, err := c.from.Lstat(name)
	if err != nil {
		return err
	}
	err = c.owner(name)
	if err != nil {
		return err
	}
	return errors.Join(c.to.Chmod(name, info.Mode()), c.to.Chtimes(name, info.ModTime(), info.ModTime()))
}

func (c *copier) owner(name string) error {
	info, err := c.from.Lstat(name)
	if err != nil {
		return err
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return fmt.Errorf("%s has no owner", name)
	}
	return c.to.Lchown(name, int(st.Uid), int(st.Gid))
}
