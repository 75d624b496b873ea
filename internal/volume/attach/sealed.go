// SPDX-License-Identifier: Apache-2.0

package attach

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"cofferdam.dev/internal/volume/descriptor"
	"cofferdam.dev/internal/volume/erofs"
	"cofferdam.dev/internal/volume/sealed"
)

// sealedDevice is a sealed volume as a Device.
type sealedDevice struct{ d *sealed.Device }

// Size is the size of the data in bytes.
func (s sealedDevice) Size() int64 { return s.d.Size() }

// BlockSize is that of sealed volumes.
func (sealedDevice) BlockSize() int { return sealed.BlockSize }

// ReadAt fills p.
func (s sealedDevice) ReadAt(ctx context.Context, p []byte, off int64) error {
	return s.d.ReadContext(ctx, p, off)
}

// WriteAt refuses.
func (sealedDevice) WriteAt(context.Context, []byte, int64) error { return ErrReadOnly }

// Flush has nothing to do.
func (sealedDevice) Flush(context.Context) error { return nil }

func (v *Volume) openSealed(ctx context.Context, o Options) error {
	if o.Write {
		return fmt.Errorf("a sealed volume is never written: %w", ErrReadOnly)
	}
	var key sealed.Key
	if len(o.Key.Expose()) != len(key) {
		return fmt.Errorf("%w: the key has %d bytes, expected %d", ErrMismatch, len(o.Key.Expose()), len(key))
	}
	copy(key[:], o.Key.Expose())
	defer clear(key[:])
	f := sealed.Facts{ID: o.Descriptor.ID, Size: o.Descriptor.Size}
	if copy(f.Root[:], o.Descriptor.Root) != len(f.Root) {
		return fmt.Errorf("%w: the root has %d bytes", ErrMismatch, len(o.Descriptor.Root))
	}
	d, err := sealed.Open(ctx, v.storage, key, f, sealed.OpenOptions{})
	if err != nil {
		return err
	}
	v.Device, v.Sealed = sealedDevice{d}, d
	v.kernel = sealedKernel(key, f, v.storage)
	v.Facts.Authenticated, v.Facts.Pinned = true, true
	return nil
}

// Seal makes a sealed volume of a directory in a new file and returns its descriptor. Progress, if it is set, is told how many
// bytes are written. When it fails nothing is left.
func Seal(ctx context.Context, dir, path string, openers []Opener, now time.Time, progress func(done, total int64)) (*descriptor.Descriptor, error) {
	d, err := seal(ctx, dir, path, openers, now, progress)
	if err != nil {
		return nil, fmt.Errorf("sealing %s: %w", dir, err)
	}
	return d, nil
}

func seal(ctx context.Context, dir, path string, openers []Opener, now time.Time, progress func(done, total int64)) (d *descriptor.Descriptor, err error) {
	tree, err := erofs.OpenDir(dir)
	if err != nil {
		return nil, err
	}
	defer func() { _ = tree.Close() }() // it was only read
	key, err := descriptor.GenerateKey(sealed.KeySize)
	if err != nil {
		return nil, err
	}
	defer key.Destroy()
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err = errors.Join(err, f.Close()); err != nil {
			err = errors.Join(err, os.Remove(path))
		}
	}()
	facts, err := sealed.Build(ctx, tree, f, sealed.Key(key.Expose()), sealed.Options{Progress: progress})
	if err == nil {
		err = f.Sync()
	}
	if err != nil {
		return nil, err
	}
	d = &descriptor.Descriptor{
		Kind: descriptor.Sealed, ID: facts.ID, Size: facts.Size, Root: facts.Root[:], Created: now, Anchor: descriptor.Anchor{Kind: descriptor.NoAnchor},
	}
	if err := addOpeners(d, key, openers); err != nil {
		return nil, err
	}
	return d, d.Sign(key)
}
