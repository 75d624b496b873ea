// SPDX-License-Identifier: Apache-2.0

package measure

import (
	"crypto/sha512"
	"encoding/binary"
	"strings"
	"testing"
)

// ovmfOptions spoils one thing each of a synthetic firmware image.
type ovmfOptions struct {
	hashTable    uint32 // place of the hash table; default inside its page
	sectionCount uint32 // stated number of SEV sections; default the true one
	sectionKind  uint32 // type of the first SEV section
	sectionSize  uint32
	metadata     uint32 // distance of the SEV metadata from the end
	footerSize   uint16
	twice        bool   // one entry occurs twice
	tdvf         []byte // TDVF metadata with its header
}

const syntheticSize = 8192

// buildOVMF makes an image of two pages with a table of structures at its end and SEV metadata at offset 4096.
func buildOVMF(t testing.TB, o ovmfOptions) []byte {
	t.Helper()
	le := binary.LittleEndian
	b := make([]byte, syntheticSize)
	for i := range b {
		b[i] = byte(i * 7)
	}
	sections := [][3]uint32{
		{0x800000, or(o.sectionSize, 0x2000), or(o.sectionKind, sectionMemory)},
		{0x802000, 0x1000, sectionSecrets}, {0x803000, 0x1000, sectionCPUID},
		{0x804000, 0x1000, sectionKernelHashes},
	}
	meta := append([]byte("ASEV"), make([]byte, 12)...)
	le.PutUint32(meta[4:], uint32(16+12*len(sections)))
	le.PutUint32(meta[8:], 1)
	le.PutUint32(meta[12:], or(o.sectionCount, uint32(len(sections))))
	for _, s := range sections {
		for _, v := range s {
			meta = le.AppendUint32(meta, v)
		}
	}
	copy(b[4096:], meta)
	copy(b[5120:], o.tdvf)

	var table []byte
	entry := func(id [16]byte, data ...uint32) {
		start := len(table)
		for _, v := range data {
			table = le.AppendUint32(table, v)
		}
		table = le.AppendUint16(table, uint16(len(table)-start+footerEntrySize))
		table = append(table, id[:]...)
	}
	entry(guidTDXMetadata, syntheticSize-5120)
	entry(guidSEVMetadata, or(o.metadata, syntheticSize-4096))
	entry(guidSEVHashTable, or(o.hashTable, 0x804c00), 0x400)
	entry(guidSEVESReset, 0x80b004)
	if o.twice {
		entry(guidSEVESReset, 0x80b004)
	}
	entry(guidFooter)
	le.PutUint16(table[len(table)-footerEntrySize:], uint16(or(uint32(o.footerSize), uint32(len(table)))))
	copy(b[syntheticSize-footerTail-len(table):], table)
	return b
}

func or(v, other uint32) uint32 {
	if v == 0 {
		return other
	}
	return v
}

func TestFirmwareIsParsedStrictly(t *testing.T) {
	t.Parallel()
	cfg := SNPConfig{VCPUs: 2, GuestFeatures: FeatureSNP, VMM: QEMU}
	for _, c := range []struct {
		name string
		o    ovmfOptions
		want string
	}{
		{"hash table across pages", ovmfOptions{hashTable: 0x804f80}, "kernel hashes"},
		{"hash table elsewhere", ovmfOptions{hashTable: 0x900000}, "kernel hashes"},
		{"fewer sections stated", ovmfOptions{sectionCount: 3}, "3 sections"},
		{"countless sections", ovmfOptions{sectionCount: 0xffffffff}, "sections"},
		{"unknown section", ovmfOptions{sectionKind: 77}, "unknown type 77"},
		{"section of part of a page", ovmfOptions{sectionSize: 0x800}, "0x800 bytes"},
		{"huge section", ovmfOptions{sectionSize: 0xfffff000}, "bytes"},
		{"metadata before the image", ovmfOptions{metadata: syntheticSize + 1}, "before the end"},
		{"metadata elsewhere", ovmfOptions{metadata: 4000}, "signature"},
		{"metadata at the end", ovmfOptions{metadata: 1}, "before the end"},
		{"footer too long", ovmfOptions{footerSize: 0xffff}, "OVMF table"},
		{"footer too short", ovmfOptions{footerSize: 3}, "OVMF table"},
		{"footer off by one", ovmfOptions{footerSize: 117}, "OVMF table"},
		{"entry twice", ovmfOptions{twice: true}, "twice"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			_, err := SNP(buildOVMF(t, c.o), &KernelHashes{}, cfg)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error is %v, not one about %q", err, c.want)
			}
		})
	}
}

