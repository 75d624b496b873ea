// SPDX-License-Identifier: Apache-2.0

package erofs

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"slices"
	"strings"
)

const (
	// BlockSize is the size of an image's blocks in bytes.
	BlockSize = 4096
	blockBits = 12

	// Of struct erofs_super_block.
	superOffset = 1024
	superMagic  = 0xe0f5e1e2
	// Its features: there is a checksum, and the times are those of the last change.
	compatChecksum, compatMtime = 0x1, 0x2

	// slot is what inodes are counted in, in bytes; their number is where they are (nid).
	slot = 32
	// rootNID is the root directory's: the first inode, at block 1.
	rootNID = BlockSize / slot

	compactSize, extendedSize = 32, 64
	// Of i_format: bit 0 is set in extended inodes, bits 1 to 3 say how the data lie.
	formatExtended                  = 1
	layoutPlain, layoutInline       = 0, 2
	layoutShift                     = 1
	direntSize                      = 12
	maxName                         = 255
	xattrHeader, xattrEntry         = 12, 4
	maxXattrs                       = xattrHeader + 4*(1<<16-2) // bytes for all attributes of a file; counted in 16 bits
	maxXattrValue                   = 1<<16 - 1
	maxXattrName                    = 255
	aclAccess, aclDefault           = "system.posix_acl_access", "system.posix_acl_default"
	xattrACLAccess, xattrACLDefault = 2, 3
)

// xattrPrefixes are the parts of names that a number stands for (e_name_index).
var xattrPrefixes = []struct {
	prefix string
	index  byte
}{{"user.", 1}, {"trusted.", 4}, {"security.", 6}}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// superblock returns block 0.
func (p *Plan) superblock() []byte {
	b := make([]byte, BlockSize)
	s := b[superOffset:]
	binary.LittleEndian.PutUint32(s[0:], superMagic)
	binary.LittleEndian.PutUint32(s[8:], compatChecksum|compatMtime)
	s[12] = blockBits
	binary.LittleEndian.PutUint16(s[14:], rootNID)
	binary.LittleEndian.PutUint64(s[16:], uint64(len(p.inodes)))
	binary.LittleEndian.PutUint64(s[24:], uint64(p.epoch.seconds)) // times before 1970 are negative on both sides
	binary.LittleEndian.PutUint32(s[32:], p.epoch.nanoseconds)
	binary.LittleEndian.PutUint32(s[36:], p.blocks)
	copy(s[48:64], p.opts.UUID[:])
	copy(s[64:80], p.opts.Label)
	// The kernel's crc32c begins with all ones and inverts nothing at the end.
	binary.LittleEndian.PutUint32(s[4:], ^crc32.Checksum(s, castagnoli))
	return b
}

// appendInode appends the inode itself, without its attributes.
func (i *inode) append(b []byte, number uint32) []byte {
	le := binary.LittleEndian
	at, format := len(b), uint16(layoutPlain)
	if i.inline {
		format = layoutInline << layoutShift
	}
	union := i.start
	if i.isDevice() {
		// new_encode_dev: the major number between the two parts of the minor.
		union = i.stat.Minor&0xff | i.stat.Major<<8 | i.stat.Minor&^0xff<<12
	}
	xattrs := uint16(0)
	if len(i.xattrs) > 0 {
		xattrs = uint16((len(i.xattrs)-xattrHeader)/4 + 1) // at most 65535: attributes have at most maxXattrs bytes
	}
	if i.extended {
		b = append(b, make([]byte, extendedSize)...)
		d := b[at:]
		le.PutUint16(d[0:], format|formatExtended)
		le.PutUint16(d[2:], xattrs)
		le.PutUint16(d[4:], i.mode)
		le.PutUint64(d[8:], uint64(i.size)) // not negative
		le.PutUint32(d[16:], union)
		le.PutUint32(d[20:], number)
		le.PutUint32(d[24:], i.stat.UID)
		le.PutUint32(d[28:], i.stat.GID)
		le.PutUint64(d[32:], uint64(i.mtime.seconds)) // times before 1970 are negative on both sides
		le.PutUint32(d[40:], i.mtime.nanoseconds)
		le.PutUint32(d[44:], i.links)
		return b
	}
	b = append(b, make([]byte, compactSize)...)
	d := b[at:]
	le.PutUint16(d[0:], format)
	le.PutUint16(d[2:], xattrs)
	le.PutUint16(d[4:], i.mode)
	le.PutUint16(d[6:], uint16(i.links))
	le.PutUint32(d[8:], uint32(i.size)) // that it fits is what makes an inode compact
	le.PutUint32(d[16:], union)
	le.PutUint32(d[20:], number)
	le.PutUint16(d[24:], uint16(i.stat.UID))
	le.PutUint16(d[26:], uint16(i.stat.GID))
	return b
}

