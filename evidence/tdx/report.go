// SPDX-License-Identifier: Apache-2.0

package tdx

import (
	"crypto/sha512"
	"encoding/binary"
	"fmt"

	"cofferdam.dev/evidence/internal/fixed"
)

// Sizes in bytes of TDREPORT_STRUCT and its parts. TDX module ABI, section "TDREPORT_STRUCT".
const (
	// ReportSize is the size of every TDREPORT.
	ReportSize = 1024

	macSize     = 256 // REPORTMACSTRUCT
	tcbInfoSize = 239 // TEE_TCB_INFO
	tdInfoStart = 512 // TDINFO_STRUCT, to the end
)

// reportType is the type of a TDREPORT in its first byte. SDM, table "REPORTTYPE".
const reportType = 0x81

// Report is a TDREPORT: what the TDX module says of a TD to whoever can ask the same machine's processor to check the MAC.
// Away from that machine it proves nothing by itself.
type Report struct {
	// Version is the version of the part about the TD: 0, or 1 when service TDs are bound to it.
	Version uint8
	// CPUSVN is the security version of the processor.
	CPUSVN [16]byte
	// TCBInfoHash and TDInfoHash are the SHA-384 digests under the MAC that stand for TCBInfo and the TD's values.
	TCBInfoHash, TDInfoHash [48]byte
	// ReportData is what the TD asked to have vouched for.
	ReportData [64]byte
	// MAC is the processor's code over all of the above.
	MAC [32]byte
	// TCBInfo is about the TDX module.
	TCBInfo TCBInfo
	// TD is about the TD.
	TD Info
}

// TCBInfo is TEE_TCB_INFO, what a report says of the TDX module.
type TCBInfo struct {
	// Valid says, one bit for each field, which fields are valid.
	Valid [8]byte
	// TEETCBSVN, MRSEAM, MRSignerSEAM and Attributes are those of Body.
	TEETCBSVN            [16]byte
	MRSEAM, MRSignerSEAM [48]byte
	Attributes           uint64
	// TEETCBSVN2 is that of Body15, zero in reports of TDX 1.0.
	TEETCBSVN2 [16]byte
}

// Info is TDINFO_STRUCT, what a report says of the TD. The fields are those of Body.
type Info struct {
	Attributes                               Attributes
	XFAM                                     XFAM
	MRTD, MRConfigID, MROwner, MROwnerConfig [48]byte
	RTMR                                     [RTMRCount][48]byte
	// ServiceTDHash is the digest over the bound service TDs, zero in version 0.
	ServiceTDHash [48]byte
}

// ParseReport decodes a TDREPORT of exactly ReportSize bytes.
func ParseReport(b []byte) (*Report, error) {
	if len(b) != ReportSize {
		return nil, fmt.Errorf("parsing TDREPORT: size is %d bytes, not %d", len(b), ReportSize)
	}
	r := &Report{}
	d := newDecoder(b)
	if t := d.U8(); t != reportType {
		d.Fail("report type is %#02x, not %#02x", t, reportType)
	}
	d.Zero(2) // subtype
	r.Version = d.U8()
	if r.Version > 1 {
		d.Fail("version is %d, not 0 or 1", r.Version)
	}
	d.Zero(16)
	r.CPUSVN = [16]byte(d.Next(16))
	r.TCBInfoHash, r.TDInfoHash = d.digest(), d.digest()
	r.ReportData = [64]byte(d.Next(64))
	d.Zero(224)
	r.MAC = [32]byte(d.Next(32))
	d.tcbInfo(&r.TCBInfo)
	d.Zero(tdInfoStart)
	d.info(&r.TD)
	if r.Version == 0 && r.TD.ServiceTDHash != [48]byte{} {
		d.Fail("version 0 has a digest of service TDs")
	}
	if d.Err != nil {
		return nil, fmt.Errorf("parsing TDREPORT: %w", d.Err)
	}
	return r, nil
}

func (d *decoder) tcbInfo(t *TCBInfo) {
	t.Valid = [8]byte(d.Next(8))
	t.TEETCBSVN = [16]byte(d.Next(16))
	t.MRSEAM, t.MRSignerSEAM = d.digest(), d.digest()
	t.Attributes = d.U64()
	t.TEETCBSVN2 = [16]byte(d.Next(16))
	d.Zero(macSize + tcbInfoSize)
}

