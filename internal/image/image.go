// SPDX-License-Identifier: Apache-2.0

// Package image opens container images: from a registry, an OCI layout directory, or an OCI or Docker archive file.
//
// Everything that comes from outside is hostile until its digest matches: registries and archives may lie about sizes,
// names and content. Every manifest, configuration and layer is checked against the digest that refers to it while it
// is read, and each size is bounded. The package needs no daemon, unpacks nothing onto the file system, and never
// decides whether an image may run.
package image

import (
	"context"
	"fmt"
	"io"
	"maps"
	"slices"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// Platform is the one platform that images are opened for.
const (
	platformOS           = "linux"
	platformArchitecture = "amd64"
)

// Image is an image whose manifest and configuration have been read and checked. Its layers are read on demand.
type Image struct {
	digest string
	config Config
	layers []*Layer
}

// Digest returns the digest of the image's manifest, "sha256:" and 64 hex digits. Docker archives have no manifest
// that a registry would know: for them it is the digest of the configuration, which Docker calls the image ID.
func (i *Image) Digest() string { return i.digest }

// Config returns what the image's configuration says about running it.
func (i *Image) Config() Config { return i.config }

// Layers returns the layers, the base layer first.
func (i *Image) Layers() []*Layer { return slices.Clone(i.layers) }

// Config is what an image's configuration says about running it.
type Config struct {
	Entrypoint   []string
	Cmd          []string
	Env          []string // NAME=VALUE
	User         string   // user[:group], names or numbers; empty means root
	WorkingDir   string
	StopSignal   string
	Volumes      []string // sorted
	ExposedPorts []string // sorted, such as 80/tcp
}

func newConfig(c v1.Config) Config {
	return Config{
		Entrypoint: c.Entrypoint, Cmd: c.Cmd, Env: c.Env, User: c.User, WorkingDir: c.WorkingDir, StopSignal: c.StopSignal,
		Volumes:      slices.Sorted(maps.Keys(c.Volumes)),
		ExposedPorts: slices.Sorted(maps.Keys(c.ExposedPorts)),
	}
}

// Layer is one layer of an image.
type Layer struct {
	diffID v1.Hash
	digest v1.Hash
	size   int64
	open   func() (io.ReadCloser, error) // the blob, verified as it is read
}

// DiffID returns the digest of the uncompressed layer as the image's configuration gives it.
func (l *Layer) DiffID() string { return l.diffID.String() }

// Digest returns the digest of the layer as it is stored, compressed or not. For Docker archives it is the DiffID.
func (l *Layer) Digest() string { return l.digest.String() }

// Size returns the size of the layer as it is stored, in bytes.
func (l *Layer) Size() int64 { return l.size }

// Uncompressed opens the layer's tar stream. What is stored is checked against Digest on the way: a reader that gets
// io.EOF has read exactly those bytes. The stream itself is not checked against DiffID; package layer does that. No
// bound is put on how much comes out: the reader sets one.
func (l *Layer) Uncompressed(ctx context.Context) (io.ReadCloser, error) {
	blob, err := l.open()
	if err != nil {
		return nil, fmt.Errorf("opening layer %s: %w", l.digest, err)
	}
	r, err := decompress(contextReader{ctx, blob})
	if err != nil {
		_ = blob.Close() // the failure above is what matters
		return nil, fmt.Errorf("opening layer %s: %w", l.digest, err)
	}
	return &stream{Reader: r, blob: blob, digest: l.digest}, nil
}

// contextReader ends a stream when its context is done.
type contextReader struct {
	ctx context.Context // lives as long as one reader
	r   io.Reader
}

func (c contextReader) Read(p []byte) (int, error) {
	err := context.Cause(c.ctx)
	if err != nil {
		return 0, err
	}
	return c.r.Read(p)
}
