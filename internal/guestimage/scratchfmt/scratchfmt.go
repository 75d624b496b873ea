// SPDX-License-Identifier: Apache-2.0

// Package scratchfmt is the format of the empty filesystems that the guest writes onto its encrypted scratch disks.
//
// A scratch disk lies behind dm-crypt over dm-integrity with a key that no one had before. A sector that was never
// written does not authenticate, so no program can make a filesystem there in the usual way: it would read first.
// The guest therefore writes a filesystem that was made at build time, as the list of the ranges that hold data. All
// ranges together are a few hundred kilobytes even for a filesystem of many gigabytes.
//
// A template is part of the measured initramfs and trusted like the rest of it. Read is strict nevertheless: a
// damaged template is an error and never a half-written filesystem. The package imports the standard library alone,
// because it is linked into the guest.
//
// The file is, with all integers little-endian:
//
//	offset  size  field
//	0       8     magic "CFSCRATC"
//	8       4     version, 1
//	12      4     number of extents n
//	16      8     size of the filesystem in bytes, a multiple of 4096
//	24      8     bytes of all extents together
//	32      32    SHA-256 of the body before compression
//	64      …     body, a raw DEFLATE stream (RFC 1951) that ends the file
//
// The body is n records of {u64 offset, u64 length}, ascending, not overlapping, in multiples of 4096, followed by
// the data of the extents in the same order.
package scratchfmt

import (
	"errors"
	"fmt"
)

// BlockSize is the unit of offsets and lengths, and the sector size of the encrypted disk.
const BlockSize = 4096

// Limits that a template keeps. They bound what Read allocates.
const (
	MaxExtents   = 1 << 16
	MaxDataBytes = 64 << 20
	MaxSize      = 1 << 44
)

// ErrFormat is wrapped by every error about a template's form.
var ErrFormat = errors.New("scratch template is malformed")

// Extent is one range of the filesystem that holds data.
type Extent struct {
	Offset int64  // bytes from the start of the disk, a multiple of BlockSize
	Data   []byte // a multiple of BlockSize long, never empty
}

// Template is an empty filesystem: its size and everything in it that is not zero.
type Template struct {
	Size    int64 // bytes of the filesystem; the disk may be larger
	Extents []Extent
}

// Bytes is the number of bytes in all extents.
func (t *Template) Bytes() int64 {
	var sum int64
	for _, e := range t.Extents {
		sum += int64(len(e.Data))
	}
	return sum
}

// validate checks the rules of the format that concern sizes, order and limits.
func (t *Template) validate() error {
	if t.Size <= 0 || t.Size > MaxSize || t.Size%BlockSize != 0 {
		return fmt.Errorf("%w: size is %d", ErrFormat, t.Size)
	}
	if len(t.Extents) > MaxExtents {
		return fmt.Errorf("%w: %d extents, at most %d allowed", ErrFormat, len(t.Extents), MaxExtents)
	}
	var end, sum int64
	for i, e := range t.Extents {
		n := int64(len(e.Data))
		if err := checkRange(i, e.Offset, n, end, t.Size); err != nil {
			return err
		}
		end, sum = e.Offset+n, sum+n
	}
	if sum > MaxDataBytes {
		return fmt.Errorf("%w: %d bytes of data, at most %d allowed", ErrFormat, sum, MaxDataBytes)
	}
	return nil
}

// checkRange checks extent i, which must begin at or after end and stop within size.
func checkRange(i int, offset, length, end, size int64) error {
	if length <= 0 || length%BlockSize != 0 || offset%BlockSize != 0 {
		return fmt.Errorf("%w: extent %d (offset %d, length %d) is not made of whole blocks", ErrFormat, i, offset, length)
	}
	if offset < end || offset > size || length > size-offset {
		return fmt.Errorf("%w: extent %d (offset %d, length %d) overlaps another or leaves the filesystem",
			ErrFormat, i, offset, length)
	}
	return nil
}
