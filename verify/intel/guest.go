// SPDX-License-Identifier: Apache-2.0

package intel

import (
	"fmt"
	"slices"
	"strings"

	"cofferdam.dev/evidence/sgx"
	"cofferdam.dev/evidence/tdx"
	"cofferdam.dev/verify/check"
)

// trustDomain judges how a TD was launched. What it is (MRTD), the caller compares.
func (a *appraisal) trustDomain(td *tdx.Body) {
	a.res.Measurement, a.res.HostData = td.MRTD[:], td.MRConfigID[:]
	p := a.p.TDX
	if p == nil {
		p = &TDX{} // refused already; the rest is judged by rules that admit nothing
	}
	a.Require(p.AllowDebug || td.TDAttributes&tdx.AttributesUnderDebug == 0, check.Debug, check.CodeDebug,
		allowance("debugging and profiling", p.AllowDebug), td.TDAttributes.String())
	a.Require(p.AllowMigration || !td.TDAttributes.Has(tdx.AttributeMigratable), check.Migration, check.CodeMigration,
		allowance("migration", p.AllowMigration), td.TDAttributes.String())
	a.attributes(td, p)
	xfamOK := td.XFAM.Has(tdx.XFAMFixedOne) && td.XFAM.Unknown() == 0 && td.XFAM&^p.AllowedXFAM == 0
	a.Require(xfamOK, check.XFAM, check.CodeXFAM, "within "+p.AllowedXFAM.String(), td.XFAM.String())
	a.configuration(td, p)
	a.registers(td, p)
	a.eventLog(td, p)
}

// attributes judges the attributes that no other check is about.
func (a *appraisal) attributes(td *tdx.Body, p *TDX) {
	const elsewhere = tdx.AttributesUnderDebug | tdx.AttributeMigratable
	got := td.TDAttributes
	may := p.AllowedAttributes | p.RequiredAttributes | elsewhere
	unknown := got.Unknown()
	if !p.AllowDebug {
		unknown &^= tdx.AttributesUnderDebug // refused by another check
	}
	ok := unknown == 0 && got&^may == 0 && got.Has(p.RequiredAttributes)
	a.Require(ok, check.TDAttributes, check.CodeTDAttributes,
		fmt.Sprintf("with %s, besides at most %s", p.RequiredAttributes, p.AllowedAttributes), got.String())
}

// configuration judges what the host told about the TD when it made it, and which service TDs it bound to it.
func (a *appraisal) configuration(td *tdx.Body, p *TDX) {
	var expected, wrong []string
	for _, f := range []struct {
		name  string
		pins  Pins
		value []byte
	}{
		{"MRCONFIGID", p.ConfigID, td.MRConfigID[:]}, {"MROWNER", p.Owner, td.MROwner[:]},
		{"MROWNERCONFIG", p.OwnerConfig, td.MROwnerConfig[:]},
	} {
		expected = append(expected, f.name+" "+f.pins.String())
		if !f.pins.hasOrZero(f.value) {
			wrong = append(wrong, fmt.Sprintf("%s %x", f.name, f.value))
		}
	}
	a.Require(len(wrong) == 0, check.TDConfiguration, check.CodeTDConfiguration, strings.Join(expected, "; "), orTrusted(wrong))
	if td.V15 == nil {
		a.Pass(check.ServiceTD, p.ServiceTD.String(), "not reported by TDX 1.0")
		return
	}
	a.Require(p.ServiceTD.hasOrZero(td.V15.MRServiceTD[:]), check.ServiceTD, check.CodeServiceTD, p.ServiceTD.String(),
		fmt.Sprintf("%x", td.V15.MRServiceTD))
}

func orTrusted(wrong []string) string {
	if len(wrong) == 0 {
		return "as expected"
	}
	return strings.Join(wrong, "; ")
}

// registers judges the registers that the guest extends. All that is loaded after the firmware is in RTMR0 to RTMR2; what
// is loaded can put any value into RTMR3, so that pinning it alone is refused.
func (a *appraisal) registers(td *tdx.Body, p *TDX) {
	var open, wrong, expected []string
	for i, pins := range p.RTMR {
		name := fmt.Sprintf("RTMR%d", i)
		if !pins.Any && len(pins.Values) == 0 {
			open = append(open, name+" is neither pinned nor opened")
			continue
		}
		expected = append(expected, name+" "+pins.String())
		if !pins.has(td.RTMR[i][:]) {
			wrong = append(wrong, fmt.Sprintf("%s %x", name, td.RTMR[i]))
		}
	}
	last := tdx.RTMRCount - 1
	if !p.RTMR[last].Any && len(p.RTMR[last].Values) != 0 &&
		slices.ContainsFunc(p.RTMR[:last], func(pins Pins) bool { return pins.Any }) {
		open = append(open, "RTMR3 is pinned without RTMR0 to RTMR2")
	}
	if len(open) != 0 {
		a.Fail(check.RuntimeRegisters, check.CodeRegisterNotPinned, "RTMR0 to RTMR3, each pinned or opened", strings.Join(open, "; "))
	}
	if len(wrong) != 0 {
		a.Fail(check.RuntimeRegisters, check.CodeRegister, strings.Join(expected, "; "), strings.Join(wrong, "; "))
	}
	if len(open)+len(wrong) == 0 {
		a.Pass(check.RuntimeRegisters, strings.Join(expected, "; "), "as expected")
	}
}

