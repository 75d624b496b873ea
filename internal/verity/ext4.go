// SPDX-License-Identifier: Apache-2.0

package verity

import (
	"encoding/binary"
	"errors"
	"fmt"
)

const (
	// Ext4SuperblockOffset is where an ext4 superblock begins, in bytes from the start of the device.
	Ext4SuperblockOffset = 1024
	// Ext4SuperblockSize is the size of an ext4 superblock in bytes.
	Ext4SuperblockSize = 1024
)

// ErrExt4 reports a superblock that is not of an ext4 file system as layers have it.
var ErrExt4 = errors.New("not an ext4 file system with blocks of 4096 bytes")

// Ext4 is what the superblock of a layer's file system says about its size. It is a claim by whoever made the disk:
// compare it with what the policy fixes.
type Ext4 struct {
	Blocks uint64 // number of file system blocks, each of BlockSize bytes
}

// Offsets in the ext4 superblock (Linux, Documentation/filesystems/ext4/super.rst), little-endian.
const (
	extBlocksLow    = 0x04
	extLogBlockSize = 0x18
	extMagic        = 0x38
	extIncompat     = 0x60

	extMagicValue    = 0xef53
	extIncompat64bit = 0x80
)

// ParseExt4 reads the facts from an ext4 superblock, which is the Ext4SuperblockSize bytes at Ext4SuperblockOffset of
// the device. Block sizes other than BlockSize and file systems with 64-bit block numbers, which layers never use,
// are errors that wrap ErrExt4.
func ParseExt4(superblock []byte) (Ext4, error) {
	if len(superblock) < Ext4SuperblockSize {
		return Ext4{}, fmt.Errorf("parsing the ext4 superblock: %w: expected %d bytes, got %d", ErrExt4, Ext4SuperblockSize, len(superblock))
	}
	magic := binary.LittleEndian.Uint16(superblock[extMagic:])
	if magic != extMagicValue {
		return Ext4{}, fmt.Errorf("parsing the ext4 superblock: %w: expected magic %#x, got %#x", ErrExt4, extMagicValue, magic)
	}
	logSize := binary.LittleEndian.Uint32(superblock[extLogBlockSize:])
	if logSize != 2 {
		return Ext4{}, fmt.Errorf("parsing the ext4 superblock: %w: expected block size exponent 2, got %d", ErrExt4, logSize)
	}
	if binary.LittleEndian.Uint32(superblock[extIncompat:])&extIncompat64bit != 0 {
		return Ext4{}, fmt.Errorf("parsing the ext4 superblock: %w: it uses 64-bit block numbers", ErrExt4)
	}
	blocks := binary.LittleEndian.Uint32(superblock[extBlocksLow:])
	if blocks == 0 {
		return Ext4{}, fmt.Errorf("parsing the ext4 superblock: %w: it has no blocks", ErrExt4)
	}
	return Ext4{Blocks: uint64(blocks)}, nil
}
