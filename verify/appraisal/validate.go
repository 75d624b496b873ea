// SPDX-License-Identifier: Apache-2.0

package appraisal

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"cofferdam.dev/evidence"
	"cofferdam.dev/evidence/didx509"
	"cofferdam.dev/evidence/receipt"
	"cofferdam.dev/verify/anchor"
)

// Validate returns an error, Problems, when the policy contradicts itself or does not ask for what it seems to.
func (p *Policy) Validate() error {
	if list := p.problems(); len(list) > 0 {
		return fmt.Errorf("appraisal policy: %w", list)
	}
	return nil
}

// validation collects problems.
type validation struct{ list Problems }

func (v *validation) require(ok bool, path, format string, args ...any) {
	if !ok {
		v.list = append(v.list, Problem{Path: path, Message: fmt.Sprintf(format, args...)})
	}
}

func (p *Policy) problems() Problems {
	v := &validation{}
	v.require(p.Schema == Schema, "schema", "it is %q, not %q", p.Schema, Schema)
	v.require(len(p.Evidence) > 0, "evidence", "no type of evidence is accepted")
	v.require(len(p.Domains) > 0, "domains", "no trust domain is accepted")
	p.sections(v)
	p.simulated(v)
	p.bindings(v)
	if p.SNP != nil {
		p.SNP.problems(v)
	}
	if p.TDX != nil {
		for name, pins := range map[string]Pins{"rtmr0": p.TDX.RTMR0, "rtmr1": p.TDX.RTMR1, "rtmr2": p.TDX.RTMR2, "rtmr3": p.TDX.RTMR3} {
			v.require(!pins.Any || len(pins.Values) == 0, "tdx."+name, "any value is trusted, and yet values are listed")
		}
	}
	v.files(p)
	v.require(len(p.Rules.Modules)+len(p.Rules.Files) <= maxModules, "rules", "there are more than %d modules", maxModules)
	return v.list
}

func (p *Policy) accepts(t string) bool { return slices.Contains(p.Evidence, EvidenceType(t)) }

func (p *Policy) trusts(d anchor.Domain) bool { return slices.Contains(p.Domains, Domain(d)) }

// sections requires a section for each type that is accepted, and no others: a section that nobody reads is a mistake.
func (p *Policy) sections(v *validation) {
	azure, quotes := p.accepts(evidence.TypeAzureVTPM), p.accepts(evidence.TypeTDX) || p.accepts(evidence.TypeSGX)
	for _, s := range []struct {
		name          string
		there         bool
		wanted, usual bool // without it nothing of an accepted type passes; it has a use
	}{
		{"snp", p.SNP != nil, p.accepts(evidence.TypeSEVSNP), p.accepts(evidence.TypeSEVSNP) || azure},
		{"tdx", p.TDX != nil, p.accepts(evidence.TypeTDX), p.accepts(evidence.TypeTDX) || azure},
		{"sgx", p.SGX != nil, p.accepts(evidence.TypeSGX), p.accepts(evidence.TypeSGX)},
		{"intel", p.Intel != nil, false, quotes || azure && p.TDX != nil},
		{"azure", p.Azure != nil, azure, azure},
	} {
		v.require(s.there || !s.wanted, "evidence", "a type is accepted for which the section %q is missing", s.name)
		v.require(!s.there || s.usual, s.name, "no accepted type of evidence uses this section")
	}
	v.require(!azure || p.SNP != nil || p.TDX != nil, "evidence", "azure-vtpm is accepted, but neither section snp nor tdx says on what machines")
}

// simulated requires the three keys that admit simulated roots to agree.
func (p *Policy) simulated(v *validation) {
	v.require(p.AllowSimulated == p.trusts(anchor.Simulated), "allowSimulated", "it is %t, but the domains are %v: say both, or neither", p.AllowSimulated, p.Domains)
	v.require(p.AllowSimulated || len(p.SimulatedRoots) == 0, "simulatedRoots", "roots are listed, but allowSimulated is not true")
	v.require(!p.AllowSimulated || len(p.SimulatedRoots) > 0, "allowSimulated", "it is true, but simulatedRoots lists no root")
}

func (p *Policy) bindings(v *validation) {
	min := p.Binding.MinimumNonceSize
	v.require(min == 0 || min >= evidence.MinNonceSize, "binding.minimumNonceSize", "it is %d, less than the %d that are always asked for", min, evidence.MinNonceSize)
	for i, r := range p.Binding.ReportData {
		v.require(len(r) == 64 || p.accepts(evidence.TypeAzureVTPM), fmt.Sprintf("binding.reportData[%d]", i), "it has %d bytes, not the 64 of a report", len(r))
	}
}

func (s *SNP) problems(v *validation) {
	_, policy := s.amdPolicy()
	if policy != nil {
		for _, line := range strings.Split(policy.Error(), "\n") {
			v.require(false, "snp", "%s", line)
		}
	}
	for line, rule := range s.TCB {
		v.require(line == "Turin" || rule.Reported.FMC == 0 && (rule.Launch == nil || rule.Launch.FMC == 0), "snp.tcb."+string(line), "fmc is asked for, which only Turin has")
	}
	e := s.Endorsements
	if e == nil {
		return
	}
	const at = "snp.endorsements"
	v.require(len(e.Issuers) > 0, at+".issuers", "no publisher is trusted")
	for i, did := range e.Issuers {
		v.require(isDID(did), fmt.Sprintf("%s.issuers[%d]", at, i), "%q is no did:x509", did)
	}
	v.require(e.Feed != "", at+".feed", "it is empty")
	v.require(e.MinimumSVN > 0, at+".minimumSVN", "it is 0; publishers count from 1")
	v.require(!e.RequireReceipt || len(e.Ledgers) > 0, at+".requireReceipt", "receipts are asked for, but no ledger is trusted")
	v.require(len(e.Documents)+len(e.Files) <= evidence.MaxEndorsements, at, "there are more than %d endorsements", evidence.MaxEndorsements)
	for name, l := range e.Ledgers {
		where := at + ".ledgers." + name
		v.require((l.Keys == "") != (l.File == ""), where, "say either keys or file")
		if l.Keys != "" {
			_, err := receipt.ParseKeys([]byte(l.Keys))
			v.require(err == nil, where+".keys", "%v", err)
		}
	}
}

// files requires the names of files to lie beside the policy, or below.
func (v *validation) files(p *Policy) {
	for _, f := range p.files() {
		for i, name := range f.names {
			local := name != "" && !path.IsAbs(name) && path.Clean(name) == name && name != ".." && !strings.HasPrefix(name, "../")
			v.require(local, fmt.Sprintf("%s[%d]", f.path, i), "%q does not lie in the policy's directory", name)
		}
	}
}

func isDID(s string) bool {
	_, err := didx509.Parse(s)
	return err == nil
}
