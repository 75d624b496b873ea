// SPDX-License-Identifier: Apache-2.0

package imagecmd

import (
	"context"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"cofferdam.dev/internal/cli/console"
	"cofferdam.dev/internal/cli/progress"
	"cofferdam.dev/internal/image"
	"cofferdam.dev/internal/layer"
	"cofferdam.dev/internal/plain"
)

// ImageCommand returns `image` with all that is below it.
func (a *App) ImageCommand() *cobra.Command {
	return console.Noun("image", "Look at images, fetch them, compute their layers' root hashes",
		a.imageInspectCommand(), a.imageHashCommand(), a.imagePullCommand())
}

// AboutReferences is what the help of commands says about naming images.
const AboutReferences = `
IMAGE is a registry reference (docker.io/library/redis:7), oci:DIR[:TAG],
oci-archive:FILE or docker-archive:FILE.`

// OpenImage opens an image, fetching it if it is in a registry.
func (a *App) OpenImage(ctx context.Context, ref string, plainHTTP bool) (*image.Image, error) {
	return a.OpenImageAs(ctx, ref, plainHTTP, nil)
}

// OpenImageAs opens an image, with logins beside those of the machine.
func (a *App) OpenImageAs(ctx context.Context, ref string, plainHTTP bool, login image.Login) (*image.Image, error) {
	img, err := image.Open(ctx, ref, image.Options{Dir: filepath.Join(a.Home, "images"), PlainHTTP: plainHTTP, Login: login})
	if err == nil {
		return img, nil
	}
	info, statErr := os.Stat(ref)
	switch {
	case statErr != nil:
		return nil, err
	case info.IsDir():
		return nil, console.Fixed(err, "oci:%s", ref)
	}
	return nil, console.Fixed(err, "oci-archive:%s, or docker-archive:%s", ref, ref)
}

// Convert makes the disks of an image's layers, base first.
func (a *App) Convert(ctx context.Context, img *image.Image) ([]layer.Entry, error) {
	return a.ConvertLayers(ctx, layer.Sources(img.Layers()))
}

// ConvertLayers makes the disks of layers.
func (a *App) ConvertLayers(ctx context.Context, layers []layer.Source) ([]layer.Entry, error) {
	cache, err := layer.OpenCache(filepath.Join(a.Home, "layers"))
	if err != nil {
		return nil, err
	}
	board := a.Board()
	defer board.Close()
	steps := map[string]*progress.Step{}
	return cache.GetAll(ctx, layers, func(e layer.Event) {
		s, ok := steps[e.DiffID]
		if !ok {
			s = board.Start("layer "+Short(e.DiffID), 0)
			steps[e.DiffID] = s
		}
		s.Set(e.Read, 0)
		if e.Done {
			remark := "converted"
			if e.Cached {
				remark = "cached"
			}
			s.Done(remark)
		}
	})
}

// Short is the part of a digest that people compare.
func Short(digest string) string {
	_, h, ok := strings.Cut(digest, ":")
	if !ok {
		h = digest
	}
	return h[:min(len(h), 12)]
}

// imageLayer is one layer in the documents of `image inspect` and `image hash`.
type imageLayer struct {
	DiffID string `json:"diff_id"`
	Digest string `json:"digest"`
	Size   int64  `json:"size"`
	// Root is the dm-verity root hash under the scheme that the document names, where it was computed.
	Root string `json:"root,omitempty"`
}

// imageConfig is an image's configuration in the document of `image inspect`.
type imageConfig struct {
	Entrypoint   []string `json:"entrypoint,omitempty"`
	Cmd          []string `json:"cmd,omitempty"`
	Env          []string `json:"env,omitempty"`
	User         string   `json:"user,omitempty"`
	WorkingDir   string   `json:"working_dir,omitempty"`
	StopSignal   string   `json:"stop_signal,omitempty"`
	Volumes      []string `json:"volumes,omitempty"`
	ExposedPorts []string `json:"exposed_ports,omitempty"`
}

// imageAnswer is the document behind the image commands' -o json.
type imageAnswer struct {
	Schema    string       `json:"schema"`
	Reference string       `json:"reference"`
	Digest    string       `json:"digest"`
	Scheme    string       `json:"scheme,omitempty"`
	Config    *imageConfig `json:"config,omitempty"`
	Layers    []imageLayer `json:"layers"`
}

func newImageAnswer(kind, ref string, img *image.Image) imageAnswer {
	v := imageAnswer{Schema: "cofferdam.dev/" + kind + "/v1", Reference: ref, Digest: img.Digest(), Layers: []imageLayer{}}
	for _, l := range img.Layers() {
		v.Layers = append(v.Layers, imageLayer{DiffID: l.DiffID(), Digest: l.Digest(), Size: l.Size()})
	}
	return v
}

