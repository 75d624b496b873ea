// SPDX-License-Identifier: Apache-2.0

package shadow

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"errors"
)

const (
	magic     = "COFFVOL1"
	macOffset = BlockSize - sha256.Size
)

// superblock is one committed state.
type superblock struct {
	id         [16]byte
	capacity   uint64 // blocks
	size       uint64 // blocks
	generation uint64
	epoch      uint64
	root       entry
	session    [16]byte
}

var errSuperblock = errors.New("it is no superblock of this volume")

// peekID reads the volume's ID, which is not authenticated: it only chooses keys, and all keys depend on it.
func peekID(b []byte) (id [16]byte, ok bool) {
	if len(b) != BlockSize || string(b[:8]) != magic {
		return id, false
	}
	return [16]byte(b[16:32]), true
}

func (s *superblock) marshal(key []byte) []byte {
	b := make([]byte, BlockSize)
	copy(b, magic)
	le := binary.LittleEndian
	le.PutUint32(b[8:], BlockSize)
	copy(b[16:], s.id[:])
	le.PutUint64(b[32:], s.capacity)
	le.PutUint64(b[40:], s.size)
	le.PutUint64(b[48:], s.generation)
	le.PutUint64(b[56:], s.epoch)
	copy(b[64:], s.root[:])
	copy(b[96:], s.session[:])
	h := hmac.New(sha256.New, key)
	h.Write(b[:macOffset])
	return h.Sum(b[:macOffset])
}

// parseSuperblock reads a superblock and authenticates it before it looks at it.
func parseSuperblock(b, key []byte) (*superblock, error) {
	id, ok := peekID(b)
	if !ok {
		return nil, errSuperblock
	}
	h := hmac.New(sha256.New, key)
	h.Write(b[:macOffset])
	if !hmac.Equal(h.Sum(nil), b[macOffset:]) {
		return nil, errSuperblock
	}
	le := binary.LittleEndian
	s := &superblock{
		id: id, capacity: le.Uint64(b[32:]), size: le.Uint64(b[40:]), generation: le.Uint64(b[48:]), epoch: le.Uint64(b[56:]),
		root: entry(b[64:96]), session: [16]byte(b[96:112]),
	}
	switch {
	case le.Uint32(b[8:]) != BlockSize, !zero(b[12:16]), !zero(b[112:macOffset]):
		return nil, errSuperblock // of another version
	case s.generation == 0, s.size == 0, s.size > s.capacity, s.epoch == 0, s.epoch > maxEpoch:
		return nil, errSuperblock
	}
	return s, nil
}

func zero(b []byte) bool {
	for _, c := range b {
		if c != 0 {
			return false
		}
	}
	return true
}
