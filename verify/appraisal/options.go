// SPDX-License-Identifier: Apache-2.0

package appraisal

import (
	"encoding/hex"
	"slices"
	"time"

	"cofferdam.dev/collateral"
	"cofferdam.dev/evidence"
	"cofferdam.dev/evidence/pcs"
	"cofferdam.dev/evidence/receipt"
	"cofferdam.dev/evidence/sgx"
	"cofferdam.dev/evidence/snp"
	"cofferdam.dev/evidence/tdx"
	"cofferdam.dev/verify"
	"cofferdam.dev/verify/amd"
	"cofferdam.dev/verify/anchor"
	"cofferdam.dev/verify/azure"
	"cofferdam.dev/verify/intel"
	"cofferdam.dev/verify/uvm"
)

// Request is what a relying party knows about one appraisal besides its policy.
type Request struct {
	// Now is the time at which everything must be valid. Zero refuses.
	Now time.Time
	// Nonce is what this relying party sent.
	Nonce []byte
	// RuntimeData, when not nil, is what the report must be bound to.
	RuntimeData []byte
	// ReportData are trusted report data of another form, besides those of the policy.
	ReportData [][]byte
	// Measurements and HostData are trusted where the policy names none, for whoever judges by them elsewhere.
	Measurements [][]byte
	HostData     [][32]byte
	// SimulatedRoots are known simulated roots. Those whose keys the policy lists are used.
	SimulatedRoots []anchor.Root
	// Collateral has certificates and revocation lists that did not come with the evidence. It may be nil.
	Collateral collateral.Source
}

// Options returns what package verify needs to appraise evidence of a type. Files that the policy names must have been
// resolved. For a type that the policy does not accept they refuse everything.
func (p *Policy) Options(evidenceType string, r Request) verify.Options {
	o := verify.Options{
		Roots: p.roots(r.SimulatedRoots), AllowSimulated: p.AllowSimulated, Now: r.Now,
		Source: evidence.Source(p.Binding.Source), Nonce: r.Nonce, RuntimeData: r.RuntimeData, Collateral: r.Collateral,
	}
	o.ReportData = slices.Clone(r.ReportData)
	for _, d := range p.Binding.ReportData {
		o.ReportData = append(o.ReportData, d)
	}
	if !p.accepts(evidenceType) || !p.ruled(evidenceType) {
		o.Roots = nil
		return o
	}
	for _, h := range p.HostData.PolicyHashes {
		o.HostData = append(o.HostData, h)
	}
	if p.HostData.AllowNone {
		o.HostData = append(o.HostData, [32]byte{})
	}
	switch evidenceType {
	case evidence.TypeSEVSNP:
		o.SNP, _ = p.SNP.amdPolicy() // validated
		o.Measurements = digests(p.SNP.Measurements)
		o.UVM = p.SNP.Endorsements.uvmPolicy()
	case evidence.TypeTDX:
		o.Intel = p.Intel.policy()
		o.Intel.TDX = p.TDX.rules()
		o.Measurements = digests(p.TDX.MRTD)
	case evidence.TypeSGX:
		o.Intel = p.Intel.policy()
		o.Intel.SGX = p.SGX.rules()
		for _, m := range p.SGX.MRENCLAVE {
			o.Measurements = append(o.Measurements, m[:])
		}
	case evidence.TypeAzureVTPM:
		p.azure(&o)
		return o
	}
	if len(o.HostData) == 0 {
		o.HostData = r.HostData
	}
	if signed := o.Intel.SGX != nil && len(o.Intel.SGX.Signers) > 0; len(o.Measurements) == 0 && o.UVM.IsZero() && !signed {
		o.Measurements = r.Measurements
	}
	return o
}

// ruled reports whether the policy has the section without which nothing is known about a type of evidence. A valid policy
// has it for each type that it accepts.
func (p *Policy) ruled(evidenceType string) bool {
	return map[string]bool{
		evidence.TypeSEVSNP: p.SNP != nil, evidence.TypeTDX: p.TDX != nil, evidence.TypeSGX: p.SGX != nil, evidence.TypeAzureVTPM: p.Azure != nil,
	}[evidenceType]
}