// encodeXattrs returns the attributes as they follow an inode, nothing if there are none.
func encodeXattrs(attrs []Xattr) ([]byte, error) {
	if len(attrs) == 0 {
		return nil, nil
	}
	attrs = slices.Clone(attrs)
	slices.SortFunc(attrs, func(a, b Xattr) int { return cmp.Compare(a.Name, b.Name) })
	b := make([]byte, xattrHeader)
	for i, a := range attrs {
		if i > 0 && a.Name == attrs[i-1].Name {
			return nil, fmt.Errorf("the attribute %q is there twice", a.Name)
		}
		index, rest, err := xattrName(a.Name)
		if err != nil {
			return nil, err
		}
		if len(a.Value) > maxXattrValue {
			return nil, fmt.Errorf("the attribute %q has %d bytes, at most %d are possible", a.Name, len(a.Value), maxXattrValue)
		}
		b = append(b, byte(len(rest)), index) // at most maxXattrName
		b = binary.LittleEndian.AppendUint16(b, uint16(len(a.Value)))
		b = append(append(b, rest...), a.Value...)
		b = append(b, make([]byte, -len(b)&3)...)
		if len(b) > maxXattrs {
			return nil, fmt.Errorf("attributes of %d bytes and more, at most %d are possible", len(b), maxXattrs)
		}
	}
	return b, nil
}

func xattrName(name string) (index byte, rest string, err error) {
	switch name {
	case aclAccess:
		return xattrACLAccess, "", nil
	case aclDefault:
		return xattrACLDefault, "", nil
	}
	for _, p := range xattrPrefixes {
		if rest, ok := strings.CutPrefix(name, p.prefix); ok {
			if rest == "" || len(rest) > maxXattrName {
				return 0, "", fmt.Errorf("an attribute's name of %d bytes", len(name))
			}
			return p.index, rest, nil
		}
	}
	return 0, "", fmt.Errorf("the attribute %q is of no kind that an image can have", name)
}

// dirSize is the size of a directory with these entries, which are sorted: whole blocks, and the used part of the last one.
func dirSize(entries []dirent) int64 {
	var whole, used int64
	for i := range entries {
		n := int64(direntSize + len(entries[i].name))
		if used+n > BlockSize {
			whole, used = whole+BlockSize, 0
		}
		used += n
	}
	return whole + used
}

// dirBlocks calls f with each block of a directory, the last one cut to what is used of it.
func dirBlocks(entries []dirent, f func(b []byte) error) error {
	block := make([]byte, 0, BlockSize)
	for len(entries) > 0 {
		n, used := 0, 0
		for ; n < len(entries) && used+direntSize+len(entries[n].name) <= BlockSize; n++ {
			used += direntSize + len(entries[n].name)
		}
		if n == 0 {
			return errors.New("a name does not fit into a block")
		}
		block = block[:0]
		offset := n * direntSize
		for _, e := range entries[:n] {
			block = binary.LittleEndian.AppendUint64(block, e.inode.nid)
			block = binary.LittleEndian.AppendUint16(block, uint16(offset)) // below BlockSize
			block = append(block, entryType(e.inode.mode), 0)
			offset += len(e.name)
		}
		for _, e := range entries[:n] {
			block = append(block, e.name...)
		}
		entries = entries[n:]
		if len(entries) > 0 {
			block = append(block, make([]byte, BlockSize-len(block))...)
		}
		err := f(block)
		if err != nil {
			return err
		}
	}
	return nil
}
