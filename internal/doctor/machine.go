// SPDX-License-Identifier: Apache-2.0

package doctor

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"time"

	"golang.org/x/sys/unix"
)

// probeTimeout bounds a program that is asked for its version.
const probeTimeout = 10 * time.Second

// Machine is what the checks look through. Host fills it for the machine that runs; tests fill it with a made-up one.
type Machine struct {
	// OS and Arch are as in runtime.GOOS and runtime.GOARCH.
	OS, Arch string
	// Files is the machine's root directory.
	Files fs.FS
	// LookPath finds a program.
	LookPath func(name string) (string, error)
	// Output runs a program and returns what it prints.
	Output func(ctx context.Context, name string, args ...string) ([]byte, error)
	// OpenDevice opens a device for reading and writing and closes it again.
	OpenDevice func(path string) error
	// Free returns the bytes that an ordinary user may still write below path, which may not exist yet.
	Free func(path string) (uint64, error)
	// OpenFiles returns the limit of open files that a process may raise itself to.
	OpenFiles func() (uint64, error)
	// Home is the state directory.
	Home string
	// GuestImage describes the current guest image, or says why there is none.
	GuestImage func() (string, error)
}

// Host returns the machine that the program runs on. guestImage describes the current guest image below home.
func Host(home string, guestImage func() (string, error)) Machine {
	return Machine{
		OS: runtime.GOOS, Arch: runtime.GOARCH,
		Files:    os.DirFS("/"),
		LookPath: exec.LookPath,
		Output: func(ctx context.Context, name string, args ...string) ([]byte, error) {
			ctx, cancel := context.WithTimeout(ctx, probeTimeout)
			defer cancel()
			return exec.CommandContext(ctx, name, args...).Output() //nolint:gosec // the callers below name fixed programs
		},
		OpenDevice: func(path string) error {
			f, err := os.OpenFile(path, os.O_RDWR, 0) //nolint:gosec // the callers below name fixed devices
			if err != nil {
				return err
			}
			return f.Close()
		},
		Free:       freeBytes,
		OpenFiles:  openFileLimit,
		Home:       home,
		GuestImage: guestImage,
	}
}

// freeBytes asks the filesystem of the nearest directory that exists.
func freeBytes(path string) (uint64, error) {
	for {
		var st unix.Statfs_t
		err := unix.Statfs(path, &st)
		if err == nil {
			return st.Bavail * uint64(st.Bsize), nil //nolint:gosec // a block size is positive
		}
		parent := filepath.Dir(path)
		if !errors.Is(err, fs.ErrNotExist) || parent == path {
			return 0, err
		}
		path = parent
	}
}

func openFileLimit() (uint64, error) {
	var l unix.Rlimit
	err := unix.Getrlimit(unix.RLIMIT_NOFILE, &l)
	return l.Max, err
}

// has reports whether a path below the machine's root exists.
func (m Machine) has(path string) bool {
	_, err := fs.Stat(m.Files, path)
	return err == nil
}

// says reports whether a kernel parameter file holds "Y" or "1".
func (m Machine) says(path string) bool {
	b, err := fs.ReadFile(m.Files, path)
	return err == nil && len(b) > 0 && (b[0] == 'Y' || b[0] == '1')
}
