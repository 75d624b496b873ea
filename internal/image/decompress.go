// SPDX-License-Identifier: Apache-2.0

package image

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
)

// maxWindow bounds the memory that a zstd stream may ask for.
const maxWindow = 64 << 20

var (
	gzipMagic = []byte{0x1f, 0x8b}
	zstdMagic = []byte{0x28, 0xb5, 0x2f, 0xfd}
)

// decompress recognises gzip and zstd by their first bytes, because media types in the wild are often wrong. The result
// is checked by digest in any case.
func decompress(r io.Reader) (io.Reader, error) {
	b := bufio.NewReaderSize(r, 128<<10)
	magic, err := b.Peek(len(zstdMagic))
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	switch {
	case bytes.HasPrefix(magic, gzipMagic):
		z, err := gzip.NewReader(b)
		if err != nil {
			return nil, fmt.Errorf("decompressing gzip: %w", err)
		}
		return z, nil
	case bytes.HasPrefix(magic, zstdMagic):
		z, err := zstd.NewReader(b, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(maxWindow), zstd.WithDecoderLowmem(true))
		if err != nil {
			return nil, fmt.Errorf("decompressing zstd: %w", err)
		}
		return z.IOReadCloser(), nil
	}
	return b, nil
}

// stream is a decompressed layer. At its end it reads the rest of the blob, so that the blob's digest is checked too.
type stream struct {
	io.Reader
	blob   io.ReadCloser
	digest v1.Hash
}

func (s *stream) Read(p []byte) (int, error) {
	n, err := s.Reader.Read(p)
	if errors.Is(err, io.EOF) {
		rest, drainErr := io.Copy(io.Discard, s.blob)
		if drainErr != nil {
			return n, fmt.Errorf("reading layer %s: %w", s.digest, drainErr)
		}
		if rest > 0 {
			return n, fmt.Errorf("reading layer %s: %w: %d bytes follow the compressed data", s.digest, ErrMalformed, rest)
		}
		return n, io.EOF
	}
	if err != nil {
		return n, fmt.Errorf("reading layer %s: %w", s.digest, err)
	}
	return n, nil
}

// Close releases the decompressor and the blob.
func (s *stream) Close() error {
	if c, ok := s.Reader.(io.Closer); ok {
		_ = c.Close() // decompressors have nothing to flush
	}
	return s.blob.Close()
}
