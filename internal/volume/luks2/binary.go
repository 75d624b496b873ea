// SPDX-License-Identifier: Apache-2.0

package luks2

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/binary"
	"errors"
	"fmt"
	"unicode"
	"unicode/utf8"
)

// Offsets in the binary header (LUKS2 On-Disk Format Specification section 2.1). Numbers are big-endian.
const (
	offVersion   = 6
	offSize      = 8
	offSequence  = 16
	offLabel     = 24
	offAlgorithm = 72
	offSalt      = 104
	offUUID      = 168
	offSubsystem = 208
	offPosition  = 256
	offPadding   = 264
	offChecksum  = 448
	offRest      = 512

	checksumSize = 64
	maxLabel     = offAlgorithm - offLabel - 1
)

var (
	primaryMagic   = []byte("LUKS\xba\xbe")
	secondaryMagic = []byte("SKUL\xba\xbe")
	algorithm      = []byte("sha256")
)

// errTorn says that a copy of the header is absent or was written only in part, in which case the other one counts.
var errTorn = errors.New("this copy is damaged")

// binaryHeader is what varies in the binary header.
type binaryHeader struct {
	size      int64 // of this copy: the binary header and the JSON area
	sequence  uint64
	label     string
	uuid      string
	subsystem string
	position  int64
}

func magic(position int64) []byte {
	if position == 0 {
		return primaryMagic
	}
	return secondaryMagic
}

// parseBinary reads the numbers of the binary header that lies at a position of the device, as far as they are needed to
// find the checksum. What is no header at all is errTorn; what is one and must not be used is ErrFormat.
func parseBinary(b []byte, position int64) (binaryHeader, error) {
	var h binaryHeader
	if !bytes.HasPrefix(b, magic(position)) {
		if bytes.HasPrefix(b, primaryMagic) || bytes.HasPrefix(b, secondaryMagic) {
			return h, fmt.Errorf("%w: primary and secondary copy are exchanged", ErrFormat)
		}
		return h, fmt.Errorf("%w: there is no signature", errTorn)
	}
	if v := binary.BigEndian.Uint16(b[offVersion:]); v != 2 {
		return h, fmt.Errorf("%w: version: expected 2, got %d", ErrFormat, v)
	}
	size := binary.BigEndian.Uint64(b[offSize:])
	if size < minHeaderSize || size > maxHeaderSize || size&(size-1) != 0 {
		return h, fmt.Errorf("%w: size of a copy: expected a power of two from %d to %d, got %d", ErrFormat, minHeaderSize, maxHeaderSize, size)
	}
	if p := binary.BigEndian.Uint64(b[offPosition:]); p != uint64(position) {
		return h, fmt.Errorf("%w: position of a copy: expected %d, got %d", ErrFormat, position, p)
	}
	if position != 0 && position != int64(size) {
		return h, fmt.Errorf("%w: secondary copy of %d bytes at byte %d", ErrFormat, size, position)
	}
	h = binaryHeader{size: int64(size), sequence: binary.BigEndian.Uint64(b[offSequence:]), position: position}
	if h.sequence > maxSequence {
		return h, fmt.Errorf("%w: sequence number: expected at most %d, got %d", ErrFormat, int64(maxSequence), h.sequence)
	}
	return h, nil
}

