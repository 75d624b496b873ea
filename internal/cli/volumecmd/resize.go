// SPDX-License-Identifier: Apache-2.0

package volumecmd

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"cofferdam.dev/internal/cli/console"
	"cofferdam.dev/internal/volume/attach"
	"cofferdam.dev/internal/volume/blob"
	"cofferdam.dev/internal/volume/descriptor"
	"cofferdam.dev/internal/volume/luks2"
	"cofferdam.dev/internal/volume/shadow"
)

// resizeOptions say what a volume is to become.
type resizeOptions struct {
	volumeOptions
	text   string
	shrink bool
	size   int64
}

func (a *App) volumeResizeCommand() *cobra.Command {
	o := &resizeOptions{}
	c := &cobra.Command{
		Use:   "resize IMAGE --size SIZE",
		Short: "Make a volume larger, or a LUKS2 volume smaller",
		Long: `Make a volume in a file larger, or with --shrink a LUKS2 volume smaller. What was there
stays; what is new is zeros, in a LUKS2 volume noise. Nobody may have the volume open.
What was interrupted is given again, and leaves the volume as it was or as it shall be.

The filesystem in it does not change by that: after growing, mount the volume with --write
and grow the filesystem in the file "data"; before shrinking, shrink the filesystem.

A shadow volume grows at once up to the capacity that it was made with; beyond it the tree
above its data is copied, and the image becomes longer. It does not shrink: what is
discarded (fstrim) takes no room. A sealed volume is made anew of its directory.
` + aboutVolume,
		Example: `  cofferdam volume resize data.img --size 20GiB --key-file key
  cofferdam volume mount data.img /mnt --write --key-file key & # then, to use the new room:
    e2fsck -f /mnt/data && resize2fs /mnt/data
  cofferdam volume resize luks.img --size 1GiB --shrink --passphrase-file passphrase`,
		Args: console.Arguments(1, 1, "an image"),
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx, stop := console.Interruptible(cmd.Context())
			defer stop()
			var err error
			switch {
			case isURL(args[0]):
				return console.Usage(cmd, "a volume is resized in a file; upload it then")
			case o.text == "":
				return console.Usage(cmd, "--size is missing")
			}
			if o.size, err = parseBytes(o.text); err != nil {
				return console.Usage(cmd, "--size: "+err.Error())
			}
			if o.size%shadow.BlockSize != 0 {
				return console.Usage(cmd, fmt.Sprintf("--size is %d bytes; want a multiple of %d", o.size, shadow.BlockSize))
			}
			return a.resize(ctx, cmd, args[0], o)
		},
	}
	c.Flags().StringVar(&o.text, "size", "", "the size that the volume gets, such as 20GiB")
	c.Flags().BoolVar(&o.shrink, "shrink", false, "make a LUKS2 volume smaller: what lies behind the new end is lost")
	o.flags(c)
	o.key.openFlags(c, &o.vault)
	o.vault.Flags(c)
	a.OutputFlag(c)
	return c
}

func (a *App) resize(ctx context.Context, cmd *cobra.Command, image string, o *resizeOptions) error {
	file, d, unlock, err := o.lockedDescriptor(cmd, image)
	if err != nil {
		return err
	}
	defer unlock()
	switch {
	case d.Kind == descriptor.Sealed:
		return console.Usage(cmd, "a sealed volume is as large as what is in it: make it anew of its directory, by `cofferdam volume encrypt`")
	case d.Kind == descriptor.Shadow && o.shrink:
		return console.Usage(cmd, "a shadow volume does not shrink: what is discarded in it takes no room")
	}
	key, _, err := o.key.open(ctx, a, cmd, d)
	if err != nil {
		return volumeFailure(err)
	}
	defer key.Destroy()
	if d.Kind == descriptor.LUKS2 {
		return volumeFailure(a.resizeLUKS2(ctx, image, file, d, key, o))
	}
	records, err := o.records(a, cmd, d.Anchor)
	if err != nil {
		return err
	}
	was := d.Size
	err = attach.Grow(ctx, image, o.size, attach.Options{Descriptor: d, Key: key, Anchor: records})
	if errors.Is(err, shadow.ErrRange) && o.size < was {
		return console.Fixed(err, "cofferdam volume create with a smaller --size, and copy the files")
	}
	if err == nil {
		err = writeDescriptor(file, d)
	}
	if err != nil {
		return volumeFailure(err)
	}
	return a.answerVolume(&volumeAnswer{Image: image, Descriptor: d, File: file})
}

// resizeLUKS2 has the file, the header and the descriptor say the new size, in the order in which data are never behind the
// file's end.
func (a *App) resizeLUKS2(ctx context.Context, image, file string, d *descriptor.Descriptor, key descriptor.Key, o *resizeOptions) error {
	info, err := os.Stat(image)
	if err != nil {
		return err
	}
	end := d.Pin.Offset + o.size
	switch regular := info.Mode().IsRegular(); {
	case o.size < d.Size && !o.shrink:
		return console.Fixed(fmt.Errorf("the volume has %s, and %s are less: what lies behind would be lost", sizeText(d.Size), sizeText(o.size)), "--shrink, when the filesystem in it has been made smaller")
	case regular && info.Size() < end:
		if err := os.Truncate(image, end); err != nil {
			return err
		}
	case !regular && o.size > d.Size:
		return fmt.Errorf("%s is no file: what is behind the volume on it may be something else", image)
	}
	pin, err := a.resizeHeader(ctx, image, d, key, o.size)
	if err != nil {
		return err
	}
	d.Pin, d.Size = &pin, o.size
	if err := d.Sign(key); err != nil {
		return err
	}
	if err := writeDescriptor(file, d); err != nil {
		return err
	}
	if info.Mode().IsRegular() && o.shrink {
		if err := os.Truncate(image, end); err != nil {
			return err
		}
	}
	return a.answerVolume(&volumeAnswer{Image: image, Descriptor: d, File: file})
}

// resizeHeader writes the header of a LUKS2 volume with another size, and pins it.
func (a *App) resizeHeader(ctx context.Context, image string, d *descriptor.Descriptor, key descriptor.Key, size int64) (pin luks2.Pin, err error) {
	src, err := blob.OpenFile(image, true)
	if err != nil {
		return pin, err
	}
	h, err := newLUKSHeader(ctx, src, d, key, (*luks2.Header).VerifyResizable)
	if err != nil {
		return pin, errors.Join(err, src.Close())
	}
	defer func() { err = errors.Join(err, h.close()) }()
	if err := h.Resize(h.f, src.Size(), size); err != nil {
		return pin, err
	}
	return h.Pin(h.key)
}
