// SPDX-License-Identifier: Apache-2.0

//go:build !amd64

package wide

// Available says that the processor can do what this package is for.
func Available() bool { return false }

// NewSectors returns nil: the package is not available.
func NewSectors([]byte) *Sectors { return nil }

// Encrypt is never called.
func (*Sectors) Encrypt(_, _ []byte, _ *[blockSize]byte) {}

// Decrypt is never called.
func (*Sectors) Decrypt(_, _ []byte, _ *[blockSize]byte) {}

// NewGCM returns nil: the package is not available.
func NewGCM([]byte) *GCM { return nil }

// Open is never called.
func (*GCM) Open([]byte, *[NonceSize]byte, *[TagSize]byte, []byte) bool { return false }

// NewPair returns nil: the package is not available.
func NewPair([]byte) *Pair { return nil }

// hashPair is never called.
func hashPair(*[64]uint32, *[8]uint32, *[8]uint32, *byte, *byte, int) {}
