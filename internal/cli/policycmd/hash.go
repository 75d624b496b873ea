// SPDX-License-Identifier: Apache-2.0

package policycmd

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"

	"github.com/spf13/cobra"

	"cofferdam.dev/internal/cli/console"
	"cofferdam.dev/internal/cli/imagecmd"
	"cofferdam.dev/internal/cli/layertar"
	"cofferdam.dev/internal/layer"
	"cofferdam.dev/internal/plain"
	"cofferdam.dev/policy"
)

// policyHashAnswer is the document behind `policy hash -o json`.
type policyHashAnswer struct {
	Schema string `json:"schema"`
	SHA256 string `json:"sha256"`
	Bytes  int    `json:"bytes"`
}

func (a *App) policyHashCommand() *cobra.Command {
	var layers, plainHTTP bool
	c := &cobra.Command{
		Use:   "hash FILE|-|group:NAME",
		Short: "Print the hash of a policy, or of what it pins",
		Long: `Print the SHA-256 of a policy's text in hexadecimal: the HOST_DATA of a launch under it, and
what a relying party pins. Every byte counts, also the last newline.

With --layers the argument is the tar file of one layer, an archive of an image, or an
IMAGE, and what is printed are the dm-verity root hashes of its layers, base layer first. A
layer that tools disagree about is refused, or warned about with the entry's name.` + "\n" + imagecmd.AboutReferences,
		Example: `  cofferdam policy hash policy.rego
  cofferdam policy generate oci-archive:redis.tar | cofferdam policy hash -
  cofferdam policy hash --layers layer.tar`,
		Args: console.Arguments(1, 1, "one policy, or with --layers one layer or image"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if layers {
				ctx, stop := console.Interruptible(cmd.Context())
				defer stop()
				return a.hashLayers(ctx, args[0], plainHTTP)
			}
			text, err := a.PolicyText(args[0])
			if err != nil {
				return err
			}
			if len(text) == 0 {
				a.Say("%s the policy is empty: this is the hash of no text", a.Style(a.Err).Warn("warning:"))
			}
			h := policy.Hash(text)
			v := policyHashAnswer{Schema: "cofferdam.dev/policy-hash/v1", SHA256: hex.EncodeToString(h[:]), Bytes: len(text)}
			return a.Answer(v, func(w io.Writer) error {
				_, err := fmt.Fprintln(w, v.SHA256)
				return err
			})
		},
	}
	c.Flags().BoolVar(&layers, "layers", false, "print the root hashes of a layer or an image")
	c.Flags().BoolVar(&plainHTTP, "plain-http", false, "speak to the registry without TLS")
	a.OutputFlag(c)
	return c
}

// layerRoots is the document behind `policy hash --layers -o json`.
type layerRoots struct {
	Schema string      `json:"schema"`
	Scheme string      `json:"scheme"`
	Layers []layerRoot `json:"layers"`
}

type layerRoot struct {
	DiffID string `json:"diff_id"`
	Root   string `json:"root"`
	// Orphans are entries that stand before the directory that they lie in, or without it.
	Orphans []string `json:"orphans,omitempty"`
}

func (a *App) hashLayers(ctx context.Context, arg string, plainHTTP bool) error {
	sources, err := a.layerSources(ctx, arg, plainHTTP)
	if err != nil {
		return err
	}
	entries, err := a.image.ConvertLayers(ctx, sources)
	if err != nil {
		return err
	}
	v := layerRoots{Schema: "cofferdam.dev/layer-roots/v1", Scheme: layer.Scheme, Layers: []layerRoot{}}
	for i, s := range sources {
		orphans, err := layertar.Orphans(ctx, s)
		if err != nil {
			return err
		}
		for j := range orphans {
			orphans[j] = plain.Printable(orphans[j])
		}
		if len(orphans) > 0 {
			e := entries[i] // the disk may be older than what its record tells of this
			e.Orphans = layer.Orphans{Count: len(orphans), First: strconv.Quote(orphans[0])}
			a.warnOrphans(e)
		}
		v.Layers = append(v.Layers, layerRoot{DiffID: s.DiffID(), Root: hex.EncodeToString(entries[i].RootHash[:]), Orphans: orphans})
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
}

// warnOrphans says that a layer has entries without their directories.
func (a *App) warnOrphans(e layer.Entry) {
	a.Say("%s layer %s: %s has no entry for its directory before it (%d such entries); other versions of the converter make another root of this layer",
		a.Style(a.Err).Warn("warning:"), imagecmd.Short(e.DiffID), e.Orphans.First, e.Orphans.Count)
}

// layerSources opens what --layers is given: a layer's tar file, an archive of an image, or a reference.
func (a *App) layerSources(ctx context.Context, arg string, plainHTTP bool) ([]layer.Source, error) {
	info, err := os.Stat(arg)
	if err == nil && info.Mode().IsRegular() {
		kind, err := archiveKind(arg)
		if err != nil {
			return nil, fmt.Errorf("reading %s: %w", arg, err)
		}
		if kind == "" {
			s, err := layertar.Open(ctx, arg)
			if err != nil {
				return nil, err
			}
			return []layer.Source{s}, nil
		}
		arg = kind + ":" + arg
	}
	img, err := a.image.OpenImage(ctx, arg, plainHTTP)
	if err != nil {
		return nil, err
	}
	return layer.Sources(img.Layers()), nil
}

// archiveKind tells archives of images from layers by the files that only they have.
func archiveKind(name string) (string, error) {
	f, err := os.Open(name)
	if err != nil {
		return "", err
	}
	defer func() { _ = f.Close() }() // only read
	docker := false
	for r := tar.NewReader(f); ; {
		h, err := r.Next()
		switch {
		case errors.Is(err, io.EOF) && docker:
			return "docker-archive", nil
		case err != nil:
			return "", nil // compressed, or broken: reading it as a layer says what is wrong
		}
		switch filepath.Clean(h.Name) {
		case "oci-layout":
			return "oci-archive", nil
		case "manifest.json":
			b, err := io.ReadAll(io.LimitReader(r, 1<<20))
			docker = err == nil && bytes.Contains(b, []byte(`"Layers"`))
		}
	}
}
