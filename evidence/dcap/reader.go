// SPDX-License-Identifier: Apache-2.0

package dcap

import (
	"encoding/binary"
	"fmt"
)

// reader reads hostile bytes front to back, never beyond end. It remembers the first error, and yields zeros after it.
type reader struct {
	b        []byte
	off, end int
	err      error
}

func (r *reader) fail(format string, args ...any) {
	if r.err == nil {
		r.err = fmt.Errorf(format, args...)
	}
}

// bytes returns the next n bytes without copying them, or nil after an error.
func (r *reader) bytes(what string, n int) []byte {
	if left := r.end - r.off; n > left {
		r.fail("%s at offset %d needs %d bytes, but %d are left", what, r.off, n, left)
	}
	if r.err != nil {
		return nil
	}
	b := r.b[r.off : r.off+n : r.off+n]
	r.off += n
	return b
}

func (r *reader) u16(what string) uint16 {
	if b := r.bytes(what, 2); b != nil {
		return binary.LittleEndian.Uint16(b)
	}
	return 0
}

func (r *reader) u32(what string) uint32 {
	if b := r.bytes(what, 4); b != nil {
		return binary.LittleEndian.Uint32(b)
	}
	return 0
}

// pair reads a signature or a public key.
func (r *reader) pair(what string) (p [keyPairSize]byte) {
	copy(p[:], r.bytes(what, keyPairSize))
	return p
}

// enter reads a size of four bytes and restricts the reader to as many that follow. Its result is for leave.
func (r *reader) enter(what string) (outer int) {
	outer = r.end
	size := r.u32("size of " + what)
	if left := r.end - r.off; uint64(size) > uint64(left) {
		r.fail("%s at offset %d has a size of %d bytes, but %d are left", what, r.off, size, left)
	}
	if r.err == nil {
		r.end = r.off + int(size)
	}
	return outer
}

// leave requires that all of what enter opened was read.
func (r *reader) leave(what string, outer int) {
	if left := r.end - r.off; left != 0 {
		r.fail("%s has %d bytes at offset %d that belong to no field", what, left, r.off)
	}
	r.end = outer
}

// rest returns what is left.
func (r *reader) rest() []byte { return r.bytes("rest", r.end-r.off) }
