// SPDX-License-Identifier: Apache-2.0

package verity

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"sync"
)

// chunkBlocks is how many blocks a worker hashes at a time: as many as fill one hash block.
const chunkBlocks = digestsPerBlock

// ErrMismatch reports that stored data do not match their hashes.
var ErrMismatch = errors.New("data do not match the hash tree")

// Storage is what a tree is written to and read back from.
type Storage interface {
	io.ReaderAt
	io.WriterAt
}

// Build hashes the first dataBlocks blocks of data, writes the tree at byte offset of tree, and returns the root. The
// leaves are hashed by as many goroutines as there are processors; memory use does not depend on the size. Data and
// tree may be the same file.
func Build(ctx context.Context, data io.ReaderAt, dataBlocks uint64, tree Storage, offset int64) (Digest, error) {
	levels, err := Layout(dataBlocks)
	if err != nil {
		return Digest{}, err
	}
	err = hashLevel(ctx, data, 0, dataBlocks, tree, levelOffset(offset, levels[0]))
	if err != nil {
		return Digest{}, fmt.Errorf("hashing %d data blocks: %w", dataBlocks, err)
	}
	return finish(ctx, levels, tree, tree, offset)
}

// Finish completes a tree whose leaf level is already in place, zero padding included, and returns the root.
func Finish(ctx context.Context, dataBlocks uint64, tree Storage, offset int64) (Digest, error) {
	levels, err := Layout(dataBlocks)
	if err != nil {
		return Digest{}, err
	}
	return finish(ctx, levels, tree, tree, offset)
}

// Verify re-hashes the first dataBlocks blocks of data and compares every block of the tree at byte offset of tree,
// and the root. Its error wraps ErrMismatch if they differ.
func Verify(ctx context.Context, data io.ReaderAt, dataBlocks uint64, tree io.ReaderAt, offset int64, root Digest) error {
	levels, err := Layout(dataBlocks)
	if err != nil {
		return err
	}
	err = hashLevel(ctx, data, 0, dataBlocks, comparer{tree}, levelOffset(offset, levels[0]))
	if err != nil {
		return fmt.Errorf("verifying data blocks: %w", err)
	}
	actual, err := finish(ctx, levels, tree, comparer{tree}, offset)
	if err != nil {
		return err
	}
	if actual != root {
		return fmt.Errorf("verifying the root hash: %w: expected %x, got %x", ErrMismatch, root, actual)
	}
	return nil
}

// finish hashes each level into the one above it, then the top block.
func finish(ctx context.Context, levels []Level, r io.ReaderAt, w io.WriterAt, offset int64) (Digest, error) {
	for i := 1; i < len(levels); i++ {
		err := hashLevel(ctx, r, levelOffset(offset, levels[i-1]), levels[i-1].Blocks, w, levelOffset(offset, levels[i]))
		if err != nil {
			return Digest{}, fmt.Errorf("hashing level %d of the tree: %w", i-1, err)
		}
	}
	var top [BlockSize]byte
	err := readFull(r, top[:], offset)
	if err != nil {
		return Digest{}, fmt.Errorf("reading the top of the tree: %w", err)
	}
	return Digest(NewHasher().Append(nil, top[:])), nil
}

func levelOffset(tree int64, l Level) int64 {
	return tree + int64(l.First)*BlockSize
}

// hashLevel hashes count blocks at byte from of r and writes the digests, padded to whole blocks, at byte to of w.
func hashLevel(ctx context.Context, r io.ReaderAt, from int64, count uint64, w io.WriterAt, to int64) error {
	chunks := (count + chunkBlocks - 1) / chunkBlocks
	workers := min(uint64(max(runtime.GOMAXPROCS(0), 1)), chunks)
	if workers <= 1 {
		return hashChunks(ctx, r, from, count, w, to, 0, 1)
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var wg sync.WaitGroup
	for i := range workers {
		wg.Go(func() {
			err := hashChunks(ctx, r, from, count, w, to, i, workers)
			if err != nil {
				cancel(err)
			}
		})
	}
	wg.Wait()
	return context.Cause(ctx)
}

// hashChunks does every step-th chunk of hashLevel's work, beginning with the one numbered first.
func hashChunks(ctx context.Context, r io.ReaderAt, from int64, count uint64, w io.WriterAt, to int64, first, step uint64) error {
	hasher := NewHasher()
	data := make([]byte, chunkBlocks*BlockSize)
	out := make([]byte, 0, BlockSize)
	for chunk := first; chunk*chunkBlocks < count; chunk += step {
		err := context.Cause(ctx)
		if err != nil {
			return err
		}
		start := chunk * chunkBlocks
		buf := data[:min(count-start, chunkBlocks)*BlockSize]
		err = readFull(r, buf, from+int64(start)*BlockSize)
		if err != nil {
			return fmt.Errorf("reading block %d: %w", start, err)
		}
		out = hasher.Append(out[:0], buf)
		used := len(out)
		out = out[:BlockSize]
		clear(out[used:])
		_, err = w.WriteAt(out, to+int64(chunk)*BlockSize)
		if err != nil {
			return fmt.Errorf("hash block %d: %w", chunk, err)
		}
	}
	return nil
}

// readFull fills p from offset; data that end early are an error.
func readFull(r io.ReaderAt, p []byte, offset int64) error {
	n, err := r.ReadAt(p, offset)
	if n == len(p) {
		return nil
	}
	if err == nil || errors.Is(err, io.EOF) {
		return fmt.Errorf("%w: expected %d bytes at offset %d, got %d", io.ErrUnexpectedEOF, len(p), offset, n)
	}
	return err
}

// comparer is a writer that writes nothing and fails unless the bytes are there already.
type comparer struct {
	r io.ReaderAt
}

func (c comparer) WriteAt(p []byte, offset int64) (int, error) {
	stored := make([]byte, len(p))
	err := readFull(c.r, stored, offset)
	if err != nil {
		return 0, err
	}
	if !bytes.Equal(stored, p) {
		return 0, fmt.Errorf("%w: block at offset %d of the file", ErrMismatch, offset)
	}
	return len(p), nil
}
