// SPDX-License-Identifier: Apache-2.0

package skr

import (
	"bytes"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"sync"

	"cofferdam.dev/attest"
	"cofferdam.dev/evidence/snp"
	"cofferdam.dev/evidence/uvm"
	"cofferdam.dev/release"
)

// CertSource has certificates of the chip that made a report: the chip's first, then its issuers, in DER.
type CertSource interface {
	Certificates(ctx context.Context, r *snp.Report) ([][]byte, error)
}

// Evidence obtains evidence of the group: a report, the chip's certificates under the TCB that the report has, and the
// endorsement of the launch measurement. It is safe for concurrent use.
type Evidence struct {
	// Provider obtains reports.
	Provider attest.Provider
	// Context is what the host gave; nil is nothing.
	Context *uvm.SecurityContext
	// Certs is asked when neither the report nor the context has certificates under the report's TCB. Nil has none.
	Certs CertSource
	// AllowMismatchedTCB takes certificates under another TCB than the report's when there are no others. No verifier
	// accepts them; it is for tests.
	AllowMismatchedTCB bool

	mu   sync.Mutex
	kept [][]byte // certificates that fitted last
}

var _ release.Attester = (*Evidence)(nil)

// Collected is evidence in the parts that callers get.
type Collected struct {
	release.Evidence
	// TCB is the TCB version that the chip's certificate is for. It is zero for evidence that is not of SNP.
	TCB snp.TCB
}

// Evidence returns evidence that carries the report data.
func (e *Evidence) Evidence(ctx context.Context, reportData [64]byte) (*release.Evidence, error) {
	c, err := e.Collect(ctx, reportData)
	if err != nil {
		return nil, err
	}
	return &c.Evidence, nil
}

// Raw returns a report alone.
func (e *Evidence) Raw(ctx context.Context, reportData [64]byte) (*attest.Result, error) {
	if e.Provider == nil {
		return nil, errors.New("no source of reports is configured")
	}
	r, err := e.Provider.Report(ctx, reportData)
	if err != nil {
		return nil, fmt.Errorf("getting a report: %w", err)
	}
	return r, nil
}

// Collect returns evidence that carries the report data. When no certificates are under the report's TCB, they are fetched,
// and once more with a new report: the host may have updated its firmware meanwhile.
func (e *Evidence) Collect(ctx context.Context, reportData [64]byte) (*Collected, error) {
	var failed error
	for range 2 {
		res, err := e.Raw(ctx, reportData)
		if err != nil {
			return nil, err
		}
		c := &Collected{Evidence: release.Evidence{Type: res.Type, Report: res.Report}}
		if res.Type != attest.TypeSEVSNP {
			return c, nil
		}
		if e.Context != nil && len(e.Context.Endorsement) > 0 {
			c.Endorsements = [][]byte{e.Context.Endorsement}
		}
		if c.Certificates, c.TCB, failed = e.certificates(ctx, res); failed == nil {
			return c, nil
		}
		if _, moved := errors.AsType[*mismatch](failed); !moved || e.Certs == nil {
			break
		}
	}
	return nil, failed
}

// mismatch says that certificates are for another TCB than the report's.
type mismatch struct{ report, certificate snp.TCB }

// Error names both.
func (m *mismatch) Error() string {
	return fmt.Sprintf("the report is under TCB %s, the certificate of the chip is for %s", m.report, m.certificate)
}

// certificates finds those that fit a report: what came with it, what fitted last, what the host gave, what a server has.
// The error is a *mismatch when the server's are under another TCB.
func (e *Evidence) certificates(ctx context.Context, res *attest.Result) ([][]byte, snp.TCB, error) {
	r, err := snp.ParseReport(res.Report)
	if err != nil {
		return nil, snp.TCB{}, err
	}
	own, err := res.CertificateList()
	if err != nil {
		return nil, snp.TCB{}, err
	}
	s := &search{report: r}
	if s.try(release.LeafFirst(own)) || s.try(e.last()) || e.Context != nil && e.Context.HostCert != nil && s.try(e.Context.HostCert.Certificates()) {
		return s.list, s.tcb, nil
	}
	if e.Certs != nil {
		list, err := e.Certs.Certificates(ctx, r)
		if err == nil && s.try(list) {
			e.keep(list)
			return s.list, s.tcb, nil
		}
		if err != nil && s.err != nil {
			err = fmt.Errorf("%w; what there is already: %s", err, s.err.Error())
		}
		if err != nil {
			s.err = fmt.Errorf("getting the chip's certificates: %w", err)
		}
	}
	switch {
	case s.other != nil && e.AllowMismatchedTCB:
		return s.other, s.otherTCB, nil
	case s.err == nil:
		s.err = errors.New("neither the report nor the host has the chip's certificates, and no server of them is configured")
	}
	return nil, snp.TCB{}, s.err
}

// search looks for certificates that fit a report.
type search struct {
	report *snp.Report
	// list are those that fit, and other those under another TCB.
	list, other   [][]byte
	tcb, otherTCB snp.TCB
	// err says what was wrong with the last ones.
	err error
}

// try reports whether certificates fit.
func (s *search) try(list [][]byte) bool {
	if len(list) == 0 {
		return false
	}
	tcb, err := fits(list[0], s.report)
	if err == nil {
		s.list, s.tcb = list, tcb
		return true
	}
	if m, ok := errors.AsType[*mismatch](err); ok {
		s.other, s.otherTCB = list, m.certificate
	}
	s.err = err
	return false
}

// fits checks that a certificate is for the chip and the TCB of a report. Nothing depends on it but the wording of errors:
// whoever gets the evidence verifies it.
func fits(der []byte, r *snp.Report) (snp.TCB, error) {
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return snp.TCB{}, fmt.Errorf("the chip's certificate: %w", err)
	}
	c, err := snp.ParseChipCertificate(cert)
	if err != nil {
		return snp.TCB{}, fmt.Errorf("the chip's certificate: %w", err)
	}
	masked := r.ChipID == [64]byte{}
	if len(c.HWID) > 0 && !masked && !bytes.Equal(c.HWID, r.ChipID[:len(c.HWID)]) {
		return snp.TCB{}, fmt.Errorf("the certificate is for the chip %x…, the report is of %x…", c.HWID[:4], r.ChipID[:4])
	}
	if c.TCB != r.ReportedTCB {
		return snp.TCB{}, &mismatch{r.ReportedTCB, c.TCB}
	}
	return c.TCB, nil
}

func (e *Evidence) last() [][]byte {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.kept
}

func (e *Evidence) keep(list [][]byte) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.kept = list
}
