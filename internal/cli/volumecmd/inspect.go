// SPDX-License-Identifier: Apache-2.0

package volumecmd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"

	"github.com/spf13/cobra"

	"cofferdam.dev/internal/cli/console"
	"cofferdam.dev/internal/volume/attach"
	"cofferdam.dev/internal/volume/blob"
	"cofferdam.dev/internal/volume/blockcache"
	"cofferdam.dev/internal/volume/luks2"
	"cofferdam.dev/internal/volume/shadow"
)

func (a *App) volumeInspectCommand() *cobra.Command {
	o := &volumeOptions{}
	c := &cobra.Command{
		Use:   "inspect IMAGE",
		Short: "Say what a volume's descriptor and header claim, without a key",
		Long: `Say what a volume's descriptor and, of a LUKS2 volume, its header claim. No key is needed,
and so nothing of it is proven: ` + "`cofferdam volume verify`" + ` holds it against the key.
` + aboutVolume + "\n" + aboutStorage,
		Example: `  cofferdam volume inspect data.img
  cofferdam volume inspect https://account.blob.core.windows.net/c/data.img -o json`,
		Args: console.Arguments(1, 1, "an image"),
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx, stop := console.Interruptible(cmd.Context())
			defer stop()
			answer := &volumeAnswer{Image: blob.Redact(args[0])}
			if name, err := o.descriptorFile(args[0]); err == nil {
				answer.Descriptor, err = readDescriptor(name)
				if err != nil && !errors.Is(err, os.ErrNotExist) {
					return err
				}
				if err == nil {
					answer.File = name
				}
			}
			info, err := a.inspectHeader(ctx, args[0], o)
			if err != nil {
				return err
			}
			if answer.Header = info; info == nil && answer.Descriptor == nil {
				return console.Fixed(fmt.Errorf("%s has no descriptor, and is no LUKS2 volume", answer.Image), "--descriptor FILE")
			}
			return a.answerVolume(answer)
		},
	}
	o.flags(c)
	o.storageFlags(c)
	a.OutputFlag(c)
	return c
}

// inspectHeader reads the header of a LUKS2 volume; nil is none.
func (a *App) inspectHeader(ctx context.Context, image string, o *volumeOptions) (*luks2.Info, error) {
	bo, err := o.storage(a, image)
	if err != nil {
		return nil, err
	}
	src, err := attach.Storage(ctx, image, bo, blockcache.Options{})
	if err != nil {
		return nil, volumeFailure(err)
	}
	defer func() { _ = src.Close() }() // it was only read
	h, err := luks2.Open(blob.ReaderAt(ctx, src), src.Size())
	switch {
	case errors.Is(err, luks2.ErrFormat):
		return nil, nil //nolint:nilnil // it is of another format, or says too much to be shown
	case err != nil:
		return nil, volumeFailure(err)
	}
	info := h.Info()
	return &info, nil
}

// verifyAnswer is the document behind `volume verify -o json`.
type verifyAnswer struct {
	Schema string `json:"schema"`
	attach.Facts
	// Blocks and Nodes were read and are whole, Damaged are not.
	Blocks  uint64   `json:"blocks,omitempty"`
	Nodes   uint64   `json:"nodes,omitempty"`
	Damaged uint64   `json:"damaged"`
	First   []string `json:"firstDamaged,omitempty"`
}

func (a *App) volumeVerifyCommand() *cobra.Command {
	o := &volumeOptions{}
	c := &cobra.Command{
		Use:   "verify IMAGE",
		Short: "Hold a volume against its descriptor, its key and its anchor",
		Long: `Hold a volume against its descriptor, its key and its anchor. Of a shadow or sealed volume
everything is read, and each block that is not what was written last is counted; of a LUKS2
volume the header is held against its pin, and nothing can be said of the data.

Nothing is written. Exits with 3 when something does not fit.
` + aboutVolume + "\n" + aboutStorage,
		Example: `  cofferdam volume verify data.img --passphrase-file passphrase
  cofferdam volume verify data.img --key-file key -o json`,
		Args: console.Arguments(1, 1, "an image"),
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx, stop := console.Interruptible(cmd.Context())
			defer stop()
			v, err := a.openVolume(ctx, cmd, args[0], o, false)
			if err != nil {
				return err
			}
			defer func() { _ = v.Close(ctx) }() // it was only read
			answer := &verifyAnswer{Schema: "cofferdam.dev/volume-verification/v1", Facts: v.Facts}
			if err := a.verifyBlocks(ctx, v, answer); err != nil {
				return err
			}
			if err := a.answerVerify(answer); err != nil {
				return err
			}
			if answer.Damaged > 0 {
				return &console.Failure{Code: console.ExitRefused, Err: fmt.Errorf("%d blocks are not what was written last", answer.Damaged), Details: answer.First,
					Fix: "a copy of the storage that nobody changed; the other blocks can be read"}
			}
			return nil
		},
	}
	o.openFlags(c)
	o.storageFlags(c)
	a.OutputFlag(c)
	return c
}

// verifyBlocks reads everything of a volume that finds changes.
func (a *App) verifyBlocks(ctx context.Context, v *attach.Volume, answer *verifyAnswer) error {
	board := a.Board()
	defer board.Close()
	step := board.Start("verifying", 0)
	defer step.Done("")
	switch {
	case v.Shadow != nil:
		r, err := v.Shadow.Verify(ctx, func(blocks uint64) { step.Set(int64(blocks)*shadow.BlockSize, 0) })
		if err != nil {
			return volumeFailure(err)
		}
		answer.Blocks, answer.Nodes, answer.Damaged, answer.First = r.Blocks, r.Nodes, r.Damaged, r.First
	case v.Sealed != nil:
		r, err := v.Sealed.Verify(ctx, step.Set)
		if err != nil {
			return volumeFailure(err)
		}
		answer.Blocks, answer.Damaged, answer.First = r.Blocks, r.Damaged, r.First
	}
	return nil
}

func (a *App) answerVerify(v *verifyAnswer) error {
	return a.Answer(v, func(w io.Writer) error {
		pairs := [][2]string{
			{"kind", string(v.Kind)}, {"id", v.ID}, {"size", sizeText(v.Size)}, {"authenticated", strconv.FormatBool(v.Authenticated)},
			{"pinned", strconv.FormatBool(v.Pinned)}, {"anchored", strconv.FormatBool(v.Anchored)},
		}
		if v.Authenticated {
			if v.Generation > 0 {
				pairs = append(pairs, [2]string{"generation", strconv.FormatUint(v.Generation, 10)})
			}
			pairs = append(pairs, [2]string{"blocks", strconv.FormatUint(v.Blocks, 10)},
				[2]string{"damaged", strconv.FormatUint(v.Damaged, 10)})
		}
		return console.Facts(w, pairs...)
	})
}
