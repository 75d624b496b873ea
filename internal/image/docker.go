// SPDX-License-Identifier: Apache-2.0

package image

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
)

const dockerManifestFile = "manifest.json"

// dockerManifest is an entry of manifest.json in an archive that `docker save` writes.
type dockerManifest struct {
	Config   string
	RepoTags []string
	Layers   []string
}

// fromDocker opens the image with a tag, or the only one, of a Docker archive.
func fromDocker(s store, tag string) (*Image, error) {
	b, err := readSmall(s, dockerManifestFile, maxManifest)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w: there is no %s, so this is not a Docker archive", ErrMalformed, dockerManifestFile)
	}
	if err != nil {
		return nil, err
	}
	var entries []dockerManifest
	err = unmarshal(b, &entries)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", dockerManifestFile, err)
	}
	m, err := chooseDocker(entries, tag)
	if err != nil {
		return nil, err
	}
	raw, err := readSmall(s, m.Config, maxConfig)
	if err != nil {
		return nil, fmt.Errorf("configuration: %w", err)
	}
	sum := sha256.Sum256(raw)
	id := v1.Hash{Algorithm: "sha256", Hex: hex.EncodeToString(sum[:])}
	if h, ok := hashOfName(m.Config); ok && h != id {
		return nil, fmt.Errorf("configuration: %w: expected %s, got %s", ErrDigest, h, id)
	}
	c, err := parseConfig(raw, len(m.Layers))
	if err != nil {
		return nil, err
	}
	img := &Image{digest: id.String(), config: newConfig(c.Config)}
	for i, file := range m.Layers {
		l, err := dockerLayer(s, file, c.RootFS.DiffIDs[i])
		if err != nil {
			return nil, fmt.Errorf("layer %d: %w", i, err)
		}
		img.layers = append(img.layers, l)
	}
	return img, nil
}

// dockerLayer finds a layer's file. Nothing but the DiffID, and sometimes the file's name, says what it should hold.
func dockerLayer(s store, file string, diffID v1.Hash) (*Layer, error) {
	f, size, err := s.open(file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w: %q is missing from the archive", ErrMalformed, file)
	}
	if err != nil {
		return nil, err
	}
	_ = f.Close() // only looked at
	named, hasName := hashOfName(file)
	return &Layer{diffID: diffID, digest: diffID, size: size, open: func() (io.ReadCloser, error) {
		f, size, err := s.open(file)
		if err != nil {
			return nil, err
		}
		if hasName {
			return verified(f, named, size), nil
		}
		return f, nil
	}}, nil
}

// hashOfName returns the digest that a file's name states: "blobs/sha256/HEX" or "HEX.json".
func hashOfName(file string) (v1.Hash, bool) {
	base := path.Base(file)
	stated := path.Dir(file) == "blobs/sha256"
	if s, ok := strings.CutSuffix(base, ".json"); ok {
		base, stated = s, true
	}
	h, err := v1.NewHash("sha256:" + strings.TrimPrefix(base, "sha256:"))
	return h, stated && err == nil
}

func chooseDocker(entries []dockerManifest, tag string) (dockerManifest, error) {
	var matches []dockerManifest
	var tags []string
	for _, m := range entries {
		tags = append(tags, m.RepoTags...)
		if tag == "" || slices.ContainsFunc(m.RepoTags, func(t string) bool { return sameTag(t, tag) }) {
			matches = append(matches, m)
		}
	}
	if len(matches) == 1 {
		return matches[0], nil
	}
	return dockerManifest{}, notOne(tag, len(matches), tags)
}

// sameTag compares references as Docker does, where "redis" is short for the whole name.
func sameTag(a, b string) bool {
	if a == b {
		return true
	}
	x, err := name.ParseReference(a)
	if err != nil {
		return false
	}
	y, err := name.ParseReference(b)
	return err == nil && x.Name() == y.Name()
}