// eventLog requires a log that came with the quote to lead to all registers. Only then do its events tell how the guest was
// booted.
func (a *appraisal) eventLog(td *tdx.Body, p *TDX) {
	const expected = "RTMR0 to RTMR3 as in the quote"
	if len(a.in.EventLog) == 0 {
		if p.RequireEventLog {
			a.Undecided(check.EventLog, check.CodeEventLogMissing, expected, "no log came with the quote")
			return
		}
		a.Pass(check.EventLog, "a log is not required", "none")
		return
	}
	log, err := tdx.ParseEventLog(a.in.EventLog)
	if err != nil {
		a.Fail(check.EventLog, check.CodeEventLogMalformed, "an event log (CCEL)", err.Error())
		return
	}
	var differ []string
	replayed := log.Replay()
	for _, i := range log.Mismatches(td.RTMR) {
		differ = append(differ, fmt.Sprintf("RTMR%d is %x in the log, %x in the quote", i, replayed[i], td.RTMR[i]))
	}
	if len(differ) != 0 {
		a.Fail(check.EventLog, check.CodeEventLog, expected, strings.Join(differ, "; "))
		return
	}
	a.Pass(check.EventLog, expected, fmt.Sprintf("%d events lead to them", len(log.Events)))
}

// enclave judges how an enclave was launched, and by whom it was signed. What it is (MRENCLAVE), the caller compares.
func (a *appraisal) enclave(r *sgx.ReportBody) {
	a.res.Measurement, a.res.HostData = r.MREnclave[:], r.ConfigID[:]
	p := a.p.SGX
	if p == nil {
		p = &SGX{} // refused already; the rest is judged by rules that admit nothing
	}
	flags := r.Attributes.Flags
	a.Require(p.AllowDebug || !flags.Has(sgx.FlagDebug), check.Debug, check.CodeDebug, allowance("debugging", p.AllowDebug), flags.String())
	may := p.AllowedFlags | sgx.FlagInit | sgx.FlagMode64 | sgx.FlagDebug // the last is judged above
	ok := flags.Has(sgx.FlagInit) && flags.Unknown() == 0 && flags&^may == 0 &&
		r.Attributes.XFRM.Unknown() == 0 && r.Attributes.XFRM&^p.AllowedXFRM == 0 &&
		r.MiscSelect.Unknown() == 0 && r.MiscSelect&^p.AllowedMiscSelect == 0
	a.Require(ok, check.EnclaveAttributes, check.CodeEnclaveAttributes,
		fmt.Sprintf("flags within %s, XFRM within %s, MISCSELECT within %s", may, p.AllowedXFRM, p.AllowedMiscSelect),
		fmt.Sprintf("%s, MISCSELECT %s", r.Attributes, r.MiscSelect))
	a.enclaveSigner(r, p)
	a.Require(p.ConfigID.hasOrZero(r.ConfigID[:]) && r.ConfigSVN >= p.MinimumConfigSVN, check.EnclaveConfiguration,
		check.CodeEnclaveConfiguration, fmt.Sprintf("CONFIGID %s, CONFIGSVN at least %d", p.ConfigID, p.MinimumConfigSVN),
		fmt.Sprintf("CONFIGID %x, CONFIGSVN %d", r.ConfigID, r.ConfigSVN))
}

func (a *appraisal) enclaveSigner(r *sgx.ReportBody, p *SGX) {
	actual := fmt.Sprintf("%x, product %d, version %d", r.MRSigner, r.ISVProdID, r.ISVSVN)
	if len(p.Signers) == 0 {
		a.Pass(check.EnclaveSigner, "any: the measurement decides", actual)
		return
	}
	var expected []string
	for _, s := range p.Signers {
		expected = append(expected, fmt.Sprintf("%x, product %d, version at least %d", s.MRSigner, s.ISVProdID, s.MinimumISVSVN))
	}
	ok := slices.ContainsFunc(p.Signers, func(s Signer) bool {
		return r.MRSigner == s.MRSigner && r.ISVProdID == s.ISVProdID && r.ISVSVN >= s.MinimumISVSVN
	})
	a.Require(ok, check.EnclaveSigner, check.CodeEnclaveSigner, strings.Join(expected, "; or "), actual)
}

func allowance(what string, allowed bool) string {
	if allowed {
		return what + " allowed"
	}
	return "no " + what
}
