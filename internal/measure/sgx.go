// SPDX-License-Identifier: Apache-2.0

package measure

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"hash"
	"math/bits"
)

// EnclaveFlags are what an enclave's page is added with: permissions and page type. SDM volume 3D, table "Layout of
// SECINFO.FLAGS Structure".
type EnclaveFlags uint64

// Flags of pages that can be added to an enclave.
const (
	EnclaveRead    EnclaveFlags = 1 << 0
	EnclaveWrite   EnclaveFlags = 1 << 1
	EnclaveExecute EnclaveFlags = 1 << 2
	// EnclaveTCS is the type of a thread control structure, which has no permissions.
	EnclaveTCS EnclaveFlags = 1 << 8
	// EnclaveRegular is the type of every other page.
	EnclaveRegular EnclaveFlags = 2 << 8

	enclavePermissions = EnclaveRead | EnclaveWrite | EnclaveExecute
)

const (
	enclaveRecordSize = 64
	enclaveChunkSize  = 256 // what one EEXTEND measures
	secinfoMeasured   = 48  // bytes of SECINFO that EADD measures
)

// Enclave computes MRENCLAVE, the measurement of an SGX enclave, in the steps in which a loader builds it. Every step is a
// record of 64 bytes, and the measurement is their SHA-256 (SDM volume 3D, "ECREATE", "EADD", "EEXTEND"):
//
//	ECREATE   "ECREATE" 0, pages of an SSA frame as 32-bit number, size of the enclave as 64-bit number, zeros
//	EADD      "EADD" 0 0 0 0, offset of the page as 64-bit number, the first 48 bytes of SECINFO: flags, zeros
//	EEXTEND   "EEXTEND" 0, offset of the chunk as 64-bit number, zeros; behind it the chunk's 256 bytes
//
// Numbers are little-endian. Order counts: the same pages in another order are another enclave. So does what is not
// measured: a page without its chunks can hold anything.
type Enclave struct {
	h     hash.Hash
	size  uint64
	added map[uint64]bool
}

// NewEnclave begins with ECREATE. Size is the size of the enclave's address range in bytes, a power of two; ssaFrame is
// that of a state save area's frame in pages.
func NewEnclave(ssaFrame uint32, size uint64) (*Enclave, error) {
	if ssaFrame == 0 || size < 2*pageSize || bits.OnesCount64(size) != 1 || uint64(ssaFrame) > size/pageSize {
		return nil, fmt.Errorf("measuring enclave: %d bytes with SSA frames of %d pages are no enclave's", size, ssaFrame)
	}
	e := &Enclave{h: sha256.New(), size: size, added: map[uint64]bool{}}
	var r [enclaveRecordSize]byte
	copy(r[:], "ECREATE\x00")
	binary.LittleEndian.PutUint32(r[8:], ssaFrame)
	binary.LittleEndian.PutUint64(r[12:], size)
	_, _ = e.h.Write(r[:]) // a hash never fails
	return e, nil
}

// Add adds a page of 4096 bytes at an offset from the enclave's base: EADD and, when the content is measured, EEXTEND of its
// sixteen chunks in ascending order, as all loaders do it. Content of a page that is not measured may be nil.
func (e *Enclave) Add(offset uint64, flags EnclaveFlags, content []byte, measured bool) error {
	kind := flags &^ enclavePermissions
	switch {
	case offset%pageSize != 0 || offset >= e.size:
		return fmt.Errorf("measuring enclave: there is no page at %#x in %#x bytes", offset, e.size)
	case e.added[offset]:
		return fmt.Errorf("measuring enclave: page at %#x is added twice", offset)
	case kind != EnclaveTCS && kind != EnclaveRegular:
		return fmt.Errorf("measuring enclave: page at %#x has flags %#x, which are not those of a page that can be added", offset, flags)
	case kind == EnclaveTCS && flags != EnclaveTCS:
		return fmt.Errorf("measuring enclave: thread control structure at %#x has permissions (flags %#x)", offset, flags)
	case flags&EnclaveWrite != 0 && flags&EnclaveRead == 0:
		return fmt.Errorf("measuring enclave: page at %#x can be written but not read (flags %#x)", offset, flags)
	case (measured || content != nil) && len(content) != pageSize:
		return fmt.Errorf("measuring enclave: page at %#x has %d bytes, not %d", offset, len(content), pageSize)
	}
	e.added[offset] = true
	var r [enclaveRecordSize]byte
	copy(r[:], "EADD")
	binary.LittleEndian.PutUint64(r[8:], offset)
	binary.LittleEndian.PutUint64(r[enclaveRecordSize-secinfoMeasured:], uint64(flags))
	_, _ = e.h.Write(r[:])
	for at := 0; measured && at < pageSize; at += enclaveChunkSize {
		clear(r[:])
		copy(r[:], "EEXTEND")
		binary.LittleEndian.PutUint64(r[8:], offset+uint64(at))
		_, _ = e.h.Write(r[:])
		_, _ = e.h.Write(content[at : at+enclaveChunkSize])
	}
	return nil
}

// MRENCLAVE returns the measurement that EINIT would find now. More pages may follow.
func (e *Enclave) MRENCLAVE() [32]byte { return [32]byte(e.h.Sum(nil)) }
