// SPDX-License-Identifier: Apache-2.0

package image

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
	"golang.org/x/sync/errgroup"
)

// pullParallel is how many blobs are fetched at a time.
const pullParallel = 4

// openRegistry resolves a reference, pulls what is missing into the cache, and opens the image from there.
func openRegistry(ctx context.Context, s string, o Options) (*Image, error) {
	var nameOptions []name.Option
	if o.PlainHTTP {
		nameOptions = append(nameOptions, name.Insecure)
	}
	ref, err := name.ParseReference(s, nameOptions...)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrReference, err)
	}
	if o.Dir == "" {
		return nil, errors.New("no directory for pulled images is set")
	}
	cache, err := openPullCache(o.Dir)
	if err != nil {
		return nil, err
	}
	d, known, err := cache.find(ref)
	if err != nil {
		return nil, err
	}
	if o.Offline {
		if !known {
			return nil, fmt.Errorf("%w: it was not pulled earlier, and the registry may not be asked", ErrNotFound)
		}
		return fromDescriptor(cache.store, d)
	}
	// A digest cannot change its meaning, so what was pulled by digest needs no further question.
	if _, fixed := ref.(name.Digest); fixed && known {
		img, err := fromDescriptor(cache.store, d)
		if err == nil && cache.complete(img) {
			return img, nil
		}
	}
	p := &puller{cache: cache, repo: ref.Context(), progress: o.Progress, options: []remote.Option{
		remote.WithContext(ctx), remote.WithAuthFromKeychain(o.keychain()), remote.WithUserAgent("cofferdam"),
	}}
	return p.pull(ctx, ref)
}

// Resolve implements authn.Keychain.
func (l Login) Resolve(r authn.Resource) (authn.Authenticator, error) {
	username, password, ok := l(r.RegistryStr())
	if !ok {
		return authn.Anonymous, nil // which makes the next keychain be asked
	}
	return &authn.Basic{Username: username, Password: password}, nil
}

func (o Options) keychain() authn.Keychain {
	if o.Login == nil {
		return authn.DefaultKeychain
	}
	return authn.NewMultiKeychain(o.Login, authn.DefaultKeychain)
}

type puller struct {
	cache    *pullCache
	repo     name.Repository
	options  []remote.Option
	progress Progress
}

// pull fetches manifest, configuration and layers, in this order, and enters the image into the cache's index.
func (p *puller) pull(ctx context.Context, ref name.Reference) (*Image, error) {
	d, raw, err := p.manifest(ref)
	if err != nil {
		return nil, explain(err, ref, p.options)
	}
	for depth := 0; mediaType(d.MediaType, raw).IsIndex(); depth++ {
		if depth >= maxDepth {
			return nil, fmt.Errorf("%w: indexes nest more than %d deep", ErrMalformed, maxDepth)
		}
		child, err := pickPlatform(raw)
		if err != nil {
			return nil, fmt.Errorf("index %s: %w", d.Digest, err)
		}
		d, raw, err = p.manifest(p.repo.Digest(child.Digest.String()))
		if err != nil {
			return nil, explain(err, ref, p.options)
		}
	}
	var m v1.Manifest
	err = unmarshal(raw, &m)
	if err != nil {
		return nil, fmt.Errorf("manifest %s: %w", d.Digest, err)
	}
	if len(m.Layers) > maxLayers {
		return nil, fmt.Errorf("manifest %s: %w: expected at most %d layers, got %d", d.Digest, ErrMalformed, maxLayers, len(m.Layers))
	}
	err = p.blobs(ctx, append([]v1.Descriptor{m.Config}, m.Layers...))
	if err != nil {
		return nil, err
	}
	img, err := fromDescriptor(p.cache.store, d)
	if err != nil {
		return nil, err
	}
	return img, p.cache.enter(ref, d)
}

// manifest fetches a manifest or index, checks its digest, and stores it.
func (p *puller) manifest(ref name.Reference) (v1.Descriptor, []byte, error) {
	got, err := remote.Get(ref, p.options...)
	if err != nil {
		return v1.Descriptor{}, nil, err
	}
	if len(got.Manifest) > maxManifest {
		return v1.Descriptor{}, nil, fmt.Errorf("%w: manifest: expected at most %d bytes, got %d", ErrMalformed, maxManifest, len(got.Manifest))
	}
	d := v1.Descriptor{MediaType: got.MediaType, Digest: got.Digest, Size: int64(len(got.Manifest))}
	err = p.cache.put(d, strings.NewReader(string(got.Manifest)))
	return d, got.Manifest, err
}

// blobs fetches the blobs that the cache lacks.
func (p *puller) blobs(ctx context.Context, blobs []v1.Descriptor) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(pullParallel)
	for _, d := range blobs {
		err := checkHash(d.Digest)
		if err == nil && (d.Size < 0 || d.Size > maxBlob) {
			err = fmt.Errorf("%w: blob %s: expected at most %d bytes, got %d", ErrMalformed, d.Digest, int64(maxBlob), d.Size)
		}
		if err != nil {
			return errors.Join(err, g.Wait())
		}
		if p.cache.has(d) {
			continue
		}
		g.Go(func() error {
			err := p.blob(ctx, d)
			if err != nil {
				return fmt.Errorf("pulling %s: %w", d.Digest, err)
			}
			return nil
		})
	}
	return g.Wait()
}

func (p *puller) blob(ctx context.Context, d v1.Descriptor) error {
	l, err := remote.Layer(p.repo.Digest(d.Digest.String()), append(p.options, remote.WithContext(ctx))...)
	if err != nil {
		return err
	}
	r, err := l.Compressed()
	if err != nil {
		return err
	}
	defer func() { _ = r.Close() }() // only read
	return p.cache.put(d, &countingReader{r: contextReader{ctx, r}, d: d, progress: p.progress})
}

// countingReader reports progress about once per mebibyte.
type countingReader struct {
	r              io.Reader
	d              v1.Descriptor
	progress       Progress
	done, reported int64
}

func (c *countingReader) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.done += int64(n)
	if c.progress != nil && (c.done-c.reported >= 1<<20 || err != nil) {
		c.reported = c.done
		c.progress(c.d.Digest.String(), c.done, c.d.Size)
	}
	return n, err
}

// explain adds to a registry's answer what can be done about it.
func explain(err error, ref name.Reference, options []remote.Option) error {
	var t *transport.Error
	switch {
	case errors.As(err, &t) && (t.StatusCode == http.StatusUnauthorized || t.StatusCode == http.StatusForbidden):
		return fmt.Errorf("%w (log in with `docker login %s` or `podman login %s`)", err, ref.Context().RegistryStr(), ref.Context().RegistryStr())
	case errors.As(err, &t) && t.StatusCode == http.StatusNotFound:
		tags, listErr := remote.List(ref.Context(), options...)
		if listErr != nil {
			tags = nil // the repository does not exist either, or may not be listed
		}
		return fmt.Errorf("%w: %w%s", ErrNotFound, err, hint("the repository has the tags", tags))
	case strings.Contains(err.Error(), "server gave HTTP response to HTTPS client"):
		return fmt.Errorf("%w (the registry speaks plain HTTP: add --plain-http)", err)
	}
	return err
}
