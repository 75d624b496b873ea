// SPDX-License-Identifier: Apache-2.0

package measure

import (
	"crypto/sha512"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
)

// TDVF metadata section types (Intel TDX Virtual Firmware Design Guide, table "TDVF metadata").
const (
	tdvfBFV       = 0
	tdvfCFV       = 1
	tdvfHOB       = 2
	tdvfTempMem   = 3
	tdvfPermMem   = 4
	tdvfPayload   = 5
	tdvfParameter = 6
)

const (
	tdvfSectionSize  = 32
	tdvfExtend       = 1 << 0
	tdxChunkSize     = 256
	tdxRecordSize    = 128
	maxTDVFMemory    = 256 << 20 // measured memory; nothing limits what is added later
	tdvfPageAugments = 1 << 1
)

// tdvfSection is an entry of the TDVF metadata.
type tdvfSection struct {
	dataOffset, dataSize uint32
	gpa, size            uint64
	kind, attributes     uint32
}

// TDXMRTD returns MRTD, the measurement of the memory that a TD starts with, for TDVF firmware. Sections enter in the
// order of the metadata and page by page: TDH.MEM.PAGE.ADD of a page, then, where the section asks for it, TDH.MR.EXTEND
// of its sixteen 256-byte chunks. Kernel and command line are not part of it; the firmware measures them into RTMRs.
func TDXMRTD(image []byte) ([48]byte, error) {
	f, err := parseFirmware(image)
	if err != nil {
		return [48]byte{}, fmt.Errorf("measuring TD: %w", err)
	}
	sections, err := f.tdvfSections()
	if err != nil {
		return [48]byte{}, fmt.Errorf("measuring TD: %w", err)
	}
	h := sha512.New384()
	for _, s := range sections {
		if s.kind == tdvfPermMem { // added after the start with TDH.MEM.PAGE.AUG, which is not measured
			continue
		}
		data := f.image[s.dataOffset : s.dataOffset+s.dataSize]
		for off := uint64(0); off < s.size; off += pageSize {
			page := make([]byte, pageSize)
			if off < uint64(len(data)) {
				copy(page, data[off:])
			}
			addPage(h, s.gpa+off, page, s.attributes&tdvfExtend != 0)
		}
	}
	return [48]byte(h.Sum(nil)), nil
}

// addPage hashes the records of Intel TDX Module Base Architecture, section "MRTD: Build-Time Measurement Register".
func addPage(h hash.Hash, gpa uint64, page []byte, extend bool) {
	record := func(name string, gpa uint64) {
		var r [tdxRecordSize]byte
		copy(r[:], name)
		binary.LittleEndian.PutUint64(r[16:], gpa)
		_, _ = h.Write(r[:]) // a hash never fails
	}
	record("MEM.PAGE.ADD", gpa)
	for off := 0; extend && off < pageSize; off += tdxChunkSize {
		record("MR.EXTEND", gpa+uint64(off))
		_, _ = h.Write(page[off : off+tdxChunkSize])
	}
}

func (f *firmware) tdvfSections() ([]tdvfSection, error) {
	b, err := f.metadata(guidTDXMetadata, "TDVF metadata", "TDVF")
	if err != nil {
		return nil, err
	}
	size, version, count := binary.LittleEndian.Uint32(b[4:]), binary.LittleEndian.Uint32(b[8:]),
		binary.LittleEndian.Uint32(b[12:])
	want := uint64(metadataHeaderSize) + uint64(count)*tdvfSectionSize
	if version != 1 || count == 0 || count > maxMetadataSections || uint64(size) != want || want > uint64(len(b)) {
		return nil, fmt.Errorf("firmware's TDVF metadata of version %d has %d sections in %d bytes", version, count, size)
	}
	sections := make([]tdvfSection, count)
	total := uint64(0)
	for i := range sections {
		s := parseTDVFSection(b[metadataHeaderSize+i*tdvfSectionSize:])
		if err := s.check(len(f.image)); err != nil {
			return nil, fmt.Errorf("firmware's TDVF section %d of type %d: %w", i, s.kind, err)
		}
		if s.kind != tdvfPermMem {
			total += s.size
		}
		if total > maxTDVFMemory {
			return nil, fmt.Errorf("firmware's TDVF sections have %#x bytes, more than %#x", total, maxTDVFMemory)
		}
		sections[i] = s
	}
	return sections, nil
}

func parseTDVFSection(b []byte) tdvfSection {
	le := binary.LittleEndian
	return tdvfSection{
		dataOffset: le.Uint32(b), dataSize: le.Uint32(b[4:]), gpa: le.Uint64(b[8:]), size: le.Uint64(b[16:]),
		kind: le.Uint32(b[24:]), attributes: le.Uint32(b[28:]),
	}
}

func (s tdvfSection) check(image int) error {
	switch {
	case s.kind > tdvfParameter:
		return errors.New("type is unknown")
	case s.attributes&^(tdvfExtend|tdvfPageAugments) != 0:
		return fmt.Errorf("attributes %#x are unknown", s.attributes)
	case s.gpa%pageSize != 0 || s.size%pageSize != 0 || s.size > 1<<52 || s.gpa > 1<<52:
		return fmt.Errorf("memory of %#x bytes at %#x is not whole pages", s.size, s.gpa)
	case uint64(s.dataOffset)+uint64(s.dataSize) > uint64(image) || uint64(s.dataSize) > s.size:
		return fmt.Errorf("%#x bytes of data at %#x are outside of the image or the memory", s.dataSize, s.dataOffset)
	}
	switch s.kind {
	case tdvfBFV, tdvfCFV:
		if s.dataSize == 0 {
			return errors.New("firmware volume has no data")
		}
	case tdvfPayload, tdvfParameter:
		if s.attributes&tdvfExtend != 0 && s.dataSize == 0 {
			return errors.New("it measures a payload that the image does not hold")
		}
	case tdvfHOB, tdvfTempMem, tdvfPermMem:
		if s.dataSize != 0 || s.attributes&tdvfExtend != 0 {
			return errors.New("memory without content has data or is measured")
		}
	}
	return nil
}
