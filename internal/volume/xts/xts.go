// SPDX-License-Identifier: Apache-2.0

// Package xts is AES in XTS mode (IEEE 1619, SP 800-38E) over many sectors at once, on top of crypto/aes: as fast as that
// package's cipher goes, without assembly of its own.
//
// XTS hides what a sector holds and nothing else: it does not tell whether a sector was changed, moved or put back. The
// package trusts its caller to number sectors, never keeps a key but in its expanded form, and never allocates for a sector.
package xts

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/subtle"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
)

const (
	// Unit is what sector numbers count, in bytes: a sector of 4096 bytes advances the number by eight (dm-crypt's "plain64"
	// without iv_large_sectors).
	Unit = 512
	// MaxSector bounds the size of a sector in bytes.
	MaxSector = 4096

	blockSize = aes.BlockSize
)

// ErrKey says that a key is not one for XTS.
var ErrKey = errors.New("not a key for AES-XTS")

// Cipher encrypts and decrypts sectors under one key. It is safe for concurrent use.
type Cipher struct {
	data, tweak cipher.Block
}

// scratch holds the tweaks of one sector, and the place in which the first is made. On the stack it would escape through
// the interface of the block cipher, once for each sector.
type scratch struct {
	first  [blockSize]byte
	tweaks [MaxSector]byte
}

var pool = sync.Pool{New: func() any { return new(scratch) }}

// New returns a cipher for a key of 32 bytes (AES-128) or 64 bytes (AES-256): half for the data, half for the tweaks. Halves
// that are equal are refused, as SP 800-38E and FIPS 140 ask; a key that was zeroed is such a one. The error wraps ErrKey.
func New(key []byte) (*Cipher, error) {
	if len(key) != 32 && len(key) != 64 {
		return nil, fmt.Errorf("%w: expected 32 or 64 bytes, got %d", ErrKey, len(key))
	}
	half := len(key) / 2
	if subtle.ConstantTimeCompare(key[:half], key[half:]) == 1 {
		return nil, fmt.Errorf("%w: its halves are equal", ErrKey)
	}
	data, err := aes.NewCipher(key[:half])
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrKey, err)
	}
	tweak, err := aes.NewCipher(key[half:])
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrKey, err)
	}
	return &Cipher{data, tweak}, nil
}

// Encrypt encrypts whole sectors of the given size in bytes from src to dst, which overlap entirely or not at all. The
// first sector has the given number in units of 512 bytes. Sizes that are no multiples are errors, and nothing is written.
func (c *Cipher) Encrypt(dst, src []byte, sectorSize int, number uint64) error {
	if err := check(dst, src, sectorSize); err != nil {
		return fmt.Errorf("encrypting: %w", err)
	}
	s := pool.Get().(*scratch)
	for at := 0; at < len(src); at += sectorSize {
		c.encrypt(s, dst[at:at+sectorSize], src[at:at+sectorSize], number, 0)
		number += uint64(sectorSize / Unit)
	}
	pool.Put(s)
	return nil
}

// Decrypt undoes Encrypt.
func (c *Cipher) Decrypt(dst, src []byte, sectorSize int, number uint64) error {
	if err := check(dst, src, sectorSize); err != nil {
		return fmt.Errorf("decrypting: %w", err)
	}
	s := pool.Get().(*scratch)
	for at := 0; at < len(src); at += sectorSize {
		c.decrypt(s, dst[at:at+sectorSize], src[at:at+sectorSize], number, 0)
		number += uint64(sectorSize / Unit)
	}
	pool.Put(s)
	return nil
}

func check(dst, src []byte, sectorSize int) error {
	if sectorSize < Unit || sectorSize > MaxSector || sectorSize%Unit != 0 {
		return fmt.Errorf("sectors of %d bytes, not of a multiple of %d up to %d", sectorSize, Unit, MaxSector)
	}
	if len(src)%sectorSize != 0 || len(dst) != len(src) {
		return fmt.Errorf("%d bytes to %d bytes, not as many whole sectors of %d", len(src), len(dst), sectorSize)
	}
	return nil
}

// encrypt encrypts one data unit, whose tweak value is given as two halves of 64 bits.
func (c *Cipher) encrypt(s *scratch, dst, src []byte, low, high uint64) {
	tweaks := c.expand(s, len(src), low, high)
	subtle.XORBytes(dst, src, tweaks)
	for b := dst; len(b) > 0; b = b[blockSize:] {
		c.data.Encrypt(b, b)
	}
	subtle.XORBytes(dst, dst, tweaks)
}

func (c *Cipher) decrypt(s *scratch, dst, src []byte, low, high uint64) {
	tweaks := c.expand(s, len(src), low, high)
	subtle.XORBytes(dst, src, tweaks)
	for b := dst; len(b) > 0; b = b[blockSize:] {
		c.data.Decrypt(b, b)
	}
	subtle.XORBytes(dst, dst, tweaks)
}

// expand makes the tweaks of a data unit of n bytes.
func (c *Cipher) expand(s *scratch, n int, low, high uint64) []byte {
	binary.LittleEndian.PutUint64(s.first[:8], low)
	binary.LittleEndian.PutUint64(s.first[8:], high)
	c.tweak.Encrypt(s.first[:], s.first[:])
	low, high = binary.LittleEndian.Uint64(s.first[:8]), binary.LittleEndian.Uint64(s.first[8:])
	for t := s.tweaks[:n]; len(t) >= blockSize; t = t[blockSize:] {
		binary.LittleEndian.PutUint64(t, low)
		binary.LittleEndian.PutUint64(t[8:], high)
		// Times x in GF(2¹²⁸) modulo x¹²⁸+x⁷+x²+x+1, without a branch on the secret.
		carry := uint64(int64(high)>>63) & 0x87
		high = high<<1 | low>>63
		low = low<<1 ^ carry
	}
	return s.tweaks[:n]
}
