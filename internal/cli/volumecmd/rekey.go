// SPDX-License-Identifier: Apache-2.0

package volumecmd

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"cofferdam.dev/internal/cli/console"
	"cofferdam.dev/internal/volume/attach"
	"cofferdam.dev/internal/volume/blob"
	"cofferdam.dev/internal/volume/descriptor"
	"cofferdam.dev/internal/volume/luks2"
	"cofferdam.dev/internal/wholefile"
)

func (a *App) volumeRekeyCommand() *cobra.Command {
	o, to := &volumeOptions{}, &newVolumeOptions{}
	c := &cobra.Command{
		Use:   "rekey IMAGE",
		Short: "Encrypt a volume with another key",
		Long: `Encrypt a volume in a file with another key, so that who knows the old one learns nothing of
what is written from now on, and old ways to the key open it no more. What opens it from
then on is said by the flags that begin with --new. Old copies of the storage stay as they
are.

A LUKS2 volume is encrypted in place; what was interrupted goes on when the same command is
given again (IMAGE.journal, which must not get lost). A shadow volume is copied, which needs
room for the copy, and the copy takes its place at the end.
` + aboutVolume,
		Example: `  cofferdam volume rekey data.img --key-file key --new-key-file new-key
  cofferdam volume rekey data.img --passphrase-file old --new-passphrase-file new`,
		Args: console.Arguments(1, 1, "an image"),
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx, stop := console.Interruptible(cmd.Context())
			defer stop()
			if isURL(args[0]) {
				return console.Usage(cmd, "a volume is given another key in a file; upload it then")
			}
			name, err := o.descriptorFile(args[0])
			if err != nil {
				return console.Usage(cmd, err.Error())
			}
			d, err := readDescriptor(name)
			if err != nil {
				return err
			}
			switch d.Kind {
			case descriptor.Sealed:
				return console.Usage(cmd, "a sealed volume is made again of its directory, by `cofferdam volume encrypt`, and gets another key by that")
			case descriptor.LUKS2:
				return a.rekeyLUKS2(ctx, cmd, args[0], name, d, o, &to.key)
			}
			return a.rekeyByCopy(ctx, cmd, args[0], name, d, o, to)
		},
	}
	o.openFlags(c)
	to.key.newFlags(c, &o.vault)
	a.OutputFlag(c)
	return c
}

// rekeyByCopy copies a volume into a new one, which then takes its place.
func (a *App) rekeyByCopy(ctx context.Context, cmd *cobra.Command, image, file string, d *descriptor.Descriptor, o *volumeOptions, to *newVolumeOptions) error {
	to.format, to.anchor, to.anchorVault = string(d.Kind), string(d.Anchor.Kind), d.Anchor.Vault
	to.anchors, to.vault = o.anchors, o.vault
	from, err := a.openVolume(ctx, cmd, image, o, true) // so that nobody else writes it
	if err != nil {
		return err
	}
	copied := image + ".rekeyed"
	next, copiedFile, err := a.copyVolume(ctx, cmd, from, copied, to)
	if err := errors.Join(err, from.Close(context.WithoutCancel(ctx))); err != nil {
		return err
	}
	// A crash or an error between the two leaves the new descriptor under its other name; never is an old volume without one.
	if err := os.Rename(copied, image); err != nil {
		return fmt.Errorf("the volume with the new key is %s, with the descriptor %s: %w", copied, copiedFile, err)
	}
	if err := wholefile.SyncDir(filepath.Dir(image)); err != nil {
		return fmt.Errorf("the descriptor of %s is %s now: %w", image, copiedFile, err)
	}
	if err := os.Rename(copiedFile, file); err != nil {
		return fmt.Errorf("the descriptor of %s is %s now: %w", image, copiedFile, err)
	}
	return a.answerVolume(&volumeAnswer{Image: image, Descriptor: next, File: file})
}

// journalOf is where an unfinished conversion of an image has its journal.
func journalOf(image string) string { return image + ".journal" }

