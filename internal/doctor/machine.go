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

	"golang.org/x/sys/unix"

	"cofferdam.dev/internal/sandbox/qemu"
)

// Machine is what the checks look through. Host fills it for the machine that runs; tests fill it with a made-up one.
type Machine struct {
	// OS and Arch are as in runtime.GOOS and runtime.GOARCH.
	OS, Arch string
	// Files is the machine's root directory.
	Files fs.FS
	// LookPath finds a program that is installed together with this one, or on the path.
	LookPath func(name string) (string, error)
	// Host is what the kernel offers to virtual machines.
	Host func() qemu.Host
	// Emulator asks QEMU what it is.
	Emulator func(context.Context) (*qemu.Emulator, error)
	// Firmware says for which hardware TEEs the guest image has firmware.
	Firmware func(tee string) bool
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
		LookPath: lookPath,
		Host:     func() qemu.Host { return qemu.DetectHost("/") },
		Emulator: func(ctx context.Context) (*qemu.Emulator, error) { return qemu.Probe(ctx, "") },
		Firmware: func(string) bool { return false }, // guest images carry none
		Free:     freeBytes, OpenFiles: openFileLimit,
		Home: home, GuestImage: guestImage,
	}
}

func lookPath(name string) (string, error) {
	self, err := os.Executable()
	if err == nil {
		path := filepath.Join(filepath.Dir(self), name)
		_, err = os.Stat(path)
		if err == nil {
			return path, nil
		}
	}
	return exec.LookPath(name)
}

// freeBytes asks the filesystem of the nearest directory that exists.
func freeBytes(path string) (uint64, error) {
	for {
		var st unix.Statfs_t
		err := unix.Statfs(path, &st)
		if err == nil {
			return st.Bavail * uint64(st.Bsize), nil
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
