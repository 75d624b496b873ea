// SPDX-License-Identifier: Apache-2.0

package image

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

const (
	indexFile = "index.json"
	// annotationRef is the tag of an entry in a layout's index (OCI image specification, annotations).
	annotationRef = "org.opencontainers.image.ref.name"
	// annotationName is the whole reference, as containerd writes it.
	annotationName = "io.containerd.image.name"
	// maxDepth bounds how deep indexes may nest.
	maxDepth = 4
)

// fromLayout opens the image with a tag, or the only one.
func fromLayout(s store, tag string) (*Image, error) {
	b, err := readSmall(s, indexFile, maxManifest)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w: there is no %s, so this is not an OCI layout", ErrMalformed, indexFile)
	}
	if err != nil {
		return nil, err
	}
	var index v1.IndexManifest
	err = unmarshal(b, &index)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", indexFile, err)
	}
	d, err := choose(index.Manifests, tag)
	if err != nil {
		return nil, err
	}
	return fromDescriptor(s, d)
}

// choose picks the entry of a layout's index that a tag names. Without a tag there must be one image only.
func choose(entries []v1.Descriptor, tag string) (v1.Descriptor, error) {
	var matches []v1.Descriptor
	for _, d := range entries {
		named := tag == "" || d.Annotations[annotationRef] == tag || d.Annotations[annotationName] == tag || d.Digest.String() == tag
		if tag == "" && d.ArtifactType != "" && !types.MediaType(d.ArtifactType).IsConfig() {
			continue // something that is attached to an image
		}
		known := slices.ContainsFunc(matches, func(m v1.Descriptor) bool { return m.Digest == d.Digest })
		if named && !known {
			matches = append(matches, d)
		}
	}
	if len(matches) > 1 {
		if suited := slices.DeleteFunc(slices.Clone(matches), unsuited); len(suited) == 1 {
			matches = suited
		}
	}
	if len(matches) == 1 {
		return matches[0], nil
	}
	return v1.Descriptor{}, notOne(tag, len(matches), tagsOf(entries))
}

// unsuited reports an entry that is expressly for another platform.
func unsuited(d v1.Descriptor) bool {
	return d.Platform != nil && (d.Platform.OS != platformOS || d.Platform.Architecture != platformArchitecture)
}

func tagsOf(entries []v1.Descriptor) []string {
	var tags []string
	for _, d := range entries {
		if t := d.Annotations[annotationRef]; t != "" {
			tags = append(tags, t)
		}
	}
	return tags
}

// notOne says why a place of images, of which some match the tag, does not yield the one that was meant.
func notOne(tag string, matches int, tags []string) error {
	what := "there is no image in it"
	switch {
	case tag != "" && matches == 0:
		what = fmt.Sprintf("no image is tagged %q", tag)
	case matches > 1:
		what = fmt.Sprintf("%d images match", matches)
	}
	return fmt.Errorf("%w: %s%s", ErrNotFound, what, hint("add one of the tags", tags))
}

// hint appends advice with a list of choices, of which it shows a few.
func hint(advice string, choices []string) string {
	const shown = 20
	if len(choices) == 0 {
		return ""
	}
	more := ""
	if len(choices) > shown {
		more = fmt.Sprintf(" and %d more", len(choices)-shown)
		choices = choices[:shown]
	}
	quoted := make([]string, len(choices))
	for i, c := range choices {
		quoted[i] = fmt.Sprintf("%q", c)
	}
	return fmt.Sprintf(" (%s: %s%s)", advice, strings.Join(quoted, ", "), more)
}

// fromDescriptor follows indexes to the manifest for our platform and opens it.
func fromDescriptor(s store, d v1.Descriptor) (*Image, error) {
	for range maxDepth {
		b, err := readBlob(s, d, maxManifest)
		if err != nil {
			return nil, err
		}
		kind := mediaType(d.MediaType, b)
		switch {
		case kind.IsIndex():
			d, err = pickPlatform(b)
			if err != nil {
				return nil, fmt.Errorf("index %s: %w", d.Digest, err)
			}
		case kind.IsImage():
			img, err := fromManifest(s, b)
			if err != nil {
				return nil, fmt.Errorf("manifest %s: %w", d.Digest, err)
			}
			img.digest = d.Digest.String()
			return img, nil
		default:
			return nil, fmt.Errorf("%w: %s has media type %q, expected an image manifest or index", ErrMalformed, d.Digest, kind)
		}
	}
	return nil, fmt.Errorf("%w: indexes nest more than %d deep", ErrMalformed, maxDepth)
}

