// SPDX-License-Identifier: Apache-2.0

package image

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// maxArtifact bounds a file that is attached to an image.
const maxArtifact = 4 << 20

// maxReferrers bounds how many manifests that refer to an image are looked at.
const maxReferrers = 256

// annotationTitle is the name of a file in an artifact (OCI image specification, annotations).
const annotationTitle = "org.opencontainers.image.title"

// emptyConfig is the configuration of a manifest that has none (OCI image specification, 1.1).
var emptyConfig = []byte("{}")

const mediaTypeEmpty types.MediaType = "application/vnd.oci.empty.v1+json"

// Attachment is one file that is kept beside an image: the single layer of a manifest whose subject is the image.
type Attachment struct {
	ArtifactType string // of the manifest
	MediaType    string // of the file
	Name         string // of the file, for people
	Data         []byte
	Digest       string // of the manifest
}

// Attach stores a file beside the image that ref names, "oci:DIR[:TAG]" or a registry reference, and returns the digest
// of the manifest that refers to the image. Of an image for several platforms it is the one for linux/amd64 that is
// referred to. Attaching the same file again changes nothing.
func Attach(ctx context.Context, ref string, a Attachment, o Options) (string, error) {
	var digest string
	var err error
	transport, rest, found := strings.Cut(ref, ":")
	switch {
	case len(a.Data) == 0 || len(a.Data) > maxArtifact:
		err = fmt.Errorf("the file has %d bytes, want 1 to %d", len(a.Data), maxArtifact)
	case found && transport == transportLayout:
		digest, err = attachInLayout(rest, a)
	case found && (transport == transportArchive || transport == transportDockerArchive):
		err = fmt.Errorf("%w: an archive can not be added to; use a layout or a registry", ErrReference)
	default:
		digest, err = attachInRegistry(ctx, ref, a, o)
	}
	if err != nil {
		return "", fmt.Errorf("attaching to %q: %w", ref, err)
	}
	return digest, nil
}

// Attached returns the files of a type that are kept beside the image that ref names. They come as they were stored:
// whoever can write to the place can attach to the image.
func Attached(ctx context.Context, ref, artifactType, mediaType string, o Options) ([]Attachment, error) {
	var list []Attachment
	var err error
	transport, rest, found := strings.Cut(ref, ":")
	switch {
	case found && transport == transportLayout:
		list, err = attachedInLayout(rest, artifactType, mediaType)
	case found && (transport == transportArchive || transport == transportDockerArchive):
		err = fmt.Errorf("%w: nothing is attached to an archive; use a layout or a registry", ErrReference)
	default:
		list, err = attachedInRegistry(ctx, ref, artifactType, mediaType, o)
	}
	if err != nil {
		return nil, fmt.Errorf("looking for what is attached to %q: %w", ref, err)
	}
	return list, nil
}

// manifest is the manifest of an attachment.
func (a *Attachment) manifest(subject v1.Descriptor) ([]byte, v1.Descriptor, error) {
	d, err := describe(a.Data, types.MediaType(a.MediaType))
	if err != nil {
		return nil, d, err
	}
	d.Annotations = map[string]string{annotationTitle: a.Name}
	config, err := describe(emptyConfig, mediaTypeEmpty)
	if err != nil {
		return nil, d, err
	}
	raw, err := json.Marshal(v1.Manifest{
		SchemaVersion: 2, MediaType: types.OCIManifestSchema1, ArtifactType: a.ArtifactType, Config: config,
		Layers: []v1.Descriptor{d}, Subject: &v1.Descriptor{MediaType: subject.MediaType, Digest: subject.Digest, Size: subject.Size},
	})
	if err != nil {
		return nil, d, err
	}
	d, err = describe(raw, types.OCIManifestSchema1)
	d.ArtifactType = a.ArtifactType
	return raw, d, err
}

func describe(data []byte, kind types.MediaType) (v1.Descriptor, error) {
	h, n, err := v1.SHA256(bytes.NewReader(data))
	return v1.Descriptor{MediaType: kind, Digest: h, Size: n}, err
}

