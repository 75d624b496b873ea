// SPDX-License-Identifier: Apache-2.0

package mount

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"cofferdam.dev/internal/volume/fusefile"
	"cofferdam.dev/internal/volume/mapped"
)

// Filesystems that are known, by the kernel's names.
const (
	Ext4  = "ext4"
	EROFS = "erofs"
)

// Options say how a volume is mounted. The zero value mounts it for reading.
type Options struct {
	// Write mounts it to be written.
	Write bool
	// Files is a directory for the private mounts of this process; empty is the system's for temporary files.
	Files string
	// File is how the volume is shown as a file. Its Write is set as above.
	File fusefile.Options
	// Plan has the kernel's own drivers open the volume, over the storage Below, which is then what is shown as a file. Where they
	// can not, the volume is shown as ever, and Without, if it is set, is told why.
	Plan    *mapped.Plan
	Below   fusefile.Device
	Without func(error)
}

// Filesystem is a filesystem that is mounted.
type Filesystem struct {
	// Type is the filesystem's.
	Type string
	// Dir is where it is mounted.
	Dir string
	// Kernel says that the kernel's own drivers have opened the volume.
	Kernel bool

	files string // private directory of the file
	file  *fusefile.Mount
	gone  chan struct{}

	mapped *mapped.Device // nil without the kernel's drivers
}

// Damaged says whether the kernel's drivers have found that the storage holds something else than was sealed.
func (m *Filesystem) Damaged() bool { return m.mapped != nil && m.mapped.Damaged() }

// Detect says which filesystem a volume holds, by its superblock.
func Detect(ctx context.Context, d fusefile.Device) (string, error) {
	b := int64(d.BlockSize())
	p := make([]byte, max(b, 4096))
	if d.Size() < int64(len(p)) {
		return "", fmt.Errorf("a volume of %d bytes holds no filesystem", d.Size())
	}
	if err := d.ReadAt(ctx, p, 0); err != nil {
		return "", fmt.Errorf("reading the filesystem's superblock: %w", err)
	}
	switch {
	case binary.LittleEndian.Uint32(p[1024:]) == 0xE0F5E1E2: // EROFS_SUPER_MAGIC_V1, at the superblock's beginning
		return EROFS, nil
	case binary.LittleEndian.Uint16(p[1024+56:]) == 0xEF53: // s_magic of the ext4 superblock
		return Ext4, nil
	}
	return "", errors.New("the volume holds neither an ext4 nor an EROFS filesystem")
}

// Mount mounts the filesystem of a volume on a directory.
func Mount(ctx context.Context, d fusefile.Device, dir string, o Options) (*Filesystem, error) {
	m, err := mount(ctx, d, dir, o)
	if err != nil {
		return nil, fmt.Errorf("mounting a volume on %s: %w", dir, err)
	}
	return m, nil
}

func mount(ctx context.Context, d fusefile.Device, dir string, o Options) (*Filesystem, error) {
	kind, err := Detect(ctx, d)
	if err != nil {
		return nil, err
	}
	if kind == EROFS && o.Write {
		return nil, fmt.Errorf("an EROFS filesystem is only read: %w", unix.EROFS)
	}
	if err := Nodes(); err != nil {
		return nil, err
	}
	if o.Plan != nil {
		m, err := mountOn(ctx, o.Below, kind, dir, o)
		if err == nil {
			return m, nil
		}
		if o.Without != nil {
			o.Without(err)
		}
		o.Plan = nil
	}
	return mountOn(ctx, d, kind, dir, o)
}

