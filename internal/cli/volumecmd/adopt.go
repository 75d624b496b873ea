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
	"cofferdam.dev/internal/volume/blockcache"
)

func (a *App) volumeAdoptCommand() *cobra.Command {
	o := &volumeOptions{}
	c := &cobra.Command{
		Use:   "adopt IMAGE",
		Short: "Write the descriptor of a LUKS2 volume that has none",
		Long: `Write the descriptor of a LUKS2 volume that cryptsetup made, or that Azure's sidecar has:
from then on its header is held against that, and nothing less is opened. The header is
believed once, as it is found now: take the volume from its owner, not from a storage that
somebody else had in between. The volume itself does not change.

What opens it is said by --passphrase-file, --key-file or both, or asked for on a terminal:
each opens a key slot. More keys are added by ` + "`cofferdam volume key add`" + `.
` + aboutVolume + "\n" + aboutStorage,
		Example: `  cofferdam volume adopt luks.img --passphrase-file passphrase
  cofferdam volume adopt encfs.img --key-file derived-key`,
		Args: console.Arguments(1, 1, "an image"),
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx, stop := console.Interruptible(cmd.Context())
			defer stop()
			return a.adopt(ctx, cmd, args[0], o)
		},
	}
	c.Flags().StringVar(&o.descriptor, "descriptor", "", "where the descriptor goes (default: IMAGE.json)")
	o.key.fileFlags(c)
	o.storageFlags(c)
	a.OutputFlag(c)
	return c
}

func (a *App) adopt(ctx context.Context, cmd *cobra.Command, image string, o *volumeOptions) error {
	file, err := o.descriptorFile(image)
	if err != nil {
		return console.Usage(cmd, err.Error())
	}
	if _, err := os.Lstat(file); err == nil {
		return console.Fixed(fmt.Errorf("%s is there already", file), "cofferdam volume verify %s; or another --descriptor", blob.Redact(image))
	}
	openers, err := o.key.said(a, cmd, false)
	if err != nil {
		return err
	}
	defer forget(openers)
	bo, err := o.storage(a, image)
	if err != nil {
		return err
	}
	src, err := attach.Storage(ctx, image, bo, blockcache.Options{})
	if err != nil {
		return volumeFailure(err)
	}
	d, err := attach.Describe(ctx, src, openers, a.Now())
	if err = errors.Join(err, src.Close()); err != nil {
		return volumeFailure(err)
	}
	if err := writeDescriptor(file, d); err != nil {
		return err
	}
	return a.answerVolume(&volumeAnswer{Image: image, Descriptor: d, File: file})
}
