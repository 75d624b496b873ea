// SPDX-License-Identifier: Apache-2.0

// Package dcap holds the byte formats of Intel's data center attestation: quotes of version 3 (SGX), 4 and 5 (SGX and
// TDX), the certification data inside of them, and the SGX extension of PCK certificates. The formats are those of the
// DCAP quoting library documents ("Intel SGX ECDSA QuoteLibReference DCAP API" and "Intel TDX DCAP Quoting Library API",
// appendix "Quote Format") and of the "Intel SGX PCK Certificate and CRL Profile Specification".
//
// The package trusts nothing: every parser takes hostile bytes, checks every length, and either returns a value that
// marshals to exactly the bytes that were read or an error. It never verifies a signature, never judges a value and never
// follows a link in a certificate; package verify/intel does the first two.
package dcap

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"cofferdam.dev/evidence/sgx"
	"cofferdam.dev/evidence/tdx"
)

// MaxQuoteSize is the largest quote that is parsed, in bytes, with what follows it. Real ones have about 5,000, in buffers
// of up to 16,384.
const MaxQuoteSize = 64 << 10

const (
	headerSize = 48
	// bodyDescriptorSize is the size of what precedes the body in version 5: its type and size.
	bodyDescriptorSize = 6
	// keyPairSize is the size of a P-256 signature (R, S) and of a P-256 public key (X, Y), each number big-endian.
	keyPairSize = 64
)

// Quote is a quote with every field. Exactly one of Enclave and TD is set.
type Quote struct {
	Header Header
	// Enclave is the body of a quote of an SGX enclave.
	Enclave *sgx.ReportBody
	// TD is the body of a quote of a TD.
	TD *tdx.Body
	// Signature is the attestation key's ECDSA signature over SignedBytes: R and S, big-endian.
	Signature [keyPairSize]byte
	// AttestationKey is the P-256 public key that signed: X and Y, big-endian.
	AttestationKey [keyPairSize]byte
	// QEReport is the report of the quoting enclave. Its report data is the SHA-256 digest of AttestationKey and
	// QEAuthData, with 32 zero bytes behind it.
	QEReport *sgx.ReportBody
	// QEReportSignature is the PCK's ECDSA signature over QEReport.Marshal: R and S, big-endian.
	QEReportSignature [keyPairSize]byte
	// QEAuthData is the quoting enclave's own.
	QEAuthData []byte
	// CertificationType says what CertificationData is. Types other than CertificationPCKChain can not lead to a root by
	// themselves.
	CertificationType CertificationType
	// CertificationData is what certifies the PCK, exactly as in the quote.
	CertificationData []byte
	// Certificates are the certificates of CertificationData in DER, leaf first, when CertificationType is
	// CertificationPCKChain. They are split, not parsed. Marshal uses CertificationData.
	Certificates [][]byte
	// Trailing is what follows the quote in the bytes that were parsed. Nothing signs it. ParseQuote accepts zeros alone.
	Trailing []byte
}

// TrailingError says that bytes other than zeros follow a quote.
type TrailingError struct {
	// Offset is the length of the quote itself in bytes.
	Offset int
	// Size is the number of bytes that follow.
	Size int
}

// Error names the offset and the size.
func (e *TrailingError) Error() string {
	return fmt.Sprintf("%d bytes that are not all zero follow the quote at offset %d", e.Size, e.Offset)
}

// ParseQuote decodes a quote. Zero bytes may follow it, because quoting libraries return buffers of fixed sizes; other
// bytes are a *TrailingError.
func ParseQuote(b []byte) (*Quote, error) {
	q, err := ParseQuoteIgnoringTrailing(b)
	if err != nil {
		return nil, err
	}
	if slices.ContainsFunc(q.Trailing, func(v byte) bool { return v != 0 }) {
		return nil, fmt.Errorf("parsing quote: %w", &TrailingError{Offset: len(b) - len(q.Trailing), Size: len(q.Trailing)})
	}
	return q, nil
}

