// SPDX-License-Identifier: Apache-2.0

// Package luks2 makes, opens and changes encrypted volumes in the on-disk format of LUKS2, without root and without the
// kernel's device-mapper: files that cryptsetup opens, and the other way round.
//
// A volume lies on storage that nobody trusts, and so does its header. Parsing is strict and bounded, it accepts one cipher,
// and what it returns is a claim: a [Header] becomes a [Device] only through a [Pin], which fixes what matters of it under
// the volume key, or through a call whose name says that there is none. The package trusts the volume key and the pin.
//
// It never writes a key in the clear, and never prints one. It does not tell whether data were changed, moved or put back:
// the format has no integrity. It never locks a volume against other processes.
package luks2

import (
	"errors"
	"io"
)

// The errors that callers tell apart. Those of this package wrap one of them, or come from the storage.
var (
	// ErrFormat says that there is no volume, or one that is refused before a key is used.
	ErrFormat = errors.New("not an acceptable LUKS2 volume")
	// ErrPin says that a header is not what a pin fixes, or that a pin was not made with this key.
	ErrPin = errors.New("the pin does not fit")
	// ErrKey says that a key or passphrase is not one of this volume.
	ErrKey = errors.New("the key does not fit")
	// ErrUnfinished says that a conversion of this package was begun and not finished: resume it.
	ErrUnfinished = errors.New("a conversion of the volume is unfinished")
	// ErrStale says that somebody else changed the header since it was read.
	ErrStale = errors.New("the header was changed meanwhile")
	// ErrFull says that there is no room for one more key slot.
	ErrFull = errors.New("no room for a key slot")
)

// Cipher is the one encryption that is accepted, of data and of key slots: AES in XTS mode, sectors numbered in units of 512
// bytes from the beginning of the data.
const Cipher = "aes-xts-plain64"

// File is what a volume is written to. What was written before Sync survives a crash once Sync returned. *os.File is one.
type File interface {
	io.ReaderAt
	io.WriterAt
	Sync() error
}

// Bounds of the format (LUKS2 On-Disk Format Specification 1.1.1) and of cryptsetup; sizes in bytes.
const (
	binarySize     = 4096     // of the binary header in front of the JSON area, section 2.1
	minHeaderSize  = 16 << 10 // of one copy of the header, section 2.2
	maxHeaderSize  = 4 << 20
	alignment      = 4096 // of areas and data
	maxAreas       = 128 << 20
	maxSlots       = 32
	maxTokens      = 32
	maxDigests     = 8
	stripes        = 4000 // of the anti-forensic splitter, section 2.3
	slotSector     = 512  // in which key slots are encrypted
	maxSize        = 1 << 60
	maxSequence    = 1 << 60
	minSalt        = 16
	maxSalt        = 64
	defaultOffset  = 16 << 20
	defaultSector  = 4096
	keyDigestSalt  = 32
	keyDigestIters = 1000
)
