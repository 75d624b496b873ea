// SPDX-License-Identifier: Apache-2.0

package volumecmd

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"cofferdam.dev/internal/cli/console"
	"cofferdam.dev/internal/volume/attach"
	"cofferdam.dev/internal/volume/descriptor"
)

// keyChange is a change of the keys of a volume. Its descriptor is written when all is done; the header of a LUKS2 volume is
// written before, so that what is interrupted in between can be done again.
type keyChange struct {
	a      *App
	d      *descriptor.Descriptor
	key    descriptor.Key
	opened int         // the number of the key that opened
	header *luksHeader // of a LUKS2 volume
}

// changeKeys opens a volume's descriptor by one of its keys, has its keys changed, and writes it.
func (a *App) changeKeys(cmd *cobra.Command, image string, o *volumeOptions, change func(context.Context, *keyChange) error) (err error) {
	ctx, stop := console.Interruptible(cmd.Context())
	defer stop()
	file, d, unlock, err := o.lockedDescriptor(cmd, image)
	if err != nil {
		return err
	}
	defer unlock()
	e := &keyChange{a: a, d: d}
	if e.key, e.opened, err = o.key.open(ctx, a, cmd, d); err != nil {
		return volumeFailure(err)
	}
	defer e.key.Destroy()
	if d.Kind == descriptor.LUKS2 {
		if e.header, err = a.openHeader(ctx, image, o, d, e.key); err != nil {
			return volumeFailure(err)
		}
		defer func() { err = errors.Join(err, e.header.close()) }()
	}
	if err := change(ctx, e); err != nil {
		return err
	}
	var others []int
	if e.header != nil {
		pin, err := e.header.Pin(e.header.key)
		if err != nil {
			return err
		}
		info := e.header.Info()
		d.Pin, others = &pin, strangeSlots(d, &info)
	}
	if err := d.Sign(e.key); err != nil {
		return err
	}
	if err := writeDescriptor(file, d); err != nil {
		return err
	}
	return a.answerKeys(image, file, d, others)
}

// fresh refuses a secret that a key has already, but for the one that it takes the place of: to remove one of two that are
// the same would change nothing.
func (e *keyChange) fresh(n *attach.Opener, except int) error {
	for i := range e.d.Slots {
		if s := &e.d.Slots[i]; i == except || (s.Kind == descriptor.PassphraseSlot) != (n.Slot.Kind == descriptor.PassphraseSlot) || s.Kind == descriptor.UnwrapSlot {
			continue
		}
		key, err := e.d.OpenSlot(i, n.Secret)
		key.Destroy()
		if err == nil {
			return console.Fixed(fmt.Errorf("key %s of the volume is the same already", keyID(&e.d.Slots[i])), "another passphrase or key file")
		}
	}
	return nil
}

func (e *keyChange) add(n attach.Opener) error {
	err := e.fresh(&n, -1)
	if err == nil && e.header != nil && n.HasKeySlot() {
		n.Slot.KeySlot, err = e.header.add(e.d, n)
	}
	if err != nil {
		return err
	}
	return e.d.AddSlot(e.key, n.Slot, n.Secret)
}

func (e *keyChange) replace(i int, n attach.Opener) error {
	err := e.fresh(&n, i)
	if err == nil && e.header != nil {
		n.Slot.KeySlot, err = e.header.replace(e.d, e.d.Slots[i].KeySlot, n)
	}
	if err != nil {
		return err
	}
	return e.d.ChangeSlot(i, e.key, n.Slot, n.Secret)
}

func (e *keyChange) remove(i int) error {
	if s := &e.d.Slots[i]; e.header != nil && s.Kind != descriptor.UnwrapSlot {
		if s.KeySlot == nil {
			e.a.Say("note: nobody noted which key slot of the header has the same secret: cryptsetup luksRemoveKey, with it, removes that")
		} else if err := e.header.remove(*s.KeySlot); err != nil {
			return err
		}
	}
	return e.d.RemoveSlot(i)
}