// azure asks for a paravisor on the hardware that the policy has rules for. A paravisor is launched without host data.
func (p *Policy) azure(o *verify.Options) {
	if p.SNP != nil {
		o.SNP, _ = p.SNP.amdPolicy() // validated
	}
	if p.TDX != nil {
		o.Intel = p.Intel.policy()
		o.Intel.TDX = p.TDX.rules()
	}
	o.Azure = azure.Policy{
		Measurements: digests(p.Azure.Measurements), PCRs: map[int][][32]byte{}, AllowInsecureBoot: p.Azure.AllowInsecureBoot,
	}
	for i, values := range p.Azure.PCRs {
		for _, v := range values {
			o.Azure.PCRs[int(i)] = append(o.Azure.PCRs[int(i)], v)
		}
	}
	o.Measurements, o.HostData = o.Azure.Measurements, [][32]byte{{}}
}

// roots returns the built-in roots of the domains that are trusted, and the known simulated ones that are listed.
func (p *Policy) roots(simulated []anchor.Root) []anchor.Root {
	var list []anchor.Root
	if p.trusts(anchor.AMD) {
		list = append(list, anchor.AMDRoots()...)
	}
	if p.trusts(anchor.Intel) {
		list = append(list, anchor.IntelRoot())
	}
	for _, r := range simulated {
		if r.Domain == anchor.Simulated && r.Certificate != nil && p.names(anchor.SPKI(r.Certificate)) {
			list = append(list, r)
		}
	}
	return list
}

// names reports whether a simulated root's key is listed.
func (p *Policy) names(spki string) bool {
	return p.AllowSimulated && slices.ContainsFunc(p.SimulatedRoots, func(h Hash) bool { return hex.EncodeToString(h[:]) == spki })
}

func digests(list []Digest) [][]byte {
	return convert(list, func(d Digest) []byte { return d[:] })
}

// amdPolicy also returns what makes it meaningless.
func (s *SNP) amdPolicy() (amd.Policy, error) {
	p := amd.Policy{
		MinimumTCB: map[snp.ProductLine]snp.TCBParts{}, MinimumLaunchTCB: map[snp.ProductLine]snp.TCBParts{},
		Mitigations: map[snp.ProductLine]amd.Mitigations{}, AllowProvisionalTCB: s.AllowProvisionalTCB,
		MinVMPL: uint32(s.VMPL.Minimum), MaxVMPL: uint32(s.VMPL.Maximum),
		AllowDebug: s.GuestPolicy.AllowDebug, AllowMigrationAgent: s.GuestPolicy.AllowMigrationAgent,
		MinimumABI: amd.ABI(s.GuestPolicy.MinimumABI), AllowUnknownPlatform: snp.PlatformInfo(s.Platform.AllowUnknown),
		RequireIDBlock: s.IDBlock.Required, RequireAuthorKey: s.IDBlock.AuthorKeyRequired,
		MinimumGuestSVN: s.IDBlock.MinimumGuestSVN, Providers: s.Providers, AllowMaskedChip: s.Chips.AllowMasked,
		RequireRevocation: s.RequireRevocation,
	}
	for name, rule := range s.TCB {
		line := snp.ProductLine(name)
		p.MinimumTCB[line] = snp.TCBParts(rule.Reported)
		if rule.Launch != nil {
			p.MinimumLaunchTCB[line] = snp.TCBParts(*rule.Launch)
		}
		if rule.Mitigations != (Mitigations{}) {
			p.Mitigations[line] = amd.Mitigations{Launch: uint64(rule.Mitigations.Launch), Current: uint64(rule.Mitigations.Current)}
		}
	}
	for _, f := range s.GuestPolicy.Require {
		b, _ := snp.ParseGuestPolicyFlag(string(f)) // one of those that are known
		p.RequirePolicy |= b
	}
	for _, f := range s.GuestPolicy.Forbid {
		b, _ := snp.ParseGuestPolicyFlag(string(f))
		p.ForbidPolicy |= b
	}
	for _, f := range s.Platform.Require {
		b, _ := snp.ParsePlatformBit(string(f))
		p.RequirePlatform |= b
	}
	for _, f := range s.Platform.Forbid {
		b, _ := snp.ParsePlatformBit(string(f))
		p.ForbidPlatform |= b
	}
	p.IDKeys, p.AuthorKeys = convert(s.IDBlock.IDKeys, fromDigest), convert(s.IDBlock.AuthorKeys, fromDigest)
	p.FamilyIDs, p.ImageIDs = convert(s.IDBlock.FamilyIDs, fromIdentifier), convert(s.IDBlock.ImageIDs, fromIdentifier)
	p.Chips, p.DeniedChips = convert(s.Chips.Allow, fromChip), convert(s.Chips.Deny, fromChip)
	return p, p.Validate()
}