// parseTexts reads the rest, after the checksum.
func (h *binaryHeader) parseTexts(b []byte) error {
	if !bytes.Equal(bytes.TrimRight(b[offAlgorithm:offSalt], "\x00"), algorithm) {
		return fmt.Errorf("%w: checksum algorithm: expected %q, got %q", ErrFormat, algorithm, bytes.TrimRight(b[offAlgorithm:offSalt], "\x00"))
	}
	for _, f := range []struct {
		name string
		in   []byte
		out  *string
	}{
		{"label", b[offLabel:offAlgorithm], &h.label},
		{"UUID", b[offUUID:offSubsystem], &h.uuid},
		{"subsystem", b[offSubsystem:offPosition], &h.subsystem},
	} {
		text, rest, ended := bytes.Cut(f.in, []byte{0})
		if !ended || !allZero(rest) || !plainText(string(text)) {
			return fmt.Errorf("%w: %s: expected plain text that ends in zeros, got %q", ErrFormat, f.name, f.in)
		}
		*f.out = string(text)
	}
	if !validUUID(h.uuid) {
		return fmt.Errorf("%w: UUID: got %q", ErrFormat, h.uuid)
	}
	if !allZero(b[offPadding:offChecksum]) || !allZero(b[offRest:binarySize]) || !allZero(b[offChecksum+sha256.Size:offRest]) {
		return fmt.Errorf("%w: reserved bytes of the binary header are not zero", ErrFormat)
	}
	return nil
}

// marshal returns a copy of the header: the binary header with a fresh salt, the JSON area, and the checksum over both.
func (h binaryHeader) marshal(doc []byte) []byte {
	b := make([]byte, h.size)
	copy(b, magic(h.position))
	binary.BigEndian.PutUint16(b[offVersion:], 2)
	binary.BigEndian.PutUint64(b[offSize:], uint64(h.size))
	binary.BigEndian.PutUint64(b[offSequence:], h.sequence)
	copy(b[offLabel:], h.label)
	copy(b[offAlgorithm:], algorithm)
	_, _ = rand.Read(b[offSalt:offUUID]) // never fails
	copy(b[offUUID:], h.uuid)
	copy(b[offSubsystem:], h.subsystem)
	binary.BigEndian.PutUint64(b[offPosition:], uint64(h.position))
	copy(b[binarySize:], doc)
	sum := checksum(b)
	copy(b[offChecksum:], sum[:])
	return b
}

// checksum is over the whole copy, with zeros for the checksum itself.
func checksum(b []byte) [sha256.Size]byte {
	h := sha256.New()
	h.Write(b[:offChecksum])
	h.Write(make([]byte, checksumSize))
	h.Write(b[offChecksum+checksumSize:])
	return [sha256.Size]byte(h.Sum(nil))
}

func checkSum(b []byte) error {
	sum := checksum(b)
	if subtle.ConstantTimeCompare(sum[:], b[offChecksum:offChecksum+sha256.Size]) != 1 {
		return fmt.Errorf("%w: the checksum is wrong", errTorn)
	}
	return nil
}

// jsonText returns the JSON of a JSON area: all up to the first zero byte, and nothing but zeros behind.
func jsonText(area []byte) ([]byte, error) {
	doc, rest, ended := bytes.Cut(area, []byte{0})
	if !ended {
		return nil, fmt.Errorf("%w: the JSON area does not end in a zero byte", ErrFormat)
	}
	if !allZero(rest) {
		return nil, fmt.Errorf("%w: something follows the JSON in its area", ErrFormat)
	}
	return doc, nil
}

func allZero(b []byte) bool {
	for _, c := range b {
		if c != 0 {
			return false
		}
	}
	return true
}

// plainText tells whether a name from a header is fit to be shown.
func plainText(s string) bool {
	if !utf8.ValidString(s) {
		return false
	}
	for _, r := range s {
		if !unicode.IsPrint(r) {
			return false
		}
	}
	return true
}

func validUUID(s string) bool {
	if len(s) != 36 {
		return false
	}
	for i, c := range []byte(s) {
		switch dash := i == 8 || i == 13 || i == 18 || i == 23; {
		case dash && c != '-', !dash && (c < '0' || c > '9') && (c < 'a' || c > 'f') && (c < 'A' || c > 'F'):
			return false
		}
	}
	return true
}

// newUUID returns a random UUID (RFC 9562 section 5.4).
func newUUID() string {
	var u [16]byte
	_, _ = rand.Read(u[:]) // never fails
	u[6], u[8] = u[6]&0x0f|0x40, u[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", u[:4], u[4:6], u[6:8], u[8:10], u[10:])
}
