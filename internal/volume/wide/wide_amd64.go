// SPDX-License-Identifier: Apache-2.0

package wide

import (
	"crypto/subtle"
	"encoding/binary"
	"math"
	"math/bits"

	"golang.org/x/sys/cpu"
)

// Available says that the processor can do what this package is for.
func Available() bool {
	return cpu.X86.HasAES && cpu.X86.HasAVX && cpu.X86.HasAVX512F && cpu.X86.HasAVX512BW && cpu.X86.HasAVX512VL &&
		cpu.X86.HasAVX512VAES && cpu.X86.HasAVX512VPCLMULQDQ
}

// NewSectors returns a cipher for sectors, or nil if the package is not available or the key is not of KeySize.
func NewSectors(key []byte) *Sectors {
	if !Available() || len(key) != KeySize {
		return nil
	}
	s := new(Sectors)
	expand(&s.enc, key)
	// The equivalent inverse cipher (FIPS 197, section 5.3.5).
	s.dec[0], s.dec[rounds] = s.enc[rounds], s.enc[0]
	for i := 1; i < rounds; i++ {
		unmix(&s.dec[i], &s.enc[rounds-i])
	}
	return s
}

// Encrypt encrypts a sector of a multiple of Unit bytes, but not of none, whose first tweak is given, encrypted. The slices
// have the same length, and overlap entirely or not at all.
func (s *Sectors) Encrypt(dst, src []byte, tweak *[blockSize]byte) {
	encryptUnits(&s.enc, &dst[:len(src)][0], &src[0], tweak, len(src)/Unit)
}

// Decrypt undoes Encrypt.
func (s *Sectors) Decrypt(dst, src []byte, tweak *[blockSize]byte) {
	decryptUnits(&s.dec, &dst[:len(src)][0], &src[0], tweak, len(src)/Unit)
}

// NewGCM returns what opens messages, or nil if the package is not available or the key is not of KeySize.
func NewGCM(key []byte) *GCM {
	if !Available() || len(key) != KeySize {
		return nil
	}
	g := new(GCM)
	expand(&g.keys, key)
	var h [blockSize]byte
	encryptBlock(&g.keys, &h)
	// The hash key times x, so that products need not be shifted: their bits are in reverse order.
	high, low := binary.BigEndian.Uint64(h[:8]), binary.BigEndian.Uint64(h[8:])
	carry := uint64(int64(high) >> 63)
	high, low = high<<1|low>>63, low<<1
	high, low = high^carry&0xC200000000000000, low^carry&1
	last := &g.powers[step-1]
	binary.LittleEndian.PutUint64(last[:8], low)
	binary.LittleEndian.PutUint64(last[8:], high)
	for i := step - 2; i >= 0; i-- {
		g.powers[i] = backwards(g.powers[i+1])
		hashBlock(last, &g.powers[i], new([blockSize]byte))
		g.powers[i] = backwards(g.powers[i])
	}
	return g
}

func backwards(b [blockSize]byte) (r [blockSize]byte) {
	for i := range b {
		r[i] = b[blockSize-1-i]
	}
	return r
}

// Open decrypts a message in place, and says whether its tag is right. Its length must be a multiple of Step, and not zero, and
// at most a GiB. If the tag is wrong the message is zeros.
func (g *GCM) Open(message []byte, nonce *[NonceSize]byte, tag *[TagSize]byte, data []byte) bool {
	if len(message) == 0 || len(message)%Step != 0 || len(message) > math.MaxInt32/2 {
		return false
	}
	var hash, block [blockSize]byte
	dataBits := uint64(len(data)) * 8
	last := &g.powers[step-1]
	for ; len(data) >= blockSize; data = data[blockSize:] {
		hashBlock(last, &hash, (*[blockSize]byte)(data))
	}
	if len(data) > 0 {
		copy(block[:], data)
		hashBlock(last, &hash, &block)
	}
	copy(block[:], nonce[:])
	binary.BigEndian.PutUint32(block[NonceSize:], 2) // 1 is the tag's
	openBlocks(&g.keys, &g.powers, &message[0], &message[0], &block, &hash, len(message)/blockSize)
	mask := block
	binary.BigEndian.PutUint32(mask[NonceSize:], 1)
	encryptBlock(&g.keys, &mask)
	binary.BigEndian.PutUint64(block[:8], dataBits)
	binary.BigEndian.PutUint64(block[8:], uint64(len(message))*8)
	hashBlock(last, &hash, &block)
	subtle.XORBytes(hash[:], hash[:], mask[:])
	if subtle.ConstantTimeCompare(hash[:], tag[:]) != 1 {
		clear(message)
		return false
	}
	return true
}

// NewPair returns what hashes pairs, or nil if the processor has no SHA extensions or the salt is not of 32 bytes.
func NewPair(salt []byte) *Pair {
	const sha = 1 << 29 // in EBX of leaf 7
	if features()&sha == 0 || !cpu.X86.HasSSE41 || !cpu.X86.HasSSSE3 || len(salt) != saltSize {
		return nil
	}
	return &Pair{[saltSize]byte(salt)}
}

// expand makes the round keys (FIPS 197, section 5.2).
func expand(k *roundKeys, key []byte) {
	const n = KeySize / 4
	var words [4 * (rounds + 1)]uint32
	for i := range n {
		words[i] = binary.LittleEndian.Uint32(key[4*i:])
	}
	constant := uint32(1)
	for i := n; i < len(words); i++ {
		w := words[i-1]
		switch i % n {
		case 0:
			w = subWord(bits.RotateLeft32(w, -8)) ^ constant
			constant <<= 1
		case 4:
			w = subWord(w)
		}
		words[i] = words[i-n] ^ w
	}
	for i, w := range words {
		binary.LittleEndian.PutUint32(k[i/4][i%4*4:], w)
	}
	clear(words[:])
}

//go:noescape
func encryptUnits(keys *roundKeys, dst, src *byte, tweak *[blockSize]byte, units int)

//go:noescape
func decryptUnits(keys *roundKeys, dst, src *byte, tweak *[blockSize]byte, units int)

// openBlocks decrypts blocks, a multiple of step, with the counters from icb on, and hashes them as they were.
//
//go:noescape
func openBlocks(k *roundKeys, powers *[step][blockSize]byte, dst, src *byte, icb, hash *[blockSize]byte, count int)

// hashBlock adds a block to a hash and multiplies that by a power of the hash key.
//
//go:noescape
func hashBlock(power, hash, block *[blockSize]byte)

// encryptBlock encrypts one block in place.
//
//go:noescape
func encryptBlock(k *roundKeys, b *[blockSize]byte)

// subWord is SubWord of FIPS 197, without a table whose use could be timed.
func subWord(w uint32) uint32

// unmix is InvMixColumns of FIPS 197.
//
//go:noescape
func unmix(dst, src *[blockSize]byte)

// hashPair adds blocks of two messages to two states.
//
//go:noescape
func hashPair(k *[64]uint32, s, t *[8]uint32, p, q *byte, count int)

// features is what EBX says in leaf 7 of CPUID.
func features() uint32
