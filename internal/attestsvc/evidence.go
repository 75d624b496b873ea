// SPDX-License-Identifier: Apache-2.0

// Package attestsvc is the attestation service: it appraises evidence, turns what was established into claims, has the
// tenant's policy decide about them, and signs the result. Its claims, its policies and their administration are those of
// Microsoft Azure Attestation, so that clients of that service can use this one.
//
// Two parties say what counts. The operator's Baseline says what evidence must be in any case: which roots, which firmware,
// no debugging. The tenant's policy says which of the guests that pass are the right ones. The service trusts both, its
// store, and its own signing keys; evidence and everything else in a request is hostile. Nothing is signed that was not
// written to the audit log before.
package attestsvc

import (
	"crypto"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"cofferdam.dev/evidence"
)

// Kind is a kind of evidence by the name that it has in the service's paths.
type Kind string

// The kinds.
const (
	SevSnpVM    Kind = "SevSnpVm"
	SgxEnclave  Kind = "SgxEnclave"
	OpenEnclave Kind = "OpenEnclave"
	TdxVM       Kind = "TdxVm"
	AzureGuest  Kind = "AzureGuest"
)

// Kinds are all kinds.
var Kinds = []Kind{SevSnpVM, SgxEnclave, OpenEnclave, TdxVM, AzureGuest}

// ParseKind returns the kind with this name, in whatever case: clients disagree about it.
func ParseKind(name string) (Kind, error) {
	for _, k := range Kinds {
		if strings.EqualFold(name, string(k)) {
			return k, nil
		}
	}
	return "", fmt.Errorf("attestation type %q is unknown; there are %q", name, Kinds)
}

// attestationType is the value of the claim x-ms-attestation-type.
func (k Kind) attestationType() string {
	switch k {
	case SevSnpVM:
		return "sevsnpvm"
	case SgxEnclave, OpenEnclave:
		return "sgx"
	case TdxVM:
		return "tdxvm"
	case AzureGuest:
		return "azurevm"
	}
	return ""
}

// Limits of a request.
const (
	maxCertificates = evidence.MaxCertificates
	maxEndorsements = 4
	maxData         = 256 << 10
	maxNonce        = 128
)

// Data is what a client wants bound to the evidence.
type Data struct {
	// Bytes are the data as they were bound.
	Bytes []byte
	// JSON says that the data are a JSON object, whose members are to be claims.
	JSON bool
	// Hash is how they are bound: SHA-256 when it is zero, SHA-384 or SHA-512. What is longer than the field that holds
	// the digest is cut.
	Hash crypto.Hash
}

// digest is what binds the data.
func (d *Data) digest() []byte {
	switch d.Hash {
	case crypto.SHA384:
		sum := sha512.Sum384(d.Bytes)
		return sum[:]
	case crypto.SHA512:
		sum := sha512.Sum512(d.Bytes)
		return sum[:]
	}
	sum := sha256.Sum256(d.Bytes)
	return sum[:]
}

// Request is one request for an appraisal.
type Request struct {
	Kind Kind
	// Report is an SNP report, a quote, or the JSON envelope of a VM with a vTPM, by Kind.
	Report []byte
	// Certificates are those that came with it, in DER.
	Certificates [][]byte
	// Endorsements are endorsements of utility VMs, in COSE.
	Endorsements [][]byte
	// EventLog is the log of measured events of a trust domain, or empty.
	EventLog []byte
	// Runtime must be what the guest had its report made for. When it is nil, nothing is bound and the report data are only
	// claims.
	Runtime *Data
	// InitTime must be what the host data were made of.
	InitTime *Data
	// Nonce is repeated in the token.
	Nonce string
	// Draft is a policy to be tried in place of the tenant's; the token is then unsigned.
	Draft []byte
	// Audience, when it is not empty, is put into the token.
	Audience string
	// Form is the form of the token.
	Form Form
	// Life bounds how long the token is valid, when it is not zero.
	Life time.Duration
	// ID names the request in the audit.
	ID string
}

// RequestError says what is wrong with a request. Its text is for the client.
type RequestError struct{ Message string }

// Error implements error.
func (e *RequestError) Error() string { return e.Message }

func badRequest(format string, args ...any) error { return &RequestError{fmt.Sprintf(format, args...)} }

// validate bounds a request and unwraps Open Enclave's header.
func (r *Request) validate() error {
	switch {
	case !slices.Contains(Kinds, r.Kind):
		return badRequest("attestation type %q is unknown", r.Kind)
	case len(r.Report) == 0:
		return badRequest("there is no report")
	case len(r.Report) > evidence.MaxReportSize:
		return badRequest("the report has %d bytes, more than %d", len(r.Report), evidence.MaxReportSize)
	case len(r.Certificates) > maxCertificates:
		return badRequest("there are %d certificates, more than %d", len(r.Certificates), maxCertificates)
	case len(r.Endorsements) > maxEndorsements:
		return badRequest("there are %d endorsements, more than %d", len(r.Endorsements), maxEndorsements)
	case len(r.EventLog) > evidence.MaxEventLogSize:
		return badRequest("the event log has %d bytes, more than %d", len(r.EventLog), evidence.MaxEventLogSize)
	case len(r.Nonce) > maxNonce:
		return badRequest("the nonce has %d bytes, more than %d", len(r.Nonce), maxNonce)
	case len(r.Audience) > 512:
		return badRequest("the audience has %d bytes, more than 512", len(r.Audience))
	}
	for name, d := range map[string]*Data{"runtimeData": r.Runtime, "initTimeData": r.InitTime} {
		if d != nil && len(d.Bytes) > maxData {
			return badRequest("%s has %d bytes, more than %d", name, len(d.Bytes), maxData)
		}
		if d != nil && !slices.Contains([]crypto.Hash{0, crypto.SHA256, crypto.SHA384, crypto.SHA512}, d.Hash) {
			return badRequest("%s is to be bound by %s", name, d.Hash)
		}
	}
	return nil
}

// openEnclaveHeader is the size of the header before the quote in an Open Enclave report: version 1 and type 2 (remote
// attestation of an SGX enclave) as 32-bit, and the size of the quote as 64-bit little-endian numbers.
const openEnclaveHeader = 16

// quoteOfOpenEnclave returns the quote in an Open Enclave report.
func quoteOfOpenEnclave(b []byte) ([]byte, error) {
	if len(b) < openEnclaveHeader {
		return nil, errors.New("the report is shorter than Open Enclave's header of 16 bytes")
	}
	version, typ := binary.LittleEndian.Uint32(b), binary.LittleEndian.Uint32(b[4:])
	size := binary.LittleEndian.Uint64(b[8:])
	if version != 1 || typ != 2 {
		return nil, fmt.Errorf("the header says version %d and type %d, not 1 and 2 (an SGX quote)", version, typ)
	}
	if size > uint64(len(b)-openEnclaveHeader) {
		return nil, fmt.Errorf("the header says %d bytes of quote, but %d follow", size, len(b)-openEnclaveHeader)
	}
	return b[openEnclaveHeader:], nil
}
