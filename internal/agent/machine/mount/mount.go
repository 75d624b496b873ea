// SPDX-License-Identifier: Apache-2.0

// Package mount attaches filesystems to directories of the guest, through the kernel's file-descriptor mount calls.
//
// Compared with mount(2), options are passed one by one, so nothing in a path can be taken for another option and no
// page-size limit applies to many overlay layers; and the kernel says what it disliked. A target is opened without
// following symbolic links, so that nothing a container could have written redirects a mount.
//
// It trusts its caller to have decided that the mount may happen, and never unmounts what it was not told to.
package mount

import (
	"errors"
	"fmt"
	"os"
	"path"
	"strings"

	"golang.org/x/sys/unix"
)

// Option is one option of a filesystem: a flag where Value is empty, else a key with a value.
type Option struct {
	Key, Value string
}

// FS is a filesystem to be mounted.
type FS struct {
	// Type is the kernel's name of the filesystem.
	Type string
	// Source is the device, or whatever name should show in /proc/mounts.
	Source string
	// Options are the filesystem's own, in order.
	Options []Option
	// Attr are MOUNT_ATTR_ flags of the mount.
	Attr int
}

// ErrPath is wrapped by errors about a target's form.
var ErrPath = errors.New("path is not absolute and clean")

// At creates the directory target where it is missing, for root alone, and mounts f there.
func (f FS) At(target string) error {
	err := f.at(target)
	if err != nil {
		return fmt.Errorf("mounting %s at %s: %w", f.Type, target, err)
	}
	return nil
}

func (f FS) at(target string) error {
	dir, err := openTarget(target)
	if err != nil {
		return err
	}
	defer dir.Close() //nolint:errcheck // a path handle holds no data
	fd, err := f.detached()
	if err != nil {
		return err
	}
	defer unix.Close(fd) //nolint:errcheck // a mount handle holds no data
	err = unix.MoveMount(fd, "", int(dir.Fd()), "", unix.MOVE_MOUNT_F_EMPTY_PATH|unix.MOVE_MOUNT_T_EMPTY_PATH)
	if err != nil {
		return fmt.Errorf("attaching: %w", err)
	}
	return nil
}

// detached makes the filesystem and returns a handle of a mount of it that is not attached anywhere yet.
func (f FS) detached() (int, error) {
	ctx, err := unix.Fsopen(f.Type, unix.FSOPEN_CLOEXEC)
	if err != nil {
		return -1, fmt.Errorf("opening the filesystem type: %w", err)
	}
	defer unix.Close(ctx) //nolint:errcheck // the handle holds no data
	if f.Source != "" {
		err = unix.FsconfigSetString(ctx, "source", f.Source)
		if err != nil {
			return -1, withKernelLog(ctx, "setting the source", err)
		}
	}
	for _, o := range f.Options {
		if o.Value == "" {
			err = unix.FsconfigSetFlag(ctx, o.Key)
		} else {
			err = unix.FsconfigSetString(ctx, o.Key, o.Value)
		}
		if err != nil {
			return -1, withKernelLog(ctx, fmt.Sprintf("setting option %s to %q", o.Key, o.Value), err)
		}
	}
	err = unix.FsconfigCreate(ctx)
	if err != nil {
		return -1, withKernelLog(ctx, "reading the filesystem", err)
	}
	fd, err := unix.Fsmount(ctx, unix.FSMOUNT_CLOEXEC, f.Attr)
	if err != nil {
		return -1, withKernelLog(ctx, "making the mount", err)
	}
	return fd, nil
}

// withKernelLog adds the messages that the kernel left on the filesystem context to err.
func withKernelLog(ctx int, doing string, err error) error {
	var said []string
	buf := make([]byte, 512)
	for range 8 {
		n, readErr := unix.Read(ctx, buf)
		if readErr != nil || n <= 0 {
			break
		}
		_, text, _ := strings.Cut(strings.TrimSpace(string(buf[:n])), " ") // "e TEXT", "w TEXT" or "i TEXT"
		said = append(said, text)
	}
	if len(said) == 0 {
		return fmt.Errorf("%s: %w", doing, err)
	}
	return fmt.Errorf("%s: %w (%s)", doing, err, strings.Join(said, "; "))
}

// openTarget makes the directory target and returns a handle of it. No component may be a symbolic link.
func openTarget(target string) (*os.File, error) {
	if !path.IsAbs(target) || path.Clean(target) != target || target == "/" {
		return nil, fmt.Errorf("%w: %q", ErrPath, target)
	}
	f, err := openDirectory(target)
	if !errors.Is(err, unix.ENOENT) {
		return f, err
	}
	err = os.MkdirAll(target, 0o700) // through a symbolic link at worst makes an empty directory; opening refuses it
	if err != nil {
		return nil, fmt.Errorf("making the target: %w", err)
	}
	return openDirectory(target)
}

func openDirectory(target string) (*os.File, error) {
	fd, err := unix.Openat2(unix.AT_FDCWD, target, &unix.OpenHow{
		Flags:   unix.O_PATH | unix.O_DIRECTORY | unix.O_NOFOLLOW | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_NO_SYMLINKS,
	})
	if err != nil {
		return nil, fmt.Errorf("opening the target: %w", err)
	}
	return os.NewFile(uintptr(fd), target), nil
}

// Unmount detaches the topmost filesystem mounted at target. It fails while the filesystem is in use.
func Unmount(target string) error {
	err := unix.Unmount(target, unix.UMOUNT_NOFOLLOW)
	if err != nil {
		return fmt.Errorf("unmounting %s: %w", target, err)
	}
	return nil
}

// Detach takes the filesystem at target out of sight at once; it lives on until its last user is gone.
func Detach(target string) error {
	err := unix.Unmount(target, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW)
	if err != nil {
		return fmt.Errorf("detaching %s: %w", target, err)
	}
	return nil
}
