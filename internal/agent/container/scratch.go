// SPDX-License-Identifier: Apache-2.0

package container

import (
	"fmt"
	"os"
	"path"

	"golang.org/x/sys/unix"
)

// ScratchRoom makes the directory that empty directories will be in, and returns where it lies: a disk that is mounted there
// holds them instead of the guest's memory. All other volumes stay in memory.
func (v *Volumes) ScratchRoom() (string, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	at := path.Clean(emptyDir)
	d, err := v.dir(at)
	if err != nil {
		return "", err
	}
	return v.Path(at), d.Close()
}

// UseScratch says whether a disk is mounted at ScratchRoom. Containers get no more of it than of the volumes in memory.
func (v *Volumes) UseScratch(mounted bool) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	if mounted {
		at := v.Path(path.Clean(emptyDir))
		err := unix.MountSetattr(unix.AT_FDCWD, at, unix.AT_SYMLINK_NOFOLLOW, &unix.MountAttr{
			Attr_set: unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NODEV,
		})
		if err == nil {
			err = os.Chmod(at, 0o755) //nolint:gosec // containers' users pass through it
		}
		if err != nil {
			return fmt.Errorf("using the scratch disk for volumes: %w", err)
		}
	}
	v.onDisk = mounted
	return nil
}
