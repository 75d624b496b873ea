// SPDX-License-Identifier: Apache-2.0

// Package fixed reads the structures of secure processors that have one size and little-endian fields at fixed offsets, and
// writes words of flags for people. The bytes come from whoever wants to be believed; the caller has checked their number,
// and what the fields say is for others to judge.
package fixed

import (
	"encoding/binary"
	"fmt"
	"strings"
)

// Decoder reads a structure front to back and remembers the first error. To read more bytes than there are is a mistake of
// the caller's: the size of the whole is checked before.
type Decoder struct {
	// Bytes is the structure, and Off what was read of it.
	Bytes []byte
	Off   int
	// Err is the first thing that was wrong.
	Err error
}

// Next returns the next n bytes, without copying them.
func (d *Decoder) Next(n int) []byte {
	b := d.Bytes[d.Off : d.Off+n]
	d.Off += n
	return b
}

// U8 reads one byte.
func (d *Decoder) U8() uint8 { return d.Next(1)[0] }

// U16 reads two bytes.
func (d *Decoder) U16() uint16 { return binary.LittleEndian.Uint16(d.Next(2)) }

// U32 reads four bytes.
func (d *Decoder) U32() uint32 { return binary.LittleEndian.Uint32(d.Next(4)) }

// U64 reads eight bytes.
func (d *Decoder) U64() uint64 { return binary.LittleEndian.Uint64(d.Next(8)) }

// Zero skips reserved bytes up to the offset end, and requires them to be zero.
func (d *Decoder) Zero(end int) {
	start := d.Off
	for i, v := range d.Next(end - start) {
		if v != 0 {
			d.Fail("reserved byte at offset %d is %#02x, not 0", start+i, v)
		}
	}
}

// Fail notes what is wrong, unless something was before.
func (d *Decoder) Fail(format string, args ...any) {
	if d.Err == nil {
		d.Err = fmt.Errorf(format, args...)
	}
}

// Pad appends zeros up to a size of n bytes. There must not be more already.
func Pad(b []byte, n int) []byte { return append(b, make([]byte, n-len(b))...) }

// Bits names the bits of a word, the least significant one first. A bit that has no name is unknown.
type Bits [64]string

// Names lists the set bits, with all unknown ones together, or "none".
func (t *Bits) Names(v uint64) string {
	var set []string
	for i, name := range t {
		if name != "" && v&(1<<i) != 0 {
			set = append(set, name)
			v &^= 1 << i
		}
	}
	if v != 0 {
		set = append(set, fmt.Sprintf("unknown %#x", v))
	}
	if set == nil {
		return "none"
	}
	return strings.Join(set, ", ")
}

// Word returns a word in hexadecimal, with the names of its set bits.
func (t *Bits) Word(v uint64) string { return fmt.Sprintf("%#x (%s)", v, t.Names(v)) }

// Parse returns the bit that has the name.
func (t *Bits) Parse(name string) (uint64, error) {
	var known []string
	for i, n := range t {
		if n == "" {
			continue
		}
		if n == name {
			return 1 << i, nil
		}
		known = append(known, n)
	}
	return 0, fmt.Errorf("%q is not one of %s", name, strings.Join(known, ", "))
}
