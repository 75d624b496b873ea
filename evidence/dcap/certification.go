// SPDX-License-Identifier: Apache-2.0

package dcap

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"

	"cofferdam.dev/evidence/sgx"
	"cofferdam.dev/internal/strictpem"
)

// CertificationType says what the certification data of a quote is. Quote format, table "QE Certification Data".
type CertificationType uint16

// The certification types.
const (
	// CertificationPPID is a PPID in plain text, with the SVNs and the ID of the PCE.
	CertificationPPID CertificationType = 1
	// CertificationPPIDRSA2048 is the same with the PPID encrypted for an RSA key of 2048 bits.
	CertificationPPIDRSA2048 CertificationType = 2
	// CertificationPPIDRSA3072 is the same with the PPID encrypted for an RSA key of 3072 bits.
	CertificationPPIDRSA3072 CertificationType = 3
	// CertificationPCK is a PCK certificate in PEM.
	CertificationPCK CertificationType = 4
	// CertificationPCKChain is a PCK certificate and its issuers in PEM.
	CertificationPCKChain CertificationType = 5
	// CertificationQEReport wraps the QE report and what certifies it, in quotes of version 4 and 5.
	CertificationQEReport CertificationType = 6
	// CertificationManifest is a platform manifest.
	CertificationManifest CertificationType = 7
)

// String returns what the type is in a few words.
func (t CertificationType) String() string {
	switch t {
	case CertificationPPID:
		return "type 1 (PPID)"
	case CertificationPPIDRSA2048:
		return "type 2 (PPID encrypted with RSA-2048)"
	case CertificationPPIDRSA3072:
		return "type 3 (PPID encrypted with RSA-3072)"
	case CertificationPCK:
		return "type 4 (PCK certificate)"
	case CertificationPCKChain:
		return "type 5 (PCK certificate chain)"
	case CertificationQEReport:
		return "type 6 (QE report)"
	case CertificationManifest:
		return "type 7 (platform manifest)"
	}
	return fmt.Sprintf("type %d (unknown)", uint16(t))
}

// MaxCertificates is the largest number of certificates of a chain that is split. Intel's have three.
const MaxCertificates = 8

func (q *Quote) readSignatureData(r *reader) {
	outer := r.enter("signature data")
	q.Signature = r.pair("signature")
	q.AttestationKey = r.pair("attestation key")
	if q.Header.Version == Version3 {
		q.readQE(r)
	} else {
		if t := CertificationType(r.u16("certification type")); r.err == nil && t != CertificationQEReport {
			r.fail("certification data is of %s, not of %s as version %d has it", t, CertificationQEReport, q.Header.Version)
		}
		inner := r.enter("certification data")
		q.readQE(r)
		r.leave("certification data", inner)
	}
	r.leave("signature data", outer)
}

// readQE reads the QE report, its signature, and what certifies the key that made it.
func (q *Quote) readQE(r *reader) {
	report := r.bytes("QE report", sgx.ReportBodySize)
	if r.err == nil {
		q.QEReport, r.err = sgx.ParseReportBody(report)
	}
	q.QEReportSignature = r.pair("QE report signature")
	q.QEAuthData = slices.Clone(r.bytes("QE authentication data", int(r.u16("size of QE authentication data"))))
	q.CertificationType = CertificationType(r.u16("certification type of the PCK"))
	outer := r.enter("certification data of the PCK")
	q.CertificationData = slices.Clone(r.rest())
	r.leave("certification data of the PCK", outer)
	if r.err == nil && q.CertificationType == CertificationPCKChain {
		q.Certificates, r.err = SplitChain(q.CertificationData)
	}
}

func (q *Quote) signatureData() []byte {
	le := binary.LittleEndian
	qe := append(q.QEReport.Marshal(), q.QEReportSignature[:]...)
	qe = le.AppendUint16(qe, uint16(len(q.QEAuthData)))
	qe = append(qe, q.QEAuthData...)
	qe = le.AppendUint16(qe, uint16(q.CertificationType))
	qe = appendSized(qe, q.CertificationData)
	b := append(append([]byte(nil), q.Signature[:]...), q.AttestationKey[:]...)
	if q.Header.Version == Version3 {
		return append(b, qe...)
	}
	return appendSized(le.AppendUint16(b, uint16(CertificationQEReport)), qe)
}

func appendSized(b, data []byte) []byte {
	return append(binary.LittleEndian.AppendUint32(b, uint32(len(data))), data...)
}

// SplitChain splits a chain of certificates in PEM into their DER. Blocks other than certificates, headers in blocks, and
// text between blocks are errors; space and a zero byte at the end, which Intel's library appends, are not. The
// certificates are not parsed.
func SplitChain(b []byte) ([][]byte, error) {
	chain, err := strictpem.Certificates(bytes.TrimSuffix(b, []byte{0}), MaxCertificates)
	if err != nil {
		return nil, fmt.Errorf("splitting certificate chain: %w", err)
	}
	return chain, nil
}

// PPID is the certification data of types 1 to 3: what a PCK certificate can be asked for with. Quote format, tables
// "QE Certification Data" for those types.
type PPID struct {
	// Encrypted is the PPID: 16 bytes in plain text (type 1), or encrypted in 256 (type 2) or 384 bytes (type 3).
	Encrypted []byte
	// CPUSVN is the security version of the processor.
	CPUSVN [16]byte
	// PCESVN is the security version of the provisioning certification enclave.
	PCESVN uint16
	// PCEID is the ID of that enclave.
	PCEID uint16
}

// PPID decodes the certification data of types 1 to 3.
func (q *Quote) PPID() (*PPID, error) {
	size := map[CertificationType]int{CertificationPPID: 16, CertificationPPIDRSA2048: 256, CertificationPPIDRSA3072: 384}
	n, ok := size[q.CertificationType]
	if !ok {
		return nil, fmt.Errorf("parsing PPID: certification data is of %s", q.CertificationType)
	}
	b := q.CertificationData
	if len(b) != n+20 {
		return nil, fmt.Errorf("parsing PPID: size of %s is %d bytes, not %d", q.CertificationType, len(b), n+20)
	}
	le := binary.LittleEndian
	return &PPID{
		Encrypted: slices.Clone(b[:n]), CPUSVN: [16]byte(b[n:]), PCESVN: le.Uint16(b[n+16:]), PCEID: le.Uint16(b[n+18:]),
	}, nil
}
