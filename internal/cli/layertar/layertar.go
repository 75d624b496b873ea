// SPDX-License-Identifier: Apache-2.0

// Package layertar takes a layer of an image by itself: a tar file on disk, plain or compressed with gzip or zstd.
//
// A file that somebody names on a command line says nothing about its digest, so the digest is computed from what is
// read, and whoever converts the layer reads the file again and checks against it. The content is parsed as hostile
// input. The package unpacks nothing.
package layertar

import (
	"archive/tar"
	"bufio"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"strings"

	"github.com/klauspost/compress/zstd"

	"cofferdam.dev/internal/layer"
)

// maxWindow bounds the memory that a zstd stream may ask for, as in images.
const maxWindow = 64 << 20

// maxOrphans bounds how many names Orphans returns.
const maxOrphans = 1000

// File is a layer in a file.
type File struct {
	path   string
	diffID string
}

var _ layer.Source = (*File)(nil)

// Open reads the file once for its digest.
func Open(ctx context.Context, path string) (*File, error) {
	f := &File{path: path}
	r, err := f.Uncompressed(ctx)
	if err != nil {
		return nil, err
	}
	h := sha256.New()
	n, err := io.Copy(h, r)
	err = errors.Join(err, r.Close())
	if err == nil && n == 0 {
		err = errors.New("the file is empty; even a layer without entries has a tar file's end")
	}
	if err != nil {
		return nil, fmt.Errorf("reading layer %s: %w", path, err)
	}
	f.diffID = "sha256:" + hex.EncodeToString(h.Sum(nil))
	return f, nil
}

// DiffID is the digest of the uncompressed tar stream.
func (f *File) DiffID() string { return f.diffID }

// Uncompressed opens the tar stream.
func (f *File) Uncompressed(ctx context.Context) (io.ReadCloser, error) {
	file, err := os.Open(f.path)
	if err != nil {
		return nil, fmt.Errorf("opening layer: %w", err)
	}
	b := bufio.NewReader(contextReader{ctx, file})
	head, _ := b.Peek(4) // a shorter file is not compressed
	s := stream{Reader: b, file: file}
	switch {
	case strings.HasPrefix(string(head), "\x1f\x8b"):
		s.Reader, err = gzip.NewReader(b)
	case string(head) == "\x28\xb5\x2f\xfd":
		s.zstd, err = zstd.NewReader(b, zstd.WithDecoderMaxWindow(maxWindow), zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true))
		s.Reader = s.zstd
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("opening layer %s: %w", f.path, err), file.Close())
	}
	return s, nil
}

type stream struct {
	io.Reader
	zstd *zstd.Decoder // nil for other streams
	file *os.File
}

func (s stream) Close() error {
	if s.zstd != nil {
		s.zstd.Close()
	}
	return s.file.Close()
}

// contextReader ends a stream when its context is done.
type contextReader struct {
	ctx context.Context // lives as long as one reader
	r   io.Reader
}

func (c contextReader) Read(p []byte) (int, error) {
	if err := context.Cause(c.ctx); err != nil {
		return 0, err
	}
	return c.r.Read(p)
}

// Orphans lists the entries of a layer that stand before the directory that they lie in, or without it. Converters have
// to make such a directory up, and versions of them differ in how. The list is cut off after a thousand.
func Orphans(ctx context.Context, s layer.Source) (orphans []string, err error) {
	r, err := s.Uncompressed(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { _ = r.Close() }() // only read
	made := map[string]bool{".": true, "/": true}
	for t := tar.NewReader(r); len(orphans) < maxOrphans; {
		h, err := t.Next()
		if errors.Is(err, io.EOF) {
			return orphans, nil
		}
		if err != nil {
			return nil, fmt.Errorf("reading layer %s: %w", s.DiffID(), err)
		}
		name := path.Clean("/" + h.Name)
		dir := path.Dir(name)
		if !made[dir] {
			orphans = append(orphans, h.Name)
			for ; !made[dir]; dir = path.Dir(dir) {
				made[dir] = true // say each missing directory once
			}
		}
		if h.Typeflag == tar.TypeDir {
			made[name] = true
		}
	}
	return orphans, nil
}
