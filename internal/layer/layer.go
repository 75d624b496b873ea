// SPDX-License-Identifier: Apache-2.0

// Package layer turns the layers of container images into disks: an ext4 file system followed by dm-verity data, in a
// content-addressed cache that several processes may use at once.
//
// The root hash of a layer is what an execution policy pins, so it must be the one that everybody else computes from
// the same layer: the file system is written by hcsshim's converter, with the options that its own tools use. A hash
// is valid for one version of that recipe, which is the scheme; every stored hash names its scheme.
//
// Layers come from anybody and are parsed as hostile input. The cache directory belongs to the caller and is trusted
// as far as its permissions go; Verify re-hashes a cached disk when more is wanted. The package never mounts what it
// makes and never keeps anything of a layer whose content does not match its digest.
package layer

import (
	"context"
	"io"

	"cofferdam.dev/internal/verity"
)

// Scheme names the one recipe that this version uses: hcsshim's ext4 writer with whiteouts converted and room for
// 128 GiB, then dm-verity as package verity defines it.
const Scheme = "tar2ext4-verity-v1"

// Source is a layer of an image.
type Source interface {
	// DiffID is the digest of the uncompressed layer as the image's configuration gives it, "sha256:" and 64 hex digits.
	DiffID() string
	// Uncompressed opens the uncompressed tar stream. The caller verifies it against DiffID and closes it.
	Uncompressed(ctx context.Context) (io.ReadCloser, error)
}

// Sources converts a slice of layers to what GetAll takes.
func Sources[S Source](layers []S) []Source {
	sources := make([]Source, len(layers))
	for i, l := range layers {
		sources[i] = l
	}
	return sources
}

// Entry is a layer's disk in the cache.
type Entry struct {
	Path       string        // the disk file: ext4, superblock, tree
	Scheme     string        // recipe that RootHash is valid for
	DiffID     string        // digest of the layer that it was made from
	RootHash   verity.Digest // dm-verity root hash
	DataBlocks uint64        // blocks of file system; the tree begins at block DataBlocks+1
	Size       int64         // size of the file in bytes
	Orphans    Orphans       // entries without a directory; none is known of disks that older versions made
}

// Event is a step of progress.
type Event struct {
	DiffID string // which layer
	Read   int64  // bytes of its uncompressed tar stream read so far
	Cached bool   // it was in the cache already
	Done   bool   // it is ready; no further event follows for it
}

// Progress is told how a conversion proceeds, about once per mebibyte. Calls never overlap. It must not block.
type Progress func(Event)
