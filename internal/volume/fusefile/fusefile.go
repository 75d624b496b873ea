// SPDX-License-Identifier: Apache-2.0

// Package fusefile shows a block device of this process as a file: a directory with nothing but the file "data" in it, through
// the kernel's FUSE. A loop device on that file has a filesystem in it mounted, without device-mapper and without a
// driver of our own.
//
// It trusts the kernel, and whoever may open the file, to which the device's content is open. It never answers a read with
// anything but what the device returned for it, never acknowledges an fsync that the device did not, and lets nobody wait
// beyond a deadline: what the device has not done by then is an input/output error.
package fusefile

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

// Name is the name of the file.
const Name = "data"

// Device is what is shown. Its methods are safe for concurrent use.
type Device interface {
	// Size is the device's in bytes. It does not change.
	Size() int64
	// BlockSize is what offsets and lengths of requests are multiples of, a power of two up to 64 KiB.
	BlockSize() int
	// ReadAt fills p with the bytes at off, or fails.
	ReadAt(ctx context.Context, p []byte, off int64) error
	// WriteAt writes p at off, or fails.
	WriteAt(ctx context.Context, p []byte, off int64) error
	// Flush returns when everything that was written before is durable.
	Flush(ctx context.Context) error
}

// Discarder is a Device that can forget blocks: they read as zeros then.
type Discarder interface {
	Discard(ctx context.Context, length, off int64) error
}

const (
	// maxRequest is the most that one request reads or writes, in bytes: FUSE_MAX_MAX_PAGES of 4 KiB.
	maxRequest = 1 << 20
	// maxBlock bounds the block size of devices.
	maxBlock = 64 << 10
	// background is how many requests that nobody waits for the kernel makes at a time: reading ahead, and writing behind.
	background = 32
	// DefaultDeadline is how long a request may take. It is longer than what storage is given.
	DefaultDeadline = 90 * time.Second
	// DefaultReadAhead is how much the kernel reads ahead of who reads in order, in bytes.
	DefaultReadAhead = 4 << 20
)

// Options say how a device is shown. The zero value shows it for reading alone.
type Options struct {
	// Write lets the device be written.
	Write bool
	// Deadline is how long a request may take; zero is DefaultDeadline.
	Deadline time.Duration
	// ReadAhead is how much the kernel reads ahead, in bytes; zero is DefaultReadAhead. Only root can have more than 128 KiB.
	ReadAhead int
	// WriteThrough has the kernel hand on each write at once, where otherwise it collects them for some seconds or until an
	// fsync.
	WriteThrough bool
	// AllowOther lets other users open the file, as its mode permits.
	AllowOther bool
	// Closed, if it is set, is called whenever nobody has the file open any more.
	Closed func()
	// Failed, if it is set, is told why a request failed.
	Failed func(operation string, err error)
}

// Mount is a device that is shown.
type Mount struct {
	dir    string
	server *fuse.Server
}

// Serve shows the device in a directory until Close is called or somebody unmounts it.
func Serve(dir string, d Device, o Options) (*Mount, error) {
	m, err := serve(dir, d, o)
	if err != nil {
		return nil, fmt.Errorf("showing a volume in %s: %w", dir, err)
	}
	return m, nil
}

func serve(dir string, d Device, o Options) (*Mount, error) {
	if b := d.BlockSize(); b <= 0 || b > maxBlock || b&(b-1) != 0 || d.Size() <= 0 || d.Size()%int64(b) != 0 {
		return nil, fmt.Errorf("a device of %d bytes in blocks of %d", d.Size(), b)
	}
	if o.Deadline == 0 {
		o.Deadline = DefaultDeadline
	}
	if o.ReadAhead == 0 {
		o.ReadAhead = DefaultReadAhead
	}
	f := &file{RawFileSystem: fuse.NewDefaultRawFileSystem(), device: aligned{device: d, block: int64(d.BlockSize())}, opts: o, started: time.Now()}
	mo := &fuse.MountOptions{
		FsName: "cofferdam", Name: "cofferdam", MaxWrite: maxRequest, MaxReadAhead: o.ReadAhead, MaxBackground: background,
		DisableXAttrs: true, ExplicitDataCacheControl: true, DirectMount: true, DirectMountStrict: os.Geteuid() == 0, AllowOther: o.AllowOther, Options: []string{"default_permissions"},
		Logger: slog.NewLogLogger(slog.DiscardHandler, slog.LevelError), // it knows nothing that Failed is not told
	}
	if o.Write && !o.WriteThrough {
		mo.ExtraCapabilities = fuse.CAP_WRITEBACK_CACHE
	}
	if !o.Write {
		mo.Options = append(mo.Options, "ro")
		mo.DirectMountFlags = unix.MS_NOSUID | unix.MS_NODEV | unix.MS_RDONLY
	}
	s, err := fuse.NewServer(f, dir, mo)
	if err != nil {
		return nil, err
	}
	go s.Serve()
	if err := waitMount(s); err != nil {
		return nil, errors.Join(err, s.Unmount())
	}
	m := &Mount{dir, s}
	m.readAhead(o.ReadAhead)
	return m, nil
}

// waitMount waits until the file is shown. The library opens a file of the mount for a moment, in a way that processes inherit
// it which are started just then: they would keep the mount busy for as long as they live. So none is started.
func waitMount(s *fuse.Server) error {
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	return s.WaitMount()
}

// readAhead raises what the kernel reads ahead over its own limit. Without the right to it reading is slower.
func (m *Mount) readAhead(bytes int) {
	var st unix.Stat_t
	if unix.Stat(m.dir, &st) != nil {
		return
	}
	knob := fmt.Sprintf("/sys/class/bdi/%d:%d/read_ahead_kb", unix.Major(st.Dev), unix.Minor(st.Dev))
	_ = os.WriteFile(knob, []byte(strconv.Itoa(bytes>>10)), 0o644) //nolint:gosec // it is the kernel's file, and may not be writable
}

// Path is the file's.
func (m *Mount) Path() string { return filepath.Join(m.dir, Name) }

// Done is closed when the device is not shown any more.
func (m *Mount) Done() <-chan struct{} {
	done := make(chan struct{})
	go func() { m.server.Wait(); close(done) }()
	return done
}

// Close ends it. Nobody may have the file open: the error is EBUSY then.
func (m *Mount) Close() error {
	if err := m.server.Unmount(); err != nil {
		return fmt.Errorf("unmounting %s: %w", m.dir, err)
	}
	m.server.Wait()
	return nil
}

// Abort ends it whoever has the file open. What they ask for from then on, and what waits, fails.
func (m *Mount) Abort() error {
	if err := unix.Unmount(m.dir, unix.MNT_FORCE|unix.MNT_DETACH); err != nil {
		return fmt.Errorf("unmounting %s by force: %w", m.dir, err)
	}
	return nil
}
