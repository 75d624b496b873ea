// SPDX-License-Identifier: Apache-2.0

package volumecmd

import (
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"cofferdam.dev/internal/cli/console"
	"cofferdam.dev/internal/volume/blob"
)

// uploadAnswer is the document behind `volume upload -o json`.
type uploadAnswer struct {
	Schema string `json:"schema"`
	Image  string `json:"image"`
	// URL has no credentials in it.
	URL   string `json:"url"`
	Bytes int64  `json:"bytes"`
}

func (a *App) volumeUploadCommand() *cobra.Command {
	o := &volumeOptions{}
	var readOnly, replace bool
	c := &cobra.Command{
		Use:   "upload IMAGE URL",
		Short: "Bring a volume's image to remote storage",
		Long: `Bring a volume's image to remote storage. What was interrupted goes on where it ended when
the same command is given again: IMAGE.upload remembers. Pieces of zeros are not sent.

In Azure storage it becomes a page blob, which can be written in place, or with --read-only
a block blob, which costs less. The descriptor stays here: whoever opens the volume needs
it from you, not from the storage.
` + aboutStorage,
		Example: `  cofferdam volume upload data.img 'https://account.blob.core.windows.net/c/data.img?sv=…'
  cofferdam volume upload data.img s3://bucket/data.img
  cofferdam volume upload data.img azure+http://127.0.0.1:10000/account/c/data.img \
    --account-key-file account-key --read-only`,
		Args: console.Arguments(2, 2, "an image and a URL"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if !isURL(args[1]) {
				return console.Usage(cmd, fmt.Sprintf("%q is no URL", args[1]))
			}
			info, err := os.Stat(args[0])
			if err != nil {
				return err
			}
			bo, err := o.storage(a, args[1])
			if err != nil {
				return err
			}
			ctx, stop := console.Interruptible(cmd.Context())
			defer stop()
			board := a.Board()
			defer board.Close()
			step := board.Start("uploading", info.Size())
			err = blob.Upload(ctx, args[0], args[1], blob.UploadOptions{
				Options: bo, PageBlob: !readOnly, Overwrite: replace, State: uploadState(args[0]), Progress: step.Set,
			})
			step.Done("")
			if errors.Is(err, blob.ErrExists) {
				return console.Fixed(err, "another name, or --replace")
			}
			if err != nil {
				return volumeFailure(err)
			}
			answer := &uploadAnswer{"cofferdam.dev/volume-upload/v1", args[0], blob.Redact(args[1]), info.Size()}
			return a.Answer(answer, func(w io.Writer) error {
				return console.Facts(w, [2]string{"image", answer.Image}, [2]string{"url", answer.URL}, [2]string{"size", sizeText(answer.Bytes)})
			})
		},
	}
	f := c.Flags()
	f.BoolVar(&readOnly, "read-only", false, "make a block blob, which can not be written in place")
	f.BoolVar(&replace, "replace", false, "replace an object that exists")
	o.storageFlags(c)
	a.OutputFlag(c)
	return c
}
