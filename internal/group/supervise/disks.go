// SPDX-License-Identifier: Apache-2.0

package supervise

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"cofferdam.dev/internal/group"
	"cofferdam.dev/internal/sandbox"
	"cofferdam.dev/internal/sandbox/qemu"
)

// layout says which disks a machine gets, and how each container's root filesystem is made of them.
type layout struct {
	disks []qemu.Disk
	roots []sandbox.Root // as the plan's containers
	// scratch are the disks to create, with their sizes.
	scratch map[string]int64
}

// arrange gives each layer one disk, however many containers share it. Only when one image lists the same layer twice
// does it get a second disk, because an overlay can not hold one directory twice.
func arrange(plan *group.Plan, dir string) (*layout, error) {
	l := &layout{scratch: map[string]int64{}}
	type use struct {
		root string
		nth  int
	}
	targets := map[use]string{}
	for i, c := range plan.Containers {
		var root sandbox.Root
		seen := map[string]int{}
		for _, layer := range c.Layers {
			u := use{layer.RootHash, seen[layer.RootHash]}
			seen[layer.RootHash]++
			if targets[u] == "" {
				n := len(targets)
				hash, err := layer.Root()
				if err != nil {
					return nil, fmt.Errorf("container %s: %w", c.Name, err)
				}
				targets[u] = fmt.Sprintf("/run/mounts/scsi/m%d", n)
				serial := fmt.Sprintf("layer%d", n)
				l.disks = append(l.disks, qemu.Disk{Path: layer.Path, Serial: serial, ReadOnly: true})
				root.Mount = append(root.Mount, sandbox.Layer{
					Serial: serial, Root: hash, DataBlocks: layer.DataBlocks, Target: targets[u],
				})
			}
			root.Targets = append(root.Targets, targets[u])
		}
		if c.ScratchMiB > 0 {
			root.Scratch = fmt.Sprintf("scratch%d", i)
			path := filepath.Join(dir, root.Scratch+".img")
			l.disks = append(l.disks, qemu.Disk{Path: path, Serial: root.Scratch})
			l.scratch[path] = int64(c.ScratchMiB) << 20
		}
		l.roots = append(l.roots, root)
	}
	if plan.ScratchMiB > 0 {
		path := filepath.Join(dir, groupScratch+".img")
		l.disks = append(l.disks, qemu.Disk{Path: path, Serial: groupScratch})
		l.scratch[path] = int64(plan.ScratchMiB) << 20
	}
	return l, nil
}

// groupScratch is the serial number of the disk that the group's volumes lie on.
const groupScratch = "scratch-group"

// prepare checks that the layers can be read, and makes the scratch disks as sparse files.
func (l *layout) prepare() error {
	for path, size := range l.scratch {
		f, err := os.OpenFile(path, os.O_CREATE|os.O_TRUNC|os.O_RDWR, 0o600)
		if err != nil {
			return fmt.Errorf("making a scratch disk: %w", err)
		}
		err = errors.Join(f.Truncate(size), f.Close())
		if err != nil {
			return fmt.Errorf("making a scratch disk: %w", err)
		}
	}
	for _, d := range l.disks {
		f, err := os.Open(d.Path)
		if err != nil {
			return fmt.Errorf("opening disk %s: %w", d.Serial, err)
		}
		_ = f.Close() // opened for reading only
	}
	return nil
}
