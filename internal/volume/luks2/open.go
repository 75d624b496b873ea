// SPDX-License-Identifier: Apache-2.0

package luks2

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
)

// Header is what the header of a volume says. Nothing of it is trusted: see [Header.Verify]. It is not safe for concurrent
// use while a method changes it.
type Header struct {
	b      binaryHeader
	m      metadata
	device int64 // size of the whole in bytes
	repair bool
}

// Open reads the header of the volume in the size bytes of r. It refuses, before any key is used, whatever this package does
// not support or what could be read in two ways; the error then wraps ErrFormat. A volume with an unfinished conversion is
// ErrUnfinished. The work is bounded: at most 8 MiB are read, but for the places where a second copy may be.
//
// When one copy of the header is damaged, or older than the other, as a crash leaves them, the other one counts.
func Open(r io.ReaderAt, size int64) (*Header, error) {
	h, err := open(r, size)
	if err == nil && h.unfinished() {
		err = ErrUnfinished
	}
	if err != nil {
		return nil, fmt.Errorf("opening a volume: %w", err)
	}
	return h, nil
}

func open(r io.ReaderAt, size int64) (*Header, error) {
	if size < 2*minHeaderSize || size > maxSize {
		return nil, fmt.Errorf("%w: size: expected %d to %d bytes, got %d", ErrFormat, 2*minHeaderSize, int64(maxSize), size)
	}
	first, err := readCopy(r, 0, size)
	if err != nil && !errors.Is(err, errTorn) {
		return nil, fmt.Errorf("primary copy: %w", err)
	}
	second, errSecond := readSecond(r, first, size)
	if errSecond != nil && !errors.Is(errSecond, errTorn) {
		return nil, fmt.Errorf("secondary copy: %w", errSecond)
	}
	switch {
	case err != nil && errSecond != nil:
		return nil, fmt.Errorf("%w: primary copy: %w; secondary copy: %w", ErrFormat, err, errSecond)
	case err != nil:
		second.repair = true
		return second, nil
	case errSecond != nil:
		first.repair = true
		return first, nil
	}
	return choose(first, second)
}

// choose takes the newer copy. Copies of the same number must be the same.
func choose(first, second *Header) (*Header, error) {
	if first.b.uuid != second.b.uuid {
		return nil, fmt.Errorf("%w: the copies of the header are of different volumes, %s and %s", ErrFormat, first.b.uuid, second.b.uuid)
	}
	newer := first
	if second.b.sequence > first.b.sequence {
		newer = second
	}
	if first.b.sequence != second.b.sequence {
		newer.repair = true
		return newer, nil
	}
	one, err := first.canonical()
	if err != nil {
		return nil, err
	}
	two, err := second.canonical()
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(one, two) {
		return nil, fmt.Errorf("%w: the copies of the header have the same number, %d, and differ", ErrFormat, first.b.sequence)
	}
	return first, nil
}

// readSecond reads the secondary copy: behind the primary one, or, if that is damaged, from wherever one may be.
func readSecond(r io.ReaderAt, first *Header, size int64) (*Header, error) {
	if first != nil {
		return readCopy(r, first.b.size, size)
	}
	for at := int64(minHeaderSize); at <= maxHeaderSize && at < size; at *= 2 {
		h, err := readCopy(r, at, size)
		if !errors.Is(err, errTorn) {
			return h, err
		}
	}
	return nil, fmt.Errorf("%w: there is none", errTorn)
}

// readCopy reads one copy of the header. It returns nil with an error.
func readCopy(r io.ReaderAt, at, device int64) (*Header, error) {
	if at > device-binarySize {
		return nil, fmt.Errorf("%w: it would lie behind the end", errTorn)
	}
	b := make([]byte, binarySize)
	if err := readFull(r, b, at); err != nil {
		return nil, err
	}
	h := &Header{device: device}
	var err error
	h.b, err = parseBinary(b, at)
	if err != nil {
		return nil, err
	}
	if at > device-h.b.size {
		return nil, fmt.Errorf("%w: it ends behind the end", errTorn)
	}
	b = slices.Grow(b, int(h.b.size)-binarySize)[:h.b.size]
	if err := readFull(r, b[binarySize:], at+binarySize); err != nil {
		return nil, err
	}
	return h, h.parse(b)
}

// parse reads a whole copy whose binary header is known.
func (h *Header) parse(b []byte) error {
	if err := checkSum(b); err != nil {
		return err
	}
	if err := h.b.parseTexts(b); err != nil {
		return err
	}
	doc, err := jsonText(b[binarySize:])
	if err != nil {
		return err
	}
	h.m, err = parseMetadata(doc)
	if err != nil {
		return err
	}
	return h.m.validate(h.b.size, h.device)
}

// readFull reads all of b, and takes the end of the storage before that for an error.
func readFull(r io.ReaderAt, b []byte, at int64) error {
	n, err := r.ReadAt(b, at)
	if n == len(b) {
		return nil
	}
	if err == nil || errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return fmt.Errorf("reading %d bytes at byte %d: %w", len(b), at, err)
}