// convert turns a list of values into one of another type.
func convert[S, T any](list []S, one func(S) T) []T {
	var out []T
	for _, v := range list {
		out = append(out, one(v))
	}
	return out
}

func fromDigest(d Digest) [48]byte         { return d }
func fromIdentifier(i Identifier) [16]byte { return i }
func fromModel(m Model) [6]byte            { return m }
func fromChip(c Chip) amd.ChipID           { return amd.ChipID(c) }

// uvmPolicy is zero where nobody's endorsements count.
func (e *Endorsements) uvmPolicy() uvm.Policy {
	if e == nil {
		return uvm.Policy{}
	}
	p := uvm.Policy{Issuers: e.Issuers, Feed: e.Feed, MinimumSVN: e.MinimumSVN, RequireReceipt: e.RequireReceipt}
	for name, l := range e.Ledgers {
		keys, err := receipt.ParseKeys([]byte(l.Keys))
		if err != nil {
			continue // validated; a ledger without keys is not trusted
		}
		if p.Ledgers == nil {
			p.Ledgers = map[string]receipt.KeySet{}
		}
		p.Ledgers[name] = keys
	}
	return p
}

func (i *Intel) policy() intel.Policy {
	if i == nil {
		return intel.Policy{}
	}
	p := intel.Policy{
		Grace: time.Duration(i.Grace), AcceptedAdvisories: i.Advisories.Allow, DeniedAdvisories: i.Advisories.Deny,
		MinimumEvaluationNumber: i.MinimumEvaluationNumber, MaxCollateralAge: time.Duration(i.MaxCollateralAge),
		AllowedModels: convert(i.Models.Allow, fromModel), DeniedModels: convert(i.Models.Deny, fromModel),
		AllowedPlatforms: convert(i.Platforms.Allow, fromIdentifier), DeniedPlatforms: convert(i.Platforms.Deny, fromIdentifier),
		AllowTrailingData: i.AllowTrailingData,
	}
	for _, s := range i.Statuses {
		p.AcceptedStatuses = append(p.AcceptedStatuses, pcs.Status(s))
	}
	return p
}

// rules leaves MRCONFIGID to the host data.
func (t *TDX) rules() *intel.TDX {
	pins := func(list []Digest) intel.Pins { return intel.Pins{Values: digests(list)} }
	r := &intel.TDX{
		AllowDebug: t.AllowDebug, AllowMigration: t.AllowMigration,
		RequiredAttributes: tdx.Attributes(t.RequiredAttributes), AllowedAttributes: tdx.Attributes(t.AllowedAttributes),
		AllowedXFAM: tdx.XFAM(t.AllowedXFAM), Modules: digests(t.Modules), Owner: pins(t.Owners), OwnerConfig: pins(t.OwnerConfigs),
		ServiceTD: pins(t.ServiceTDs), RequireEventLog: t.RequireEventLog,
	}
	for i, p := range []Pins{t.RTMR0, t.RTMR1, t.RTMR2, t.RTMR3} {
		r.RTMR[i] = intel.Pins{Any: p.Any, Values: digests(p.Values)}
	}
	return r
}

// rules leaves CONFIGID to the host data.
func (s *SGX) rules() *intel.SGX {
	r := &intel.SGX{
		AllowDebug: s.AllowDebug, AllowedFlags: sgx.Flags(s.AllowedFlags), AllowedXFRM: sgx.XFRM(s.AllowedXFRM),
		AllowedMiscSelect: sgx.MiscSelect(s.AllowedMiscSelect), MinimumConfigSVN: s.MinimumConfigSVN,
	}
	for _, g := range s.Signers {
		r.Signers = append(r.Signers, intel.Signer{MRSigner: g.MRSIGNER, ISVProdID: g.Product, MinimumISVSVN: g.MinimumSVN})
	}
	return r
}
