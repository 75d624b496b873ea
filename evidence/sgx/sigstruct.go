// SPDX-License-Identifier: Apache-2.0

package sgx

import (
	"bytes"
	"crypto"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"math/big"
	"slices"

	"cofferdam.dev/evidence/internal/fixed"
)

// Sizes of a SIGSTRUCT, SDM, table "Layout of Enclave Signature Structure (SIGSTRUCT)".
const (
	// SigstructSize is the size of every SIGSTRUCT in bytes.
	SigstructSize = 1808

	rsaSize        = 384 // an RSA number of 3072 bits
	sigstructStart = 128 // end of the first part that is signed
	sigstructBody  = 900 // start of the second part that is signed
	sigstructEnd   = 1028
)

// The two constant headers of a SIGSTRUCT.
var (
	sigstructHeader  = [16]byte{6, 0, 0, 0, 0xe1, 0, 0, 0, 0, 0, 1}
	sigstructHeader2 = [16]byte{1, 1, 0, 0, 0x60, 0, 0, 0, 0x60, 0, 0, 0, 1}
)

// sigstructExponent is the only RSA exponent that the processor accepts.
const sigstructExponent = 3

// Vendor says who made a SIGSTRUCT.
type Vendor uint32

// The vendors of the SDM.
const (
	VendorOther Vendor = 0
	VendorIntel Vendor = 0x8086
)

// Sigstruct is what the signer of an enclave demands of it. The numbers of RSA are little-endian, as in the structure.
type Sigstruct struct {
	// Vendor is VendorIntel or VendorOther.
	Vendor Vendor
	// Date is the day of signing as its hexadecimal digits read: 0x20160109 is 9 January 2016.
	Date uint32
	// SoftwareDefined is the signer's own.
	SoftwareDefined uint32
	// Modulus is the signer's RSA modulus.
	Modulus [rsaSize]byte
	// Signature is the signature with PKCS #1 v1.5 and SHA-256.
	Signature [rsaSize]byte
	// MiscSelect and MiscMask are the value that the enclave must have under the mask.
	MiscSelect, MiscMask MiscSelect
	// CETAttributes and CETMask are the value that the enclave must have under the mask.
	CETAttributes, CETMask uint8
	// ISVFamilyID is put into the enclave's reports.
	ISVFamilyID [16]byte
	// Attributes and AttributesMask are the values that the enclave must have under the mask.
	Attributes, AttributesMask Attributes
	// EnclaveHash is the measurement that the enclave must have.
	EnclaveHash [32]byte
	// ISVExtProdID, ISVProdID and ISVSVN are put into the enclave's reports.
	ISVExtProdID      [16]byte
	ISVProdID, ISVSVN uint16
	// Q1 and Q2 are quotients that help the processor to verify the signature. They follow from the signature and modulus.
	Q1, Q2 [rsaSize]byte
}

// ParseSigstruct decodes a SIGSTRUCT of exactly SigstructSize bytes.
func ParseSigstruct(b []byte) (*Sigstruct, error) {
	if len(b) != SigstructSize {
		return nil, fmt.Errorf("parsing SIGSTRUCT: size is %d bytes, not %d", len(b), SigstructSize)
	}
	s := &Sigstruct{}
	d := newDecoder(b)
	d.constant(sigstructHeader)
	s.Vendor, s.Date = Vendor(d.U32()), d.U32()
	d.constant(sigstructHeader2)
	s.SoftwareDefined = d.U32()
	d.Zero(sigstructStart)
	s.Modulus = [rsaSize]byte(d.Next(rsaSize))
	if e := d.U32(); e != sigstructExponent {
		d.Fail("exponent is %d, not %d", e, sigstructExponent)
	}
	s.Signature = [rsaSize]byte(d.Next(rsaSize))
	s.MiscSelect, s.MiscMask = MiscSelect(d.U32()), MiscSelect(d.U32())
	s.CETAttributes, s.CETMask = d.U8(), d.U8()
	d.Zero(912)
	s.ISVFamilyID = [16]byte(d.Next(16))
	s.Attributes, s.AttributesMask = d.attributes(), d.attributes()
	s.EnclaveHash = [32]byte(d.Next(32))
	d.Zero(1008)
	s.ISVExtProdID = [16]byte(d.Next(16))
	s.ISVProdID, s.ISVSVN = d.U16(), d.U16()
	d.Zero(1040)
	s.Q1, s.Q2 = [rsaSize]byte(d.Next(rsaSize)), [rsaSize]byte(d.Next(rsaSize))
	if d.Err != nil {
		return nil, fmt.Errorf("parsing SIGSTRUCT: %w", d.Err)
	}
	return s, nil
}

