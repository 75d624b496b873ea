// SPDX-License-Identifier: Apache-2.0

package layer

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"

	"github.com/Microsoft/hcsshim/ext4/tar2ext4"

	"cofferdam.dev/internal/verity"
)

const (
	// diskSize is what the scheme makes room for in a file system's metadata. It is part of the recipe.
	diskSize = 128 << 30
	// DefaultMaxSize is the default limit on a layer's uncompressed tar stream and on its file system, in bytes.
	DefaultMaxSize = diskSize
	// DefaultMaxEntries is the default limit on the number of entries in a layer.
	DefaultMaxEntries = 4 << 20
)

// Errors that callers tell apart.
var (
	// ErrTooLarge reports a layer beyond a limit.
	ErrTooLarge = errors.New("layer is too large")
	// ErrDigest reports a layer whose content is not what its DiffID says.
	ErrDigest = errors.New("layer does not match its digest")
	// ErrConvert reports a layer that the converter refuses.
	ErrConvert = errors.New("layer cannot be converted")
)

// Limits bound what one layer may cost. The zero value means the defaults.
type Limits struct {
	Size    int64 // bytes of tar stream, of content, and of file system
	Entries int64
}

func (l Limits) orDefault() Limits {
	if l.Size <= 0 {
		l.Size = DefaultMaxSize
	}
	if l.Entries <= 0 {
		l.Entries = DefaultMaxEntries
	}
	return l
}

// converted is what comes of a layer.
type converted struct {
	root    verity.Digest
	blocks  uint64 // of data
	digest  string // of the stream
	orphans Orphans
}

// convert reads a tar stream to its end and writes the disk to file.
func convert(ctx context.Context, r io.Reader, file, leaves *os.File, limits Limits, progress func(int64)) (converted, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	ahead := readAhead(ctx, r, limits.Size, progress)
	s, f := newSink(file, leaves, limits.Size), newFeed(ahead, limits)
	err := runConverter(f, s)
	if err != nil {
		cancel()
		ahead.wait()
		return converted{}, err
	}
	// What follows the end of the archive is part of the digest.
	_, err = io.Copy(io.Discard, ahead)
	if err != nil {
		return converted{}, fmt.Errorf("reading the layer: %w", err)
	}
	root, blocks, err := s.finish(ctx)
	if err != nil {
		return converted{}, fmt.Errorf("hashing the layer: %w", explain(err))
	}
	digest := "sha256:" + hex.EncodeToString(ahead.hash.Sum(nil))
	return converted{root: root, blocks: blocks, digest: digest, orphans: f.orphans.found}, nil
}

// runConverter runs the file system writer, which was not made for hostile input: a panic is an error like others.
func runConverter(f *feed, s *sink) (err error) {
	defer func() {
		p := recover()
		if p != nil {
			err = fmt.Errorf("%w: entry %s: the converter failed: %v", ErrConvert, shorten(f.entry), p)
		}
	}()
	err = tar2ext4.ConvertTarToExt4(f, s, tar2ext4.ConvertWhiteout, tar2ext4.MaximumDiskSize(diskSize))
	switch {
	case err == nil:
		return nil
	case s.err != nil:
		return fmt.Errorf("writing the file system: %w", explain(s.err))
	case f.err != nil && !errors.Is(f.err, io.EOF):
		return fmt.Errorf("reading the layer: %w", f.err)
	}
	return fmt.Errorf("%w: entry %s: %w", ErrConvert, shorten(f.entry), err)
}

// explain says what to do about a full disk.
func explain(err error) error {
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		return fmt.Errorf("the disk that holds the layer cache is full; make room or move the cache: %w", err)
	}
	return err
}
