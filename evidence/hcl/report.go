// SPDX-License-Identifier: Apache-2.0

package hcl

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// Sizes and offsets of a report, all little-endian.
const (
	// HardwareSize is the room for the hardware report: 1184 bytes, all of which an SNP report takes.
	HardwareSize = 1184
	// TDReportSize is how many of them a TDREPORT_STRUCT takes; the rest is zero.
	TDReportSize = 1024
	// StoredSize is the size of the TPM's index that holds the report; a shorter report is padded with zeros.
	StoredSize = 2600
	// MaxSize bounds a report.
	MaxSize = 16 << 10

	headerSize   = 32
	runtimeStart = headerSize + HardwareSize
	runtimeSize  = 20
	claimsStart  = runtimeStart + runtimeSize

	signature      = "HCLA"
	requestAK      = 2 // a report about the attestation key
	runtimeVersion = 1
)

// Kind says which hardware report is inside.
type Kind uint32

// The kinds.
const (
	// KindSNP marks an AMD SEV-SNP attestation report.
	KindSNP Kind = 2
	// KindTDX marks an Intel TDX TDREPORT_STRUCT, which only its own machine can check: away from there the quote that was
	// made of it counts.
	KindTDX Kind = 4
)

// String returns the kind's short name.
func (k Kind) String() string {
	switch k {
	case KindSNP:
		return "SNP"
	case KindTDX:
		return "TDX"
	}
	return fmt.Sprintf("unknown(%d)", uint32(k))
}

// HashSHA256 is the only hash of the claims that is known; the format has numbers for others.
const HashSHA256 = 1

// Report is a report of the paravisor.
type Report struct {
	// Version is the version of the header, 1 or 2.
	Version uint32
	// Kind says what Hardware is.
	Kind Kind
	// Hardware is the hardware report in its own format: an SNP report, or a TDREPORT.
	Hardware []byte
	// Claims is the JSON text whose SHA-256 the hardware report binds, exactly as it was delivered.
	Claims []byte

	size int // of the whole, with padding
}

// ParseReport decodes a report. It may be followed by zeros up to StoredSize, and by nothing else. The report shares the
// input's memory.
func ParseReport(b []byte) (*Report, error) {
	r, err := parseReport(b)
	if err != nil {
		return nil, fmt.Errorf("parsing HCL report: %w", err)
	}
	return r, nil
}

func parseReport(b []byte) (*Report, error) {
	if len(b) < claimsStart || len(b) > MaxSize {
		return nil, fmt.Errorf("size is %d bytes, not %d to %d", len(b), claimsStart, MaxSize)
	}
	u32 := func(off int) uint32 { return binary.LittleEndian.Uint32(b[off:]) }
	r := &Report{Version: u32(4), Kind: Kind(u32(runtimeStart + 8)), size: len(b)}
	claims := int64(u32(runtimeStart + 16))
	end := claimsStart + claims
	for _, f := range []struct {
		name      string
		got, want int64
	}{
		{"size in the header", int64(u32(8)), end},
		{"request type", int64(u32(12)), requestAK},
		{"status", int64(u32(16)), 0},
		{"reserved word at 20", int64(u32(20)), 0},
		{"reserved word at 24", int64(u32(24)), 0},
		{"reserved word at 28", int64(u32(28)), 0},
		{"size of the runtime data", int64(u32(runtimeStart)), runtimeSize + claims},
		{"version of the runtime data", int64(u32(runtimeStart + 4)), runtimeVersion},
		{"hash type", int64(u32(runtimeStart + 12)), HashSHA256},
	} {
		if f.got != f.want {
			return nil, fmt.Errorf("%s is %d, not %d", f.name, f.got, f.want)
		}
	}
	switch {
	case string(b[:4]) != signature:
		return nil, fmt.Errorf("it does not start with %q", signature)
	case r.Version != 1 && r.Version != 2:
		return nil, fmt.Errorf("version is %d, not 1 or 2", r.Version)
	case r.Kind != KindSNP && r.Kind != KindTDX:
		return nil, fmt.Errorf("hardware report is of type %d, not %d (SNP) or %d (TDX)", r.Kind, KindSNP, KindTDX)
	case end > int64(len(b)):
		return nil, fmt.Errorf("claims end at byte %d of %d", end, len(b))
	case end != int64(len(b)) && len(b) != StoredSize:
		return nil, fmt.Errorf("size is %d bytes, not %d, nor %d with padding", len(b), end, StoredSize)
	}
	if !zero(b[end:]) {
		return nil, errors.New("something but zeros follows the claims")
	}
	r.Hardware, r.Claims = b[headerSize:runtimeStart:runtimeStart], b[claimsStart:end:end]
	if r.Kind == KindTDX {
		if !zero(r.Hardware[TDReportSize:]) {
			return nil, errors.New("something but zeros follows the TDREPORT")
		}
		r.Hardware = r.Hardware[:TDReportSize:TDReportSize]
	}
	return r, nil
}

func zero(b []byte) bool {
	for _, v := range b {
		if v != 0 {
			return false
		}
	}
	return true
}

// Marshal encodes the report. For a parsed report it returns exactly the bytes that were read; another is padded to
// StoredSize where it is shorter.
func (r *Report) Marshal() []byte {
	le := binary.LittleEndian
	end := claimsStart + len(r.Claims)
	b := make([]byte, max(end, r.size))
	if r.size == 0 && end < StoredSize {
		b = make([]byte, StoredSize)
	}
	copy(b, signature)
	for off, v := range map[int]uint32{
		4: r.Version, 8: uint32(end), 12: requestAK, runtimeStart: uint32(runtimeSize + len(r.Claims)),
		runtimeStart + 4: runtimeVersion, runtimeStart + 8: uint32(r.Kind), runtimeStart + 12: HashSHA256,
		runtimeStart + 16: uint32(len(r.Claims)),
	} {
		le.PutUint32(b[off:], v)
	}
	copy(b[headerSize:runtimeStart], r.Hardware)
	copy(b[claimsStart:], r.Claims)
	return b
}
