// SPDX-License-Identifier: Apache-2.0

// Package wide does for volumes what the standard library does for one block at a time, or leaves most of a processor idle
// with: sectors of AES-256-XTS 32 blocks at a time, the opening of large messages of AES-256-GCM 16 blocks at a time, and SHA-256
// of two messages at a time. It has assembly for processors with the instructions (VAES and VPCLMULQDQ on registers of 512
// bits; SHA extensions), and nothing for others: callers have another way.
//
// It trusts its callers with lengths and with what keys are for. It never branches on a key or on data, or looks anything up
// by them, and leaves nothing of a message whose tag is wrong.
package wide

import "crypto/aes"

const (
	// Unit is what the lengths of sectors are multiples of, in bytes.
	Unit = 512
	// KeySize is the size of a key in bytes.
	KeySize = 32

	blockSize = aes.BlockSize
)

// Sectors encrypts and decrypts sectors in XTS mode. It is safe for concurrent use.
type Sectors struct {
	enc, dec roundKeys
}

// GCM opens messages of AES-256-GCM. It is safe for concurrent use.
type GCM struct {
	keys   roundKeys
	powers [step][blockSize]byte // of the hash key, the highest first, for hashing step blocks at a time
}

const (
	rounds = 14 // of AES-256
	// step is how many blocks of a message are opened at a time.
	step = 16
	// Step is what the lengths of messages are multiples of, in bytes.
	Step = step * blockSize
	// NonceSize and TagSize are sizes in bytes.
	NonceSize, TagSize = 12, 16
)

// roundKeys are the round keys of AES-256 in the order in which they are used.
type roundKeys [rounds + 1][blockSize]byte
