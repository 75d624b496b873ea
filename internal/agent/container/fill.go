// SPDX-License-Identifier: Apache-2.0

package container

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path"
	"strings"

	"golang.org/x/sys/unix"
)

// ErrFull says that the agent put as much into volumes as it may.
var ErrFull = errors.New("the volumes take no more of the guest's memory")

// File is a file that the host puts into a volume.
type File struct {
	Path    string // relative, clean
	Content []byte
	Mode    uint32 // permission bits
	Append  bool   // adds to the file that is there
}

// inodeCost is what a file or directory costs besides its content, in bytes, rounded up.
const inodeCost = 1 << 10

// pages is what n bytes of content take.
func pages(n int64) int64 {
	const size = 4 << 10
	return (n + size - 1) / size * size
}

// Fill puts files into the volume at source, which it makes if it does not exist. A file that is not appended to appears
// whole, with the name, or not at all. What containers wrote into the volume leads nowhere outside of it: not a symbolic
// link, not a mount. The files that were written before one fails stay.
func (v *Volumes) Fill(source string, files []File) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	err := v.ensure("", Mount{Source: source})
	if err != nil {
		return err
	}
	class, err := v.dir(path.Dir(source))
	if err != nil {
		return err
	}
	defer func() { _ = class.Close() }()
	volume, err := makeDir(class, path.Base(source), volumeMode, unix.RESOLVE_NO_XDEV)
	if err != nil {
		return err
	}
	defer func() { _ = volume.Close() }()
	for _, f := range files {
		err = v.fill(volume, f)
		if err != nil {
			return fmt.Errorf("filling the volume %s: %s: %w", source, f.Path, err)
		}
	}
	return nil
}

func (v *Volumes) fill(volume *os.File, f File) error {
	cost := pages(int64(len(f.Content))) + inodeCost*int64(strings.Count(f.Path, "/")+1)
	if cost > v.Budget-v.put {
		return ErrFull
	}
	parent, err := makeParents(volume, path.Dir(f.Path))
	if err != nil {
		return err
	}
	defer func() { _ = parent.Close() }()
	if f.Append {
		err = appendTo(parent, path.Base(f.Path), f.Content)
	} else {
		err = replace(parent, path.Base(f.Path), f)
	}
	if err != nil {
		return err
	}
	return v.charge(cost)
}

// makeParents opens a directory of the volume, and makes what is missing of it.
func makeParents(volume *os.File, dir string) (*os.File, error) {
	at, err := openAt(int(volume.Fd()), ".", unix.O_RDONLY|unix.O_DIRECTORY, unix.RESOLVE_BENEATH)
	if err != nil || dir == "." {
		return at, err
	}
	for name := range strings.SplitSeq(dir, "/") {
		next, err := makeDir(at, name, 0o755, unix.RESOLVE_NO_XDEV)
		_ = at.Close()
		if err != nil {
			return nil, err
		}
		at = next
	}
	return at, nil
}

// replace makes the file beside its place and moves it there: whatever has the name is replaced, not written through.
func replace(parent *os.File, name string, f File) error {
	var b [8]byte
	_, _ = rand.Read(b[:]) // never fails: crypto/rand aborts the program instead
	temp := ".cofferdam-" + hex.EncodeToString(b[:])
	dir := int(parent.Fd())
	fd, err := unix.Openat(dir, temp, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return fmt.Errorf("making the file: %w", err)
	}
	out := os.NewFile(uintptr(fd), temp)
	_, err = out.Write(f.Content)
	err = errors.Join(err, out.Chmod(os.FileMode(f.Mode)), out.Close())
	if err == nil {
		err = unix.Renameat(dir, temp, dir, name)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("writing the file: %w", err), unix.Unlinkat(dir, temp, 0))
	}
	return nil
}

// appendTo adds to a file that must be there, and must be a file.
func appendTo(parent *os.File, name string, content []byte) error {
	f, err := openAt(int(parent.Fd()), name, unix.O_WRONLY|unix.O_APPEND|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_NOCTTY,
		unix.RESOLVE_BENEATH|unix.RESOLVE_NO_SYMLINKS|unix.RESOLVE_NO_XDEV)
	if err != nil {
		return err
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = errors.New("it is not a regular file")
	}
	if err == nil {
		_, err = f.Write(content)
	}
	return errors.Join(err, f.Close())
}
