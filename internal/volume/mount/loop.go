// SPDX-License-Identifier: Apache-2.0

package mount

import (
	"errors"
	"fmt"
	"os"
	"strconv"

	"golang.org/x/sys/unix"

	"cofferdam.dev/internal/volume/fusefile"
)

// Major numbers and the minor number of Linux's device nodes (Documentation/admin-guide/devices.txt).
const (
	miscMajor, fuseMinor, loopControlMinor = 10, 229, 237
	loopMajor                              = 7
)

// loopTries bounds how often a free device is looked for, when others are as quick.
const loopTries = 16

// Nodes makes the device nodes that mounting needs, where they are missing: containers have a directory of devices of their
// own, and a privileged one may make nodes in it.
func Nodes() error {
	err := errors.Join(node("/dev/fuse", unix.S_IFCHR, miscMajor, fuseMinor), node("/dev/loop-control", unix.S_IFCHR, miscMajor, loopControlMinor))
	if err != nil {
		return fmt.Errorf("mounting volumes needs /dev/fuse and loop devices, which a privileged container has: %w", err)
	}
	return nil
}

func node(path string, kind, major, minor uint32) error {
	_, err := os.Stat(path)
	if !errors.Is(err, os.ErrNotExist) {
		return err
	}
	err = unix.Mknod(path, kind|0o600, int(unix.Mkdev(major, minor)))
	if err != nil && !errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("making %s: %w", path, err)
	}
	return nil
}

// loop is a loop device, which ends when the last one closes it. The mount holds it open, too.
type loop struct {
	path string
	// number is MAJOR:MINOR.
	number string
	f      *os.File
}

// newLoop puts a loop device on a file.
func newLoop(path string, write bool) (*loop, error) {
	l, err := attachLoop(path, write)
	if err != nil {
		return nil, fmt.Errorf("putting a loop device on %s: %w", path, err)
	}
	return l, nil
}

func attachLoop(path string, write bool) (*loop, error) {
	mode := os.O_RDONLY
	if write {
		mode = os.O_RDWR
	}
	f, err := os.OpenFile(path, mode, 0)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }() // the device holds it open
	control, err := os.OpenFile("/dev/loop-control", os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	defer func() { _ = control.Close() }() // nothing was written
	for range loopTries {
		l, err := tryLoop(control, f, mode)
		if err == nil {
			return l, nil
		}
		if !errors.Is(err, unix.EBUSY) && !errors.Is(err, unix.ENXIO) { // somebody else was quicker, and may be done with it
			return nil, err
		}
	}
	return nil, errors.New("no loop device stays free")
}

func tryLoop(control, f *os.File, mode int) (*loop, error) {
	n, err := unix.IoctlRetInt(int(control.Fd()), unix.LOOP_CTL_GET_FREE)
	if err != nil {
		return nil, fmt.Errorf("finding a free one: %w", err)
	}
	path := "/dev/loop" + strconv.Itoa(n)
	if err := node(path, unix.S_IFBLK, loopMajor, uint32(n)); err != nil {
		return nil, err
	}
	d, err := os.OpenFile(path, mode, 0)
	if err != nil {
		return nil, err
	}
	// The kernel keeps what is read once, in the filesystem's cache, and not in that of the file, too. Where it can not pass by
	// that one it does not.
	config := &unix.LoopConfig{Fd: uint32(f.Fd()), Size: sector, Info: unix.LoopInfo64{Flags: unix.LO_FLAGS_AUTOCLEAR | unix.LO_FLAGS_DIRECT_IO}}
	if mode == os.O_RDONLY {
		config.Info.Flags |= unix.LO_FLAGS_READ_ONLY
	}
	copy(config.Info.File_name[:len(config.Info.File_name)-1], f.Name())
	if err := unix.IoctlLoopConfigure(int(d.Fd()), config); err != nil {
		_ = d.Close() // the other error says more
		return nil, fmt.Errorf("setting up %s: %w", path, err)
	}
	// The file's own reading ahead is passed by, too. Without this, reading is slower.
	_ = unix.IoctlSetInt(int(d.Fd()), unix.BLKRASET, fusefile.DefaultReadAhead/sector)
	return &loop{path, fmt.Sprintf("%d:%d", loopMajor, n), d}, nil
}

func (l *loop) Close() error { return l.f.Close() }
