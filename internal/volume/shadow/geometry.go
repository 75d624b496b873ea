// SPDX-License-Identifier: Apache-2.0

package shadow

import "fmt"

const (
	// BlockSize is the size of a block in bytes: of data, of a node, of a superblock.
	BlockSize = 4096
	// fanOut is how many items a node describes, and how many items of a level have their places side by side.
	fanOut    = 128
	entrySize = BlockSize / fanOut
	// dataStart is the block at which the places of the data begin.
	dataStart = 16
	// maxCapacity is the largest number of blocks of a volume.
	maxCapacity = 1 << 40
	maxLevels   = 7 // more than maxCapacity needs
)

// geometry is where everything of a volume of a capacity lies.
type geometry struct {
	capacity uint64
	levels   int               // of nodes; the root's
	items    [maxLevels]uint64 // how many a level has, the data being level 0
	start    [maxLevels]uint64 // block at which the level's places begin
	blocks   uint64            // of the image
}

func newGeometry(capacity uint64) (geometry, error) {
	if capacity == 0 || capacity > maxCapacity || capacity%fanOut != 0 {
		return geometry{}, fmt.Errorf("capacity is %d blocks, want a multiple of %d of at most 2^40", capacity, fanOut)
	}
	g := geometry{capacity: capacity}
	at := uint64(dataStart)
	for level, n := 0, capacity; ; level, n = level+1, (n+fanOut-1)/fanOut {
		g.items[level], g.start[level] = n, at
		at += 2 * fanOut * ((n + fanOut - 1) / fanOut)
		if n == 1 && level > 0 {
			g.levels, g.blocks = level, at
			return g, nil
		}
	}
}

// ImageSize is how many bytes the storage of a volume must have: those of a volume of size bytes that can grow to capacity
// bytes.
func ImageSize(size, capacity int64) (int64, error) {
	_, g, err := room(size, capacity)
	if err != nil {
		return 0, err
	}
	return int64(g.blocks) * BlockSize, nil // below 2^54
}

// room is the capacity of a new volume in blocks, and where all of it lies.
func room(size, capacity int64) (uint64, geometry, error) {
	const unit = fanOut * BlockSize
	capacity = max(capacity, size)
	if size <= 0 || size%BlockSize != 0 || capacity > maxCapacity*BlockSize-unit {
		return 0, geometry{}, fmt.Errorf("a volume of %d bytes: %w", size, ErrRange)
	}
	blocks := uint64((capacity+unit-1)/unit) * fanOut
	g, err := newGeometry(blocks)
	return blocks, g, err
}

// offset is where place p of an item lies in the image, in bytes.
func (g *geometry) offset(level int, index uint64, p uint8) int64 {
	block := g.start[level] + index/fanOut*2*fanOut + uint64(p)*fanOut + index%fanOut
	return int64(block) * BlockSize // below 2^54
}
