// SPDX-License-Identifier: Apache-2.0

package erofs

import "math"

// layout places everything:
//
//	block 0 with the superblock | inodes, each with its attributes and the end of its data | blocks of large directories and
//	of symbolic links | blocks of files
//
// Data end beside their inode if the whole fits into a block, as the kernel wants: the end of data never crosses the
// boundary of a block, nor does an inode with the target of a link.
func (p *Plan) layout() error {
	at := int64(BlockSize)
	var dirBlocks, fileBlocks int64
	for _, i := range p.inodes {
		i.extended = i.size > math.MaxUint32 || i.stat.UID > math.MaxUint16 || i.stat.GID > math.MaxUint16 || i.links > math.MaxUint16 || i.mtime != p.epoch
		tail := i.size % BlockSize
		need := i.headSize() + tail
		i.inline = tail > 0 && need <= BlockSize
		if !i.inline {
			need = i.headSize()
		}
		at = (at + slot - 1) &^ (slot - 1)
		if at%BlockSize+min(need, BlockSize) > BlockSize {
			at = (at + BlockSize - 1) &^ (BlockSize - 1)
		}
		i.nid = uint64(at / slot)
		at += need
		if i.kind() == modeRegular {
			fileBlocks += i.dataBlocks()
			p.content += i.size
		} else {
			dirBlocks += i.dataBlocks()
		}
		if fileBlocks > math.MaxUint32 {
			return ErrTooLarge
		}
	}
	dirStart := (at + BlockSize - 1) / BlockSize
	total := dirStart + dirBlocks + fileBlocks
	if total > math.MaxUint32 {
		return ErrTooLarge
	}
	p.dirStart, p.dataStart, p.blocks = uint32(dirStart), uint32(dirStart+dirBlocks), uint32(total)
	dir, data := p.dirStart, p.dataStart
	for _, i := range p.inodes {
		n := uint32(i.dataBlocks()) // their sum fits
		switch {
		case n == 0:
		case i.kind() == modeRegular:
			i.start, data = data, data+n
		default:
			i.start, dir = dir, dir+n
		}
	}
	return nil
}

// headSize is the size of an inode with its attributes.
func (i *inode) headSize() int64 {
	if i.extended {
		return extendedSize + int64(len(i.xattrs))
	}
	return compactSize + int64(len(i.xattrs))
}

// dataBlocks is how many blocks a file has beside what is with its inode.
func (i *inode) dataBlocks() int64 {
	if i.inline {
		return i.size / BlockSize
	}
	return (i.size + BlockSize - 1) / BlockSize
}
