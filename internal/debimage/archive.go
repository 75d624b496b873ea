// SPDX-License-Identifier: Apache-2.0

package debimage

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/opencontainers/go-digest"
	specs "github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// archive writes an image as an OCI archive: a tar file that holds an OCI layout. It returns the archive and the
// digest of the image's manifest.
func archive(tag string, config ocispec.ImageConfig, layers [][]byte) ([]byte, digest.Digest, error) {
	blobs := map[digest.Digest][]byte{}
	store := func(mediaType string, b []byte) ocispec.Descriptor {
		d := digest.FromBytes(b)
		blobs[d] = b
		return ocispec.Descriptor{MediaType: mediaType, Digest: d, Size: int64(len(b))}
	}
	epoch := time.Unix(0, 0).UTC()
	image := ocispec.Image{Created: &epoch, Platform: ocispec.Platform{Architecture: architecture, OS: "linux"}, Config: config}
	image.RootFS.Type = "layers"
	manifest := ocispec.Manifest{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest}
	for _, l := range layers {
		image.RootFS.DiffIDs = append(image.RootFS.DiffIDs, digest.FromBytes(l))
		image.History = append(image.History, ocispec.History{Created: &epoch, CreatedBy: "debimage"})
		z, err := compress(l)
		if err != nil {
			return nil, "", err
		}
		manifest.Layers = append(manifest.Layers, store(ocispec.MediaTypeImageLayerGzip, z))
	}
	b, err := json.Marshal(image)
	if err != nil {
		return nil, "", fmt.Errorf("writing the configuration: %w", err)
	}
	manifest.Config = store(ocispec.MediaTypeImageConfig, b)
	b, err = json.Marshal(manifest)
	if err != nil {
		return nil, "", fmt.Errorf("writing the manifest: %w", err)
	}
	top := store(ocispec.MediaTypeImageManifest, b)
	top.Annotations = map[string]string{ocispec.AnnotationRefName: tag}
	out, err := layoutTar(top, blobs)
	return out, top.Digest, err
}

func layoutTar(top ocispec.Descriptor, blobs map[digest.Digest][]byte) ([]byte, error) {
	layout, err := json.Marshal(ocispec.ImageLayout{Version: ocispec.ImageLayoutVersion})
	if err != nil {
		return nil, fmt.Errorf("writing the layout: %w", err)
	}
	index, err := json.Marshal(ocispec.Index{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex, Manifests: []ocispec.Descriptor{top},
	})
	if err != nil {
		return nil, fmt.Errorf("writing the index: %w", err)
	}
	files := map[string][]byte{ocispec.ImageLayoutFile: layout, ocispec.ImageIndexFile: index}
	for d, b := range blobs {
		files["blobs/sha256/"+d.Encoded()] = b
	}
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	for _, name := range slices.Sorted(maps.Keys(files)) {
		err = w.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(files[name])), ModTime: time.Unix(0, 0), Format: tar.FormatUSTAR})
		if err == nil {
			_, err = w.Write(files[name])
		}
		if err != nil {
			return nil, fmt.Errorf("writing %s: %w", name, err)
		}
	}
	err = w.Close()
	if err != nil {
		return nil, fmt.Errorf("writing the archive: %w", err)
	}
	return out.Bytes(), nil
}

func compress(b []byte) ([]byte, error) {
	var z bytes.Buffer
	w, err := gzip.NewWriterLevel(&z, gzip.BestSpeed)
	if err != nil {
		return nil, fmt.Errorf("compressing a layer: %w", err)
	}
	_, err = w.Write(b)
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		return nil, fmt.Errorf("compressing a layer: %w", err)
	}
	return z.Bytes(), nil
}

func sha256Hex(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}
