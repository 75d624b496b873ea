// SPDX-License-Identifier: Apache-2.0

package volumecmd

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"cofferdam.dev/internal/cli/console"
	"cofferdam.dev/internal/volume/attach"
	"cofferdam.dev/internal/volume/blob"
	"cofferdam.dev/internal/volume/descriptor"
)

func (a *App) volumeKeyCommand() *cobra.Command {
	return console.Noun("key", "List, add, change and remove the keys that open a volume",
		a.volumeKeyListCommand(), a.volumeKeyAddCommand(), a.volumeKeyChangeCommand(), a.volumeKeyRemoveCommand())
}

// aboutKeys is what the help of commands that change keys says about them.
const aboutKeys = `
Each key is a way of its own to the volume key, which stays as it is: no data are encrypted
again. A LUKS2 volume's keys are key slots of its header, too, so that cryptsetup opens it
by the same; of other volumes the image is not touched. What was interrupted is given again.

Give the new descriptor to whoever opens the volume, also to groups: a policy may pin it.`

// keyID names a key of a volume, for as long as it is not changed: by the beginning of its salt.
func keyID(s *descriptor.Slot) string { return hex.EncodeToString(s.Salt[:4]) }

// findKey is the number of the key that a person names.
func findKey(d *descriptor.Descriptor, id, image string) (int, error) {
	i := slices.IndexFunc(d.Slots, func(s descriptor.Slot) bool { return keyID(&s) == id })
	if i < 0 {
		return 0, console.Fixed(fmt.Errorf("%w: %.40q; one that was changed has another name", descriptor.ErrNoSlot, id), "cofferdam volume key list %s", blob.Redact(image))
	}
	return i, nil
}

// volumeKeyAnswer is one key in the document behind `volume key … -o json`.
type volumeKeyAnswer struct {
	ID   string              `json:"id"`
	Kind descriptor.SlotKind `json:"kind"`
	// Text is for people.
	Text string `json:"text"`
	// KeySlot is the key slot of a LUKS2 header that has the same secret, where that is known.
	KeySlot *int `json:"keySlot,omitempty"`
}

// volumeKeysAnswer is the document behind `volume key … -o json`.
type volumeKeysAnswer struct {
	Schema string `json:"schema"`
	Image  string `json:"image"`
	// File is where the descriptor is.
	File string            `json:"descriptorFile"`
	Keys []volumeKeyAnswer `json:"keys"`
	// Others are key slots of a LUKS2 header that no key of the descriptor names.
	Others []int `json:"otherKeySlots,omitempty"`
}

func (a *App) answerKeys(image, file string, d *descriptor.Descriptor, others []int) error {
	v := &volumeKeysAnswer{Schema: "cofferdam.dev/volume-keys/v1", Image: blob.Redact(image), File: file, Others: others}
	for i := range d.Slots {
		s := &d.Slots[i]
		v.Keys = append(v.Keys, volumeKeyAnswer{keyID(s), s.Kind, slotText(s), s.KeySlot})
	}
	return a.Answer(v, func(w io.Writer) error {
		rows := [][]string{{"KEY", "KEY SLOT", "OPENED BY"}}
		for _, k := range v.Keys {
			at := "-"
			if k.KeySlot != nil {
				at = strconv.Itoa(*k.KeySlot)
			}
			rows = append(rows, []string{k.ID, at, k.Text})
		}
		for _, n := range v.Others {
			rows = append(rows, []string{"-", strconv.Itoa(n), "something that the descriptor does not know: cryptsetup luksKillSlot removes it"})
		}
		return console.Table(w, rows)
	})
}

func (a *App) volumeKeyListCommand() *cobra.Command {
	o := &volumeOptions{}
	c := &cobra.Command{
		Use:   "list IMAGE",
		Short: "List the keys that open a volume",
		Long: `List the keys that open a volume, as its descriptor says, and the key slots of a LUKS2
header. No key is needed, and so nothing of it is proven.
` + aboutVolume + "\n" + aboutStorage,
		Example: `  cofferdam volume key list data.img
  cofferdam volume key list data.img -o json`,
		Args: console.Arguments(1, 1, "an image"),
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx, stop := console.Interruptible(cmd.Context())
			defer stop()
			file, err := o.descriptorFile(args[0])
			if err != nil {
				return console.Usage(cmd, err.Error())
			}
			d, err := readDescriptor(file)
			if err != nil {
				return missingDescriptor(err)
			}
			var others []int
			if d.Kind == descriptor.LUKS2 {
				info, err := a.inspectHeader(ctx, args[0], o)
				if err != nil {
					return err
				}
				if info != nil {
					others = strangeSlots(d, info)
				}
			}
			return a.answerKeys(args[0], file, d, others)
		},
	}
	o.flags(c)
	o.storageFlags(c)
	a.OutputFlag(c)
	return c
}

func (a *App) volumeKeyAddCommand() *cobra.Command {
	o, to := &volumeOptions{}, &volumeKeyOptions{}
	c := &cobra.Command{
		Use:   "add IMAGE",
		Short: "Have one more key open a volume",
		Long: `Have one more key open a volume. A key that it has opens it; the new one is said by the
flags that begin with --new, or asked for on a terminal.
` + aboutKeys + "\n" + aboutVolume,
		Example: `  cofferdam volume key add data.img --key-file key --new-passphrase-file passphrase
  cofferdam volume key add data.img --key-file key --new-wrap-kid laptops
  cofferdam volume key add data.img --unwrap --new-key-file key --new-kid data \
    --new-key-vault vault.example --new-authority attest.example`,
		Args: console.Arguments(1, 1, "an image"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.changeKeys(cmd, args[0], o, func(ctx context.Context, e *keyChange) error {
				openers, err := to.openers(ctx, a, cmd)
				if err != nil {
					return err
				}
				defer forget(openers)
				for _, n := range openers {
					if err := e.add(n); err != nil {
						return err
					}
				}
				return nil
			})
		},
	}
	o.keyChangeFlags(c)
	to.newFlags(c, &o.vault)
	a.OutputFlag(c)
	return c
}

