// SPDX-License-Identifier: Apache-2.0

package snp

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"slices"

	"cofferdam.dev/evidence/internal/fixed"
)

// GUID names an entry of a certificate table, in the byte order of its text form.
type GUID [16]byte

// The certificates of a table. GHCB, section "Extended attestation report".
var (
	GUIDVCEK = GUID{0x63, 0xda, 0x75, 0x8d, 0xe6, 0x64, 0x45, 0x64, 0xad, 0xc5, 0xf4, 0xb9, 0x3b, 0xe8, 0xac, 0xcd}
	GUIDVLEK = GUID{0xa8, 0x07, 0x4b, 0xc2, 0xa2, 0x5a, 0x48, 0x3e, 0xaa, 0xe6, 0x39, 0xc0, 0x45, 0xa0, 0xb8, 0xa1}
	GUIDASK  = GUID{0x4a, 0xb7, 0xb3, 0x79, 0xbb, 0xac, 0x4f, 0xe4, 0xa0, 0x2f, 0x05, 0xae, 0xf3, 0x27, 0xc7, 0x82}
	GUIDARK  = GUID{0xc0, 0xb4, 0x06, 0xa4, 0xa8, 0x03, 0x49, 0x52, 0x97, 0x43, 0x3f, 0xb6, 0x01, 0x4c, 0xd0, 0xae}
)

// String returns the GUID's text form.
func (g GUID) String() string {
	h := hex.EncodeToString(g[:])
	return h[:8] + "-" + h[8:12] + "-" + h[12:16] + "-" + h[16:20] + "-" + h[20:]
}

// Limits of a certificate table.
const (
	// MaxCertificateTable is the largest table that is parsed, in bytes.
	MaxCertificateTable = 128 << 10
	// MaxCertificateEntries is the largest number of entries that is parsed.
	MaxCertificateEntries = 16

	tableEntrySize = 24
)

// CertificateEntry is one entry of a certificate table.
type CertificateEntry struct {
	// GUID says what Data is.
	GUID GUID
	// Data is a certificate in DER for the GUIDs above, and anything else for others.
	Data []byte
}

// ParseCertificateTable decodes the certificate table that a host delivers with an extended report: entries of GUID,
// offset and length, an entry of zeros, and the data. Data must lie behind the entries, within the table, and no two
// entries may share bytes; bytes that belong to no entry (hosts pad to pages) are ignored.
func ParseCertificateTable(b []byte) ([]CertificateEntry, error) {
	if len(b) > MaxCertificateTable {
		return nil, fmt.Errorf("parsing certificate table: size is %d bytes, more than %d", len(b), MaxCertificateTable)
	}
	spans, err := tableSpans(b)
	if err != nil {
		return nil, fmt.Errorf("parsing certificate table: %w", err)
	}
	entries := make([]CertificateEntry, len(spans))
	for i, s := range spans {
		entries[i] = CertificateEntry{GUID: s.guid, Data: slices.Clone(b[s.off : s.off+s.size])}
	}
	return entries, nil
}

// ChainCertificates returns the certificates of a table that lead from a report to a root, in DER and in the table's order.
// Other entries are left out, and an empty table has none.
func ChainCertificates(table []byte) ([][]byte, error) {
	if len(table) == 0 {
		return nil, nil
	}
	entries, err := ParseCertificateTable(table)
	if err != nil {
		return nil, err
	}
	var list [][]byte
	for _, e := range entries {
		switch e.GUID {
		case GUIDVCEK, GUIDVLEK, GUIDASK, GUIDARK:
			list = append(list, e.Data)
		}
	}
	return list, nil
}

type span struct {
	guid      GUID
	off, size uint64
}

func tableSpans(b []byte) ([]span, error) {
	var spans []span
	for at := 0; ; at += tableEntrySize {
		if len(b)-at < tableEntrySize {
			return nil, fmt.Errorf("entry %d is cut off: the table has no end", len(spans))
		}
		e := b[at : at+tableEntrySize]
		s := span{
			guid: GUID(e),
			off:  uint64(binary.LittleEndian.Uint32(e[16:])),
			size: uint64(binary.LittleEndian.Uint32(e[20:])),
		}
		if s == (span{}) {
			return spans, checkSpans(spans, uint64(at+tableEntrySize), uint64(len(b)))
		}
		if len(spans) == MaxCertificateEntries {
			return nil, fmt.Errorf("there are more than %d entries", MaxCertificateEntries)
		}
		spans = append(spans, s)
	}
}

func checkSpans(spans []span, start, end uint64) error {
	for i, s := range spans {
		if s.size == 0 || s.off < start || s.off+s.size > end {
			return fmt.Errorf("entry %d (%s) has %d bytes at %#x, outside of %#x to %#x", i, s.guid, s.size, s.off, start,
				end)
		}
		for j, o := range spans[:i] {
			if o.guid == s.guid {
				return fmt.Errorf("entries %d and %d are both %s", j, i, s.guid)
			}
			if s.off < o.off+o.size && o.off < s.off+s.size {
				return fmt.Errorf("entries %d and %d overlap", j, i)
			}
		}
	}
	return nil
}

// MarshalCertificateTable encodes a certificate table in a form that ParseCertificateTable accepts, or says why it can not.
func MarshalCertificateTable(entries []CertificateEntry) ([]byte, error) {
	off := tableEntrySize * (len(entries) + 1)
	var b []byte
	for _, e := range entries {
		b = append(b, e.GUID[:]...)
		b = binary.LittleEndian.AppendUint32(b, uint32(off))
		b = binary.LittleEndian.AppendUint32(b, uint32(len(e.Data)))
		off += len(e.Data)
		if off > MaxCertificateTable {
			return nil, fmt.Errorf("encoding certificate table: it is larger than %d bytes", MaxCertificateTable)
		}
	}
	b = fixed.Pad(b, tableEntrySize*(len(entries)+1))
	for _, e := range entries {
		b = append(b, e.Data...)
	}
	if _, err := ParseCertificateTable(b); err != nil {
		return nil, fmt.Errorf("encoding certificate table: %w", err)
	}
	return b, nil
}