// layoutSubject describes the image that a reference into a layout names.
func layoutSubject(rest string) (dir string, subject v1.Descriptor, err error) {
	img, err := openLayout(rest)
	if err != nil {
		return "", subject, err
	}
	dir, _, err = splitPath(rest)
	if err != nil {
		return "", subject, err
	}
	if subject.Digest, err = v1.NewHash(img.digest); err != nil {
		return "", subject, err
	}
	path := filepath.Join(dir, "blobs", subject.Digest.Algorithm, subject.Digest.Hex)
	info, err := os.Stat(path)
	if err != nil {
		return "", subject, err
	}
	subject.Size, subject.MediaType = info.Size(), types.OCIManifestSchema1
	raw, err := readBlob(dirStore(dir), subject, maxManifest)
	if err != nil {
		return "", subject, err
	}
	if t := mediaType("", raw); t != "" {
		subject.MediaType = t
	}
	return dir, subject, nil
}

func attachInLayout(rest string, a Attachment) (string, error) {
	dir, subject, err := layoutSubject(rest)
	if err != nil {
		return "", err
	}
	raw, d, err := a.manifest(subject)
	if err != nil {
		return "", err
	}
	l, err := layout.FromPath(dir)
	if err != nil {
		return "", err
	}
	for _, blob := range [][]byte{emptyConfig, a.Data, raw} {
		h, _, err := v1.SHA256(bytes.NewReader(blob))
		if err == nil {
			err = l.WriteBlob(h, io.NopCloser(bytes.NewReader(blob)))
		}
		if err != nil {
			return "", err
		}
	}
	index, err := layoutIndex(dir)
	if err != nil {
		return "", err
	}
	for _, known := range index.Manifests {
		if known.Digest == d.Digest {
			return d.Digest.String(), nil
		}
	}
	return d.Digest.String(), l.AppendDescriptor(d)
}

func layoutIndex(dir string) (*v1.IndexManifest, error) {
	b, err := readSmall(dirStore(dir), indexFile, maxManifest)
	if err != nil {
		return nil, err
	}
	var index v1.IndexManifest
	err = unmarshal(b, &index)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", indexFile, err)
	}
	return &index, nil
}

func attachedInLayout(rest, artifactType, mediaType string) ([]Attachment, error) {
	dir, subject, err := layoutSubject(rest)
	if err != nil {
		return nil, err
	}
	index, err := layoutIndex(dir)
	if err != nil {
		return nil, err
	}
	s := dirStore(dir)
	blob := func(d v1.Descriptor, limit int64) ([]byte, error) { return readBlob(s, d, limit) }
	var candidates []v1.Descriptor
	for _, d := range index.Manifests {
		if d.ArtifactType == artifactType {
			candidates = append(candidates, d)
		}
	}
	return collect(candidates, subject.Digest, artifactType, mediaType, blob)
}

// collect reads the manifests that a place says refer to an image, and the files of those that do.
func collect(candidates []v1.Descriptor, subject v1.Hash, artifactType, mediaType string, blob func(v1.Descriptor, int64) ([]byte, error)) ([]Attachment, error) {
	if len(candidates) > maxReferrers {
		return nil, fmt.Errorf("%w: %d manifests refer to it, at most %d are looked at", ErrMalformed, len(candidates), maxReferrers)
	}
	var list []Attachment
	for _, d := range candidates {
		raw, err := blob(d, maxManifest)
		if err != nil {
			return nil, err
		}
		var m v1.Manifest
		err = unmarshal(raw, &m)
		if err != nil {
			return nil, fmt.Errorf("manifest %s: %w", d.Digest, err)
		}
		kind := m.ArtifactType
		if kind == "" {
			kind = string(m.Config.MediaType)
		}
		if m.Subject == nil || m.Subject.Digest != subject || kind != artifactType {
			continue
		}
		for _, l := range m.Layers {
			if string(l.MediaType) != mediaType {
				continue
			}
			data, err := blob(l, maxArtifact)
			if err != nil {
				return nil, fmt.Errorf("manifest %s: %w", d.Digest, err)
			}
			list = append(list, Attachment{
				ArtifactType: kind, MediaType: mediaType, Name: l.Annotations[annotationTitle], Data: data, Digest: d.Digest.String(),
			})
		}
	}
	return list, nil
}
