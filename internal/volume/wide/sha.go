// SPDX-License-Identifier: Apache-2.0

package wide

import (
	"crypto/sha256"
	"encoding/binary"
)

// Pair hashes two messages of equal length at a time, each behind the same salt, with SHA-256: SHA-256(salt ‖ message). It is
// safe for concurrent use.
type Pair struct {
	salt [saltSize]byte
}

const (
	// saltSize is what is supported, in bytes: half a block of SHA-256.
	saltSize = sha256.BlockSize / 2
	// PairUnit is what the lengths of messages are multiples of, in bytes.
	PairUnit = sha256.BlockSize
)

// Sum hashes two messages of the same length, a multiple of PairUnit bytes and not of none, into two sums.
func (h *Pair) Sum(sums *[2][sha256.Size]byte, a, b []byte) {
	n := min(len(a), len(b))
	var first, last [2][sha256.BlockSize]byte
	for i, p := range [][]byte{a, b} {
		copy(first[i][:], h.salt[:])
		copy(first[i][saltSize:], p)
		// What is left is half a block; its other half are the padding and the length in bits (FIPS 180-4, section 5.1.1).
		copy(last[i][:], p[n-saltSize:n])
		last[i][saltSize] = 0x80
		binary.BigEndian.PutUint64(last[i][sha256.BlockSize-8:], uint64(saltSize+n)*8)
	}
	s, t := initial, initial
	hashPair(&constants, &s, &t, &first[0][0], &first[1][0], 1)
	if blocks := n/sha256.BlockSize - 1; blocks > 0 {
		hashPair(&constants, &s, &t, &a[saltSize], &b[saltSize], blocks)
	}
	hashPair(&constants, &s, &t, &last[0][0], &last[1][0], 1)
	for i := range s {
		binary.BigEndian.PutUint32(sums[0][4*i:], s[i])
		binary.BigEndian.PutUint32(sums[1][4*i:], t[i])
	}
}

// initial is the state before a message (FIPS 180-4, section 5.3.3).
var initial = [8]uint32{
	0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19,
}

// constants are those of the rounds (FIPS 180-4, section 4.2.2).
var constants = [64]uint32{
	0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
	0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
	0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
	0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
	0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
	0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
	0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
	0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2,
}
