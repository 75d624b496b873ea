// SPDX-License-Identifier: Apache-2.0

package scratchfmt

import (
	"bytes"
	"compress/flate"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"io"
)

// Write writes t to w. The same template gives the same bytes with the same version of Go.
func Write(w io.Writer, t *Template) error {
	if err := t.validate(); err != nil {
		return err
	}
	body := marshalBody(t)
	digest := sha256.Sum256(body)
	head := make([]byte, headerSize)
	copy(head, magic)
	le := binary.LittleEndian
	le.PutUint32(head[8:], version)
	le.PutUint32(head[12:], uint32(len(t.Extents)))
	le.PutUint64(head[16:], uint64(t.Size))
	le.PutUint64(head[24:], uint64(t.Bytes()))
	copy(head[32:], digest[:])
	if _, err := w.Write(head); err != nil {
		return fmt.Errorf("writing scratch template: %w", err)
	}
	deflated, err := flate.NewWriter(w, flate.BestCompression)
	if err != nil {
		return fmt.Errorf("writing scratch template: %w", err)
	}
	if _, err := deflated.Write(body); err != nil {
		return fmt.Errorf("writing scratch template: %w", err)
	}
	if err := deflated.Close(); err != nil {
		return fmt.Errorf("writing scratch template: %w", err)
	}
	return nil
}

func marshalBody(t *Template) []byte {
	var b bytes.Buffer
	for _, e := range t.Extents {
		b.Write(binary.LittleEndian.AppendUint64(nil, uint64(e.Offset)))
		b.Write(binary.LittleEndian.AppendUint64(nil, uint64(len(e.Data))))
	}
	for _, e := range t.Extents {
		b.Write(e.Data)
	}
	return b.Bytes()
}

// Range is a part of a filesystem image that may hold data.
type Range struct{ Offset, Length int64 }

// FromImage makes a template of a filesystem image of the given size: of the given ranges, which are whole blocks in
// ascending order, it keeps the blocks that are not zero. Everything outside the ranges is taken to be zero.
func FromImage(r io.ReaderAt, size int64, ranges []Range) (*Template, error) {
	t := &Template{Size: size}
	buf := make([]byte, 256*BlockSize)
	for _, rg := range ranges {
		for off := rg.Offset; off < rg.Offset+rg.Length; off += int64(len(buf)) {
			chunk := buf[:min(int64(len(buf)), rg.Offset+rg.Length-off)]
			n, err := r.ReadAt(chunk, off)
			if n != len(chunk) {
				return nil, fmt.Errorf("reading filesystem image at %d: %w", off, err)
			}
			t.add(off, chunk)
		}
	}
	if err := t.validate(); err != nil {
		return nil, err
	}
	return t, nil
}

// add appends the blocks of chunk that are not zero, joining neighbours.
func (t *Template) add(offset int64, chunk []byte) {
	for i := 0; i+BlockSize <= len(chunk); i += BlockSize {
		block := chunk[i : i+BlockSize]
		if isZero(block) {
			continue
		}
		at := offset + int64(i)
		if n := len(t.Extents); n > 0 {
			last := &t.Extents[n-1]
			if last.Offset+int64(len(last.Data)) == at {
				last.Data = append(last.Data, block...)
				continue
			}
		}
		t.Extents = append(t.Extents, Extent{Offset: at, Data: bytes.Clone(block)})
	}
}

func isZero(b []byte) bool {
	for _, c := range b {
		if c != 0 {
			return false
		}
	}
	return true
}
