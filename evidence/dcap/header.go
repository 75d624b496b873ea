// SPDX-License-Identifier: Apache-2.0

package dcap

import (
	"fmt"

	"cofferdam.dev/evidence/sgx"
	"cofferdam.dev/evidence/tdx"
)

// Versions of quotes that are parsed.
const (
	Version3 = 3
	Version4 = 4
	Version5 = 5
)

// KeyType is the algorithm of an attestation key. Quote format, table "Quote Header", field "Attestation Key Type".
type KeyType uint16

// KeyECDSAP256 is the only algorithm of which quotes are parsed: ECDSA with P-256 and SHA-256.
const KeyECDSAP256 KeyType = 2

// TEEType says what a quote is about. Quote format, table "Quote Header", field "TEE Type".
type TEEType uint32

// The TEE types.
const (
	TEESGX TEEType = 0
	TEETDX TEEType = 0x81
)

// String returns "SGX" or "TDX".
func (t TEEType) String() string {
	switch t {
	case TEESGX:
		return "SGX"
	case TEETDX:
		return "TDX"
	}
	return fmt.Sprintf("TEE type %#x", uint32(t))
}

// BodyType says what the body of a quote of version 5 is. TD quote format version 5, table "TD Quote Body Descriptor".
type BodyType uint16

// The body types.
const (
	BodySGX   BodyType = 1
	BodyTDX10 BodyType = 2
	BodyTDX15 BodyType = 3
)

// layout gives the TEE and the size that go with a body type.
func (t BodyType) layout() (TEEType, int, bool) {
	switch t {
	case BodySGX:
		return TEESGX, sgx.ReportBodySize, true
	case BodyTDX10:
		return TEETDX, tdx.BodySize10, true
	case BodyTDX15:
		return TEETDX, tdx.BodySize15, true
	}
	return 0, 0, false
}

// IntelQEVendorID is the vendor ID of Intel's quoting enclaves, 939a7233-f79c-4ca9-940a-0db3957f0607.
var IntelQEVendorID = [16]byte{0x93, 0x9a, 0x72, 0x33, 0xf7, 0x9c, 0x4c, 0xa9, 0x94, 0x0a, 0x0d, 0xb3, 0x95, 0x7f, 0x06,
	0x07}

// Header is the start of every quote. Quote format, table "Quote Header".
type Header struct {
	// Version is Version3, Version4 or Version5.
	Version uint16
	// AttestationKeyType is KeyECDSAP256.
	AttestationKeyType KeyType
	// TEE is what the quote is about; version 3 knows SGX alone.
	TEE TEEType
	// QESVN and PCESVN are security versions of the quoting and the provisioning certification enclave in version 3. They
	// are zero in versions 4 and 5, which reserve their bytes. The PCK certificate and the QE report say the same with a
	// signature of Intel's; use those.
	QESVN, PCESVN uint16
	// QEVendorID names the vendor of the quoting enclave.
	QEVendorID [16]byte
	// UserData is the quoting enclave's own: an ID of the platform in its first 16 bytes.
	UserData [20]byte
}

func (q *Quote) readHeader(r *reader) {
	h := &q.Header
	h.Version = r.u16("version")
	if r.err == nil && (h.Version < Version3 || h.Version > Version5) {
		r.fail("version is %d, not %d to %d", h.Version, Version3, Version5)
	}
	h.AttestationKeyType = KeyType(r.u16("attestation key type"))
	if r.err == nil && h.AttestationKeyType != KeyECDSAP256 {
		r.fail("attestation key type is %d, not %d (ECDSA P-256)", h.AttestationKeyType, KeyECDSAP256)
	}
	h.TEE = TEEType(r.u32("TEE type"))
	if r.err == nil && h.TEE != TEESGX && (h.TEE != TEETDX || h.Version == Version3) {
		r.fail("TEE type is %#x, which version %d does not have", uint32(h.TEE), h.Version)
	}
	h.QESVN, h.PCESVN = r.u16("QE SVN"), r.u16("PCE SVN")
	if r.err == nil && h.Version > Version3 && h.QESVN|h.PCESVN != 0 {
		r.fail("reserved bytes at offset 8 are %d and %d, not 0", h.QESVN, h.PCESVN)
	}
	copy(h.QEVendorID[:], r.bytes("QE vendor ID", 16))
	copy(h.UserData[:], r.bytes("user data", 20))
}