func (a *App) imageInspectCommand() *cobra.Command {
	var plainHTTP bool
	c := &cobra.Command{
		Use:   "inspect IMAGE",
		Short: "Show an image's configuration and layers",
		Long:  "Show the digest, the configuration and the layers of an image." + AboutReferences,
		Example: `  cofferdam image inspect oci-archive:redis.tar
  cofferdam image inspect oci:layout:latest -o json`,
		Args: console.Arguments(1, 1, "one image"),
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx, stop := console.Interruptible(cmd.Context())
			defer stop()
			img, err := a.OpenImage(ctx, args[0], plainHTTP)
			if err != nil {
				return err
			}
			c := imageConfig(img.Config())
			v := newImageAnswer("image", args[0], img)
			v.Config = &c
			return a.Answer(v, func(w io.Writer) error { return showImage(w, v) })
		},
	}
	c.Flags().BoolVar(&plainHTTP, "plain-http", false, "speak to the registry without TLS")
	a.OutputFlag(c)
	return c
}

func showImage(w io.Writer, v imageAnswer) error {
	pairs := [][2]string{
		{"reference", v.Reference}, {"digest", v.Digest},
		{"entrypoint", plain.Command(v.Config.Entrypoint)}, {"command", plain.Command(v.Config.Cmd)},
		{"user", v.Config.User}, {"directory", v.Config.WorkingDir}, {"stop signal", v.Config.StopSignal},
	}
	for _, e := range v.Config.Env {
		pairs = append(pairs, [2]string{"env", e})
	}
	for _, x := range v.Config.Volumes {
		pairs = append(pairs, [2]string{"volume", x})
	}
	for _, x := range v.Config.ExposedPorts {
		pairs = append(pairs, [2]string{"port", x})
	}
	for _, l := range v.Layers {
		pairs = append(pairs, [2]string{"layer", l.DiffID + "  " + strconv.FormatInt(l.Size, 10) + " bytes"})
	}
	filled := pairs[:0]
	for _, p := range pairs {
		if p[1] != "" {
			filled = append(filled, [2]string{p[0], plain.Printable(p[1])})
		}
	}
	return console.Facts(w, filled...)
}

func (a *App) imageHashCommand() *cobra.Command {
	var plainHTTP bool
	c := &cobra.Command{
		Use:   "hash IMAGE",
		Short: "Compute the root hashes of an image's layers",
		Long: `Convert the layers of an image to disks (or take them from the cache) and print their
dm-verity root hashes, base layer first: what a policy pins.` + "\n" + AboutReferences,
		Example: `  cofferdam image hash oci-archive:redis.tar
  cofferdam image hash docker-archive:saved.tar -o json`,
		Args: console.Arguments(1, 1, "one image"),
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx, stop := console.Interruptible(cmd.Context())
			defer stop()
			img, err := a.OpenImage(ctx, args[0], plainHTTP)
			if err != nil {
				return err
			}
			entries, err := a.Convert(ctx, img)
			if err != nil {
				return err
			}
			v := newImageAnswer("image-hash", args[0], img)
			v.Scheme = layer.Scheme
			for i := range v.Layers {
				v.Layers[i].Root = hex.EncodeToString(entries[i].RootHash[:])
			}
			return a.Answer(v, func(w io.Writer) error {
				for _, l := range v.Layers {
					_, err := fmt.Fprintln(w, l.Root)
					if err != nil {
						return err
					}
				}
				return nil
			})
		},
	}
	c.Flags().BoolVar(&plainHTTP, "plain-http", false, "speak to the registry without TLS")
	a.OutputFlag(c)
	return c
}

func (a *App) imagePullCommand() *cobra.Command {
	var plainHTTP bool
	c := &cobra.Command{
		Use:   "pull IMAGE",
		Short: "Fetch an image and convert its layers",
		Long: `Fetch an image into the cache, convert its layers, and print its digest. A later ` + "`run`" + `
of the same image starts at once.` + "\n" + AboutReferences,
		Example: `  cofferdam image pull registry.example.com/app:1.2
  cofferdam image pull --plain-http localhost:5000/app`,
		Args: console.Arguments(1, 1, "one image"),
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx, stop := console.Interruptible(cmd.Context())
			defer stop()
			img, err := a.OpenImage(ctx, args[0], plainHTTP)
			if err != nil {
				return err
			}
			_, err = a.Convert(ctx, img)
			if err != nil {
				return err
			}
			v := newImageAnswer("image-pull", args[0], img)
			return a.Answer(v, func(w io.Writer) error {
				_, err := fmt.Fprintln(w, v.Digest)
				return err
			})
		},
	}
	c.Flags().BoolVar(&plainHTTP, "plain-http", false, "speak to the registry without TLS")
	a.OutputFlag(c)
	return c
}