func (d *decoder) info(t *Info) {
	t.Attributes, t.XFAM = Attributes(d.U64()), XFAM(d.U64())
	t.MRTD, t.MRConfigID, t.MROwner, t.MROwnerConfig = d.digest(), d.digest(), d.digest(), d.digest()
	for i := range t.RTMR {
		t.RTMR[i] = d.digest()
	}
	t.ServiceTDHash = d.digest()
	d.Zero(ReportSize)
}

// Marshal encodes TEE_TCB_INFO.
func (t *TCBInfo) Marshal() []byte {
	b := append(make([]byte, 0, tcbInfoSize), t.Valid[:]...)
	b = append(b, t.TEETCBSVN[:]...)
	b = append(append(b, t.MRSEAM[:]...), t.MRSignerSEAM[:]...)
	b = binary.LittleEndian.AppendUint64(b, t.Attributes)
	return fixed.Pad(append(b, t.TEETCBSVN2[:]...), tcbInfoSize)
}

// Marshal encodes TDINFO_STRUCT.
func (t *Info) Marshal() []byte {
	b := binary.LittleEndian.AppendUint64(make([]byte, 0, ReportSize-tdInfoStart), uint64(t.Attributes))
	b = binary.LittleEndian.AppendUint64(b, uint64(t.XFAM))
	b = append(append(append(append(b, t.MRTD[:]...), t.MRConfigID[:]...), t.MROwner[:]...), t.MROwnerConfig[:]...)
	for _, r := range t.RTMR {
		b = append(b, r[:]...)
	}
	return fixed.Pad(append(b, t.ServiceTDHash[:]...), ReportSize-tdInfoStart)
}

// Marshal encodes the report. For a parsed report it returns exactly the bytes that were read.
func (r *Report) Marshal() []byte {
	b := append(make([]byte, 0, ReportSize), reportType, 0, r.Version)
	b = append(fixed.Pad(b, 16), r.CPUSVN[:]...)
	b = append(append(b, r.TCBInfoHash[:]...), r.TDInfoHash[:]...)
	b = append(b, r.ReportData[:]...)
	b = append(fixed.Pad(b, 224), r.MAC[:]...)
	b = append(b, r.TCBInfo.Marshal()...)
	return append(fixed.Pad(b, tdInfoStart), r.TD.Marshal()...)
}

// CheckHashes compares both digests under the MAC with what they stand for. It says nothing of the MAC itself, which only
// the machine that made it can check.
func (r *Report) CheckHashes() error {
	if got := sha512.Sum384(r.TCBInfo.Marshal()); got != r.TCBInfoHash {
		return fmt.Errorf("checking TDREPORT: digest of TEE_TCB_INFO is %x, not the stated %x", got, r.TCBInfoHash)
	}
	if got := sha512.Sum384(r.TD.Marshal()); got != r.TDInfoHash {
		return fmt.Errorf("checking TDREPORT: digest of TDINFO is %x, not the stated %x", got, r.TDInfoHash)
	}
	return nil
}

// Body returns the body that a quote of TDX 1.0 over the report has.
func (r *Report) Body() *Body {
	return &Body{
		TEETCBSVN: r.TCBInfo.TEETCBSVN, MRSEAM: r.TCBInfo.MRSEAM, MRSignerSEAM: r.TCBInfo.MRSignerSEAM,
		SEAMAttributes: r.TCBInfo.Attributes, TDAttributes: r.TD.Attributes, XFAM: r.TD.XFAM, MRTD: r.TD.MRTD,
		MRConfigID: r.TD.MRConfigID, MROwner: r.TD.MROwner, MROwnerConfig: r.TD.MROwnerConfig, RTMR: r.TD.RTMR,
		ReportData: r.ReportData,
	}
}

// Body15 returns the body that a quote of TDX 1.5 over the report has.
func (r *Report) Body15() *Body {
	b := r.Body()
	b.V15 = &Body15{TEETCBSVN2: r.TCBInfo.TEETCBSVN2, MRServiceTD: r.TD.ServiceTDHash}
	return b
}
