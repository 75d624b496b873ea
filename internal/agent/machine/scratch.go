// SPDX-License-Identifier: Apache-2.0

package machine

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"cofferdam.dev/internal/agent/machine/block"
	"cofferdam.dev/internal/agent/machine/devmapper"
	"cofferdam.dev/internal/agent/machine/mount"
	"cofferdam.dev/internal/guestimage/scratchfmt"
)

// The encryption of scratch disks: AES-256 in XTS mode and HMAC-SHA-256 over each sector and its number, with the tag
// beside the sector in dm-integrity. The host can not read a sector, change it or move it elsewhere. It can put back
// an older version of the same sector together with its tag; the key lives for one boot, which bounds how old.
const (
	scratchCipher     = "capi:authenc(hmac(sha256),xts(aes))-plain64"
	scratchKeySize    = 64 + 32 // AES-256-XTS, then HMAC
	scratchTagSize    = 32
	scratchSectorSize = scratchfmt.BlockSize
	integrityHead     = 64 << 10 // what must be zero for dm-integrity to make the disk anew
	modulesScratch    = "scratch"
)

type scratchDisk struct {
	integrity, crypt devmapper.Device
}

// OpenScratch formats the disk with the given serial number under a key that nobody else has and mounts it, empty, at
// target. Whatever was on the disk is lost.
func (m *Machine) OpenScratch(ctx context.Context, serial, target string) error {
	done, err := m.begin(target)
	if err != nil {
		return err
	}
	defer done()
	err = m.free(target)
	if err != nil {
		return err
	}
	d, class, err := m.openScratch(ctx, serial, target)
	if err != nil {
		return fmt.Errorf("opening scratch disk %q: %w", serial, err)
	}
	m.mu.Lock()
	m.scratch[target] = d
	m.mu.Unlock()
	m.cfg.Log.Debug("scratch opened", slog.String("target", target), slog.String("class", class.Name))
	return nil
}

func (m *Machine) openScratch(ctx context.Context, serial, target string) (scratchDisk, scratchfmt.Class, error) {
	err := m.cfg.LoadModules(modulesScratch)
	if err != nil {
		return scratchDisk{}, scratchfmt.Class{}, err
	}
	dm, err := m.dm()
	if err != nil {
		return scratchDisk{}, scratchfmt.Class{}, err
	}
	disk, err := m.cfg.Disks.Find(ctx, serial)
	if err != nil {
		return scratchDisk{}, scratchfmt.Class{}, err
	}
	class, err := m.formatIntegrity(ctx, dm, disk)
	if err != nil {
		return scratchDisk{}, scratchfmt.Class{}, err
	}
	template, err := m.cfg.Template(class)
	if err != nil {
		return scratchDisk{}, class, err
	}
	if template.Size != class.Bytes {
		return scratchDisk{}, class, fmt.Errorf("template of class %s is for %d bytes, want %d", class.Name, template.Size, class.Bytes)
	}
	var d scratchDisk
	sectors := uint64(class.Bytes) / block.SectorSize
	d.integrity, err = dm.Activate(ctx, m.deviceName("integrity"), devmapper.Table{
		Targets: []devmapper.Target{integrityTarget(disk.Number(), sectors)},
	})
	if err != nil {
		return scratchDisk{}, class, err
	}
	d.crypt, err = activateCrypt(ctx, dm, m.deviceName("crypt"), d.integrity, sectors)
	if err != nil {
		return scratchDisk{}, class, undone(err, dm.Remove(context.WithoutCancel(ctx), d.integrity))
	}
	err = fillScratch(d.crypt, template, target)
	if err != nil {
		return scratchDisk{}, class, undone(err, d.remove(context.WithoutCancel(ctx), dm))
	}
	return d, class, nil
}

func (d scratchDisk) remove(ctx context.Context, dm *devmapper.Client) error {
	err := dm.Remove(ctx, d.crypt) // the kernel wipes its copy of the key with the device
	if err != nil {
		return err
	}
	return dm.Remove(ctx, d.integrity)
}

// formatIntegrity makes the kernel write a fresh dm-integrity superblock, and returns the largest filesystem that fits
// beside the tags.
func (m *Machine) formatIntegrity(ctx context.Context, dm *devmapper.Client, disk block.Disk) (scratchfmt.Class, error) {
	err := writeAt("/dev/"+disk.Name, disk.Major, disk.Minor, []scratchfmt.Extent{{Data: make([]byte, integrityHead)}})
	if err != nil {
		return scratchfmt.Class{}, fmt.Errorf("clearing the disk's head: %w", err)
	}
	// A table of one data unit is always small enough; the real length is known only afterwards.
	dev, err := dm.Activate(ctx, m.deviceName("format"), devmapper.Table{
		Targets: []devmapper.Target{integrityTarget(disk.Number(), scratchSectorSize/block.SectorSize)},
	})
	if err != nil {
		return scratchfmt.Class{}, fmt.Errorf("formatting: %w", err)
	}
	status, err := dm.Status(dev)
	err = undone(err, dm.Remove(context.WithoutCancel(ctx), dev))
	if err != nil {
		return scratchfmt.Class{}, fmt.Errorf("formatting: %w", err)
	}
	sectors, err := providedSectors(status)
	if err != nil {
		return scratchfmt.Class{}, err
	}
	// The kernel read the number from the disk, which may have answered with a lie.
	class, ok := scratchfmt.Largest(int64(min(sectors, disk.Sectors) * block.SectorSize))
	if !ok {
		return scratchfmt.Class{}, fmt.Errorf("disk of %d bytes is too small: the smallest class takes %d",
			disk.Bytes(), scratchfmt.Classes()[0].DiskBytes())
	}
	return class, nil
}

