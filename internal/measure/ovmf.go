// SPDX-License-Identifier: Apache-2.0

package measure

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"strings"
)

// The table of GUIDed structures at the end of an OVMF image (OvmfPkg/ResetVector/Ia16/ResetVectorVtf0.asm). It is read
// backwards: each entry is its data, a 16-bit length of the whole entry, and a GUID. The last one is the table's own and
// ends 32 bytes before the end of the image.
var (
	guidFooter       = guid("96b582de-1fb2-45f7-baea-a366c55a082d")
	guidSEVHashTable = guid("7255371f-3a3b-4b04-927b-1da6efa8d454")
	guidSEVESReset   = guid("00f771de-1a7e-4fcb-890e-68c77e2fb44e")
	guidSEVMetadata  = guid("dc886566-984a-4798-a75e-5585a7bf67cc")
	guidTDXMetadata  = guid("e47a6535-984a-4798-865e-4685a7bf8ec2")
)

const (
	footerTail      = 32
	footerEntrySize = 2 + 16
	fourGiB         = 1 << 32
	maxFirmwareSize = 64 << 20
)

// firmware is an OVMF image with its table of structures.
type firmware struct {
	image  []byte
	tables map[[16]byte][]byte
}

// parseFirmware reads the table at the end of an image.
func parseFirmware(image []byte) (*firmware, error) {
	n := len(image)
	if n < pageSize || n%pageSize != 0 || n > maxFirmwareSize {
		return nil, fmt.Errorf("parsing firmware: size is %d bytes, not a multiple of %d up to %d", n, pageSize,
			maxFirmwareSize)
	}
	f := &firmware{image: image, tables: map[[16]byte][]byte{}}
	end := n - footerTail
	if guid := [16]byte(image[end-16 : end]); guid != guidFooter {
		return nil, fmt.Errorf("parsing firmware: no OVMF table: GUID at its end is %x", guid)
	}
	size := int(binary.LittleEndian.Uint16(image[end-footerEntrySize:]))
	if size < footerEntrySize || size > end {
		return nil, fmt.Errorf("parsing firmware: OVMF table has %d bytes, not %d to %d", size, footerEntrySize, end)
	}
	if err := f.entries(image[end-size : end-footerEntrySize]); err != nil {
		return nil, fmt.Errorf("parsing firmware: %w", err)
	}
	return f, nil
}

func (f *firmware) entries(b []byte) error {
	for len(b) > 0 {
		if len(b) < footerEntrySize {
			return fmt.Errorf("OVMF table has %d bytes left over", len(b))
		}
		id := [16]byte(b[len(b)-16:])
		size := int(binary.LittleEndian.Uint16(b[len(b)-footerEntrySize:]))
		if size < footerEntrySize || size > len(b) {
			return fmt.Errorf("OVMF table entry %x has %d bytes, not %d to %d", id, size, footerEntrySize, len(b))
		}
		if _, ok := f.tables[id]; ok {
			return fmt.Errorf("OVMF table entry %x occurs twice", id)
		}
		f.tables[id] = b[len(b)-size : len(b)-footerEntrySize]
		b = b[:len(b)-size]
	}
	return nil
}

// word reads a 32-bit number at the start of an entry of exactly size bytes.
func (f *firmware) word(id [16]byte, name string, size int) (uint32, error) {
	b, ok := f.tables[id]
	if !ok {
		return 0, fmt.Errorf("firmware has no %s", name)
	}
	if len(b) != size {
		return 0, fmt.Errorf("firmware's %s has %d bytes, not %d", name, len(b), size)
	}
	return binary.LittleEndian.Uint32(b), nil
}

// SEV metadata section types (OvmfPkg/Include/WorkArea and ResetVector/X64/OvmfSevMetadata.asm).
const (
	sectionMemory       = 1
	sectionSecrets      = 2
	sectionCPUID        = 3
	sectionSVSMCAA      = 4
	sectionKernelHashes = 0x10
)

const (
	metadataHeaderSize  = 16
	metadataSectionSize = 12
	maxMetadataSections = 64
	maxSectionSize      = 16 << 20
)

// section is a range of guest memory that the metadata asks to prepare.
type section struct {
	gpa, size uint64
	kind      uint32
}

// metadata finds a descriptor by the table entry that gives its distance from the end of the image.
func (f *firmware) metadata(id [16]byte, name, signature string) ([]byte, error) {
	distance, err := f.word(id, name, 4)
	if err != nil {
		return nil, err
	}
	if distance < metadataHeaderSize || uint64(distance) > uint64(len(f.image)) {
		return nil, fmt.Errorf("firmware's %s lies %d bytes before the end of %d bytes", name, distance, len(f.image))
	}
	b := f.image[len(f.image)-int(distance):]
	if got := string(b[:4]); got != signature {
		return nil, fmt.Errorf("firmware's %s has signature %q, not %q", name, got, signature)
	}
	return b, nil
}

// sevSections reads the SEV metadata, in order.
func (f *firmware) sevSections() ([]section, error) {
	b, err := f.metadata(guidSEVMetadata, "SEV metadata", "ASEV")
	if err != nil {
		return nil, err
	}
	size, version, count := binary.LittleEndian.Uint32(b[4:]), binary.LittleEndian.Uint32(b[8:]),
		binary.LittleEndian.Uint32(b[12:])
	want := uint64(metadataHeaderSize) + uint64(count)*metadataSectionSize
	if version != 1 || count > maxMetadataSections || uint64(size) != want || want > uint64(len(b)) {
		return nil, fmt.Errorf("firmware's SEV metadata of version %d has %d sections in %d bytes", version, count, size)
	}
	sections := make([]section, count)
	for i := range sections {
		e := b[metadataHeaderSize+i*metadataSectionSize:]
		s := section{
			gpa:  uint64(binary.LittleEndian.Uint32(e)),
			size: uint64(binary.LittleEndian.Uint32(e[4:])),
			kind: binary.LittleEndian.Uint32(e[8:]),
		}
		if s.gpa%pageSize != 0 || s.size%pageSize != 0 || s.size == 0 || s.size > maxSectionSize {
			return nil, fmt.Errorf("firmware's SEV section %d of type %d has %#x bytes at %#x", i, s.kind, s.size, s.gpa)
		}
		sections[i] = s
	}
	return sections, nil
}

// guid converts the text form to the form with three little-endian fields that firmware uses. It is for constants: a
// malformed text gives zeros, which a test would notice.
func guid(text string) [16]byte {
	var g [16]byte
	b, err := hex.DecodeString(strings.ReplaceAll(text, "-", ""))
	if err != nil || len(b) != 16 {
		return g
	}
	copy(g[:], []byte{b[3], b[2], b[1], b[0], b[5], b[4], b[7], b[6]})
	copy(g[8:], b[8:])
	return g
}
