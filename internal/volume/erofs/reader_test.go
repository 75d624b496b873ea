// SPDX-License-Identifier: Apache-2.0

package erofs

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
	"slices"
)

// memory is an image that is written, and holds the writer to its contract: whole blocks, each of them once.
type memory struct {
	b       []byte
	written []bool
}

func newMemory(size int64) *memory {
	return &memory{bytes.Repeat([]byte{0xa5}, int(size)), make([]bool, size/BlockSize)}
}

func (m *memory) WriteAt(p []byte, off int64) (int, error) {
	if len(p) == 0 || len(p)%BlockSize != 0 || off%BlockSize != 0 || off < 0 || off+int64(len(p)) > int64(len(m.b)) {
		return 0, fmt.Errorf("%d bytes are written at %d", len(p), off)
	}
	for b := off / BlockSize; b < (off+int64(len(p)))/BlockSize; b++ {
		if m.written[b] {
			return 0, fmt.Errorf("block %d is written twice", b)
		}
		m.written[b] = true
	}
	return copy(m.b[off:], p), nil
}

// file is what the reader found a file to be.
type file struct {
	Mode                uint16
	UID, GID, Dev       uint32
	Links               uint32
	Seconds             int64
	Nanoseconds         uint32
	Size                int64
	Content             string // of regular files, and targets of links
	Xattrs              []Xattr
	NID                 uint64
	compact, inlineTail bool
}

// reader reads an image as the specification has it, not as the writer happens to write it. It is written against
// erofs_fs.h alone, and panics at what it can not read.
type reader struct {
	b     []byte
	files map[string]file
	nids  map[uint64]bool
	owner map[uint32]uint64 // of blocks of data
}

var le = binary.LittleEndian

func readImage(b []byte) (files map[string]file, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("the image can not be read: %v", r)
		}
	}()
	s := b[1024:]
	if le.Uint32(s) != 0xe0f5e1e2 || s[12] != 12 || int(le.Uint32(s[36:]))*BlockSize != len(b) || le.Uint32(s[80:]) != 0 {
		return nil, fmt.Errorf("the superblock is %x", s[:128])
	}
	block := bytes.Clone(s[:BlockSize-1024])
	sum := le.Uint32(block[4:])
	clear(block[4:8])
	// As the kernel does it, bit by bit: reflected polynomial, all ones at first, nothing inverted at the end.
	crc := ^uint32(0)
	for _, c := range block {
		crc ^= uint32(c)
		for range 8 {
			crc = crc>>1 ^ crc32.Castagnoli&-(crc&1)
		}
	}
	if crc != sum {
		return nil, fmt.Errorf("the checksum is %08x, computed is %08x", sum, crc)
	}
	r := &reader{b, map[string]file{}, map[uint64]bool{}, map[uint32]uint64{}}
	root := uint64(le.Uint16(s[14:]))
	if err := r.dir(".", root, root); err != nil {
		return nil, err
	}
	if n := le.Uint64(s[16:]); n != uint64(len(r.nids)) {
		return nil, fmt.Errorf("the superblock says %d inodes, there are %d", n, len(r.nids))
	}
	return r.files, nil
}