func (a *App) volumeKeyChangeCommand() *cobra.Command {
	o, to := &volumeOptions{}, &volumeKeyOptions{}
	c := &cobra.Command{
		Use:   "change IMAGE KEY",
		Short: "Put another key into the place of one that opens a volume",
		Long: `Put another key into the place of one that opens a volume, which opens it no more then. Any
key of the volume opens it for that; the new one is said by the flags that begin with --new,
or asked for on a terminal. KEY is as ` + "`cofferdam volume key list`" + ` names it.
` + aboutOldKeys + "\n" + aboutKeys + "\n" + aboutVolume,
		Example: `  cofferdam volume key change data.img 3f9a01c2 --key-file key --new-key-file new-key
  cofferdam volume key change data.img 3f9a01c2 --passphrase-file old \
    --new-passphrase-file new`,
		Args: console.Arguments(2, 2, "an image and a key"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.changeKeys(cmd, args[0], o, func(ctx context.Context, e *keyChange) error {
				i, err := findKey(e.d, args[1], args[0])
				if err != nil {
					return err
				}
				openers, err := to.openers(ctx, a, cmd)
				if err != nil {
					return err
				}
				defer forget(openers)
				if len(openers) != 1 {
					return console.Usage(cmd, "one key takes the place of one: give one of the flags that begin with --new")
				}
				return e.replace(i, openers[0])
			})
		},
	}
	o.keyChangeFlags(c)
	to.newFlags(c, &o.vault)
	a.OutputFlag(c)
	return c
}

// aboutOldKeys is what the help of commands that take a key away says of what that does not do.
const aboutOldKeys = `
Whoever kept the key that goes, and an old copy of the descriptor or of a LUKS2 header,
still gets the volume key by them: ` + "`cofferdam volume rekey`" + ` takes the volume from them.`

func (a *App) volumeKeyRemoveCommand() *cobra.Command {
	o := &volumeOptions{}
	c := &cobra.Command{
		Use:   "remove IMAGE KEY",
		Short: "Have a key open a volume no more",
		Long: `Have a key open a volume no more. The volume is opened for that by a key that stays, so
that there is one, and it works. KEY is as ` + "`cofferdam volume key list`" + ` names it; the key
itself is not needed.
` + aboutOldKeys + "\n" + aboutKeys + "\n" + aboutVolume,
		Example: `  cofferdam volume key remove data.img 3f9a01c2 --key-file key
  cofferdam volume key remove data.img 3f9a01c2 --unwrap`,
		Args: console.Arguments(2, 2, "an image and a key"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.changeKeys(cmd, args[0], o, func(_ context.Context, e *keyChange) error {
				i, err := findKey(e.d, args[1], args[0])
				switch {
				case err != nil:
					return err
				case len(e.d.Slots) == 1:
					return console.Fixed(fmt.Errorf("removing key %s: %w", args[1], descriptor.ErrLast), "cofferdam volume key add, and then this; or cofferdam volume key change")
				case i == e.opened:
					return console.Fixed(fmt.Errorf("key %s opened the volume just now, so that nothing shows that another one works", args[1]), "this with a key that stays")
				}
				return e.remove(i)
			})
		},
	}
	o.keyChangeFlags(c)
	a.OutputFlag(c)
	return c
}

// keyChangeFlags are those of commands that change keys of a volume wherever it is.
func (o *volumeOptions) keyChangeFlags(c *cobra.Command) {
	c.Flags().StringVar(&o.descriptor, "descriptor", "", "the volume's descriptor (default: IMAGE.json)")
	o.key.openFlags(c, &o.vault)
	o.vault.Flags(c)
	o.storageFlags(c)
}

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
	file, err := o.descriptorFile(image)
	if err != nil {
		return console.Usage(cmd, err.Error())
	}
	unlock, err := lockDescriptor(file)
	if err != nil {
		return missingDescriptor(err)
	}
	defer unlock()
	d, err := readDescriptor(file)
	if err != nil {
		return err
	}
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

// stillNamed finds whether a file was replaced meanwhile.
func stillNamed(f *os.File, name string) error {
	opened, err := f.Stat()
	if err != nil {
		return err
	}
	if named, err := os.Stat(name); err != nil || !os.SameFile(opened, named) {
		return errors.Join(unix.EWOULDBLOCK, err)
	}
	return nil
}

// lockDescriptor keeps other commands from changing a descriptor, until the function is called that it returns.
func lockDescriptor(name string) (func(), error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, fmt.Errorf("reading the volume's descriptor: %w", err)
	}
	unlock := func() {
		_ = unix.Flock(int(f.Fd()), unix.LOCK_UN) // closing it ends it, too, but not while a process that was just started has a copy
		_ = f.Close()                             // it was only read
	}
	err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if err == nil {
		err = stillNamed(f, name)
	}
	if err == nil {
		return unlock, nil
	}
	unlock()
	if errors.Is(err, unix.EWOULDBLOCK) {
		return nil, console.Fixed(fmt.Errorf("%s: another command is changing it", name), "this again, when that has ended")
	}
	return nil, fmt.Errorf("locking %s: %w", name, err)
}
