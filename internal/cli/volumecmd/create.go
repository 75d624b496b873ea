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
	"cofferdam.dev/internal/volume/descriptor"
)

// newVolumeOptions say how a volume is made.
type newVolumeOptions struct {
	volumeOptions
	format, anchor, anchorVault, size, capacity, label string
}

func (o *newVolumeOptions) makeFlags(c *cobra.Command) {
	f := c.Flags()
	f.StringVar(&o.capacity, "capacity", "", "what a shadow volume may grow to (default: its size)")
	f.StringVar(&o.label, "volume-label", "", "label in the header of a LUKS2 volume")
	o.anchorFlags(c)
	o.flags(c)
	o.vault.Flags(c)
	o.key.makeFlags(c, &o.vault)
}

// anchorFlags say where the anchor of a new volume is.
func (o *newVolumeOptions) anchorFlags(c *cobra.Command) {
	f := c.Flags()
	f.StringVar(&o.anchor, "anchor", "file", "where the last state of a shadow volume is known: vault, file, or none")
	f.StringVar(&o.anchorVault, "anchor-vault", "", "host name or URL by which groups know the vault of the anchor (else --vault says it)")
}

// aboutSealed is what the help of commands that make volumes of directories says beside.
const aboutSealed = `
A sealed volume is made once and then only read: every change of its storage is found, and
an older one is another volume.`

const aboutFormats = `
A shadow volume finds every change of its storage, and with its anchor also that an older
state was put back; only cofferdam opens it. A LUKS2 volume hides what is in it and nothing
more; cryptsetup and the kernel open it, too.`

func (a *App) volumeCreateCommand() *cobra.Command {
	o := &newVolumeOptions{}
	c := &cobra.Command{
		Use:   "create IMAGE --size SIZE",
		Short: "Make an empty encrypted volume",
		Long: `Make an empty encrypted volume in a new file, and its descriptor. It takes hardly any room
until it is written.
` + aboutFormats + "\n" + aboutVolumeKey + "\n" + aboutVolume,
		Example: `  cofferdam volume create data.img --size 10GiB
  cofferdam volume create data.img --size 1GiB --key-file key --kid data \
    --key-vault vault.example --authority attest.example
  cofferdam volume create data.img --size 64MiB --format luks2 --passphrase-file passphrase`,
		Args: console.Arguments(1, 1, "the image's name"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if o.size == "" {
				return console.Usage(cmd, "--size is missing")
			}
			size, err := parseBytes(o.size)
			if err != nil {
				return console.Usage(cmd, "--size: "+err.Error())
			}
			ctx, stop := console.Interruptible(cmd.Context())
			defer stop()
			d, file, key, err := a.makeVolume(ctx, cmd, args[0], size, o)
			if err != nil {
				return err
			}
			key.Destroy()
			return a.answerVolume(&volumeAnswer{Image: args[0], Descriptor: d, File: file})
		},
	}
	c.Flags().StringVar(&o.size, "size", "", "size of the volume, such as 10GiB")
	c.Flags().StringVar(&o.format, "format", "shadow", "shadow (authenticated, can be written) or luks2 (hides data only)")
	o.makeFlags(c)
	a.OutputFlag(c)
	return c
}

// makeVolume makes a volume in a new file, and its descriptor. When it fails nothing is left.
func (a *App) makeVolume(ctx context.Context, cmd *cobra.Command, image string, size int64, o *newVolumeOptions) (d *descriptor.Descriptor, file string, key descriptor.Key, err error) {
	n, err := a.newVolume(ctx, cmd, size, o)
	if err != nil {
		return nil, "", key, err
	}
	defer forget(n.Openers)
	if file, err = o.newDescriptor(cmd, image); err != nil {
		return nil, "", key, err
	}
	length, err := n.ImageSize()
	if err != nil {
		return nil, "", key, console.Usage(cmd, err.Error())
	}
	f, err := os.OpenFile(image, os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600)
	if err != nil {
		return nil, "", key, err
	}
	if err = errors.Join(f.Truncate(length), f.Close()); err == nil {
		d, key, err = attach.Create(ctx, image, *n)
	}
	if err == nil {
		err = writeDescriptor(file, d)
	}
	if err != nil {
		key.Destroy()
		return nil, "", descriptor.Key{}, errors.Join(err, os.Remove(image))
	}
	return d, file, key, nil
}

// newDescriptor is where the descriptor of a new volume goes, which is not there yet.
func (o *newVolumeOptions) newDescriptor(cmd *cobra.Command, image string) (string, error) {
	file, err := o.descriptorFile(image)
	if err != nil || isURL(image) {
		return "", console.Usage(cmd, "volumes are made in files; `cofferdam volume upload` brings them to storage")
	}
	if _, err := os.Lstat(file); err == nil {
		return "", fmt.Errorf("%s is there already", file)
	}
	return file, nil
}

// newVolume is what the flags say of a new volume.
func (a *App) newVolume(ctx context.Context, cmd *cobra.Command, size int64, o *newVolumeOptions) (*attach.New, error) {
	n := &attach.New{Kind: descriptor.Kind(o.format), Size: size, Label: o.label, Now: a.Now(), Anchor: descriptor.Anchor{Kind: descriptor.NoAnchor}}
	switch n.Kind {
	case descriptor.LUKS2:
		if cmd.Flags().Changed("anchor") && o.anchor != string(descriptor.NoAnchor) || o.capacity != "" {
			return nil, console.Usage(cmd, "a LUKS2 volume has neither an anchor nor a capacity")
		}
	case descriptor.Shadow:
		n.Anchor.Kind = descriptor.AnchorKind(o.anchor)
	default:
		return nil, console.Usage(cmd, fmt.Sprintf("--format is %q; want shadow or luks2", o.format))
	}
	switch n.Anchor.Kind {
	case descriptor.NoAnchor:
	case descriptor.FileAnchor:
		records, err := o.anchorsIn(a)
		if err != nil {
			return nil, err
		}
		n.Records = records
	case descriptor.VaultAnchor:
		records, err := a.vaultAnchor(cmd, &o.vault, o.anchorVault)
		if err != nil {
			return nil, err
		}
		if n.Records, n.Anchor.Vault = records, o.anchorVault; n.Anchor.Vault == "" {
			n.Anchor.Vault = o.vault.Vault
		}
	default:
		return nil, console.Usage(cmd, fmt.Sprintf("--anchor is %q; want vault, file or none", o.anchor))
	}
	if o.capacity != "" {
		var err error
		if n.Capacity, err = parseBytes(o.capacity); err != nil {
			return nil, console.Usage(cmd, "--capacity: "+err.Error())
		}
	}
	var err error
	n.Openers, err = o.key.openers(ctx, a, cmd)
	return n, err
}
