// SPDX-License-Identifier: Apache-2.0

// Package tdx holds the byte formats of Intel TDX: the body of a TD quote, the words of attributes and features that it
// names, the report that the TDX module makes for a local verifier (TDREPORT), and the log of measured events (CCEL) with
// the registers that it leads to. The formats are those of the Intel TDX module specifications ("ABI Reference", chapter
// "Measurement and Attestation Types"), of the TDX DCAP quoting library ("TD Quote Body"), of ACPI 6.5 ("CC Event Log
// ACPI Table") and of the TCG PC Client Platform Firmware Profile ("Event Logging").
//
// The package trusts nothing: every parser takes hostile bytes, checks every length and count, and either returns a value
// that marshals to exactly the bytes that were read or an error. It never judges a value and never opens a device. In
// particular the text and data of logged events are unsigned: only their digests are bound to a register.
//
// Reserved byte ranges must be zero. The words of flags are kept whole, because modules define new flags in them without
// a new format; Unknown names those so that a verifier can decide.
package tdx

import (
	"encoding/binary"
	"fmt"

	"cofferdam.dev/evidence/internal/fixed"
)

// Sizes of the bodies of TD quotes.
const (
	// BodySize10 is the size in bytes of the body of TDX 1.0, which quotes of version 4 hold.
	BodySize10 = 584
	// BodySize15 is the size in bytes of the body of TDX 1.5, which quotes of version 5 can hold.
	BodySize15 = 648
)

// RTMRCount is the number of measurement registers that a TD can extend at run time.
const RTMRCount = 4

// Body is what a quote says of a TD. TDX DCAP quoting library API, table "TD Quote Body"; for the two last fields
// "TD Quote Body for TDX 1.5".
type Body struct {
	// TEETCBSVN is the security version of the TDX module: byte 0 is its minor version's, byte 1 its major version, byte
	// 2 that of the loader.
	TEETCBSVN [16]byte
	// MRSEAM is the SHA-384 measurement of the TDX module.
	MRSEAM [48]byte
	// MRSignerSEAM is the digest of the module's signer; zero stands for Intel.
	MRSignerSEAM [48]byte
	// SEAMAttributes are the module's attributes, zero for a production module.
	SEAMAttributes uint64
	// TDAttributes are the attributes of the TD.
	TDAttributes Attributes
	// XFAM are the extended processor states that the TD may use.
	XFAM XFAM
	// MRTD is the SHA-384 measurement of the TD as it was built.
	MRTD [48]byte
	// MRConfigID, MROwner and MROwnerConfig are values that the host fixed when it made the TD, or zero.
	MRConfigID, MROwner, MROwnerConfig [48]byte
	// RTMR are the measurement registers that the TD extends at run time.
	RTMR [RTMRCount][48]byte
	// ReportData is what the TD asked to have signed.
	ReportData [64]byte
	// V15 are the fields that TDX 1.5 adds. It is nil in a body of TDX 1.0.
	V15 *Body15
}

// Body15 are the fields that TDX 1.5 adds to Body.
type Body15 struct {
	// TEETCBSVN2 is the security version of the module that runs now, after updates that preserve TDs. TEETCBSVN is that
	// of the module under which the TD was built.
	TEETCBSVN2 [16]byte
	// MRServiceTD is the digest over the service TDs bound to the TD, or zero.
	MRServiceTD [48]byte
}

// ParseBody decodes a body of exactly BodySize10 or BodySize15 bytes.
func ParseBody(b []byte) (*Body, error) {
	if len(b) != BodySize10 && len(b) != BodySize15 {
		return nil, fmt.Errorf("parsing TD quote body: size is %d bytes, not %d or %d", len(b), BodySize10, BodySize15)
	}
	t := &Body{}
	d := newDecoder(b)
	t.TEETCBSVN = [16]byte(d.Next(16))
	t.MRSEAM, t.MRSignerSEAM = d.digest(), d.digest()
	t.SEAMAttributes = d.U64()
	t.TDAttributes, t.XFAM = Attributes(d.U64()), XFAM(d.U64())
	t.MRTD = d.digest()
	t.MRConfigID, t.MROwner, t.MROwnerConfig = d.digest(), d.digest(), d.digest()
	for i := range t.RTMR {
		t.RTMR[i] = d.digest()
	}
	t.ReportData = [64]byte(d.Next(64))
	if len(b) == BodySize15 {
		t.V15 = &Body15{TEETCBSVN2: [16]byte(d.Next(16)), MRServiceTD: d.digest()}
	}
	return t, nil
}

// Marshal encodes the body. For a parsed body it returns exactly the bytes that were read.
func (t *Body) Marshal() []byte {
	le := binary.LittleEndian
	b := append(make([]byte, 0, BodySize15), t.TEETCBSVN[:]...)
	b = append(append(b, t.MRSEAM[:]...), t.MRSignerSEAM[:]...)
	b = le.AppendUint64(b, t.SEAMAttributes)
	b = le.AppendUint64(b, uint64(t.TDAttributes))
	b = le.AppendUint64(b, uint64(t.XFAM))
	b = append(b, t.MRTD[:]...)
	b = append(append(append(b, t.MRConfigID[:]...), t.MROwner[:]...), t.MROwnerConfig[:]...)
	for _, r := range t.RTMR {
		b = append(b, r[:]...)
	}
	b = append(b, t.ReportData[:]...)
	if t.V15 != nil {
		b = append(append(b, t.V15.TEETCBSVN2[:]...), t.V15.MRServiceTD[:]...)
	}
	return b
}

// decoder reads the structures of this package.
type decoder struct{ fixed.Decoder }

func newDecoder(b []byte) decoder { return decoder{fixed.Decoder{Bytes: b}} }

func (d *decoder) digest() [48]byte { return [48]byte(d.Next(48)) }
