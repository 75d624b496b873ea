// SPDX-License-Identifier: Apache-2.0

package verity

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
)

// ErrSuperblock reports a block that is not a superblock of the one accepted parameter set.
var ErrSuperblock = errors.New("not an acceptable dm-verity superblock")

// Superblock is what varies in a dm-verity superblock; the rest is fixed.
type Superblock struct {
	UUID       [16]byte // names the device to tools; means nothing for security
	DataBlocks uint64   // number of data blocks that the tree covers
}

// Offsets in the on-disk superblock (cryptsetup, "DMVerity" on-disk format). All numbers are little-endian.
const (
	sbVersion   = 8
	sbHashType  = 12
	sbUUID      = 16
	sbAlgorithm = 32
	sbDataSize  = 64
	sbHashSize  = 68
	sbBlocks    = 72
	sbSaltSize  = 80
	sbSalt      = 88
	sbEnd       = 512
)

var (
	sbSignature = []byte("verity\x00\x00")
	sbSHA256    = []byte("sha256")
)

// Marshal returns the block that holds the superblock; it is BlockSize bytes long.
func (s Superblock) Marshal() []byte {
	b := make([]byte, BlockSize)
	copy(b, sbSignature)
	binary.LittleEndian.PutUint32(b[sbVersion:], 1)
	binary.LittleEndian.PutUint32(b[sbHashType:], 1)
	copy(b[sbUUID:], s.UUID[:])
	copy(b[sbAlgorithm:], sbSHA256)
	binary.LittleEndian.PutUint32(b[sbDataSize:], BlockSize)
	binary.LittleEndian.PutUint32(b[sbHashSize:], BlockSize)
	binary.LittleEndian.PutUint64(b[sbBlocks:], s.DataBlocks)
	binary.LittleEndian.PutUint16(b[sbSaltSize:], SaltSize)
	return b
}

// ParseSuperblock reads the superblock from the start of b, of which at least 512 bytes must be given. It accepts
// exactly what Marshal makes: other parameters, data in reserved fields and sizes out of range are errors that wrap
// ErrSuperblock.
func ParseSuperblock(b []byte) (Superblock, error) {
	if len(b) < sbEnd {
		return Superblock{}, fmt.Errorf("parsing the superblock: %w: expected %d bytes, got %d", ErrSuperblock, sbEnd, len(b))
	}
	if !bytes.Equal(b[:sbVersion], sbSignature) {
		return Superblock{}, fmt.Errorf("parsing the superblock: %w: expected signature %q, got %q", ErrSuperblock, sbSignature, b[:sbVersion])
	}
	s := Superblock{
		UUID:       [16]byte(b[sbUUID:sbAlgorithm]),
		DataBlocks: binary.LittleEndian.Uint64(b[sbBlocks:]),
	}
	if s.DataBlocks < MinDataBlocks || s.DataBlocks > MaxDataBlocks {
		return Superblock{}, fmt.Errorf("parsing the superblock: %w: expected %d to %d data blocks, got %d", ErrSuperblock, MinDataBlocks, uint64(MaxDataBlocks), s.DataBlocks)
	}
	whole := b[:min(len(b), BlockSize)]
	expected := s.Marshal()[:len(whole)]
	for _, f := range sbFields {
		e, a := expected[f.from:min(f.to, len(whole))], whole[f.from:min(f.to, len(whole))]
		if !bytes.Equal(e, a) {
			return Superblock{}, fmt.Errorf("parsing the superblock: %w: %s: expected %s, got %s", ErrSuperblock, f.name, show(e), show(a))
		}
	}
	return s, nil
}

// sbFields are the fixed parts of a superblock; with the UUID and the number of blocks they cover it without a gap.
var sbFields = []struct {
	name     string
	from, to int
}{
	{"format version", sbVersion, sbHashType},
	{"hash type", sbHashType, sbUUID},
	{"hash algorithm", sbAlgorithm, sbDataSize},
	{"data block size", sbDataSize, sbHashSize},
	{"hash block size", sbHashSize, sbBlocks},
	{"salt size", sbSaltSize, sbSaltSize + 2},
	{"reserved bytes", sbSaltSize + 2, sbSalt},
	{"salt", sbSalt, sbSalt + 256},
	{"padding", sbSalt + 256, BlockSize},
}

// show renders a field without its trailing zeros, so that long ones stay readable.
func show(b []byte) string {
	b = bytes.TrimRight(b, "\x00")
	if len(b) > 32 {
		return fmt.Sprintf("%x…", b[:32])
	}
	return fmt.Sprintf("%q", b)
}
