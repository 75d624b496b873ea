// SPDX-License-Identifier: Apache-2.0

package container

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"cofferdam.dev/internal/agent/machine/mount"
	"cofferdam.dev/internal/agent/share"
)

// SourcePattern is the form of a mount's source; whoever uses it bounds the length. A source has exactly one element below
// its class, so that every element of its path is made by the guest: a container that has one volume can not put a symbolic
// link into the path of another.
const SourcePattern = `/tmp/atlas/(azureFileVolume|secretsVolume|emptydir|gitRepoVolume|resolvconf|terminationLog)` + namePattern

// FillPattern is the form of the volumes that Fill takes.
const FillPattern = `/tmp/atlas/(secretsVolume|gitRepoVolume)` + namePattern

const namePattern = `/[A-Za-z0-9][A-Za-z0-9._-]*`

const (
	resolvDir   = "/tmp/atlas/resolvconf/"
	emptyDir    = "/tmp/atlas/emptydir/"
	shareDir    = "/tmp/atlas/azureFileVolume/"
	volumeMode  = 0o777 // as container engines make empty directories: any user of a container may write
	networkMode = 0o644
	maxVolumes  = 1024 // of a group
)

// Volumes keeps the directories and files of the group that containers mount. It lies in the guest's memory, in a
// filesystem of its own: a container that may open files by handle, or that fills its volumes, gets at nothing else.
type Volumes struct {
	Root    string  // an absolute path that nobody else writes to
	Network Network // before the first container; see Runner.SetNetwork
	Size    uint64  // what the volumes in memory may hold together, in bytes
	// Budget is what the agent itself may put into volumes in memory, in bytes. It is not the containers' memory that it
	// takes then, so Charge, which may be nil, is told of all that it put there until now.
	Budget int64
	Charge func(total int64) error

	mu    sync.Mutex
	known map[string]bool // volumes that exist and hold what the image had, if that was asked for
	put   int64           // of Budget
	// onDisk says that empty directories lie on a scratch disk and not in memory.
	onDisk bool
	logs   map[string]string // the sources of termination logs, by container
	// shares are what the host serves, by source. The agent opens nothing in them: the host could let it wait.
	shares map[string]*share.Share
}

// Path returns where source lies in the guest.
func (v *Volumes) Path(source string) string { return v.Root + source }

// share makes the filesystem of the volumes. Mounts in it appear in the containers that asked for that ("rshared"), and
// theirs in others.
func (v *Volumes) share() error {
	err := os.MkdirAll(v.Root, 0o755) //nolint:gosec // containers' users pass through it
	if err != nil {
		return fmt.Errorf("making the volumes' directory: %w", err)
	}
	err = mount.FS{
		Type: "tmpfs", Source: "volumes",
		Options: []mount.Option{{Key: "mode", Value: "0755"}, {Key: "size", Value: strconv.FormatUint(v.Size, 10)}},
		Attr:    unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NODEV,
	}.At(v.Root)
	if err == nil {
		err = unix.Mount("", v.Root, "", unix.MS_SHARED, "")
	}
	if err != nil {
		return fmt.Errorf("sharing the volumes' directory: %w", err)
	}
	return nil
}

// prepare makes the source of m if it does not exist. A new empty directory gets the contents that the image has at
// the mount's destination, as container engines do for volumes.
func (v *Volumes) prepare(rootfs string, m Mount) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.ensure(rootfs, m)
}

// ensure is prepare with the lock held.
func (v *Volumes) ensure(rootfs string, m Mount) error {
	if v.known[m.Source] {
		return nil
	}
	if len(v.known) >= maxVolumes {
		return fmt.Errorf("preparing the volume %s: there are %d already", m.Source, maxVolumes)
	}
	err := v.make(rootfs, m)
	if err != nil {
		return fmt.Errorf("preparing the volume %s: %w", m.Source, errors.Join(err, os.RemoveAll(v.Path(m.Source))))
	}
	if v.known == nil {
		v.known = map[string]bool{}
	}
	v.known[m.Source] = true
	return nil
}

