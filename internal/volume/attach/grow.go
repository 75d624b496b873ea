// SPDX-License-Identifier: Apache-2.0

package attach

import (
	"context"
	"errors"
	"fmt"
	"os"

	"cofferdam.dev/internal/volume/blob"
	"cofferdam.dev/internal/volume/descriptor"
	"cofferdam.dev/internal/volume/shadow"
)

// Grow makes a shadow volume in a file, that nobody has open, larger, and signs its descriptor anew. The options are as of Open;
// Write is meant. The file becomes longer first, which changes nothing; then one write decides. What ends it in between
// leaves a volume that the descriptor before opens, whatever its size is.
func Grow(ctx context.Context, path string, size int64, o Options) error {
	if err := grow(ctx, path, size, o); err != nil {
		return fmt.Errorf("growing a volume: %w", err)
	}
	return nil
}

func grow(ctx context.Context, path string, size int64, o Options) (err error) {
	image, err := grownImage(ctx, path, size, o)
	if err != nil {
		return err
	}
	if info, err := os.Stat(path); err != nil {
		return err
	} else if info.Mode().IsRegular() && info.Size() < image {
		if err := os.Truncate(path, image); err != nil {
			return err
		}
	}
	f, err := blob.OpenFile(path, true)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if f.Size() < image {
		return fmt.Errorf("%s has %d bytes, the volume needs %d", path, f.Size(), image)
	}
	b, err := newBlocks(f, true)
	if err != nil {
		return err
	}
	so := shadow.Options{Unanchored: o.Descriptor.Anchor.Kind == descriptor.NoAnchor}
	if !so.Unanchored {
		so.Anchor = &only{o.Anchor, o.Descriptor.ID}
	}
	if err := shadow.Grow(ctx, b, shadow.Key(o.Key.Expose()), size, so); err != nil {
		return err
	}
	o.Descriptor.Size = size
	return o.Descriptor.Sign(o.Key)
}

// grownImage opens the volume, so that all is well with it, and returns how long its image must be.
func grownImage(ctx context.Context, path string, size int64, o Options) (int64, error) {
	f, err := blob.OpenFile(path, false)
	if err != nil {
		return 0, err
	}
	o.Write, o.WithoutAnchor = false, false
	v, err := open(ctx, f, o)
	if err != nil {
		return 0, errors.Join(err, f.Close())
	}
	image, err := int64(0), error(nil)
	switch {
	case v.Shadow == nil:
		err = fmt.Errorf("a volume of kind %s: %w", v.Facts.Kind, errors.ErrUnsupported)
	case size < v.Size():
		err = fmt.Errorf("it has %d bytes, and does not shrink to %d: %w", v.Size(), size, shadow.ErrRange)
	default:
		image, err = shadow.GrownSize(v.Shadow.Capacity(), size)
	}
	return image, errors.Join(err, v.Close(ctx))
}
