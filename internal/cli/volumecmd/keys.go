// SPDX-License-Identifier: Apache-2.0

package volumecmd

import (
	"context"
	"encoding/hex"
	"fmt"
	"io"
	"slices"
	"strconv"

	"github.com/spf13/cobra"

	"cofferdam.dev/internal/cli/console"
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
