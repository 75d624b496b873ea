// SPDX-License-Identifier: Apache-2.0

package release

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"fmt"

	"cofferdam.dev/attest"
)

// Evidence is what a guest shows of itself to an attestation service.
type Evidence struct {
	// Type is attest.TypeSEVSNP or attest.TypeTDX.
	Type string
	// Report is the SNP report or the TDX quote.
	Report []byte
	// Certificates lead from an SNP report to AMD's root, in DER, the chip's first.
	Certificates [][]byte
	// Endorsements are signed statements about the guest's launch measurement, in COSE.
	Endorsements [][]byte
}

// ChainPEM returns the certificates in PEM, as they are sent.
func (e *Evidence) ChainPEM() []byte {
	var b bytes.Buffer
	for _, der := range e.Certificates {
		_ = pem.Encode(&b, &pem.Block{Type: "CERTIFICATE", Bytes: der}) // a buffer takes all
	}
	return b.Bytes()
}

// Attester obtains evidence that carries 64 bytes of report data. It must be safe for concurrent use.
type Attester interface {
	Evidence(ctx context.Context, reportData [64]byte) (*Evidence, error)
}

// AttesterFunc is a function that is an Attester.
type AttesterFunc func(ctx context.Context, reportData [64]byte) (*Evidence, error)

// Evidence calls the function.
func (f AttesterFunc) Evidence(ctx context.Context, reportData [64]byte) (*Evidence, error) {
	return f(ctx, reportData)
}

// FromProvider returns an Attester over a source of reports that delivers the certificates with them.
func FromProvider(p attest.Provider) Attester {
	return AttesterFunc(func(ctx context.Context, reportData [64]byte) (*Evidence, error) {
		r, err := p.Report(ctx, reportData)
		if err != nil {
			return nil, err
		}
		e := &Evidence{Type: r.Type, Report: r.Report}
		if r.Type == attest.TypeSEVSNP {
			list, err := r.CertificateList()
			if err != nil {
				return nil, err
			}
			e.Certificates = LeafFirst(list)
		}
		return e, nil
	})
}

// LeafFirst orders a chain of certificates so that the one that is nobody's issuer comes first, followed by its issuers.
// Certificates that can not be read, or fit nowhere, keep their places at the end.
func LeafFirst(list [][]byte) [][]byte {
	certs := make([]*x509.Certificate, len(list))
	for i, der := range list {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			return list
		}
		certs[i] = c
	}
	issues := func(c *x509.Certificate) bool {
		for _, other := range certs {
			if other != c && bytes.Equal(other.RawIssuer, c.RawSubject) {
				return true
			}
		}
		return false
	}
	var ordered [][]byte
	used := map[*x509.Certificate]bool{}
	var next *x509.Certificate
	for _, c := range certs {
		if !issues(c) {
			next = c
			break
		}
	}
	for next != nil && !used[next] {
		used[next] = true
		ordered = append(ordered, next.Raw)
		issuer := next.RawIssuer
		next = nil
		for _, c := range certs {
			if !used[c] && bytes.Equal(c.RawSubject, issuer) {
				next = c
				break
			}
		}
	}
	for _, c := range certs {
		if !used[c] {
			ordered = append(ordered, c.Raw)
		}
	}
	return ordered
}

// ReportData returns the report data that commit to runtime data as Azure Attestation wants it: their SHA-256, then zeros.
func ReportData(runtimeData []byte) [64]byte {
	var d [64]byte
	sum := sha256.Sum256(runtimeData)
	copy(d[:], sum[:])
	return d
}

// evidenceFor obtains evidence for runtime data.
func evidenceFor(ctx context.Context, a Attester, runtimeData []byte) (*Evidence, error) {
	if a == nil {
		return nil, fmt.Errorf("%w: no source of it is configured", ErrEvidence)
	}
	e, err := a.Evidence(ctx, ReportData(runtimeData))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrEvidence, err)
	}
	return e, nil
}
