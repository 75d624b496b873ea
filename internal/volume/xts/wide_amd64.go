// SPDX-License-Identifier: Apache-2.0

package xts

import (
	"crypto/aes"
	"encoding/binary"
	"math/bits"

	"golang.org/x/sys/cpu"
)

// hasWide says that the processor encrypts four blocks with one instruction (VAES and VPCLMULQDQ on registers of 512 bits).
var hasWide = cpu.X86.HasAES && cpu.X86.HasAVX512F && cpu.X86.HasAVX512BW && cpu.X86.HasAVX512VAES && cpu.X86.HasAVX512VPCLMULQDQ

const rounds = 14 // of AES-256

// roundKeys are the round keys of AES-256 in the order in which they are used.
type roundKeys [rounds + 1][blockSize]byte

// wide is a cipher of 32 blocks at a time, which crypto/aes has not for this mode.
type wide struct {
	enc, dec roundKeys
}

// newWide expands a key of AES-256 (FIPS 197, section 5.2), or returns nil where the processor or the key is another one.
func newWide(key []byte) *wide {
	if !hasWide || len(key) != 32 {
		return nil
	}
	const n = 8 // words of the key
	var words [4 * (rounds + 1)]uint32
	for i := range n {
		words[i] = binary.LittleEndian.Uint32(key[4*i:])
	}
	rcon := uint32(1)
	for i := n; i < len(words); i++ {
		w := words[i-1]
		switch i % n {
		case 0:
			w = subWord(bits.RotateLeft32(w, -8)) ^ rcon
			rcon <<= 1
		case 4:
			w = subWord(w)
		}
		words[i] = words[i-n] ^ w
	}
	k := new(wide)
	for i, w := range words {
		binary.LittleEndian.PutUint32(k.enc[i/4][i%4*4:], w)
	}
	clear(words[:])
	// The equivalent inverse cipher, section 5.3.5.
	k.dec[0], k.dec[rounds] = k.enc[rounds], k.enc[0]
	for i := 1; i < rounds; i++ {
		unmix(&k.dec[i], &k.enc[rounds-i])
	}
	return k
}

// encrypt encrypts a data unit of a multiple of Unit bytes, whose first tweak is given, encrypted.
func (k *wide) encrypt(dst, src []byte, tweak *[aes.BlockSize]byte) {
	encryptUnits(&k.enc, &dst[0], &src[0], tweak, len(src)/Unit)
}

func (k *wide) decrypt(dst, src []byte, tweak *[aes.BlockSize]byte) {
	decryptUnits(&k.dec, &dst[0], &src[0], tweak, len(src)/Unit)
}

//go:noescape
func encryptUnits(keys *roundKeys, dst, src *byte, tweak *[aes.BlockSize]byte, units int)

//go:noescape
func decryptUnits(keys *roundKeys, dst, src *byte, tweak *[aes.BlockSize]byte, units int)

// subWord is SubWord of FIPS 197, without a table whose use could be timed.
func subWord(w uint32) uint32

// unmix is InvMixColumns of FIPS 197.
//
//go:noescape
func unmix(dst, src *[aes.BlockSize]byte)