// openConversion opens an image and the journal of a conversion of it, and keeps others from writing the image meanwhile.
// Begun says that the journal is of one that was interrupted.
func openConversion(image string, progress func(done, total int64)) (c *luks2.Conversion, begun bool, end func(done bool) error, err error) {
	f, err := os.OpenFile(image, os.O_RDWR, 0)
	if err != nil {
		return nil, false, nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil { // as volumes that are open to be written
		if errors.Is(err, unix.EWOULDBLOCK) {
			err = volumeFailure(fmt.Errorf("opening %s: %w", image, blob.ErrBusy))
		}
		return nil, false, nil, errors.Join(err, f.Close())
	}
	info, err := os.Stat(journalOf(image))
	begun = err == nil && info.Size() > 0
	j, err := os.OpenFile(journalOf(image), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, false, nil, errors.Join(err, f.Close())
	}
	end = func(done bool) error {
		err := errors.Join(f.Close(), j.Close())
		info, statErr := os.Stat(journalOf(image))
		if err = errors.Join(err, statErr); err == nil && (done || info.Size() == 0) {
			err = os.Remove(journalOf(image))
		}
		return err
	}
	return &luks2.Conversion{Volume: f, Journal: j, Progress: progress}, begun, end, nil
}

func (a *App) rekeyLUKS2(ctx context.Context, cmd *cobra.Command, image, file string, d *descriptor.Descriptor, o *volumeOptions, to *volumeKeyOptions) (err error) {
	openers, err := to.conversionOpeners(ctx, a, cmd)
	if err != nil {
		return err
	}
	defer forget(openers)
	old, _, err := o.key.open(ctx, a, cmd, d)
	if err != nil {
		return volumeFailure(err)
	}
	defer old.Destroy()
	was, err := luks2.NewVolumeKey(old.Expose())
	if err != nil {
		return err
	}
	defer was.Destroy()
	board := a.Board()
	defer board.Close()
	step := board.Start("encrypting", d.Size)
	c, begun, end, err := openConversion(image, step.Set)
	if err != nil {
		return err
	}
	done := false
	defer func() { err = errors.Join(err, end(done)) }()
	h, key, err := rekey(ctx, c, begun, d, was, openers)
	if err != nil {
		return conversionFailure(err)
	}
	defer key.Destroy()
	next, err := attach.DescribeHeader(h, key, openers, a.Now())
	if err == nil {
		err = writeDescriptor(file, next)
	}
	if err != nil {
		return err
	}
	done = true
	step.Done("")
	return a.answerVolume(&volumeAnswer{Image: image, Descriptor: next, File: file})
}

// rekey begins to give a volume another key, or goes on with it.
func rekey(ctx context.Context, c *luks2.Conversion, begun bool, d *descriptor.Descriptor, was luks2.VolumeKey, openers []attach.Opener) (*luks2.Header, luks2.VolumeKey, error) {
	if begun {
		key, err := unlockJournal(c, luks2.OpRekey, openers)
		if err != nil {
			return nil, key, err
		}
		h, err := c.Resume(ctx, key, was)
		return h, key, err
	}
	info, err := c.Volume.(*os.File).Stat()
	if err != nil {
		return nil, luks2.VolumeKey{}, err
	}
	h, err := luks2.Open(c.Volume, info.Size())
	if err == nil {
		err = h.Verify(*d.Pin, was)
	}
	if err != nil {
		return nil, luks2.VolumeKey{}, err
	}
	key, err := luks2.GenerateKey(64)
	if err != nil {
		return nil, key, err
	}
	h, err = c.Rekey(ctx, h, was, key, attach.LUKSSlots(openers))
	return h, key, err
}

// conversionOpeners are the ways to the key of a LUKS2 volume that is converted in place. When that was interrupted they open
// the journal, too.
func (o *volumeKeyOptions) conversionOpeners(ctx context.Context, a *App, cmd *cobra.Command) ([]attach.Opener, error) {
	if o.wrapKid != "" && o.keyFile == "" && o.passphraseFile == "" {
		return nil, console.Usage(cmd, "what a vault wraps could not open the journal of this: give a key file or passphrase, and add the vault's key by `cofferdam volume key add` then")
	}
	openers, err := o.openers(ctx, a, cmd)
	return attach.Numbered(openers), err
}

// unlockJournal returns the key of an interrupted conversion, which must be of this kind.
func unlockJournal(c *luks2.Conversion, want luks2.Operation, openers []attach.Opener) (luks2.VolumeKey, error) {
	j, err := luks2.OpenJournal(c.Journal)
	if err != nil {
		return luks2.VolumeKey{}, err
	}
	if j.Operation() != want {
		return luks2.VolumeKey{}, fmt.Errorf("what was interrupted is to %s the volume: go on with that first", j.Operation())
	}
	var secrets [][]byte
	for _, s := range attach.LUKSSlots(openers) {
		secrets = append(secrets, s.Passphrase)
	}
	key, err := j.Unlock(secrets...)
	if errors.Is(err, luks2.ErrKey) {
		err = &console.Failure{Code: console.ExitRefused, Err: err, Fix: "the same keys as the interrupted command had"}
	}
	return key, err
}

func conversionFailure(err error) error {
	if errors.Is(err, context.Canceled) {
		return &console.Failure{Code: console.ExitInterrupt, Err: errors.New("interrupted: the volume is half-way, and its journal beside it"), Fix: "the same command again: it goes on where it ended"}
	}
	return volumeFailure(err)
}
