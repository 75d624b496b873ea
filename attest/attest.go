// SPDX-License-Identifier: Apache-2.0

// Package attest obtains attestation reports inside a guest. Each provider speaks to one source of reports, chosen by
// whoever opens it; none is ever tried in place of another, and the simulator is used only when it was asked for by
// name.
//
// It runs in the measured guest, so it imports nothing but the standard library and formats: of SNP, TDX, evidence
// documents and the socket that the guest's agent gives to containers. It trusts the answers of the kernel, the firmware
// and the agent to be well-meant but not well-formed: it checks that a report is one and that it carries the report data
// that was asked for. It does not verify signatures, which is for whoever the report is sent to.
package attest

import (
	"context"
	"crypto/subtle"
	"fmt"

	"cofferdam.dev/evidence"
	"cofferdam.dev/evidence/snp"
)

// Types of reports.
const (
	// TypeSEVSNP is an AMD SEV-SNP attestation report.
	TypeSEVSNP = evidence.TypeSEVSNP
	// TypeTDX is an Intel TDX quote.
	TypeTDX = evidence.TypeTDX
	// TypeSGX is an Intel SGX quote.
	TypeSGX = evidence.TypeSGX
)

// Result is a report and what came with it.
type Result struct {
	// Type says what Report is.
	Type string
	// Report is the report in its own format.
	Report []byte
	// Certificates is an SNP certificate table when the platform delivered one, else empty. It comes from the host.
	Certificates []byte
}

// CertificateList returns the certificates that lead from the report to a root, in DER, as an evidence document has them.
func (r *Result) CertificateList() ([][]byte, error) {
	list, err := snp.ChainCertificates(r.Certificates)
	if err != nil {
		return nil, fmt.Errorf("reading the platform's certificates: %w", err)
	}
	return list, nil
}

// Document returns the report as an evidence document, with the certificates that came with it. The report data must be what
// evidence.ReportData makes of the source, the nonce and the runtime data.
func (r *Result) Document(source evidence.Source, nonce, runtimeData []byte) (*evidence.Document, error) {
	list, err := r.CertificateList()
	if err != nil {
		return nil, err
	}
	return &evidence.Document{
		Type: r.Type, Report: r.Report, Certificates: list, Source: source, Nonce: nonce, RuntimeData: runtimeData,
	}, nil
}

// Provider obtains reports from one source.
type Provider interface {
	// Kind names the source, for messages and logs.
	Kind() string
	// Report returns a report that carries the report data.
	Report(ctx context.Context, reportData [64]byte) (*Result, error)
}

// checkSNP requires the report to be one and to carry the report data.
func checkSNP(report []byte, reportData [64]byte) error {
	r, err := snp.ParseReport(report)
	if err != nil {
		return err
	}
	if subtle.ConstantTimeCompare(r.ReportData[:], reportData[:]) != 1 {
		return fmt.Errorf("report carries report data %x, not %x", r.ReportData, reportData)
	}
	return nil
}
