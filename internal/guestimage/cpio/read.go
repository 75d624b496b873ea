// SPDX-License-Identifier: Apache-2.0

package cpio

import (
	"bytes"
	"encoding/hex"
	"fmt"
)

// Read returns the entries of an archive in its order. Their Data points into b. The archive must be in the form that
// Write gives it, down to order, numbering and padding, and must end with its trailer.
func Read(b []byte) ([]Entry, error) {
	var entries []Entry
	r := &reader{rest: b, total: len(b)}
	for {
		e, inode, err := r.next()
		if err != nil {
			return nil, err
		}
		if e.Name == trailer {
			break
		}
		entries = append(entries, e)
		if inode != uint32(len(entries)) {
			return nil, fmt.Errorf("%w: %q has inode %d, want %d", ErrFormat, e.Name, inode, len(entries))
		}
	}
	if len(r.rest) != 0 {
		return nil, fmt.Errorf("%w: %d bytes follow the trailer", ErrFormat, len(r.rest))
	}
	var again bytes.Buffer
	again.Grow(len(b))
	if err := Write(&again, entries); err != nil {
		return nil, err
	}
	if !bytes.Equal(again.Bytes(), b) {
		return nil, fmt.Errorf("%w: not in its canonical form", ErrFormat)
	}
	return entries, nil
}

type reader struct {
	rest  []byte
	total int
}

func (r *reader) next() (Entry, uint32, error) {
	head, err := r.take(headerSize)
	if err != nil {
		return Entry{}, 0, err
	}
	if string(head[:6]) != magic {
		return Entry{}, 0, fmt.Errorf("%w: magic %q at offset %d", ErrFormat, head[:6], r.total-len(r.rest)-headerSize)
	}
	var field [13]uint32
	for i := range field {
		var v [4]byte
		if _, err := hex.Decode(v[:], head[6+8*i:14+8*i]); err != nil {
			return Entry{}, 0, fmt.Errorf("%w: header field %d: %w", ErrFormat, i, err)
		}
		field[i] = uint32(v[0])<<24 | uint32(v[1])<<16 | uint32(v[2])<<8 | uint32(v[3])
	}
	nameSize, size := int64(field[11]), int64(field[6])
	if nameSize < 2 || nameSize > maxName+1 {
		return Entry{}, 0, fmt.Errorf("%w: name of %d bytes", ErrFormat, nameSize)
	}
	name, err := r.takeAligned(nameSize)
	if err != nil {
		return Entry{}, 0, err
	}
	data, err := r.takeAligned(size)
	if err != nil {
		return Entry{}, 0, err
	}
	return Entry{Name: string(name[:nameSize-1]), Mode: field[1], Data: data, Major: field[9], Minor: field[10]}, field[0], nil
}

func (r *reader) take(n int64) ([]byte, error) {
	if n > int64(len(r.rest)) {
		return nil, fmt.Errorf("%w: %d bytes wanted at offset %d, %d left", ErrFormat, n, r.total-len(r.rest), len(r.rest))
	}
	b := r.rest[:n:n]
	r.rest = r.rest[n:]
	return b, nil
}

// takeAligned takes n bytes and the padding to the next multiple of four, whose content the caller compares later.
func (r *reader) takeAligned(n int64) ([]byte, error) {
	b, err := r.take(n)
	if err != nil {
		return nil, err
	}
	pad := -int64(r.total-len(r.rest)) & 3
	if _, err := r.take(pad); err != nil {
		return nil, err
	}
	return b, nil
}
