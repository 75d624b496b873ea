// SPDX-License-Identifier: Apache-2.0

package guestimage

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"io"
	"slices"

	"cofferdam.dev/internal/guestimage/scratchfmt"
)

// Offsets in the ext4 superblock, which begins at byte 1024, and in a group descriptor of 64 bytes (Linux,
// Documentation/filesystems/ext4).
const (
	extSuperblock     = 1024
	extBlocksLow      = 0x04
	extBlocksPerGroup = 0x20
	extDescSize       = 0xfe
	extBlocksHigh     = 0x150

	extDescriptor   = 64
	groupBlockLow   = 0x00
	groupInodeLow   = 0x04
	groupFlags      = 0x12
	groupBlockHigh  = 0x20
	groupInodeHigh  = 0x24
	groupInodeUnset = 1 // the inode bitmap is not initialised: the kernel makes it up
	groupBlockUnset = 2 // the same for the block bitmap
)

// keepBitmaps adds to t the bitmaps that the kernel will read and that happen to be all zero. Without them the disk
// would hold nothing there, and reading what was never written fails. They are found by the group descriptors and not
// by the holes of the image file, because those depend on the filesystem under it.
func keepBitmaps(t *scratchfmt.Template, image io.ReaderAt) error {
	blocks, err := bitmaps(image, t.Size/scratchfmt.BlockSize)
	if err != nil {
		return fmt.Errorf("finding bitmaps: %w", err)
	}
	for _, block := range blocks {
		at := block * scratchfmt.BlockSize
		covered := slices.ContainsFunc(t.Extents, func(e scratchfmt.Extent) bool {
			return at >= e.Offset && at < e.Offset+int64(len(e.Data))
		})
		if !covered {
			t.Extents = append(t.Extents, scratchfmt.Extent{Offset: at, Data: make([]byte, scratchfmt.BlockSize)})
		}
	}
	slices.SortFunc(t.Extents, func(a, b scratchfmt.Extent) int { return cmp.Compare(a.Offset, b.Offset) })
	return nil
}

// bitmaps returns the numbers of the blocks that hold initialised bitmaps.
func bitmaps(image io.ReaderAt, size int64) ([]int64, error) {
	le := binary.LittleEndian
	sb := make([]byte, 1024)
	if _, err := image.ReadAt(sb, extSuperblock); err != nil {
		return nil, err
	}
	total := int64(le.Uint32(sb[extBlocksHigh:]))<<32 | int64(le.Uint32(sb[extBlocksLow:]))
	perGroup := int64(le.Uint32(sb[extBlocksPerGroup:]))
	if total != size || perGroup == 0 || le.Uint16(sb[extDescSize:]) != extDescriptor {
		return nil, fmt.Errorf("superblock says %d blocks, %d a group, descriptors of %d bytes; want %d blocks and descriptors of %d",
			total, perGroup, le.Uint16(sb[extDescSize:]), size, extDescriptor)
	}
	groups := (total + perGroup - 1) / perGroup
	table := make([]byte, groups*extDescriptor)
	if _, err := image.ReadAt(table, scratchfmt.BlockSize); err != nil {
		return nil, err
	}
	var found []int64
	for d := range slices.Chunk(table, extDescriptor) {
		flags := le.Uint16(d[groupFlags:])
		if flags&groupBlockUnset == 0 {
			found = append(found, int64(le.Uint32(d[groupBlockHigh:]))<<32|int64(le.Uint32(d[groupBlockLow:])))
		}
		if flags&groupInodeUnset == 0 {
			found = append(found, int64(le.Uint32(d[groupInodeHigh:]))<<32|int64(le.Uint32(d[groupInodeLow:])))
		}
	}
	return found, nil
}
