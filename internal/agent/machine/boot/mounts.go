// SPDX-License-Identifier: Apache-2.0

package boot

import (
	"golang.org/x/sys/unix"

	"cofferdam.dev/internal/agent/machine/mount"
)

const (
	nosuid = unix.MOUNT_ATTR_NOSUID
	nodev  = unix.MOUNT_ATTR_NODEV
	noexec = unix.MOUNT_ATTR_NOEXEC
)

type mountPoint struct {
	target string
	fs     mount.FS
}

// mountPoints lists what is mounted, in order.
func mountPoints() []mountPoint {
	return []mountPoint{
		{"/proc", mount.FS{Type: "proc", Source: "proc", Attr: nosuid | nodev | noexec}},
		{"/sys", mount.FS{Type: "sysfs", Source: "sysfs", Attr: nosuid | nodev | noexec}},
		{"/dev", mount.FS{Type: "devtmpfs", Source: "devtmpfs", Attr: nosuid | noexec, Options: options("mode", "0755")}},
		{"/dev/pts", mount.FS{Type: "devpts", Source: "devpts", Attr: nosuid | noexec,
			Options: options("mode", "0620", "ptmxmode", "0666", "gid", "5")}},
		{"/dev/shm", mount.FS{Type: "tmpfs", Source: "shm", Attr: nosuid | nodev | noexec, Options: options("mode", "1777")}},
		// Directories that containers share lie below /run, so programs in it may be executed.
		{"/run", mount.FS{Type: "tmpfs", Source: "run", Attr: nosuid | nodev, Options: options("mode", "0755")}},
		{"/tmp", mount.FS{Type: "tmpfs", Source: "tmp", Attr: nosuid | nodev | noexec, Options: options("mode", "1777")}},
		{"/sys/fs/cgroup", mount.FS{Type: "cgroup2", Source: "cgroup", Attr: nosuid | nodev | noexec,
			Options: []mount.Option{{Key: "nsdelegate"}}}},
	}
}

func options(pairs ...string) []mount.Option {
	var list []mount.Option
	for i := 0; i+1 < len(pairs); i += 2 {
		list = append(list, mount.Option{Key: pairs[i], Value: pairs[i+1]})
	}
	return list
}

func mountAll() error {
	for _, m := range mountPoints() {
		err := m.fs.At(m.target)
		if err != nil {
			return err
		}
	}
	return nil
}

// ConfigFS is where MountConfigFS mounts.
const ConfigFS = "/sys/kernel/config"

// MountConfigFS mounts the filesystem through which hardware TEEs give their reports. The modules of the TEE's group
// must be loaded.
func MountConfigFS() error {
	return mount.FS{Type: "configfs", Source: "configfs", Attr: nosuid | nodev | noexec}.At(ConfigFS)
}