// inode reads one, and all of its data.
func (r *reader) inode(nid uint64) (file, []byte) {
	s := r.b[1024:]
	at := int(le.Uint32(s[40:]))*BlockSize + int(nid)*32
	d := r.b[at:]
	format := le.Uint16(d)
	f := file{Mode: le.Uint16(d[4:]), NID: nid, compact: format&1 == 0}
	head := 32
	if f.compact {
		f.Links, f.Size = uint32(le.Uint16(d[6:])), int64(le.Uint32(d[8:]))
		f.UID, f.GID = uint32(le.Uint16(d[24:])), uint32(le.Uint16(d[26:]))
		f.Seconds, f.Nanoseconds = int64(le.Uint64(s[24:])), le.Uint32(s[32:])
	} else {
		head = 64
		f.Size, f.UID, f.GID, f.Links = int64(le.Uint64(d[8:])), le.Uint32(d[24:]), le.Uint32(d[28:]), le.Uint32(d[44:])
		f.Seconds, f.Nanoseconds = int64(le.Uint64(d[32:])), le.Uint32(d[40:])
	}
	if at/BlockSize != (at+head-1)/BlockSize {
		panic(fmt.Sprintf("the inode %d lies in two blocks", nid))
	}
	union := le.Uint32(d[16:])
	if n := int(le.Uint16(d[2:])); n > 0 {
		size := 12 + 4*(n-1)
		f.Xattrs = readXattrs(d[head+12 : head+size])
		head += size
	}
	if t := f.Mode & modeType; t != modeDir && t != modeRegular && t != modeSymlink {
		f.Dev = union
		return f, nil
	}
	blocks, tail := f.Size/BlockSize, f.Size%BlockSize
	var data []byte
	switch format >> 1 & 7 {
	case 0:
		for b := range uint32((f.Size + BlockSize - 1) / BlockSize) {
			data = append(data, r.block(union+b, nid)...)
		}
	case 2:
		f.inlineTail = true
		for b := range uint32(blocks) {
			data = append(data, r.block(union+b, nid)...)
		}
		end := at + head
		if tail == 0 || end%BlockSize+int(tail) > BlockSize || f.Mode&modeType == modeSymlink && at/BlockSize != end/BlockSize {
			panic(fmt.Sprintf("the end of inode %d lies in two blocks", nid))
		}
		data = append(data, r.b[end:end+int(tail)]...)
	default:
		panic("unknown layout")
	}
	if extra := data[f.Size:]; bytes.Count(extra, []byte{0}) != len(extra) {
		panic("what follows a file is not zeros")
	}
	return f, data[:f.Size]
}

func (r *reader) block(n uint32, nid uint64) []byte {
	if other, ok := r.owner[n]; ok && other != nid {
		panic(fmt.Sprintf("block %d is of two files", n))
	}
	r.owner[n] = nid
	return r.b[int(n)*BlockSize:][:BlockSize]
}

func readXattrs(b []byte) []Xattr {
	var out []Xattr
	for len(b) > 0 {
		names, values := int(b[0]), int(le.Uint16(b[2:]))
		prefix := map[byte]string{1: "user.", 2: "system.posix_acl_access", 3: "system.posix_acl_default", 4: "trusted.", 6: "security."}[b[1]]
		out = append(out, Xattr{prefix + string(b[4:4+names]), slices.Clone(b[4+names : 4+names+values])})
		b = b[(4+names+values+3)&^3:]
	}
	return out
}

func (r *reader) dir(path string, nid, parent uint64) error {
	f, data := r.inode(nid)
	r.files[path], r.nids[nid] = f, true
	last, dirs, special := "", uint32(2), 0
	for len(data) > 0 {
		block := data[:min(len(data), BlockSize)]
		data = data[len(block):]
		n := int(le.Uint16(block[8:])) / 12
		for i := range n {
			e := block[12*i:]
			from, to := int(le.Uint16(e[8:])), len(block)
			if i < n-1 {
				to = int(le.Uint16(e[20:]))
			}
			name := string(bytes.TrimRight(block[from:to], "\x00"))
			if name <= last {
				return fmt.Errorf("%s: %q follows %q", path, name, last)
			}
			last = name
			child := le.Uint64(e)
			if name == "." && child == nid || name == ".." && child == parent {
				special++
				continue
			}
			c, content := r.inode(child)
			if e[10] != entryType(c.Mode) {
				return fmt.Errorf("%s/%s: the entry says type %d, the inode mode %o", path, name, e[10], c.Mode)
			}
			if c.Mode&modeType == modeDir {
				dirs++
				if err := r.dir(path+"/"+name, child, nid); err != nil {
					return err
				}
				continue
			}
			c.Content = string(content)
			r.files[path+"/"+name], r.nids[child] = c, true
		}
	}
	if special != 2 || dirs != f.Links {
		return fmt.Errorf("%s: %d of . and .., %d links, counted %d", path, special, f.Links, dirs)
	}
	return nil
}

// image makes one, and finds that every block was written.
func image(p *Plan, write func(io.WriterAt) error) ([]byte, error) {
	m := newMemory(p.Size())
	if err := write(m); err != nil {
		return nil, err
	}
	if i := slices.Index(m.written, false); i >= 0 {
		return nil, fmt.Errorf("block %d is not written", i)
	}
	return m.b, nil
}
