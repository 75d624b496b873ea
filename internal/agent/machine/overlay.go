// SPDX-License-Identifier: Apache-2.0

package machine

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"strconv"

	"golang.org/x/sys/unix"

	"cofferdam.dev/internal/agent/machine/mount"
)

// maxLayers is how many layers one overlay may have.
const maxLayers = 64

type overlay struct {
	layers      []string
	upperParent string // empty when the upper directory is in memory
}

// MountOverlay mounts an overlay at target. layers are targets of OpenLayer, top first; nothing else is accepted as a
// lower directory. upperParent is a target of OpenScratch that no other overlay has used; empty asks for an upper
// directory in memory that holds at most memoryBytes.
func (m *Machine) MountOverlay(_ context.Context, layers []string, upperParent string, memoryBytes uint64, target string) error {
	done, err := m.begin(target)
	if err != nil {
		return err
	}
	defer done()
	o := overlay{layers: append([]string(nil), layers...), upperParent: upperParent}
	err = m.claim(o, target)
	if err != nil {
		return fmt.Errorf("mounting overlay %s: %w", target, err)
	}
	err = o.mount(memoryBytes, target)
	if err != nil {
		m.mu.Lock()
		delete(m.overlays, target)
		m.mu.Unlock()
		return fmt.Errorf("mounting overlay %s: %w", target, err)
	}
	return nil
}

// claim checks what the overlay is made of and records it, so that none of it can be closed meanwhile.
func (m *Machine) claim(o overlay, target string) error {
	if len(o.layers) == 0 || len(o.layers) > maxLayers {
		return fmt.Errorf("it has %d layers, want 1 to %d", len(o.layers), maxLayers)
	}
	err := m.free(target)
	if err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, l := range o.layers {
		if _, ok := m.layers[l]; !ok || m.busy[l] {
			return fmt.Errorf("layer %q: %w", l, ErrNotMounted)
		}
	}
	if o.upperParent != "" {
		if _, ok := m.scratch[o.upperParent]; !ok || m.busy[o.upperParent] {
			return fmt.Errorf("scratch disk %q: %w", o.upperParent, ErrNotMounted)
		}
	}
	m.overlays[target] = o
	return nil
}

func (o overlay) mount(memoryBytes uint64, target string) error {
	if o.upperParent != "" {
		return o.mountOver(o.upperParent, target)
	}
	if memoryBytes == 0 {
		return errors.New("an upper directory in memory needs a size")
	}
	memory := path.Join(path.Dir(target), "memory")
	err := mount.FS{
		Type: "tmpfs", Source: "upper",
		Options: []mount.Option{{Key: "size", Value: strconv.FormatUint(memoryBytes, 10)}, {Key: "mode", Value: "0700"}},
		Attr:    unix.MOUNT_ATTR_NODEV,
	}.At(memory)
	if err != nil {
		return err
	}
	err = o.mountOver(memory, target)
	if err != nil {
		return undone(err, mount.Detach(memory))
	}
	// The overlay holds a private mount of the memory: detached, it is reachable through the overlay alone and goes
	// away with it.
	err = mount.Detach(memory)
	if err != nil {
		return undone(err, mount.Unmount(target))
	}
	_ = os.Remove(memory) // an empty directory harms nobody
	return nil
}

func (o overlay) mountOver(parent, target string) error {
	upper, work := path.Join(parent, "upper"), path.Join(parent, "work")
	err := makeLike(upper, o.layers[0])
	if err != nil {
		return err
	}
	err = os.Mkdir(work, 0o700)
	if err != nil {
		return undone(err, os.Remove(upper))
	}
	options := make([]mount.Option, 0, len(o.layers)+len(overlayOptions)+2)
	for _, l := range o.layers {
		options = append(options, mount.Option{Key: "lowerdir+", Value: l})
	}
	options = append(options, mount.Option{Key: "upperdir", Value: upper}, mount.Option{Key: "workdir", Value: work})
	options = append(options, overlayOptions...)
	err = mount.FS{Type: "overlay", Source: "overlay", Options: options, Attr: unix.MOUNT_ATTR_NODEV}.At(target)
	if err != nil {
		return undone(err, errors.Join(os.RemoveAll(upper), os.RemoveAll(work))) // both were made above
	}
	return nil
}

// overlayOptions fix what a kernel's build could choose otherwise.
var overlayOptions = []mount.Option{
	// Layers are trees made elsewhere: extended attributes in them must not redirect a lookup to another path or take
	// a file's content from another layer.
	{Key: "redirect_dir", Value: "nofollow"},
	{Key: "metacopy", Value: "off"},
	// No index and no NFS handles: an overlay is mounted once.
	{Key: "index", Value: "off"},
	{Key: "nfs_export", Value: "off"},
	// Inode numbers as they are in the layers, as container engines have it.
	{Key: "xino", Value: "off"},
	// The upper directory never outlives the machine, so waiting for the disk on fsync protects nothing.
	{Key: "volatile"},
}

// makeLike makes the directory upper with the owner and mode of the root of the topmost layer: an overlay's root takes
// both from its upper directory.
func makeLike(upper, layer string) error {
	var st unix.Stat_t
	err := unix.Lstat(layer, &st)
	if err != nil {
		return fmt.Errorf("reading the root of layer %s: %w", layer, err)
	}
	err = os.Mkdir(upper, 0o700)
	if err != nil {
		return err
	}
	err = unix.Chown(upper, int(st.Uid), int(st.Gid))
	if err == nil {
		err = unix.Chmod(upper, st.Mode&0o7777)
	}
	if err != nil {
		return fmt.Errorf("setting the owner and mode of %s: %w", upper, err)
	}
	return nil
}

// UnmountOverlay undoes MountOverlay. What was written into memory is gone; a scratch disk keeps it until it is closed.
func (m *Machine) UnmountOverlay(_ context.Context, target string) error {
	done, err := m.begin(target)
	if err != nil {
		return err
	}
	defer done()
	m.mu.Lock()
	_, ok := m.overlays[target]
	m.mu.Unlock()
	if !ok {
		return fmt.Errorf("unmounting overlay %s: %w", target, ErrNotMounted)
	}
	err = mount.Unmount(target)
	if err != nil {
		return fmt.Errorf("unmounting overlay: %w", err)
	}
	_ = os.Remove(target) // directories that nobody uses, one for each container that there was; one that is used stays
	_ = os.Remove(path.Dir(target))
	m.mu.Lock()
	delete(m.overlays, target)
	m.mu.Unlock()
	return nil
}