// mediaType returns what a descriptor says, or else what the document says of itself.
func mediaType(t types.MediaType, b []byte) types.MediaType {
	if t != "" {
		return t
	}
	var m struct {
		MediaType types.MediaType `json:"mediaType"`
	}
	_ = json.Unmarshal(b, &m) // what is not JSON has no type and is refused by the caller
	return m.MediaType
}

// pickPlatform finds our platform in an index.
func pickPlatform(b []byte) (v1.Descriptor, error) {
	var index v1.IndexManifest
	err := unmarshal(b, &index)
	if err != nil {
		return v1.Descriptor{}, err
	}
	var others []string
	for _, d := range index.Manifests {
		if d.Platform == nil && len(index.Manifests) == 1 {
			return d, nil
		}
		if d.Platform == nil {
			continue
		}
		if !unsuited(d) {
			return d, nil
		}
		others = append(others, d.Platform.String())
	}
	return v1.Descriptor{}, fmt.Errorf("%w: it is not built for %s/%s%s", ErrNotFound, platformOS, platformArchitecture, hint("it is for", others))
}

// fromManifest reads the configuration that a manifest refers to and pairs the layers with it.
func fromManifest(s store, b []byte) (*Image, error) {
	var m v1.Manifest
	err := unmarshal(b, &m)
	if err != nil {
		return nil, err
	}
	if !m.Config.MediaType.IsConfig() {
		return nil, fmt.Errorf("%w: its configuration has media type %q, so it is not a container image", ErrMalformed, m.Config.MediaType)
	}
	raw, err := readBlob(s, m.Config, maxConfig)
	if err != nil {
		return nil, fmt.Errorf("configuration: %w", err)
	}
	c, err := parseConfig(raw, len(m.Layers))
	if err != nil {
		return nil, err
	}
	img := &Image{config: newConfig(c.Config)}
	for i, d := range m.Layers {
		err = checkLayer(d)
		if err != nil {
			return nil, fmt.Errorf("layer %d: %w", i, err)
		}
		img.layers = append(img.layers, &Layer{
			diffID: c.RootFS.DiffIDs[i], digest: d.Digest, size: d.Size,
			open: func() (io.ReadCloser, error) { return openBlob(s, d) },
		})
	}
	return img, nil
}

// checkLayer refuses layers that cannot be read, whatever their bytes are.
func checkLayer(d v1.Descriptor) error {
	err := checkHash(d.Digest)
	if err != nil {
		return err
	}
	if d.Size < 0 {
		return fmt.Errorf("%w: its size is %d", ErrMalformed, d.Size)
	}
	if strings.HasSuffix(string(d.MediaType), "+encrypted") {
		return fmt.Errorf("%w: it is encrypted (%s)", ErrMalformed, d.MediaType)
	}
	if !d.MediaType.IsLayer() {
		return fmt.Errorf("%w: it has media type %q", ErrMalformed, d.MediaType)
	}
	return nil
}

// parseConfig reads an image's configuration and checks it against the number of layers.
func parseConfig(raw []byte, layers int) (*v1.ConfigFile, error) {
	var c v1.ConfigFile
	err := unmarshal(raw, &c)
	if err != nil {
		return nil, fmt.Errorf("configuration: %w", err)
	}
	if c.OS != platformOS || c.Architecture != platformArchitecture {
		return nil, fmt.Errorf("%w: expected platform %s/%s, got %q/%q", ErrNotFound, platformOS, platformArchitecture, c.OS, c.Architecture)
	}
	if layers > maxLayers {
		return nil, fmt.Errorf("%w: expected at most %d layers, got %d", ErrMalformed, maxLayers, layers)
	}
	if len(c.RootFS.DiffIDs) != layers {
		return nil, fmt.Errorf("%w: the configuration names %d layers, the manifest %d", ErrMalformed, len(c.RootFS.DiffIDs), layers)
	}
	for _, h := range c.RootFS.DiffIDs {
		err = checkHash(h)
		if err != nil {
			return nil, fmt.Errorf("configuration: %w", err)
		}
	}
	return &c, nil
}

// unmarshal decodes one JSON document and nothing after it. Unknown fields are part of these formats.
func unmarshal(b []byte, v any) error {
	d := json.NewDecoder(bytes.NewReader(b))
	err := d.Decode(v)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	_, err = d.Token()
	if !errors.Is(err, io.EOF) {
		return fmt.Errorf("%w: something follows the document", ErrMalformed)
	}
	return nil
}
