// SPDX-License-Identifier: Apache-2.0

// Package verity computes and reads dm-verity data as layers use it: the hash tree, the superblock before it, and the
// few facts of an ext4 superblock that locate both.
//
// One parameter set exists, because a root hash means nothing without its parameters: format version 1, SHA-256, data
// and hash blocks of 4096 bytes, a salt of 32 zero bytes hashed before each block. A layer file is
//
//	ext4 file system | one block holding the superblock | tree, top level first
//
// The package is shared by the host, which builds these files, and the guest, which reads them from disks that the
// host controls. It therefore trusts no byte that it parses, it imports the standard library only, and it never
// decides whether a root hash is acceptable: that is the policy's business.
package verity

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
)

const (
	// BlockSize is the size in bytes of a data block and of a hash block.
	BlockSize = 4096
	// DigestSize is the size in bytes of one hash, and of the root.
	DigestSize = sha256.Size
	// SaltSize is the size in bytes of the salt, which is all zeros.
	SaltSize = 32
	// MinDataBlocks is the smallest number of data blocks. With a single one, the kernel knows no tree: the root would be
	// the hash of the data block itself, which other implementations of layers do not compute.
	MinDataBlocks = 2
	// MaxDataBlocks bounds the data that a tree may cover: 16 TiB, the most that ext4 reaches with 32-bit block numbers.
	MaxDataBlocks = 1 << 32

	digestsPerBlock = BlockSize / DigestSize
)

// Digest is a dm-verity hash: of one block, or, for the block at the top of the tree, the root hash.
type Digest [DigestSize]byte

// ErrSize reports a number of data blocks that no tree exists for.
var ErrSize = errors.New("number of data blocks is out of range")

// Level is one level of a tree, given in hash blocks from the start of the tree.
type Level struct {
	First  uint64 // the level's first block
	Blocks uint64 // how many blocks it has
}

// Layout returns the levels of the tree over dataBlocks data blocks, the leaves first. Every tree has at least one
// level; the last one is a single block and lies at block 0.
func Layout(dataBlocks uint64) ([]Level, error) {
	if dataBlocks < MinDataBlocks || dataBlocks > MaxDataBlocks {
		return nil, fmt.Errorf("laying out a hash tree: %w: expected %d to %d, got %d", ErrSize, MinDataBlocks, uint64(MaxDataBlocks), dataBlocks)
	}
	var levels []Level
	for n := dataBlocks; ; {
		n = (n + digestsPerBlock - 1) / digestsPerBlock
		levels = append(levels, Level{Blocks: n})
		if n == 1 {
			break
		}
	}
	var next uint64
	for i := len(levels) - 1; i >= 0; i-- {
		levels[i].First = next
		next += levels[i].Blocks
	}
	return levels, nil
}

// TreeBlocks returns how many hash blocks the tree over dataBlocks data blocks has.
func TreeBlocks(dataBlocks uint64) (uint64, error) {
	levels, err := Layout(dataBlocks)
	if err != nil {
		return 0, err
	}
	return levels[0].First + levels[0].Blocks, nil
}

// Hasher hashes single blocks. It reuses its state and is not safe for concurrent use.
type Hasher struct {
	h    hash.Hash
	zero []byte // digest of a block of zeros, once there was one
}

// NewHasher returns a hasher of blocks.
func NewHasher() *Hasher { return &Hasher{h: sha256.New()} }

// Append appends the digest of each block in data to dst. The length of data must be a multiple of BlockSize; bytes
// beyond the last whole block are ignored.
func (h *Hasher) Append(dst, data []byte) []byte {
	for ; len(data) >= BlockSize; data = data[BlockSize:] {
		block := data[:BlockSize]
		if !bytes.Equal(block, zeros[:]) { // looks no further than the first byte that differs
			dst = h.sum(dst, block)
			continue
		}
		if h.zero == nil {
			h.zero = h.sum(nil, block)
		}
		dst = append(dst, h.zero...)
	}
	return dst
}

func (h *Hasher) sum(dst, block []byte) []byte {
	h.h.Reset()
	// A hash never returns an error.
	_, _ = h.h.Write(zeros[:SaltSize])
	_, _ = h.h.Write(block)
	return h.h.Sum(dst)
}

// zeros are the salt, and the block that files with holes are full of.
var zeros [BlockSize]byte
