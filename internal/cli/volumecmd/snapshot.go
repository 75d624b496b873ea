// SPDX-License-Identifier: Apache-2.0

package volumecmd

import (
	"context"
	"errors"
	"os"

	"github.com/spf13/cobra"

	"cofferdam.dev/internal/cli/console"
	"cofferdam.dev/internal/cli/keycmd"
	"cofferdam.dev/internal/volume/attach"
	"cofferdam.dev/internal/volume/blob"
	"cofferdam.dev/internal/volume/descriptor"
)

func (a *App) volumeSnapshotCommand() *cobra.Command {
	o, to := &volumeOptions{}, &newVolumeOptions{}
	c := &cobra.Command{
		Use:   "snapshot IMAGE NEW-IMAGE",
		Short: "Copy a volume's state into a new volume",
		Long: `Copy a volume, as it was flushed last, into a new volume in a new file, which has a key and
an anchor of its own. What opens it is said by the flags that begin with --new. Nobody may
write the volume meanwhile: what changes during the copy ends it with an error.
` + aboutFormats + "\n" + aboutVolume + "\n" + aboutStorage,
		Example: `  cofferdam volume snapshot data.img monday.img --key-file key --new-key-file other-key
  cofferdam volume snapshot data.img copy.img --passphrase-file p --new-passphrase-file p`,
		Args: console.Arguments(2, 2, "an image and the new image's name"),
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx, stop := console.Interruptible(cmd.Context())
			defer stop()
			return a.snapshot(ctx, cmd, args[0], args[1], o, to)
		},
	}
	o.openFlags(c)
	o.storageFlags(c)
	to.newFlags(c, &o.vault)
	a.OutputFlag(c)
	return c
}

// newFlags are those of a volume that takes another one's place or state.
func (o *newVolumeOptions) newFlags(c *cobra.Command, asked *keycmd.VaultOptions) {
	f := c.Flags()
	f.StringVar(&o.format, "format", "shadow", "format of the new volume: shadow or luks2")
	o.anchorFlags(c)
	o.key.newFlags(c, asked)
}

func (a *App) snapshot(ctx context.Context, cmd *cobra.Command, image, to string, o *volumeOptions, n *newVolumeOptions) error {
	from, err := a.openVolume(ctx, cmd, image, o, false)
	if err != nil {
		return err
	}
	defer func() { _ = from.Close(ctx) }() // it was only read
	n.anchors, n.vault = o.anchors, o.vault
	d, file, err := a.copyVolume(ctx, cmd, from, to, n)
	if err != nil {
		return err
	}
	return a.answerVolume(&volumeAnswer{Image: to, Descriptor: d, File: file})
}

// copyVolume makes a new volume with what another one holds. When it fails nothing is left.
func (a *App) copyVolume(ctx context.Context, cmd *cobra.Command, from *attach.Volume, to string, n *newVolumeOptions) (*descriptor.Descriptor, string, error) {
	d, file, key, err := a.makeVolume(ctx, cmd, to, from.Size(), n)
	if err != nil {
		return nil, "", err
	}
	defer key.Destroy()
	v, err := a.attachVolume(ctx, cmd, to, d, key, &n.volumeOptions, blob.Options{Write: true})
	if err == nil {
		board := a.Board()
		step := board.Start("copying", from.Size())
		err = attach.Copy(ctx, v, from, from.Size(), d.Kind == descriptor.Shadow, step.Set)
		step.Done("")
		board.Close()
		err = errors.Join(err, v.Close(context.WithoutCancel(ctx)))
	}
	if err != nil {
		return nil, "", errors.Join(volumeFailure(err), os.Remove(to), os.Remove(file))
	}
	return d, file, nil
}
