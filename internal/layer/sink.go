// SPDX-License-Identifier: Apache-2.0

package layer

import (
	"context"
	"fmt"
	"io"
	"os"

	"cofferdam.dev/internal/verity"
)

// maxStale is how many blocks a sink remembers as hashed too early. The converter leaves a handful; with more, all
// blocks are hashed again.
const maxStale = 1 << 16

// sink is the file that the converter writes a file system to. It hashes each block while it is written, so that the
// leaves of the hash tree exist when the file system does, and nothing has to be read back. The leaves lie in a second
// file, because their place in the first one depends on the size of the file system.
type sink struct {
	file   *os.File
	leaves *os.File
	limit  int64 // size of the file system in bytes

	pos    int64
	end    int64               // how far the file reaches
	stale  map[uint64]struct{} // blocks whose leaf is missing or old
	redo   bool                // too many of them
	hasher *verity.Hasher
	digest []byte
	err    error // the first failure to write
}

var _ io.ReadWriteSeeker = (*sink)(nil)

func newSink(file, leaves *os.File, limit int64) *sink {
	return &sink{file: file, leaves: leaves, limit: limit, stale: map[uint64]struct{}{}, hasher: verity.NewHasher()}
}

func (s *sink) Read(p []byte) (int, error) {
	n, err := s.file.ReadAt(p, s.pos)
	s.pos += int64(n)
	return n, err
}

func (s *sink) Seek(offset int64, whence int) (int64, error) {
	switch whence {
	case io.SeekCurrent:
		offset += s.pos
	case io.SeekEnd:
		offset += s.end
	}
	if offset < 0 || offset > s.limit {
		return s.pos, fmt.Errorf("%w: offset %d of at most %d bytes", ErrTooLarge, offset, s.limit)
	}
	s.pos = offset
	return offset, nil
}

func (s *sink) Write(p []byte) (int, error) {
	if s.err != nil {
		return 0, s.err
	}
	if int64(len(p)) > s.limit-s.pos {
		s.err = fmt.Errorf("%w: the file system has more than %d bytes", ErrTooLarge, s.limit)
		return 0, s.err
	}
	written := make(chan error, 1)
	go func() {
		_, err := s.file.WriteAt(p, s.pos)
		written <- err
	}()
	err := s.hash(p)
	writeErr := <-written
	if writeErr != nil {
		err = writeErr
	}
	if err != nil {
		s.err = err
		return 0, err
	}
	s.pos += int64(len(p))
	s.end = max(s.end, s.pos)
	return len(p), nil
}

// hash stores the leaves of the whole blocks in p, which begins at pos. Blocks that p covers in part, and blocks that
// were skipped, become stale.
func (s *sink) hash(p []byte) error {
	first := blockOf(s.pos)
	for b := blockOf(s.end); b < first; b++ {
		s.mark(b)
	}
	if part := s.pos % verity.BlockSize; part != 0 {
		s.mark(first)
		p = p[min(int64(len(p)), verity.BlockSize-part):]
		first++
	}
	whole := len(p) / verity.BlockSize
	if whole*verity.BlockSize < len(p) {
		s.mark(first + uint64(whole))
	}
	if whole == 0 {
		return nil
	}
	s.digest = s.hasher.Append(s.digest[:0], p)
	if len(s.stale) > 0 {
		for b := range uint64(whole) {
			delete(s.stale, first+b)
		}
	}
	_, err := s.leaves.WriteAt(s.digest, leafOffset(first))
	return err
}

func (s *sink) mark(block uint64) {
	if len(s.stale) >= maxStale {
		s.redo = true
		return
	}
	s.stale[block] = struct{}{}
}

// finish appends superblock and hash tree to the file system and returns the root and the number of data blocks.
func (s *sink) finish(ctx context.Context) (verity.Digest, uint64, error) {
	if s.end == 0 || s.end%verity.BlockSize != 0 {
		return verity.Digest{}, 0, fmt.Errorf("the file system has %d bytes, expected a multiple of %d", s.end, verity.BlockSize)
	}
	blocks := blockOf(s.end)
	tree := s.end + verity.BlockSize
	root, err := s.tree(ctx, blocks, tree)
	if err != nil {
		return verity.Digest{}, 0, err
	}
	super := verity.Superblock{UUID: [16]byte(root[:16]), DataBlocks: blocks}
	_, err = s.file.WriteAt(super.Marshal(), s.end)
	return root, blocks, err
}

func (s *sink) tree(ctx context.Context, blocks uint64, offset int64) (verity.Digest, error) {
	if s.redo {
		return verity.Build(ctx, s.file, blocks, s.file, offset)
	}
	err := s.refresh()
	if err != nil {
		return verity.Digest{}, err
	}
	levels, err := verity.Layout(blocks)
	if err != nil {
		return verity.Digest{}, err
	}
	at := offset + int64(levels[0].First)*verity.BlockSize
	size := int64(levels[0].Blocks) * verity.BlockSize
	err = s.leaves.Truncate(size) // pads the last block with zeros
	if err != nil {
		return verity.Digest{}, err
	}
	_, err = io.Copy(io.NewOffsetWriter(s.file, at), io.NewSectionReader(s.leaves, 0, size))
	if err != nil {
		return verity.Digest{}, err
	}
	return verity.Finish(ctx, blocks, s.file, offset)
}

// refresh hashes the stale blocks as they are now.
func (s *sink) refresh() error {
	block := make([]byte, verity.BlockSize)
	for b := range s.stale {
		_, err := s.file.ReadAt(block, int64(b)*verity.BlockSize)
		if err != nil {
			return fmt.Errorf("reading block %d back: %w", b, err)
		}
		_, err = s.leaves.WriteAt(s.hasher.Append(nil, block), leafOffset(b))
		if err != nil {
			return err
		}
	}
	return nil
}

func blockOf(offset int64) uint64 { return uint64(offset / verity.BlockSize) }

func leafOffset(block uint64) int64 { return int64(block) * verity.DigestSize }