// mountOn shows a device as a file, and mounts what is in it, through the kernel's drivers if there is a plan for them.
func mountOn(ctx context.Context, shown fusefile.Device, kind, dir string, o Options) (mounted *Filesystem, err error) {
	m := &Filesystem{Type: kind, Dir: dir, gone: make(chan struct{})}
	if m.files, err = os.MkdirTemp(o.Files, ".cofferdam-volume-"); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, m.end())
		}
	}()
	o.File.Write = o.Write
	o.File.Closed = sync.OnceFunc(func() { close(m.gone) }) // the loop device has the file open, and nobody else
	if m.file, err = fusefile.Serve(m.files, shown, o.File); err != nil {
		return nil, err
	}
	l, err := newLoop(m.file.Path(), o.Write)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, l.Close()) }() // the mount holds it open, if there is one
	source := l.path
	if o.Plan != nil {
		if m.mapped, err = mapped.Open(ctx, o.Plan, l.number, o.Write); err != nil {
			return nil, err
		}
		defer func() {
			if err != nil { // nobody uses it
				err = errors.Join(err, m.mapped.Close(context.WithoutCancel(ctx)))
			}
		}()
		source, m.Kernel = m.mapped.Path(), true
	}
	if err := mountSource(source, dir, kind, o.Write); err != nil {
		return nil, err
	}
	if m.mapped != nil {
		if err := m.mapped.Release(); err != nil {
			return nil, errors.Join(err, unix.Unmount(dir, 0))
		}
	}
	return m, nil
}

func mountSource(source, dir, kind string, write bool) error {
	flags, data := uintptr(unix.MS_NODEV|unix.MS_NOSUID), ""
	if !write {
		flags |= unix.MS_RDONLY
		if kind == Ext4 {
			data = "noload" // its journal can not be replayed
		}
	}
	if err := unix.Mount(source, dir, kind, flags, data); err != nil {
		return fmt.Errorf("mounting %s of %s: %w", kind, source, err)
	}
	return nil
}

// sector is the logical block size of the loop device, in bytes. Small filesystems have blocks that are smaller than the
// volume's; the file takes requests of any size.
const sector = 512

// settle is how long the kernel gets to let go of what was unmounted.
const settle = 10 * time.Second

// Close unmounts the filesystem, which writes what it holds, and then lets go of the loop device and of the file. While
// somebody uses the filesystem the error is EBUSY, and everything stays, until ctx ends.
func (m *Filesystem) Close(ctx context.Context) error {
	err := again(ctx, func() error {
		select {
		case <-m.gone:
			return nil
		default:
			return unix.Unmount(m.Dir, 0)
		}
	})
	if err != nil {
		return fmt.Errorf("unmounting %s: %w", m.Dir, err)
	}
	return m.end()
}

// Sync writes what the filesystem holds to the volume, and flushes that.
func (m *Filesystem) Sync() error {
	d, err := os.Open(m.Dir)
	if err != nil {
		return fmt.Errorf("flushing %s: %w", m.Dir, err)
	}
	err = unix.Syncfs(int(d.Fd()))
	if err := errors.Join(err, d.Close()); err != nil {
		return fmt.Errorf("flushing %s: %w", m.Dir, err)
	}
	return nil
}

// Abort ends the mount whoever uses it: what they ask for from then on fails. What was not flushed is lost.
func (m *Filesystem) Abort() error {
	return errors.Join(unix.Unmount(m.Dir, unix.MNT_DETACH), m.file.Abort())
}

// Done is closed when the filesystem is not mounted any more, also when somebody else unmounted it. Close is still to be
// called.
func (m *Filesystem) Done() <-chan struct{} { return m.gone }

// end undoes what is below the mount. The loop device lets go of the file when its last user has closed it, which the kernel
// does a moment after it was unmounted.
func (m *Filesystem) end() error {
	if m.mapped != nil {
		if err := m.mapped.Close(context.Background()); err != nil {
			return err
		}
	}
	if m.file != nil {
		ctx, stop := context.WithTimeout(context.Background(), settle)
		defer stop()
		if err := again(ctx, m.file.Close); err != nil {
			return err
		}
	}
	if err := os.Remove(m.files); err != nil {
		return fmt.Errorf("removing the directory of the volume's file: %w", err)
	}
	return nil
}

// again tries something until it is not busy any more, or ctx ends.
func again(ctx context.Context, do func() error) error {
	for pause := 5 * time.Millisecond; ; pause = min(2*pause, 500*time.Millisecond) {
		err := do()
		if err == nil || !errors.Is(err, unix.EBUSY) {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(pause):
		}
	}
}
