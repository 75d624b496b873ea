// SPDX-License-Identifier: Apache-2.0

package attestsvc

import (
	"context"
	"crypto/sha256"
	"errors"
	"slices"
	"time"

	"cofferdam.dev/collateral"
	"cofferdam.dev/evidence"
	"cofferdam.dev/verify"
	"cofferdam.dev/verify/anchor"
	rules "cofferdam.dev/verify/appraisal"
	"cofferdam.dev/verify/check"
	"cofferdam.dev/verify/intel"
)

// PolicyBaseline returns a baseline that an appraisal policy says: evidence is accepted only if the policy accepts it, by
// its typed rules and by those in Rego. What the policy says about binding does not count, because the service compares
// runtime data and nonces itself; and where the policy names no launch measurements, or no host data, they are left to the
// tenants' policies. Files that the policy names must have been resolved. Simulated are the known simulated roots, of which
// those count whose keys the policy lists.
func PolicyBaseline(p *rules.Policy, simulated []anchor.Root) (Baseline, error) {
	if err := p.Validate(); err != nil {
		return Baseline{}, err
	}
	unbound := *p
	unbound.Binding = rules.Binding{}
	b := Baseline{Policy: &unbound, AllowSimulated: p.AllowSimulated}
	for _, t := range p.Evidence {
		o := p.Options(string(t), rules.Request{SimulatedRoots: simulated})
		b.Roots = o.Roots
		switch t {
		case evidence.TypeSEVSNP:
			b.SNP = o.SNP
		case evidence.TypeTDX, evidence.TypeSGX:
			b.Intel = joinIntel(b.Intel, o.Intel)
		case evidence.TypeAzureVTPM:
			b.SNP, b.Intel, b.VM = o.SNP, joinIntel(b.Intel, o.Intel), o.Azure
		}
	}
	known := slices.ContainsFunc(b.Roots, func(r anchor.Root) bool { return r.Domain == anchor.Simulated })
	if b.AllowSimulated != known {
		return Baseline{}, errors.New("the baseline lists simulated roots of which none is given")
	}
	return b, nil
}

// joinIntel puts the rules for trust domains and for enclaves together; what is asked of their machines is the same. What
// they were configured with is compared by the policy itself.
func joinIntel(a, b intel.Policy) intel.Policy {
	td, enclave := a.TDX, a.SGX
	if b.TDX != nil {
		own := *b.TDX
		own.ConfigID = intel.Pins{Any: true}
		td = &own
	}
	if b.SGX != nil {
		own := *b.SGX
		own.ConfigID = intel.Pins{Any: true}
		enclave = &own
	}
	if b.TDX != nil || b.SGX != nil {
		a = b
	}
	a.TDX, a.SGX = td, enclave
	return a
}

// newAppraiser compiles the baseline's policy; nil when it has none.
func (b *Baseline) newAppraiser(ctx context.Context, cacheSize int) (*rules.Appraiser, error) {
	if b.Policy == nil {
		return nil, nil //nolint:nilnil // there may be none
	}
	var v *verify.Verifier
	if cacheSize > 0 {
		v = verify.NewVerifier(cacheSize)
	}
	return rules.New(ctx, b.Policy, v)
}

// documentTypes are the types of documents by the kinds of evidence.
var documentTypes = map[Kind]string{
	SevSnpVM: evidence.TypeSEVSNP, TdxVM: evidence.TypeTDX, SgxEnclave: evidence.TypeSGX, OpenEnclave: evidence.TypeSGX,
	AzureGuest: evidence.TypeAzureVTPM,
}

// byPolicy has the baseline's policy judge what was already judged by its typed rules for the sake of the claims.
func (s *Service) byPolicy(ctx context.Context, a *appraisal, r *Request, now time.Time, source collateral.Source) {
	if s.appraiser == nil {
		return
	}
	doc := &evidence.Document{Type: documentTypes[r.Kind], Report: a.evidence, Certificates: r.Certificates}
	switch r.Kind {
	case SevSnpVM:
		doc.Endorsements = r.Endorsements
	case TdxVM:
		doc.EventLog = r.EventLog
	case SgxEnclave, OpenEnclave, AzureGuest:
	}
	req := rules.Request{
		Now: now, SimulatedRoots: s.opts.Baseline.Roots, Collateral: source, ReportData: [][]byte{a.reportData},
	}
	if len(a.measurement) > 0 {
		req.Measurements = [][]byte{a.measurement}
	}
	if len(a.hostData) >= sha256.Size {
		req.HostData = [][sha256.Size]byte{[sha256.Size]byte(a.hostData[:sha256.Size])}
	}
	a.verdict = s.appraiser.Appraise(ctx, doc, req)
}

// worse returns the outcome that grants less.
func worse(a, b verify.Outcome) verify.Outcome {
	for _, o := range []verify.Outcome{verify.Refused, verify.Undecided} {
		if a == o || b == o {
			return o
		}
	}
	if a == verify.Accepted && b == verify.Accepted {
		return verify.Accepted
	}
	return verify.Refused
}

// conclude returns what the baseline came to, and the checks that did not pass.
func (a *appraisal) conclude() (verify.Outcome, []check.Check) {
	checks := a.rec.Checks()
	outcome := verify.Conclude(checks, a.mandatory)
	failures := (&verify.Verdict{Checks: checks}).Failures()
	if a.verdict == nil {
		return outcome, failures
	}
	for _, c := range a.verdict.Failures() {
		if !slices.ContainsFunc(failures, func(o check.Check) bool { return rules.Same(c, o) }) {
			failures = append(failures, c)
		}
	}
	return worse(outcome, a.verdict.Outcome), failures
}
