// SPDX-License-Identifier: Apache-2.0

package container

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"

	"golang.org/x/sys/unix"
)

const (
	terminationDir  = "/tmp/atlas/terminationLog/"
	terminationMode = 0o666
	maxMessage      = 4096 // of a termination log, in bytes
)

// IsTerminationLog reports whether a mount's source is a termination log: a file that is new for each container.
func IsTerminationLog(source string) bool { return strings.HasPrefix(source, terminationDir) }

// newLog makes the termination log at source for the container id, and returns it. A file that is there already stays with
// whoever has it mounted.
func (v *Volumes) newLog(id, source string) (*os.File, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	f, err := v.makeLog(source)
	if err != nil {
		return nil, fmt.Errorf("making the termination log %s: %w", source, err)
	}
	if v.logs == nil {
		v.logs = map[string]string{}
	}
	v.logs[id] = source
	return f, nil
}

func (v *Volumes) makeLog(source string) (*os.File, error) {
	dir, err := v.dir(path.Dir(source))
	if err != nil {
		return nil, err
	}
	defer func() { _ = dir.Close() }()
	err = unix.Unlinkat(int(dir.Fd()), path.Base(source), 0)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	fd, err := unix.Openat(int(dir.Fd()), path.Base(source),
		unix.O_RDONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, terminationMode)
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(fd), source)
	err = f.Chmod(terminationMode) // whatever the mask is
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// message reads the end of a termination log and closes it. A file that can not be read holds nothing.
func message(log *os.File) []byte {
	if log == nil {
		return nil
	}
	defer func() { _ = log.Close() }()
	b := make([]byte, maxMessage)
	size, err := log.Seek(0, io.SeekEnd)
	if err != nil {
		return []byte{}
	}
	n, _ := log.ReadAt(b, max(0, size-maxMessage)) // what could be read is the message
	return b[:n]
}
