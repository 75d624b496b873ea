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
	"cofferdam.dev/internal/volume/luks2"
)

func (a *App) volumeConvertCommand() *cobra.Command {
	o, to := &volumeOptions{}, ""
	c := &cobra.Command{
		Use:   "convert IMAGE --to luks2|plain",
		Short: "Turn a plain image into a LUKS2 volume in place, or back",
		Long: `Turn a plain image of a filesystem into a LUKS2 volume, in place and without room for a
second copy, or a LUKS2 volume into a plain image. The volume becomes longer by 16 MiB than
the data. What was interrupted goes on when the same command is given again: IMAGE.journal
must not get lost until then.
` + aboutVolumeKey + "\n" + aboutVolume,
		Example: `  cofferdam volume convert disk.img --to luks2 --passphrase-file passphrase
  cofferdam volume convert disk.img --to plain --passphrase-file passphrase`,
		Args: console.Arguments(1, 1, "an image"),
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx, stop := console.Interruptible(cmd.Context())
			defer stop()
			switch {
			case isURL(args[0]):
				return console.Usage(cmd, "an image is converted in a file; upload it then")
			case to == "luks2":
				return a.convertToLUKS2(ctx, cmd, args[0], o)
			case to == "plain":
				return a.convertToPlain(ctx, cmd, args[0], o)
			}
			return console.Usage(cmd, fmt.Sprintf("--to is %q; want luks2 or plain", to))
		},
	}
	c.Flags().StringVar(&to, "to", "", "what the image becomes: luks2 or plain")
	o.flags(c)
	o.vault.Flags(c)
	o.key.makeFlags(c, &o.vault)
	c.Flags().BoolVar(&o.key.unwrap, "unwrap", false, "with --to plain: have --vault unwrap the secret, of a key that --wrap-kid made")
	a.OutputFlag(c)
	return c
}

func (a *App) convertToLUKS2(ctx context.Context, cmd *cobra.Command, image string, o *volumeOptions) (err error) {
	file, err := o.descriptorFile(image)
	if err != nil {
		return console.Usage(cmd, err.Error())
	}
	openers, err := o.key.conversionOpeners(ctx, a, cmd)
	if err != nil {
		return err
	}
	defer forget(openers)
	board := a.Board()
	defer board.Close()
	step := board.Start("encrypting", 0)
	c, begun, end, err := openConversion(image, step.Set)
	if err != nil {
		return err
	}
	done := false
	defer func() { err = errors.Join(err, end(done)) }()
	h, key, err := encryptInPlace(ctx, c, begun, openers)
	if err != nil {
		return conversionFailure(err)
	}
	defer key.Destroy()
	d, err := attach.DescribeHeader(h, key, openers, a.Now())
	if err == nil {
		err = writeDescriptor(file, d)
	}
	if err != nil {
		return err
	}
	done = true
	step.Done("")
	return a.answerVolume(&volumeAnswer{Image: image, Descriptor: d, File: file})
}

func encryptInPlace(ctx context.Context, c *luks2.Conversion, begun bool, openers []attach.Opener) (*luks2.Header, luks2.VolumeKey, error) {
	if begun {
		key, err := unlockJournal(c, luks2.OpEncrypt, openers)
		if err != nil {
			return nil, key, err
		}
		h, err := c.Resume(ctx, key, luks2.VolumeKey{})
		return h, key, err
	}
	info, err := c.Volume.(*os.File).Stat()
	if err != nil {
		return nil, luks2.VolumeKey{}, err
	}
	magic := make([]byte, 4)
	if _, err := c.Volume.ReadAt(magic, 0); err == nil && string(magic) == "LUKS" {
		return nil, luks2.VolumeKey{}, errors.New("the image is a LUKS volume already")
	}
	const sector = 4096
	size := (info.Size() + sector - 1) / sector * sector
	if size == 0 {
		return nil, luks2.VolumeKey{}, errors.New("the image is empty")
	}
	if err := c.Volume.Truncate(size); err != nil {
		return nil, luks2.VolumeKey{}, err
	}
	key, err := luks2.GenerateKey(64)
	if err != nil {
		return nil, key, err
	}
	h, err := c.Encrypt(ctx, size, key, luks2.FormatOptions{DataSize: size, Slots: attach.LUKSSlots(openers)})
	return h, key, err
}

func (a *App) convertToPlain(ctx context.Context, cmd *cobra.Command, image string, o *volumeOptions) (err error) {
	file, err := o.descriptorFile(image)
	if err != nil {
		return console.Usage(cmd, err.Error())
	}
	d, err := readDescriptor(file)
	if err != nil {
		return err
	}
	if d.Pin == nil {
		return console.Usage(cmd, fmt.Sprintf("a volume of kind %s is not decrypted in place; `cofferdam volume mount` shows its content", d.Kind))
	}
	opened, _, err := o.key.open(ctx, a, cmd, d)
	if err != nil {
		return volumeFailure(err)
	}
	defer opened.Destroy()
	key, err := luks2.NewVolumeKey(opened.Expose())
	if err != nil {
		return err
	}
	defer key.Destroy()
	board := a.Board()
	defer board.Close()
	step := board.Start("decrypting", d.Size)
	c, begun, end, err := openConversion(image, step.Set)
	if err != nil {
		return err
	}
	done := false
	defer func() { err = errors.Join(err, end(done)) }()
	if err := decryptInPlace(ctx, c, begun, d.Pin, key); err != nil {
		return conversionFailure(err)
	}
	if err := os.Remove(file); err != nil {
		return err
	}
	done = true
	step.Done("")
	return a.answerVolume(&volumeAnswer{Image: image})
}

func decryptInPlace(ctx context.Context, c *luks2.Conversion, begun bool, pin *luks2.Pin, key luks2.VolumeKey) error {
	if begun {
		_, err := c.Resume(ctx, key, luks2.VolumeKey{})
		return err
	}
	info, err := c.Volume.(*os.File).Stat()
	if err != nil {
		return err
	}
	h, err := luks2.Open(c.Volume, info.Size())
	if err == nil {
		err = h.Verify(*pin, key)
	}
	if err == nil {
		err = h.Repair(c.Volume)
	}
	if err != nil {
		return err
	}
	return c.Decrypt(ctx, h, key)
}