// ParseQuoteIgnoringTrailing decodes a quote as ParseQuote does, but lets any bytes follow it, which nothing signs. They
// are in Trailing. It is for those who were told to, and report what they left out.
func ParseQuoteIgnoringTrailing(b []byte) (*Quote, error) {
	if len(b) > MaxQuoteSize {
		return nil, fmt.Errorf("parsing quote: size is %d bytes, more than %d", len(b), MaxQuoteSize)
	}
	q := &Quote{}
	r := &reader{b: b, end: len(b)}
	q.readHeader(r)
	q.readBody(r)
	q.readSignatureData(r)
	if r.err != nil {
		return nil, fmt.Errorf("parsing quote: %w", r.err)
	}
	q.Trailing = slices.Clone(r.rest())
	return q, nil
}

func (q *Quote) readBody(r *reader) {
	size := sgx.ReportBodySize
	if q.Header.TEE == TEETDX {
		size = tdx.BodySize10
	}
	if q.Header.Version == Version5 {
		size = q.readDescriptor(r)
	}
	b := r.bytes("body", size)
	if r.err != nil {
		return
	}
	if q.Header.TEE == TEETDX {
		q.TD, r.err = tdx.ParseBody(b)
		return
	}
	q.Enclave, r.err = sgx.ParseReportBody(b)
}

// readDescriptor reads what version 5 says of its body and requires type, size and TEE to agree.
func (q *Quote) readDescriptor(r *reader) int {
	kind, size := BodyType(r.u16("body type")), r.u32("body size")
	tee, want, known := kind.layout()
	switch {
	case r.err != nil:
	case !known:
		r.fail("body type is %d, not %d to %d", kind, BodySGX, BodyTDX15)
	case tee != q.Header.TEE:
		r.fail("body type is %d, but the header's TEE type is %s", kind, q.Header.TEE)
	case uint64(size) != uint64(want):
		r.fail("size of body type %d is %d bytes, not %d", kind, size, want)
	}
	return want
}

// BodyType returns the type of the body, which quotes of version 5 state.
func (q *Quote) BodyType() BodyType {
	switch {
	case q.TD == nil:
		return BodySGX
	case q.TD.V15 == nil:
		return BodyTDX10
	}
	return BodyTDX15
}

// ReportData returns what the enclave or TD asked to have signed.
func (q *Quote) ReportData() [64]byte {
	if q.TD != nil {
		return q.TD.ReportData
	}
	if q.Enclave != nil {
		return q.Enclave.ReportData
	}
	return [64]byte{}
}

// SignedBytes returns the part of the quote that Signature covers: all in front of the signature data.
func (q *Quote) SignedBytes() []byte {
	le := binary.LittleEndian
	h := q.Header
	b := le.AppendUint16(make([]byte, 0, headerSize+bodyDescriptorSize+tdx.BodySize15), h.Version)
	b = le.AppendUint16(b, uint16(h.AttestationKeyType))
	b = le.AppendUint32(b, uint32(h.TEE))
	b = le.AppendUint16(b, h.QESVN)
	b = le.AppendUint16(b, h.PCESVN)
	b = append(append(b, h.QEVendorID[:]...), h.UserData[:]...)
	var body []byte
	if q.TD != nil {
		body = q.TD.Marshal()
	} else if q.Enclave != nil {
		body = q.Enclave.Marshal()
	}
	if h.Version == Version5 {
		b = le.AppendUint16(b, uint16(q.BodyType()))
		b = le.AppendUint32(b, uint32(len(body)))
	}
	return append(b, body...)
}

// Marshal encodes the quote and its Trailing bytes. For a parsed quote it returns exactly the bytes that were read. It
// returns an error for a quote that ParseQuoteIgnoringTrailing would refuse.
func (q *Quote) Marshal() ([]byte, error) {
	if q.QEReport == nil || (q.Enclave == nil) == (q.TD == nil) {
		return nil, errors.New("encoding quote: it must have a QE report, and one body: of an enclave or of a TD")
	}
	b := appendSized(q.SignedBytes(), q.signatureData())
	b = append(b, q.Trailing...)
	if _, err := ParseQuoteIgnoringTrailing(b); err != nil {
		return nil, fmt.Errorf("encoding quote: %w", err)
	}
	return b, nil
}
