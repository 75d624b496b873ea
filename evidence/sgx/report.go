// SPDX-License-Identifier: Apache-2.0

// Package sgx holds the byte formats of Intel SGX: the body of an enclave report, the attributes that it names, and the
// structure that signs an enclave (SIGSTRUCT). The formats are those of the Intel 64 and IA-32 Software Developer's
// Manual, volume 3D, chapter "SGX Data Structures".
//
// The package trusts nothing: every parser takes hostile bytes, checks every length, and either returns a value that
// marshals to exactly the bytes that were read or an error. It never judges a value, and it verifies one signature only:
// the one that a SIGSTRUCT makes over itself, which says nothing about who signed.
//
// Reserved byte ranges must be zero, as the processor makes them. The words of flags are kept whole, because processors
// define new flags in them without a new format; Unknown names those so that a verifier can decide.
package sgx

import (
	"encoding/binary"
	"fmt"

	"cofferdam.dev/evidence/internal/fixed"
)

// ReportBodySize is the size of the body of every enclave report in bytes: what EREPORT makes, without the key ID and MAC.
const ReportBodySize = 384

// ReportBody is what the processor says of an enclave. SDM, table "Layout of REPORT".
type ReportBody struct {
	// CPUSVN is the security version of the processor, whose bytes only Intel's PCK certificates explain.
	CPUSVN [16]byte
	// MiscSelect says which information about exceptions the enclave gets.
	MiscSelect MiscSelect
	// CETAttributes say which parts of control-flow enforcement the enclave uses, zero without FlagCET.
	CETAttributes uint8
	// ISVExtProdID is an extended product ID, given when the enclave is made, or zero.
	ISVExtProdID [16]byte
	// Attributes are the enclave's attributes.
	Attributes Attributes
	// MREnclave is the measurement of the enclave as it was built.
	MREnclave [32]byte
	// MRSigner is the SHA-256 digest of the key that signed the enclave.
	MRSigner [32]byte
	// ConfigID is a configuration that the host gave when the enclave was made, or zero.
	ConfigID [64]byte
	// ISVProdID is the product number that the signer gave.
	ISVProdID uint16
	// ISVSVN is the security version that the signer gave.
	ISVSVN uint16
	// ConfigSVN is the security version of ConfigID.
	ConfigSVN uint16
	// ISVFamilyID is a family ID that the signer gave, or zero.
	ISVFamilyID [16]byte
	// ReportData is what the enclave asked to have signed.
	ReportData [64]byte
}

// ParseReportBody decodes the body of a report of exactly ReportBodySize bytes.
func ParseReportBody(b []byte) (*ReportBody, error) {
	if len(b) != ReportBodySize {
		return nil, fmt.Errorf("parsing SGX report body: size is %d bytes, not %d", len(b), ReportBodySize)
	}
	r := &ReportBody{}
	d := newDecoder(b)
	r.CPUSVN = [16]byte(d.Next(16))
	r.MiscSelect, r.CETAttributes = MiscSelect(d.U32()), d.U8()
	d.Zero(32)
	r.ISVExtProdID = [16]byte(d.Next(16))
	r.Attributes = d.attributes()
	r.MREnclave = [32]byte(d.Next(32))
	d.Zero(128)
	r.MRSigner = [32]byte(d.Next(32))
	d.Zero(192)
	r.ConfigID = [64]byte(d.Next(64))
	r.ISVProdID, r.ISVSVN, r.ConfigSVN = d.U16(), d.U16(), d.U16()
	d.Zero(304)
	r.ISVFamilyID = [16]byte(d.Next(16))
	r.ReportData = [64]byte(d.Next(64))
	if d.Err != nil {
		return nil, fmt.Errorf("parsing SGX report body: %w", d.Err)
	}
	return r, nil
}

// Marshal encodes the body. For a parsed body it returns exactly the bytes that were read.
func (r *ReportBody) Marshal() []byte {
	le := binary.LittleEndian
	b := append(make([]byte, 0, ReportBodySize), r.CPUSVN[:]...)
	b = append(le.AppendUint32(b, uint32(r.MiscSelect)), r.CETAttributes)
	b = append(fixed.Pad(b, 32), r.ISVExtProdID[:]...)
	b = r.Attributes.appendTo(b)
	b = append(b, r.MREnclave[:]...)
	b = append(fixed.Pad(b, 128), r.MRSigner[:]...)
	b = append(fixed.Pad(b, 192), r.ConfigID[:]...)
	b = le.AppendUint16(b, r.ISVProdID)
	b = le.AppendUint16(b, r.ISVSVN)
	b = le.AppendUint16(b, r.ConfigSVN)
	b = append(fixed.Pad(b, 304), r.ISVFamilyID[:]...)
	return append(b, r.ReportData[:]...)
}

// decoder reads the structures of this package.
type decoder struct{ fixed.Decoder }

func newDecoder(b []byte) decoder { return decoder{fixed.Decoder{Bytes: b}} }

func (d *decoder) attributes() Attributes {
	return Attributes{Flags: Flags(d.U64()), XFRM: XFRM(d.U64())}
}