func (v *Volumes) make(rootfs string, m Mount) error {
	parent, err := v.dir(path.Dir(m.Source))
	if err != nil {
		return err
	}
	defer func() { _ = parent.Close() }()
	name := path.Base(m.Source)
	if strings.HasPrefix(m.Source, resolvDir) {
		return writeNew(parent, name, v.Network.ResolvConf)
	}
	dir, err := makeDir(parent, name, volumeMode, 0)
	if err != nil {
		return err
	}
	defer func() { _ = dir.Close() }()
	if !strings.HasPrefix(m.Source, emptyDir) {
		return nil
	}
	limit := int64(maxCopyBytes)
	if !v.onDisk {
		limit = min(limit, v.Budget-v.put)
	}
	put, err := copyUp(rootfs, m.Destination, dir, limit)
	if err != nil || v.onDisk {
		return err
	}
	return v.charge(put)
}

// charge counts what the agent put into volumes in memory.
func (v *Volumes) charge(n int64) error {
	v.put += n
	if v.Charge == nil || n == 0 {
		return nil
	}
	return v.Charge(v.put)
}

// makeRoom makes a directory in a volume for a mount of the agent's. The runtime can not where the container may only read
// the volume.
func (v *Volumes) makeRoom(m Mount, name string) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.shares[m.Source] != nil {
		return fmt.Errorf("making room in the volume at %s: the host serves it", m.Destination)
	}
	volume, err := v.dir(m.Source)
	if err != nil {
		return fmt.Errorf("making room in the volume at %s: %w", m.Destination, err)
	}
	defer func() { _ = volume.Close() }()
	d, err := makeDir(volume, name, 0o755, 0)
	if err != nil {
		return fmt.Errorf("making room in the volume at %s: %w", m.Destination, err)
	}
	return d.Close()
}

// dir opens a directory below the root, and makes what is missing of it.
func (v *Volumes) dir(p string) (*os.File, error) {
	err := os.MkdirAll(v.Root, 0o755) //nolint:gosec // containers' users pass through it
	if err != nil {
		return nil, fmt.Errorf("making the volumes' directory: %w", err)
	}
	f, err := os.OpenFile(v.Root, unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		return nil, fmt.Errorf("opening the volumes' directory: %w", err)
	}
	for name := range strings.SplitSeq(strings.TrimPrefix(p, "/"), "/") {
		next, err := makeDir(f, name, 0o755, 0)
		_ = f.Close()
		if err != nil {
			return nil, err
		}
		f = next
	}
	return f, nil
}

// makeDir makes and opens a directory in parent. It follows no symbolic link; resolve are further restrictions of openat2.
func makeDir(parent *os.File, name string, mode uint32, resolve uint64) (*os.File, error) {
	err := unix.Mkdirat(int(parent.Fd()), name, mode)
	made := err == nil
	if err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, fmt.Errorf("making the directory %s: %w", name, err)
	}
	d, err := openAt(int(parent.Fd()), name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW,
		unix.RESOLVE_BENEATH|unix.RESOLVE_NO_SYMLINKS|resolve)
	if err != nil {
		return nil, err
	}
	if made {
		err = d.Chmod(os.FileMode(mode)) // whatever the mask is
		if err != nil {
			_ = d.Close()
			return nil, fmt.Errorf("setting the mode of %s: %w", name, err)
		}
	}
	return d, nil
}

// writeNew writes a small file into parent. What was there before is replaced.
func writeNew(parent *os.File, name, content string) error {
	fd, err := unix.Openat(int(parent.Fd()), name, unix.O_WRONLY|unix.O_CREAT|unix.O_TRUNC|unix.O_NOFOLLOW|unix.O_CLOEXEC, networkMode)
	if err != nil {
		return fmt.Errorf("making the file %s: %w", name, err)
	}
	f := os.NewFile(uintptr(fd), name)
	_, err = f.WriteString(content)
	return errors.Join(err, f.Chmod(networkMode), f.Close())
}
