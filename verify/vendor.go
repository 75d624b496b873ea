// SPDX-License-Identifier: Apache-2.0

package verify

import (
	"context"
	"time"

	"cofferdam.dev/evidence"
	"cofferdam.dev/evidence/dcap"
	"cofferdam.dev/verify/amd"
	"cofferdam.dev/verify/anchor"
	"cofferdam.dev/verify/azure"
	"cofferdam.dev/verify/intel"
)

// snp has an SNP report judged.
func (a *appraisal) snp(ctx context.Context, doc *evidence.Document) *subject {
	a.mandatory = amd.Mandatory()
	res := amd.Appraise(ctx, a.Record, amd.Input{
		Report: doc.Report, Certificates: doc.Certificates, Now: a.opts.Now, Roots: a.opts.Roots,
		AllowSimulated: a.opts.AllowSimulated, Collateral: a.collateral(doc), Cache: a.f.cache,
	}, a.opts.SNP)
	s := a.snpResult(&res, doc)
	if s != nil {
		s.endorsable = true
	}
	return s
}

func (a *appraisal) snpResult(res *amd.Result, doc *evidence.Document) *subject {
	a.chain(res.Domain, res.Simulated, res.Chain, res.From, res.Until)
	r := res.Report
	if r == nil {
		return nil
	}
	a.v.Report = reportClaims(r, res.Chip, doc)
	return &subject{measurement: r.Measurement[:], hostData: r.HostData[:], reportData: r.ReportData[:]}
}

// chain puts what was established about a chain into the verdict.
func (a *appraisal) chain(domain anchor.Domain, simulated bool, links []anchor.Link, from, until time.Time) {
	a.v.Domain, a.v.Simulated, a.v.Chain = domain, simulated, links
	a.v.ValidFrom, a.v.ValidUntil = from, until
}

// quote has a quote of a trust domain or an enclave judged.
func (a *appraisal) quote(ctx context.Context, doc *evidence.Document, tee dcap.TEEType) *subject {
	a.mandatory = intel.Mandatory(tee)
	res := intel.Appraise(ctx, a.Record, intel.Input{
		TEE: tee, Quote: doc.Report, Certificates: doc.Certificates, EventLog: doc.EventLog, Now: a.opts.Now, Roots: a.opts.Roots,
		AllowSimulated: a.opts.AllowSimulated, Collateral: a.collateral(doc), Cache: a.f.quotes,
	}, hostDataElsewhere(a.opts.Intel))
	s := a.quoteResult(&res, doc)
	if s != nil && tee == dcap.TEESGX && a.opts.Intel.SGX != nil {
		s.identified = len(a.opts.Intel.SGX.Signers) > 0
	}
	return s
}

func (a *appraisal) quoteResult(res *intel.Result, doc *evidence.Document) *subject {
	a.chain(res.Domain, res.Simulated, res.Chain, res.From, res.Until)
	if res.Quote == nil {
		return nil
	}
	a.v.Quote = quoteClaims(res, doc)
	return &subject{measurement: res.Measurement, hostData: res.HostData, reportData: res.ReportData[:]}
}

// hostDataElsewhere opens MRCONFIGID and CONFIGID where the policy for quotes has no trusted values of its own: they are
// the host data, which this package compares with Options.HostData.
func hostDataElsewhere(p intel.Policy) intel.Policy {
	open := func(pins *intel.Pins) {
		if len(pins.Values) == 0 {
			pins.Any = true
		}
	}
	if p.TDX != nil {
		rules := *p.TDX
		open(&rules.ConfigID)
		p.TDX = &rules
	}
	if p.SGX != nil {
		rules := *p.SGX
		open(&rules.ConfigID)
		p.SGX = &rules
	}
	return p
}

// azure has the evidence of an Azure VM judged: its hardware report, and the TPM that the report vouches for. What binds
// it to a nonce is the TPM's quote; the report's own data are taken by the paravisor's claims.
func (a *appraisal) azure(ctx context.Context, doc *evidence.Document) *subject {
	res := azure.Appraise(ctx, a.Record, azure.Input{
		Evidence: doc.Report, Certificates: doc.Certificates, Now: a.opts.Now, Roots: a.opts.Roots,
		AllowSimulated: a.opts.AllowSimulated, Collateral: a.collateral(doc), Cache: a.f.cache, QuoteCache: a.f.quotes,
		SNP: a.opts.SNP, TDX: hostDataElsewhere(a.opts.Intel),
	}, a.opts.Azure)
	a.mandatory = azure.Mandatory(res.Kind)
	var s *subject
	switch {
	case res.SNP != nil:
		s = a.snpResult(res.SNP, doc)
	case res.TDX != nil:
		s = a.quoteResult(res.TDX, doc)
	}
	if s == nil {
		return nil
	}
	a.v.VM = vmClaims(&res)
	s.reportData, s.judged = res.ExtraData, true
	return s
}