// constant requires the next 16 bytes to be c.
func (d *decoder) constant(c [16]byte) {
	off := d.Off
	if got := d.Next(len(c)); !bytes.Equal(got, c[:]) {
		d.Fail("header at offset %d is %x, not %x", off, got, c)
	}
}

// Marshal encodes the structure. For a parsed structure it returns exactly the bytes that were read.
func (s *Sigstruct) Marshal() []byte {
	le := binary.LittleEndian
	b := append(make([]byte, 0, SigstructSize), sigstructHeader[:]...)
	b = le.AppendUint32(b, uint32(s.Vendor))
	b = le.AppendUint32(b, s.Date)
	b = append(b, sigstructHeader2[:]...)
	b = le.AppendUint32(b, s.SoftwareDefined)
	b = append(fixed.Pad(b, sigstructStart), s.Modulus[:]...)
	b = le.AppendUint32(b, sigstructExponent)
	b = append(b, s.Signature[:]...)
	b = le.AppendUint32(b, uint32(s.MiscSelect))
	b = append(le.AppendUint32(b, uint32(s.MiscMask)), s.CETAttributes, s.CETMask)
	b = append(fixed.Pad(b, 912), s.ISVFamilyID[:]...)
	b = s.AttributesMask.appendTo(s.Attributes.appendTo(b))
	b = append(b, s.EnclaveHash[:]...)
	b = append(fixed.Pad(b, 1008), s.ISVExtProdID[:]...)
	b = le.AppendUint16(b, s.ISVProdID)
	b = le.AppendUint16(b, s.ISVSVN)
	b = append(fixed.Pad(b, 1040), s.Q1[:]...)
	return append(b, s.Q2[:]...)
}

// SignedBytes returns what Signature covers: the structure without the RSA numbers, offsets 0 to 127 and 900 to 1027.
func (s *Sigstruct) SignedBytes() []byte {
	b := s.Marshal()
	return slices.Concat(b[:sigstructStart], b[sigstructBody:sigstructEnd])
}

// MRSigner returns the digest that reports of the enclave name its signer with.
func (s *Sigstruct) MRSigner() [32]byte { return sha256.Sum256(s.Modulus[:]) }

// CheckSignature verifies the signature with the key inside the structure, and the two quotients, as the processor does
// when it initialises an enclave. It proves that the owner of MRSigner signed, not that anybody should trust it.
func (s *Sigstruct) CheckSignature() error {
	modulus, sig := number(s.Modulus), number(s.Signature)
	if modulus.BitLen() != 8*rsaSize {
		return fmt.Errorf("checking SIGSTRUCT: modulus has %d bits, not %d", modulus.BitLen(), 8*rsaSize)
	}
	digest := sha256.Sum256(s.SignedBytes())
	key := &rsa.PublicKey{N: modulus, E: sigstructExponent}
	if err := rsa.VerifyPKCS1v15(key, crypto.SHA256, digest[:], reversed(s.Signature)); err != nil {
		return fmt.Errorf("checking SIGSTRUCT: %w", err)
	}
	q1, rest := new(big.Int).DivMod(new(big.Int).Mul(sig, sig), modulus, new(big.Int))
	q2 := new(big.Int).Div(rest.Mul(rest, sig), modulus)
	if q1.Cmp(number(s.Q1)) != 0 || q2.Cmp(number(s.Q2)) != 0 {
		return fmt.Errorf("checking SIGSTRUCT: quotients Q1 and Q2 do not belong to the signature")
	}
	return nil
}

func number(le [rsaSize]byte) *big.Int { return new(big.Int).SetBytes(reversed(le)) }

func reversed(b [rsaSize]byte) []byte {
	slices.Reverse(b[:])
	return b[:]
}
