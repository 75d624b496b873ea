// SPDX-License-Identifier: Apache-2.0

// Package lockfile keeps what was learnt about images, so that a policy can be made again without them: the lock file
// cofferdam.lock, written by us, and files of image facts, written by hand or by another tool.
//
// Whoever may write such a file decides which layers a policy admits, so it belongs under the same review as the
// description beside it. The package trusts the values and nothing about the form: both files are read strictly, with
// bounded size, and a value that no image can have is an error that names the image. It opens no image, computes no
// hash, and never fills in what a file leaves out.
package lockfile

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"cofferdam.dev/internal/policygen"
)

// Name is what a lock file is called, beside the description that it belongs to.
const Name = "cofferdam.lock"

// Schema names the form of a lock file.
const Schema = "cofferdam.dev/lock/v1"

// MaxSize bounds both kinds of files.
const MaxSize = 4 << 20

// platform is the one that images are opened for.
const platform = "linux/amd64"

// Config is the part of an image's configuration that shapes its containers.
type Config struct {
	Env        []string `json:"env,omitempty"`
	Entrypoint []string `json:"entrypoint,omitempty"`
	Cmd        []string `json:"cmd,omitempty"`
	User       string   `json:"user,omitempty"`
	WorkingDir string   `json:"working_dir,omitempty"`
	StopSignal string   `json:"stop_signal,omitempty"`
	Volumes    []string `json:"volumes,omitempty"`
}

// Image is what a lock file says about one image.
type Image struct {
	// Digest is that of the manifest: the one content that the reference stood for when it was locked.
	Digest   string `json:"digest"`
	Platform string `json:"platform"`
	Config   Config `json:"config"`
	// Scheme is the recipe that the roots are valid for.
	Scheme string   `json:"scheme"`
	Layers []string `json:"layers"` // dm-verity roots, base layer first
}

// File is a lock file. Its zero value locks nothing.
type File struct {
	Images map[string]Image
}

// document is the file's JSON.
type document struct {
	Schema string           `json:"schema"`
	Images map[string]Image `json:"images"`
}

var digestForm = regexp.MustCompile(`^sha256:[0-9a-f]{64}$`)

// Parse reads a lock file.
func Parse(data []byte) (*File, error) {
	var d document
	if err := strict(data, 1, &d); err != nil {
		return nil, fmt.Errorf("reading lock file: %w", err)
	}
	if d.Schema != Schema {
		return nil, fmt.Errorf("reading lock file: schema is %q, expected %q", d.Schema, Schema)
	}
	for ref, i := range d.Images {
		if err := i.check(ref); err != nil {
			return nil, fmt.Errorf("reading lock file: image %q: %w", ref, err)
		}
	}
	return &File{Images: d.Images}, nil
}

func (i Image) check(ref string) error {
	switch {
	case ref == "":
		return errors.New("the reference is empty")
	case !digestForm.MatchString(i.Digest):
		return fmt.Errorf("digest is %q, expected sha256: and 64 hex digits", i.Digest)
	case i.Platform != platform:
		return fmt.Errorf("platform is %q, expected %q", i.Platform, platform)
	case i.Scheme == "":
		return errors.New("scheme of the layer roots is missing")
	}
	if _, pinned, ok := strings.Cut(ref, "@sha256:"); ok && "sha256:"+pinned != i.Digest {
		return fmt.Errorf("digest is %s, but the reference pins sha256:%s", i.Digest, pinned)
	}
	return checkLayers(i.Layers)
}

func checkLayers(layers []string) error {
	if len(layers) == 0 {
		return errors.New("there are no layers")
	}
	for n, root := range layers {
		if !policygen.Root(root) {
			return fmt.Errorf("layer %d: root %q is no SHA-256 in lower-case hexadecimal", n, root)
		}
	}
	return nil
}

// Bytes writes the file. Equal contents give equal bytes.
func (f *File) Bytes() ([]byte, error) {
	images := f.Images
	if images == nil {
		images = map[string]Image{}
	}
	for _, ref := range slices.Sorted(maps.Keys(images)) {
		if err := images[ref].check(ref); err != nil {
			return nil, fmt.Errorf("writing lock file: image %q: %w", ref, err)
		}
	}
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	if err := e.Encode(document{Schema: Schema, Images: images}); err != nil {
		return nil, fmt.Errorf("writing lock file: %w", err)
	}
	return b.Bytes(), nil
}

// Set locks an image.
func (f *File) Set(ref, digest, scheme string, facts policygen.ImageFacts) error {
	i := Image{
		Digest: digest, Platform: platform, Config: Config(facts.Config), Scheme: scheme, Layers: facts.LayerRoots,
	}
	if err := i.check(ref); err != nil {
		return fmt.Errorf("locking image %q: %w", ref, err)
	}
	if f.Images == nil {
		f.Images = map[string]Image{}
	}
	f.Images[ref] = i
	return nil
}

// Facts returns what is locked about an image, if anything is. Roots of another scheme than the one asked for would
// admit no layer, so they are an error.
func (f *File) Facts(ref, scheme string) (policygen.ImageFacts, bool, error) {
	i, ok := f.Images[ref]
	if !ok {
		return policygen.ImageFacts{}, false, nil
	}
	if i.Scheme != scheme {
		return policygen.ImageFacts{}, false, fmt.Errorf("image %q is locked with layer roots of scheme %q, this version makes %q", ref, i.Scheme, scheme)
	}
	return policygen.ImageFacts{Reference: ref, Config: policygen.ImageConfig(i.Config), LayerRoots: i.Layers}, true, nil
}
