// SPDX-License-Identifier: Apache-2.0

package volumecmd

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"cofferdam.dev/internal/cli/console"
	"cofferdam.dev/internal/volume/attach"
	"cofferdam.dev/internal/volume/fusefile"
	"cofferdam.dev/internal/volume/mount"
)

// unmountWait is how long a volume that is in use is waited for when the command is to end.
const unmountWait = 20 * time.Second

func (a *App) volumeMountCommand() *cobra.Command {
	o := &volumeOptions{}
	var loop bool
	c := &cobra.Command{
		Use:   "mount IMAGE DIRECTORY",
		Short: "Show a volume's content, until it is interrupted",
		Long: `Show a volume's decrypted content in a directory, as the file "data", through FUSE: with
root, or where fusermount3 is installed. With --loop, which needs root, mount the
filesystem in it instead.

The command runs until it is interrupted, or the directory is unmounted; then everything
that was written is durable. A volume is opened for reading unless --write is given.
` + aboutVolume + "\n" + aboutStorage,
		Example: `  cofferdam volume mount data.img /mnt --key-file key
  sudo cofferdam volume mount data.img /mnt --loop --write --key-file key
  cofferdam volume mount old.img /mnt --without-pin --key-file key`,
		Args: console.Arguments(2, 2, "an image and a directory"),
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx, stop := console.Interruptible(cmd.Context())
			defer stop()
			v, err := a.openVolume(ctx, cmd, args[0], o, o.writable)
			if err != nil {
				return err
			}
			return errors.Join(a.showVolume(ctx, v, args[1], loop), v.Close(context.WithoutCancel(ctx)))
		},
	}
	f := c.Flags()
	f.BoolVar(&loop, "loop", false, "mount the filesystem in the volume; needs root")
	f.BoolVar(&o.writable, "write", false, "open the volume for writing")
	f.BoolVar(&o.withoutPin, "without-pin", false, "open a LUKS2 volume that has no descriptor, and believe its header")
	o.openFlags(c)
	o.storageFlags(c)
	return c
}

// shown is a volume that is shown, one way or the other.
type shown interface {
	Done() <-chan struct{}
}

// showVolume shows a volume until ctx ends or somebody unmounts it.
func (a *App) showVolume(ctx context.Context, v *attach.Volume, dir string, loop bool) error {
	fo := fusefile.Options{Write: v.Facts.Writable, Failed: func(operation string, err error) { a.Say("%s: %v", operation, err) }}
	var s shown
	var end func(context.Context) error
	where := dir
	if loop {
		m, err := mount.Mount(ctx, v.Device, dir, mount.Options{Write: v.Facts.Writable, File: fo})
		if err != nil {
			return err
		}
		s, end = m, m.Close
	} else {
		m, err := fusefile.Serve(dir, v.Device, fo)
		if err != nil {
			return err
		}
		s, where, end = m, m.Path(), func(context.Context) error { return m.Close() }
	}
	if _, err := fmt.Fprintln(a.Out, where); err != nil {
		return errors.Join(fmt.Errorf("writing the answer: %w", err), end(context.WithoutCancel(ctx)))
	}
	select {
	case <-s.Done():
		if !loop { // nothing is left to undo
			return nil
		}
	case <-ctx.Done():
	}
	late, stop := context.WithTimeout(context.WithoutCancel(ctx), unmountWait)
	defer stop()
	if err := end(late); err != nil {
		return console.Fixed(err, "end what uses %s, and umount it", dir)
	}
	return nil
}
