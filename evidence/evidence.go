// SPDX-License-Identifier: Apache-2.0

// Package evidence is the document in which attestation evidence travels from a guest to whoever appraises it, and the
// rule by which a report is bound to a nonce and to data. The vendors' byte formats are in the packages below it.
//
// A document is hostile input: parsing bounds every field and refuses what it does not know. It never decides anything
// about what it holds; package verify does.
package evidence

import (
	"crypto/sha256"
	"crypto/sha512"
	"encoding/binary"
	"fmt"
)

// Source says on whose behalf a guest asked for a report.
type Source string

// The sources.
const (
	// SourceHost marks a report that the guest's agent made at the host's request. It proves what runs; it must never
	// release a secret, because whoever asked for it is the host.
	SourceHost Source = "host"
	// SourceWorkload marks a report that a workload inside the guest asked for.
	SourceWorkload Source = "workload"
)

// Validate returns an error unless the source is one of the above.
func (s Source) Validate() error {
	switch s {
	case SourceHost, SourceWorkload:
		return nil
	}
	return fmt.Errorf("evidence source %q is not %q or %q", string(s), SourceHost, SourceWorkload)
}

// reportDataDomain separates this use of SHA-512 from every other and versions the encoding.
const reportDataDomain = "cofferdam.dev/report-data/v1"

// ReportData returns the report data that binds a report to its source, to the verifier's nonce and to data of the
// guest: the SHA-512 of the strings "cofferdam.dev/report-data/v1", src, nonce and runtimeData, each preceded by its
// length as a 64-bit big-endian number. No two different triples share an encoding, so a report made for one source can
// not stand for one made for another.
func ReportData(src Source, nonce, runtimeData []byte) [64]byte {
	h := sha512.New()
	for _, part := range [][]byte{[]byte(reportDataDomain), []byte(src), nonce, runtimeData} {
		var size [8]byte
		binary.BigEndian.PutUint64(size[:], uint64(len(part)))
		_, _ = h.Write(size[:]) // a hash never fails
		_, _ = h.Write(part)
	}
	return [64]byte(h.Sum(nil))
}

// QualifyingData returns what the TPM of an Azure VM is asked to sign with its quote, in the place of report data: the
// SHA-256 of ReportData. A TPM takes no more than its largest hash, and Azure's takes 50 bytes.
func QualifyingData(src Source, nonce, runtimeData []byte) [32]byte {
	data := ReportData(src, nonce, runtimeData)
	return sha256.Sum256(data[:])
}