// encodeTDVF encodes TDVF metadata.
func encodeTDVF(sections []tdvfSection) []byte {
	le := binary.LittleEndian
	b := le.AppendUint32([]byte("TDVF"), uint32(16+32*len(sections)))
	b = le.AppendUint32(le.AppendUint32(b, 1), uint32(len(sections)))
	for _, s := range sections {
		b = le.AppendUint32(le.AppendUint32(b, s.dataOffset), s.dataSize)
		b = le.AppendUint64(le.AppendUint64(b, s.gpa), s.size)
		b = le.AppendUint32(le.AppendUint32(b, s.kind), s.attributes)
	}
	return b
}

// TestMRTD computes MRTD of a synthetic firmware a second time, from the TDX module's description of its records.
func TestMRTD(t *testing.T) {
	t.Parallel()
	image := buildOVMF(t, ovmfOptions{tdvf: encodeTDVF([]tdvfSection{
		{dataOffset: 0, dataSize: 4096, gpa: 0xffffe000, size: 4096, kind: tdvfBFV, attributes: tdvfExtend},
		{dataOffset: 4096, dataSize: 4000, gpa: 0xffc00000, size: 8192, kind: tdvfCFV},
		{gpa: 0x809000, size: 4096, kind: tdvfHOB},
		{gpa: 0x100000, size: 4096, kind: tdvfPermMem, attributes: tdvfPageAugments},
		{gpa: 0x810000, size: 8192, kind: tdvfTempMem},
	})})
	var log []byte
	add := func(name string, gpa uint64) {
		r := make([]byte, 128)
		copy(r, name)
		binary.LittleEndian.PutUint64(r[16:], gpa)
		log = append(log, r...)
	}
	add("MEM.PAGE.ADD", 0xffffe000)
	for i := range 16 {
		add("MR.EXTEND", 0xffffe000+uint64(i)*256)
		log = append(log, image[i*256:(i+1)*256]...)
	}
	for _, gpa := range []uint64{0xffc00000, 0xffc01000, 0x809000, 0x810000, 0x811000} {
		add("MEM.PAGE.ADD", gpa)
	}
	got, err := TDXMRTD(image)
	if err != nil {
		t.Fatal(err)
	}
	if want := sha512.Sum384(log); got != want {
		t.Errorf("MRTD is %x, not %x", got, want)
	}
}

func TestTDVFIsParsedStrictly(t *testing.T) {
	t.Parallel()
	good := tdvfSection{dataSize: 4096, gpa: 0xffffe000, size: 4096, attributes: tdvfExtend}
	for name, change := range map[string]func(*tdvfSection){
		"unknown type":          func(s *tdvfSection) { s.kind = 7 },
		"unknown attribute":     func(s *tdvfSection) { s.attributes = 4 },
		"part of a page":        func(s *tdvfSection) { s.size = 5000 },
		"address in a page":     func(s *tdvfSection) { s.gpa++ },
		"data beyond image":     func(s *tdvfSection) { s.dataOffset = 8000 },
		"data overflows":        func(s *tdvfSection) { s.dataOffset = 0xfffff000 },
		"data beyond memory":    func(s *tdvfSection) { s.dataSize = 8192 },
		"volume without data":   func(s *tdvfSection) { s.dataSize = 0 },
		"measured hand-off":     func(s *tdvfSection) { s.kind, s.dataSize = tdvfHOB, 0 },
		"memory with data":      func(s *tdvfSection) { s.kind, s.attributes = tdvfTempMem, 0 },
		"payload without data":  func(s *tdvfSection) { s.kind, s.dataSize = tdvfPayload, 0 },
		"terabytes of memory":   func(s *tdvfSection) { s.size = 1 << 40 },
		"address out of bounds": func(s *tdvfSection) { s.gpa = 1 << 60 },
	} {
		s := good
		change(&s)
		if _, err := TDXMRTD(buildOVMF(t, ovmfOptions{tdvf: encodeTDVF([]tdvfSection{s})})); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	if _, err := TDXMRTD(buildOVMF(t, ovmfOptions{tdvf: encodeTDVF([]tdvfSection{good})})); err != nil {
		t.Errorf("the section that the cases spoil is refused itself: %v", err)
	}
}

// FuzzFirmware looks for images that make the parsers panic, hang or disagree with themselves.
func FuzzFirmware(f *testing.F) {
	f.Add(buildOVMF(f, ovmfOptions{}))
	f.Add(buildOVMF(f, ovmfOptions{tdvf: encodeTDVF([]tdvfSection{{dataSize: 4096, gpa: 0xffffe000, size: 4096}})}))
	f.Add(make([]byte, 4096))
	cfg := SNPConfig{VCPUs: 2, GuestFeatures: FeatureSNP, VMM: QEMU}
	f.Fuzz(func(t *testing.T, image []byte) {
		first, err := SNP(image, &KernelHashes{}, cfg)
		second, again := SNP(image, &KernelHashes{}, cfg)
		if first != second || (err == nil) != (again == nil) {
			t.Error("two runs differ")
		}
		if err != nil && first != ([48]byte{}) {
			t.Error("an error comes with a digest")
		}
		_, _ = TDXMRTD(image)
	})
}
