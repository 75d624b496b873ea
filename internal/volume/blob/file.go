// SPDX-License-Identifier: Apache-2.0

package blob

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// File is a local file or block device. One that is written is locked against other writers that use this package.
type File struct {
	f        *os.File
	size     int64
	identity string
	write    bool
	flushed  atomic.Pointer[error] // the first flush that failed
}

// OpenFile opens a file, to be written as well if write is set.
func OpenFile(path string, write bool) (*File, error) {
	mode := os.O_RDONLY
	if write {
		mode = os.O_RDWR
	}
	f, err := os.OpenFile(path, mode, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("opening %s: %w", path, ErrNotFound)
	}
	if err != nil {
		return nil, err
	}
	opened, err := newFile(f, write)
	if err != nil {
		_ = f.Close() // the other error says more
		return nil, fmt.Errorf("opening %s: %w", path, err)
	}
	return opened, nil
}

func newFile(f *os.File, write bool) (*File, error) {
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if m := info.Mode(); !m.IsRegular() && m&fs.ModeType != fs.ModeDevice {
		return nil, fmt.Errorf("it is neither a file nor a block device, but %s: %w", m.Type(), ErrRefused)
	}
	if write {
		err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, ErrBusy
		}
		if err != nil {
			return nil, fmt.Errorf("locking it: %w", err)
		}
	}
	size, err := f.Seek(0, io.SeekEnd) // a device's size is not in its status
	if err != nil {
		return nil, err
	}
	if size == 0 {
		return nil, fmt.Errorf("it is empty: %w", ErrRefused)
	}
	return &File{f: f, size: size, write: write, identity: fmt.Sprintf("file of %d bytes, modified %s", size, info.ModTime().UTC().Format("2006-01-02T15:04:05.000000000Z"))}, nil
}

// Size is the file's, in bytes, when it was opened.
func (f *File) Size() int64 { return f.size }

// Writable reports whether the file was opened to be written.
func (f *File) Writable() bool { return f.write }

// Identity names what the file was when it was opened. Nothing pins it: whoever may write the file can change it.
func (f *File) Identity() string { return f.identity }

// ReadAt fills p, which must lie in the file, or fails.
func (f *File) ReadAt(_ context.Context, p []byte, off int64) (int, error) {
	if off < 0 || off > f.size-int64(len(p)) {
		return 0, fmt.Errorf("reading %d bytes at %d of %s: it has %d", len(p), off, f.f.Name(), f.size)
	}
	n, err := f.f.ReadAt(p, off)
	if n == len(p) {
		return n, nil
	}
	if errors.Is(err, io.EOF) {
		return 0, fmt.Errorf("reading %d bytes at %d of %s: it was cut: %w", len(p), off, f.f.Name(), ErrFenced)
	}
	return 0, err
}

// WriteAt writes p, which must lie in the file.
func (f *File) WriteAt(_ context.Context, p []byte, off int64) error {
	if !f.write {
		return fmt.Errorf("writing %s: %w", f.f.Name(), fs.ErrPermission)
	}
	if off < 0 || off > f.size-int64(len(p)) {
		return fmt.Errorf("writing %d bytes at %d of %s: it has %d", len(p), off, f.f.Name(), f.size)
	}
	_, err := f.f.WriteAt(p, off)
	return err
}

// Punch gives back the room of a part of the file, which reads as zeros then.
func (f *File) Punch(_ context.Context, length, off int64) error {
	if !f.write {
		return fmt.Errorf("writing %s: %w", f.f.Name(), fs.ErrPermission)
	}
	if length <= 0 || off < 0 || off > f.size-length {
		return fmt.Errorf("punching %d bytes at %d out of %s: it has %d", length, off, f.f.Name(), f.size)
	}
	err := unix.Fallocate(int(f.f.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, off, length)
	if err != nil {
		return fmt.Errorf("punching %d bytes at %d out of %s: %w", length, off, f.f.Name(), err)
	}
	return nil
}

// Flush makes what was written survive a loss of power. When it failed once it fails for ever: the system may have dropped
// what it could not write.
func (f *File) Flush(context.Context) error {
	if failed := f.flushed.Load(); failed != nil {
		return *failed
	}
	err := f.f.Sync()
	if err != nil {
		f.flushed.CompareAndSwap(nil, &err)
	}
	return err
}

// Close closes the file and ends the lock, also where a process that was just started holds a copy of the file for a moment.
func (f *File) Close() error {
	if f.write {
		_ = unix.Flock(int(f.f.Fd()), unix.LOCK_UN) // closing it says what is wrong with it
	}
	return f.f.Close()
}
