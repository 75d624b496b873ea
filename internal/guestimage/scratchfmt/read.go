// SPDX-License-Identifier: Apache-2.0

package scratchfmt

import (
	"bytes"
	"compress/flate"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"io"
)

const (
	magic      = "CFSCRATC"
	version    = 1
	headerSize = 64
	recordSize = 16
)

// header is the part of the file before the body.
type header struct {
	extents int
	size    int64
	data    int64
	digest  [sha256.Size]byte
}

// Read reads one template from r, to its end.
func Read(r io.Reader) (*Template, error) {
	h, err := readHeader(r)
	if err != nil {
		return nil, err
	}
	inflated := flate.NewReader(r)
	sum := sha256.New()
	t, err := readBody(io.TeeReader(inflated, sum), h)
	if err != nil {
		return nil, err
	}
	if err := expectEnd(inflated, sum, h); err != nil {
		return nil, err
	}
	return t, nil
}

func readHeader(r io.Reader) (header, error) {
	var b [headerSize]byte
	if _, err := io.ReadFull(r, b[:]); err != nil {
		return header{}, fmt.Errorf("%w: reading its header: %w", ErrFormat, err)
	}
	le := binary.LittleEndian
	if string(b[:8]) != magic || le.Uint32(b[8:]) != version {
		return header{}, fmt.Errorf("%w: magic %q version %d, want %q version %d", ErrFormat, b[:8], le.Uint32(b[8:]), magic, version)
	}
	extents, size, data := le.Uint32(b[12:]), le.Uint64(b[16:]), le.Uint64(b[24:])
	if extents > MaxExtents || size == 0 || size > MaxSize || size%BlockSize != 0 || data > MaxDataBytes {
		return header{}, fmt.Errorf("%w: %d extents, size %d, %d bytes of data", ErrFormat, extents, size, data)
	}
	h := header{extents: int(extents), size: int64(size), data: int64(data)}
	copy(h.digest[:], b[32:])
	return h, nil
}

// readBody reads the records, checks them against the header, and only then allocates room for the data.
func readBody(r io.Reader, h header) (*Template, error) {
	records := make([]byte, h.extents*recordSize)
	if _, err := io.ReadFull(r, records); err != nil {
		return nil, fmt.Errorf("%w: reading %d records: %w", ErrFormat, h.extents, err)
	}
	t := &Template{Size: h.size, Extents: make([]Extent, h.extents)}
	lengths := make([]int64, h.extents)
	var end, sum int64
	for i := range t.Extents {
		offset := binary.LittleEndian.Uint64(records[i*recordSize:])
		length := binary.LittleEndian.Uint64(records[i*recordSize+8:])
		if offset > MaxSize || length > MaxDataBytes {
			return nil, fmt.Errorf("%w: extent %d (offset %d, length %d) is too large", ErrFormat, i, offset, length)
		}
		t.Extents[i].Offset, lengths[i] = int64(offset), int64(length)
		if err := checkRange(i, int64(offset), int64(length), end, h.size); err != nil {
			return nil, err
		}
		end, sum = int64(offset+length), sum+int64(length)
	}
	if sum != h.data {
		return nil, fmt.Errorf("%w: extents hold %d bytes, the header says %d", ErrFormat, sum, h.data)
	}
	for i := range t.Extents {
		data, err := readExactly(r, lengths[i])
		if err != nil {
			return nil, fmt.Errorf("%w: reading extent %d: %w", ErrFormat, i, err)
		}
		t.Extents[i].Data = data
	}
	return t, nil
}

// readExactly grows with what is there, so that a false length costs no memory.
func readExactly(r io.Reader, n int64) ([]byte, error) {
	var b bytes.Buffer
	got, err := io.Copy(&b, io.LimitReader(r, n))
	if err != nil {
		return nil, err
	}
	if got != n {
		return nil, io.ErrUnexpectedEOF
	}
	return b.Bytes(), nil
}

func expectEnd(r io.Reader, sum hash.Hash, h header) error {
	var one [1]byte
	n, err := io.ReadFull(r, one[:])
	if n != 0 {
		return fmt.Errorf("%w: body goes on after the last extent", ErrFormat)
	}
	if !errors.Is(err, io.EOF) {
		return fmt.Errorf("%w: reading the end of the body: %w", ErrFormat, err)
	}
	if got := sum.Sum(nil); !bytes.Equal(got, h.digest[:]) {
		return fmt.Errorf("%w: body has SHA-256 %x, the header says %x", ErrFormat, got, h.digest)
	}
	return nil
}