// integrityTarget stores tags without a journal (mode D): a crash loses a scratch disk's key and thus everything.
func integrityTarget(disk string, sectors uint64) devmapper.Target {
	params := fmt.Sprintf("%s 0 %d D 2 block_size:%d fix_padding", disk, scratchTagSize, scratchSectorSize)
	return devmapper.Target{Sectors: sectors, Type: "integrity", Params: []byte(params)}
}

// providedSectors reads the status line of dm-integrity: mismatches, provided data sectors, recalculation.
func providedSectors(status []devmapper.Target) (uint64, error) {
	if len(status) != 1 || status[0].Type != "integrity" {
		return 0, fmt.Errorf("status has %d targets, want one of type integrity", len(status))
	}
	fields := strings.Fields(string(status[0].Params))
	if len(fields) != 3 {
		return 0, fmt.Errorf("integrity status is %q, want three fields", status[0].Params)
	}
	n, err := strconv.ParseUint(fields[1], 10, 54)
	if err != nil {
		return 0, fmt.Errorf("integrity status %q: %w", status[0].Params, err)
	}
	return n, nil
}

// activateCrypt puts encryption with a fresh random key over the integrity device. No copy of the key outlives it
// outside the kernel.
func activateCrypt(ctx context.Context, dm *devmapper.Client, name string, below devmapper.Device, sectors uint64) (devmapper.Device, error) {
	var key [scratchKeySize]byte
	_, _ = rand.Read(key[:]) // never fails: crypto/rand aborts the program instead
	params := make([]byte, 0, 512)
	params = append(params, scratchCipher+" "...)
	params = hex.AppendEncode(params, key[:])
	clear(key[:])
	params = fmt.Appendf(params, " 0 %s 0 2 integrity:%d:aead sector_size:%d", below.Number(), scratchTagSize, scratchSectorSize)
	defer clear(params[:cap(params)])
	return dm.Activate(ctx, name, devmapper.Table{
		Targets: []devmapper.Target{{Sectors: sectors, Type: "crypt", Params: params}}, Secret: true,
	})
}

func fillScratch(dev devmapper.Device, t *scratchfmt.Template, target string) error {
	err := writeAt(dev.Path(), dev.Major, dev.Minor, t.Extents)
	if err != nil {
		return fmt.Errorf("writing the empty filesystem: %w", err)
	}
	// noinit_itable: the kernel must not read inode tables that were never written. errors=remount-ro: after a sector
	// that does not authenticate, nothing more is written on its ground. nodev as for layers.
	return mount.FS{
		Type: "ext4", Source: dev.Path(),
		Options: []mount.Option{{Key: "noinit_itable"}, {Key: "errors", Value: "remount-ro"}},
		Attr:    unix.MOUNT_ATTR_NODEV,
	}.At(target)
}

// writeAt writes extents past the page cache: a cached write would first read the rest of its page, and sectors that
// were never written can not be read.
func writeAt(path string, major, minor uint32, extents []scratchfmt.Extent) error {
	f, err := openDevice(path, major, minor, unix.O_RDWR|unix.O_DIRECT|unix.O_EXCL)
	if err != nil {
		return err
	}
	err = writeDirect(f, extents)
	return errors.Join(err, f.Close())
}

func writeDirect(f *os.File, extents []scratchfmt.Extent) error {
	const chunk = 1 << 20
	buf, err := unix.Mmap(-1, 0, chunk, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE) // page-aligned
	if err != nil {
		return fmt.Errorf("allocating a buffer: %w", err)
	}
	defer unix.Munmap(buf) //nolint:errcheck // fails only for a range that was not mapped
	for _, e := range extents {
		for at := 0; at < len(e.Data); at += chunk {
			n := copy(buf, e.Data[at:])
			_, err = f.WriteAt(buf[:n], e.Offset+int64(at))
			if err != nil {
				return err
			}
		}
	}
	return f.Sync()
}

// readTemplate reads a template from where the guest image keeps them.
func readTemplate(class scratchfmt.Class) (*scratchfmt.Template, error) {
	f, err := os.Open(class.Path())
	if err != nil {
		return nil, fmt.Errorf("opening scratch template: %w", err)
	}
	defer f.Close() //nolint:errcheck // only read from
	return scratchfmt.Read(f)
}

// CloseScratch undoes OpenScratch; the key is gone with the device. It is refused while an overlay uses the disk.
func (m *Machine) CloseScratch(ctx context.Context, target string) error {
	done, err := m.begin(target)
	if err != nil {
		return err
	}
	defer done()
	m.mu.Lock()
	d, ok := m.scratch[target]
	used := false
	for _, o := range m.overlays {
		used = used || o.upperParent == target
	}
	m.mu.Unlock()
	if !ok {
		return fmt.Errorf("closing scratch disk %s: %w", target, ErrNotMounted)
	}
	if used {
		return fmt.Errorf("closing scratch disk %s: an overlay uses it: %w", target, ErrInUse)
	}
	dm, err := m.dm()
	if err != nil {
		return err
	}
	err = mount.Unmount(target)
	if err != nil {
		return fmt.Errorf("closing scratch disk: %w", err)
	}
	err = d.remove(ctx, dm)
	if err != nil {
		return fmt.Errorf("closing scratch disk %s: %w", target, err)
	}
	_ = os.Remove(target) // a directory that nobody uses
	m.mu.Lock()
	delete(m.scratch, target)
	m.mu.Unlock()
	return nil
}
