// SPDX-License-Identifier: Apache-2.0

package group

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// The files of a group's directory.
const (
	fileRecord     = "record.json"
	filePlan       = "plan.json"
	fileLock       = "lock"
	fileSocket     = "sock"
	fileSupervisor = "supervisor.log"
	fileConsole    = "console.log"
	dirLogs        = "logs"
	fileReserve    = "reserve"
	dirClone       = "clone"
	fileEvents     = "events.jsonl"
)

// ClonePath is the directory of the group directory dir where repositories are cloned for volumes, while that lasts.
func ClonePath(dir string) string { return filepath.Join(dir, dirClone) }

// EventsPath is the file of the events in the group directory dir.
func EventsPath(dir string) string { return filepath.Join(dir, fileEvents) }

// reserveSize is room for a last record on a disk that is full.
const reserveSize = 64 << 10

// makeReserve sets room aside in dir. A disk without that much room is full already.
func makeReserve(dir string) error {
	f, err := os.OpenFile(filepath.Join(dir, fileReserve), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("setting room aside: %w", err)
	}
	err = unix.Fallocate(int(f.Fd()), 0, 0, reserveSize)
	if errors.Is(err, unix.EOPNOTSUPP) {
		_, err = f.Write(make([]byte, reserveSize))
	}
	err = errors.Join(err, f.Close())
	if err != nil {
		return fmt.Errorf("setting room aside: %w", err)
	}
	return nil
}

// dropReserve gives the room back. It is false when there was none.
func dropReserve(dir string) bool { return os.Remove(filepath.Join(dir, fileReserve)) == nil }

// lockFile opens and locks path with how (unix.LOCK_EX or LOCK_SH, with LOCK_NB to not wait). The lock belongs to the
// returned file and to every descriptor inherited from it, and ends with the last of them.
func lockFile(path string, how int) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("opening the lock: %w", err)
	}
	for {
		err = unix.Flock(int(f.Fd()), how)
		if !errors.Is(err, unix.EINTR) {
			break
		}
	}
	if err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("locking %s: %w", path, err)
	}
	return f, nil
}

// letGo gives a lock up, for everybody who has a copy of it. Closing the file is not enough: a process that is just being
// started has a copy of the descriptor for a moment, and whoever tries the lock then would find it held.
func letGo(f *os.File) {
	_ = unix.Flock(int(f.Fd()), unix.LOCK_UN) // closing follows
	_ = f.Close()                             // nothing was written
}

// A Unix socket's path is limited to 107 bytes and a group's directory may lie deeper. So the directory is opened and
// the socket named through the descriptor.
func viaDirectory(dir string, use func(path string) error) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer func() { _ = d.Close() }() // opened for reading only
	return use(fmt.Sprintf("/proc/self/fd/%d/%s", d.Fd(), fileSocket))
}

// Listen makes the group socket of the directory dir and listens on it. Whatever was there before is replaced: only
// the holder of the group's lock may call it.
func Listen(dir string) (*net.UnixListener, error) {
	var l *net.UnixListener
	err := viaDirectory(dir, func(path string) error {
		err := os.Remove(path)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
		l, err = net.ListenUnix("unix", &net.UnixAddr{Net: "unix", Name: path})
		if err != nil {
			return err
		}
		l.SetUnlinkOnClose(false) // its path is gone by then; the supervisor removes the file
		return os.Chmod(path, 0o600)
	})
	if err != nil {
		return nil, fmt.Errorf("making the group socket: %w", err)
	}
	return l, nil
}

// RemoveSocket removes the group socket of the directory dir, if there is one.
func RemoveSocket(dir string) error {
	err := os.Remove(filepath.Join(dir, fileSocket))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("removing the group socket: %w", err)
	}
	return nil
}
