// SPDX-License-Identifier: Apache-2.0

package machine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"slices"

	"golang.org/x/sys/unix"

	"cofferdam.dev/internal/agent/machine/block"
	"cofferdam.dev/internal/agent/machine/devmapper"
	"cofferdam.dev/internal/agent/machine/mount"
	"cofferdam.dev/internal/verity"
)

const sectorsPerBlock = verity.BlockSize / block.SectorSize

// OpenLayer finds the disk with the given serial number, opens it through dm-verity with the root hash, checks that
// the filesystem inside has exactly dataBlocks blocks, and mounts it read-only at target. Reading a block that does
// not match the root hash gives EIO, then and later; it never gives data.
func (m *Machine) OpenLayer(ctx context.Context, serial string, root [32]byte, dataBlocks uint64, target string) error {
	done, err := m.begin(target)
	if err != nil {
		return err
	}
	defer done()
	err = m.free(target)
	if err != nil {
		return err
	}
	dev, err := m.openLayer(ctx, serial, root, dataBlocks, target)
	if err != nil {
		return fmt.Errorf("opening layer %x on disk %q: %w", root, serial, err)
	}
	m.mu.Lock()
	m.layers[target] = dev
	m.mu.Unlock()
	m.cfg.Log.Debug("layer opened", slog.String("target", target), slog.String("device", dev.Name))
	return nil
}

func (m *Machine) openLayer(ctx context.Context, serial string, root [32]byte, dataBlocks uint64, target string) (devmapper.Device, error) {
	tree, err := verity.TreeBlocks(dataBlocks)
	if err != nil {
		return devmapper.Device{}, err
	}
	dm, err := m.dm()
	if err != nil {
		return devmapper.Device{}, err
	}
	disk, err := m.cfg.Disks.Find(ctx, serial)
	if err != nil {
		return devmapper.Device{}, err
	}
	if need := (dataBlocks + 1 + tree) * sectorsPerBlock; disk.Sectors < need {
		return devmapper.Device{}, fmt.Errorf("disk has %d sectors, a layer of %d blocks takes %d", disk.Sectors, dataBlocks, need)
	}
	err = checkVeritySuperblock(disk, dataBlocks)
	if err != nil {
		return devmapper.Device{}, err
	}
	dev, err := dm.Activate(ctx, m.deviceName("layer"), devmapper.Table{
		Targets: []devmapper.Target{verityTarget(disk.Number(), root, dataBlocks)}, ReadOnly: true,
	})
	if err != nil {
		return devmapper.Device{}, err
	}
	err = mountLayer(dev, dataBlocks, target)
	if err != nil {
		return devmapper.Device{}, undone(err, dm.Remove(context.WithoutCancel(ctx), dev))
	}
	return dev, nil
}

// verityTarget is the table of layer scheme 1. It has no optional arguments: a corrupted block fails the read (the
// default), every block is checked on every read from the disk, and zero blocks are checked like others.
func verityTarget(disk string, root [32]byte, dataBlocks uint64) devmapper.Target {
	var salt [verity.SaltSize]byte
	params := fmt.Sprintf("1 %s %s %d %d %d %d sha256 %x %x",
		disk, disk, verity.BlockSize, verity.BlockSize, dataBlocks, dataBlocks+1, root, salt)
	return devmapper.Target{Sectors: dataBlocks * sectorsPerBlock, Type: "verity", Params: []byte(params)}
}

// checkVeritySuperblock refuses a disk that says it is made in another way. Nothing is taken from what it says; the
// check only turns a failure at the first read into a clear answer.
func checkVeritySuperblock(disk block.Disk, dataBlocks uint64) error {
	b, err := readDevice("/dev/"+disk.Name, disk.Major, disk.Minor, int64(dataBlocks)*verity.BlockSize, verity.BlockSize)
	if err != nil {
		return err
	}
	sb, err := verity.ParseSuperblock(b)
	if err != nil {
		return err
	}
	if sb.DataBlocks != dataBlocks {
		return fmt.Errorf("disk holds a layer of %d blocks, want %d", sb.DataBlocks, dataBlocks)
	}
	return nil
}

// mountLayer mounts the verified device. The filesystem's own size must be dataBlocks, so that one root hash can not
// be presented as layers of different sizes.
func mountLayer(dev devmapper.Device, dataBlocks uint64, target string) error {
	b, err := readDevice(dev.Path(), dev.Major, dev.Minor, verity.Ext4SuperblockOffset, verity.Ext4SuperblockSize)
	if err != nil {
		return fmt.Errorf("reading the filesystem through its root hash: %w", err)
	}
	ext4, err := verity.ParseExt4(b)
	if err != nil {
		return err
	}
	if ext4.Blocks != dataBlocks {
		return fmt.Errorf("filesystem has %d blocks, want %d", ext4.Blocks, dataBlocks)
	}
	// No nosuid: setuid programs of an image must work. nodev: images can carry device nodes, containers get theirs
	// from the runtime; whiteouts, which are character devices 0:0, are recognised by number and never opened.
	return mount.FS{
		Type: "ext4", Source: dev.Path(), Options: []mount.Option{{Key: "ro"}, {Key: "noload"}},
		Attr: unix.MOUNT_ATTR_RDONLY | unix.MOUNT_ATTR_NODEV,
	}.At(target)
}

// readDevice reads a part of a block device, after it made sure that path is the device with that number.
func readDevice(path string, major, minor uint32, offset int64, size int) ([]byte, error) {
	f, err := openDevice(path, major, minor, unix.O_RDONLY)
	if err != nil {
		return nil, err
	}
	defer f.Close() //nolint:errcheck // only read from
	b := make([]byte, size)
	_, err = f.ReadAt(b, offset)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("reading %d bytes at %d: %w", size, offset, err)
	}
	if err != nil {
		return nil, fmt.Errorf("reading %d bytes at %d of %s: it is shorter", size, offset, path)
	}
	return b, nil
}

func openDevice(path string, major, minor uint32, flags int) (*os.File, error) {
	f, err := os.OpenFile(path, flags|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("opening the device: %w", err)
	}
	var st unix.Stat_t
	err = unix.Fstat(int(f.Fd()), &st)
	if err == nil && (st.Mode&unix.S_IFMT != unix.S_IFBLK || st.Rdev != unix.Mkdev(major, minor)) {
		err = fmt.Errorf("it is not block device %d:%d", major, minor)
	}
	if err != nil {
		_ = f.Close() // nothing was written
		return nil, fmt.Errorf("opening %s: %w", path, err)
	}
	return f, nil
}

// CloseLayer undoes OpenLayer. It is refused while an overlay uses the layer.
func (m *Machine) CloseLayer(ctx context.Context, target string) error {
	done, err := m.begin(target)
	if err != nil {
		return err
	}
	defer done()
	m.mu.Lock()
	dev, ok := m.layers[target]
	used := false
	for _, o := range m.overlays {
		used = used || slices.Contains(o.layers, target)
	}
	m.mu.Unlock()
	if !ok {
		return fmt.Errorf("closing layer %s: %w", target, ErrNotMounted)
	}
	if used {
		return fmt.Errorf("closing layer %s: an overlay uses it: %w", target, ErrInUse)
	}
	dm, err := m.dm()
	if err != nil {
		return err
	}
	err = mount.Unmount(target)
	if err != nil {
		return fmt.Errorf("closing layer: %w", err)
	}
	err = dm.Remove(ctx, dev)
	if err != nil {
		return fmt.Errorf("closing layer %s: %w", target, err)
	}
	m.mu.Lock()
	delete(m.layers, target)
	m.mu.Unlock()
	return nil
}
