// SPDX-License-Identifier: Apache-2.0

package evidence

import (
	"errors"
	"fmt"
	"strings"
)

// Schema is the schema of every document that this package reads and writes.
const Schema = "cofferdam.dev/evidence/v1"

// The types of documents: what Report is.
const (
	// TypeSEVSNP is an AMD SEV-SNP attestation report.
	TypeSEVSNP = "sev-snp"
	// TypeTDX is an Intel TDX quote, version 4 or 5.
	TypeTDX = "tdx"
	// TypeSGX is an Intel SGX quote, version 3.
	TypeSGX = "sgx"
	// TypeAzureVTPM is the evidence of an Azure confidential VM: a TPM quote by a key that a hardware report vouches for.
	TypeAzureVTPM = "azure-vtpm"
)

// Limits of a document.
const (
	// MaxDocumentSize bounds the JSON text.
	MaxDocumentSize = 8 << 20
	// MaxReportSize bounds the report, whatever its type.
	MaxReportSize = 64 << 10
	// MaxCertificates and MaxCertificateSize bound the certificates.
	MaxCertificates    = 10
	MaxCertificateSize = 16 << 10
	// MinNonceSize and MaxNonceSize bound a nonce that is present.
	MinNonceSize = 8
	MaxNonceSize = 64
	// MaxRuntimeDataSize bounds the runtime data.
	MaxRuntimeDataSize = 64 << 10
	// MaxPolicySize bounds the policy text.
	MaxPolicySize = 1 << 20
	// MaxEndorsements and MaxEndorsementSize bound the endorsements.
	MaxEndorsements    = 8
	MaxEndorsementSize = 64 << 10
	// MaxEventLogSize bounds the event log.
	MaxEventLogSize = 1 << 20
	// MaxCollateral bounds the number of pieces of collateral, MaxCollateralName the length of a name, and
	// MaxCollateralSize the bodies and issuer chains of all of them together.
	MaxCollateral     = 16
	MaxCollateralName = 256
	MaxCollateralSize = 1 << 20
)

// Document is a piece of evidence with what is needed to appraise it. Everything in it comes from the party that wants
// to be believed.
type Document struct {
	// Type says what Report is: one of the types above.
	Type string
	// Report is the signed report in its own format.
	Report []byte
	// Certificates are the certificates that lead from the report to a root, in DER. Their order does not matter.
	Certificates [][]byte
	// Source, Nonce and RuntimeData are what ReportData was computed of. All three are empty when the report's data was
	// made in another way.
	Source      Source
	Nonce       []byte
	RuntimeData []byte
	// Policy is the policy text that the report's host data name, or empty.
	Policy []byte
	// Endorsements are signed statements about launch measurements (COSE_Sign1), such as Azure's about its utility VM.
	Endorsements [][]byte
	// EventLog is the log of what was measured after launch (for TDX the area of the CCEL table), or empty.
	EventLog []byte
	// Collateral are certificates, revocation lists and TCB statements by the names that package collateral gives them.
	Collateral map[string]Item
}

// Item is a piece of collateral, exactly as its publisher served it.
type Item struct {
	// Body is the item itself.
	Body []byte
	// IssuerChain are the certificates of its signer in PEM, where the publisher sends them beside it.
	IssuerChain []byte
}

// Validate returns an error when a field is outside of its limits.
func (d *Document) Validate() error {
	sizes := []struct {
		name           string
		size, min, max int
	}{
		{"type", len(d.Type), 1, 64},
		{"report", len(d.Report), 1, MaxReportSize},
		{"runtimeData", len(d.RuntimeData), 0, MaxRuntimeDataSize},
		{"policy", len(d.Policy), 0, MaxPolicySize},
		{"certificates", len(d.Certificates), 0, MaxCertificates},
		{"endorsements", len(d.Endorsements), 0, MaxEndorsements},
		{"eventLog", len(d.EventLog), 0, MaxEventLogSize},
		{"collateral", len(d.Collateral), 0, MaxCollateral},
	}
	for _, s := range sizes {
		if s.size < s.min || s.size > s.max {
			return fmt.Errorf("evidence document: %s has size %d, not %d to %d", s.name, s.size, s.min, s.max)
		}
	}
	for i, c := range d.Certificates {
		if len(c) == 0 || len(c) > MaxCertificateSize {
			return fmt.Errorf("evidence document: certificates[%d] has %d bytes, not 1 to %d", i, len(c), MaxCertificateSize)
		}
	}
	for i, e := range d.Endorsements {
		if len(e) == 0 || len(e) > MaxEndorsementSize {
			return fmt.Errorf("evidence document: endorsements[%d] has %d bytes, not 1 to %d", i, len(e), MaxEndorsementSize)
		}
	}
	if err := d.validateCollateral(); err != nil {
		return err
	}
	return d.validateBinding()
}

func (d *Document) validateCollateral() error {
	total := 0
	for name, item := range d.Collateral {
		if len(name) == 0 || len(name) > MaxCollateralName || strings.Trim(name, nameAlphabet) != "" {
			return fmt.Errorf("evidence document: name %q in collateral is not 1 to %d of letters, digits, '/', '-' and '.'",
				name[:min(len(name), MaxCollateralName)], MaxCollateralName)
		}
		if len(item.Body) == 0 {
			return fmt.Errorf("evidence document: collateral %q is empty", name)
		}
		total += len(item.Body) + len(item.IssuerChain)
	}
	if total > MaxCollateralSize {
		return fmt.Errorf("evidence document: collateral has %d bytes, more than %d", total, MaxCollateralSize)
	}
	return nil
}

// nameAlphabet is what names of collateral are made of.
const nameAlphabet = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789/-."

func (d *Document) validateBinding() error {
	if d.Source == "" {
		if len(d.Nonce) != 0 || len(d.RuntimeData) != 0 {
			return errors.New("evidence document: nonce or runtimeData without a source")
		}
		return nil
	}
	if err := d.Source.Validate(); err != nil {
		return fmt.Errorf("evidence document: %w", err)
	}
	if n := len(d.Nonce); n < MinNonceSize || n > MaxNonceSize {
		return fmt.Errorf("evidence document: nonce has %d bytes, not %d to %d", n, MinNonceSize, MaxNonceSize)
	}
	return nil
}
