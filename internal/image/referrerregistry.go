// SPDX-License-Identifier: Apache-2.0

package image

import (
	"context"
	"fmt"
	"io"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// registrySubject describes the image that a reference into a registry names, without fetching its layers.
func registrySubject(ctx context.Context, s string, o Options) (name.Repository, v1.Descriptor, []remote.Option, error) {
	var nameOptions []name.Option
	if o.PlainHTTP {
		nameOptions = append(nameOptions, name.Insecure)
	}
	ref, err := name.ParseReference(s, nameOptions...)
	if err != nil {
		return name.Repository{}, v1.Descriptor{}, nil, fmt.Errorf("%w: %w", ErrReference, err)
	}
	options := []remote.Option{
		remote.WithContext(ctx), remote.WithAuthFromKeychain(o.keychain()), remote.WithUserAgent("cofferdam"),
	}
	for depth := 0; ; depth++ {
		got, err := remote.Get(ref, options...)
		if err != nil {
			return name.Repository{}, v1.Descriptor{}, nil, explain(err, ref, options)
		}
		if len(got.Manifest) > maxManifest || depth > maxDepth {
			return name.Repository{}, v1.Descriptor{}, nil, fmt.Errorf("%w: manifest has %d bytes, or indexes nest more than %d deep", ErrMalformed, len(got.Manifest), maxDepth)
		}
		if !got.MediaType.IsIndex() {
			d := v1.Descriptor{MediaType: got.MediaType, Digest: got.Digest, Size: int64(len(got.Manifest))}
			return ref.Context(), d, options, nil
		}
		child, err := pickPlatform(got.Manifest)
		if err != nil {
			return name.Repository{}, v1.Descriptor{}, nil, err
		}
		ref = ref.Context().Digest(child.Digest.String())
	}
}

// rawManifest is a manifest to push.
type rawManifest []byte

// RawManifest implements remote.Taggable.
func (m rawManifest) RawManifest() ([]byte, error) { return m, nil }

// MediaType tells the type of the manifest.
func (m rawManifest) MediaType() (types.MediaType, error) { return types.OCIManifestSchema1, nil }

func attachInRegistry(ctx context.Context, ref string, a Attachment, o Options) (string, error) {
	repo, subject, options, err := registrySubject(ctx, ref, o)
	if err != nil {
		return "", err
	}
	raw, d, err := a.manifest(subject)
	if err != nil {
		return "", err
	}
	for _, l := range []v1.Layer{static.NewLayer(emptyConfig, mediaTypeEmpty), static.NewLayer(a.Data, types.MediaType(a.MediaType))} {
		err = remote.WriteLayer(repo, l, options...)
		if err != nil {
			return "", err
		}
	}
	return d.Digest.String(), remote.Put(repo.Digest(d.Digest.String()), rawManifest(raw), options...)
}

func attachedInRegistry(ctx context.Context, ref, artifactType, mediaType string, o Options) ([]Attachment, error) {
	repo, subject, options, err := registrySubject(ctx, ref, o)
	if err != nil {
		return nil, err
	}
	found, err := remote.Referrers(repo.Digest(subject.Digest.String()), append(options, remote.WithFilter("artifactType", artifactType))...)
	if err != nil {
		return nil, err
	}
	index, err := found.IndexManifest()
	if err != nil {
		return nil, err
	}
	blob := func(d v1.Descriptor, limit int64) ([]byte, error) {
		if d.MediaType.IsImage() {
			got, err := remote.Get(repo.Digest(d.Digest.String()), options...) // checks the digest
			if err != nil {
				return nil, err
			}
			return got.Manifest, nil
		}
		l, err := remote.Layer(repo.Digest(d.Digest.String()), options...)
		if err != nil {
			return nil, err
		}
		r, err := l.Compressed()
		if err != nil {
			return nil, err
		}
		defer func() { _ = r.Close() }() // only read
		data, err := io.ReadAll(io.LimitReader(r, limit+1))
		if err != nil {
			return nil, err
		}
		got, err := describe(data, "")
		if err == nil && (got.Digest != d.Digest || got.Size > limit) {
			err = fmt.Errorf("%w: blob %s", ErrDigest, d.Digest)
		}
		return data, err
	}
	return collect(index.Manifests, subject.Digest, artifactType, mediaType, blob)
}
