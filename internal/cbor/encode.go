// SPDX-License-Identifier: Apache-2.0

package cbor

import (
	"bytes"
	"encoding/binary"
	"slices"
)

// Append functions add one item in its shortest form. For arrays and maps they add the head alone; the caller appends
// that many items, or pairs.

// AppendInt appends an integer.
func AppendInt(b []byte, v int64) []byte {
	if v < 0 {
		return head(b, 1, uint64(-1-v))
	}
	return head(b, 0, uint64(v))
}

// AppendBytes appends a byte string.
func AppendBytes(b, v []byte) []byte { return append(head(b, 2, uint64(len(v))), v...) }

// AppendText appends a text, which must be UTF-8.
func AppendText(b []byte, v string) []byte { return append(head(b, 3, uint64(len(v))), v...) }

// AppendArray appends the head of an array.
func AppendArray(b []byte, n int) []byte { return head(b, 4, uint64(n)) }

// AppendTag appends a tag, whose content must follow.
func AppendTag(b []byte, tag uint64) []byte { return head(b, 6, tag) }

// Entry is one encoded pair of a map to write.
type Entry struct{ Key, Value []byte }

// AppendMap appends a whole map, its keys in the order of their encoded bytes (RFC 8949, 4.2.1).
func AppendMap(b []byte, entries []Entry) []byte {
	sorted := slices.SortedFunc(slices.Values(entries), func(x, y Entry) int { return bytes.Compare(x.Key, y.Key) })
	b = head(b, 5, uint64(len(sorted)))
	for _, e := range sorted {
		b = append(append(b, e.Key...), e.Value...)
	}
	return b
}

func head(b []byte, major byte, arg uint64) []byte {
	major <<= 5
	switch {
	case arg < 24:
		return append(b, major|byte(arg))
	case arg < 1<<8:
		return append(b, major|24, byte(arg))
	case arg < 1<<16:
		return binary.BigEndian.AppendUint16(append(b, major|25), uint16(arg))
	case arg < 1<<32:
		return binary.BigEndian.AppendUint32(append(b, major|26), uint32(arg))
	}
	return binary.BigEndian.AppendUint64(append(b, major|27), arg)
}
