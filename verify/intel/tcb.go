// SPDX-License-Identifier: Apache-2.0

package intel

import (
	"encoding/binary"
	"fmt"
	"slices"
	"strings"

	"cofferdam.dev/evidence/dcap"
	"cofferdam.dev/evidence/pcs"
	"cofferdam.dev/evidence/tdx"
	"cofferdam.dev/verify/check"
)

// tcb finds the TCB levels that machine, TDX module and quoting enclave reach, and judges what Intel says of them. What a
// stale document says is told, but decides nothing.
func (a *appraisal) tcb(q *dcap.Quote, s *statements, qe *pcs.Verdict) {
	if s.info == nil || a.res.PCK == nil {
		a.Undecided(check.TCBLevel, check.CodeCollateralMissing, "a TCB level", "no TCB info that could be used")
		a.Undecided(check.TCBStatus, check.CodeCollateralMissing, a.acceptedText(), "not determined")
		if q.TD != nil {
			a.Undecided(check.TDXModule, check.CodeCollateralMissing, "a TDX module that Intel knows", "no TCB info that could be used")
		}
		return
	}
	t := &a.res.TCB
	t.QE = qe
	var svn [16]byte
	var module *pcs.EnclaveLevel
	if q.TD != nil {
		svn = q.TD.TEETCBSVN
		module = a.module(q.TD, s)
		t.Module = verdictOf(module)
	}
	t.Platform = platformLevel(s.info, a.res.PCK, svn)
	missing := ""
	if q.TD != nil && q.TD.V15 != nil && q.TD.V15.TEETCBSVN2 != svn {
		missing = a.updated(q.TD, s)
	}
	switch {
	case t.Platform == nil:
		missing = fmt.Sprintf("the machine: components %v, PCESVN %d%s", a.res.PCK.Components, a.res.PCK.PCESVN, tdxText(q.TD))
	case qe == nil && s.qe != nil:
		missing = fmt.Sprintf("the quoting enclave: ISVSVN %d", q.QEReport.ISVSVN)
	}
	a.advisories(s)
	a.level(s, missing)
	a.status(s, q.TD != nil)
}

func tdxText(td *tdx.Body) string {
	if td == nil {
		return ""
	}
	return fmt.Sprintf(", TEE_TCB_SVN %x", td.TEETCBSVN)
}

func verdictOf(l *pcs.EnclaveLevel) *pcs.Verdict {
	if l == nil {
		return nil
	}
	return &l.Verdict
}

// platformLevel returns the first level that the machine reaches in all components. The levels of TDX compare the TDX
// module's version, too, unless it is one whose levels are in an identity of its own (TEE_TCB_SVN[1] above 0): then the
// first two components are the module's own and compared there. Intel PCS API, "Get TDX TCB Info", determining the status.
func platformLevel(info *pcs.TCBInfo, pck *dcap.PCK, svn [16]byte) *pcs.Verdict {
	first := 0
	if svn[1] > 0 {
		first = 2
	}
	for i := range info.Levels {
		l := &info.Levels[i]
		reached := pck.PCESVN >= l.PCESVN && atLeast(pck.Components[:], l.SGX[:]) &&
			(info.ID != pcs.IDTDX || atLeast(svn[first:], l.TDX[first:]))
		if reached {
			return &l.Verdict
		}
	}
	return nil
}

func atLeast(have, want []uint8) bool {
	for i := range want {
		if have[i] < want[i] {
			return false
		}
	}
	return true
}

func enclaveLevel(levels []pcs.EnclaveLevel, svn uint16) *pcs.EnclaveLevel {
	for i := range levels {
		if svn >= levels[i].ISVSVN {
			return &levels[i]
		}
	}
	return nil
}

// module checks that the TDX module is Intel's, and returns its level, or nil for modules of version 1.0 (major 0), which
// the platform's levels cover.
func (a *appraisal) module(td *tdx.Body, s *statements) *pcs.EnclaveLevel {
	identity, levels, err := moduleIdentity(s.info, td.TEETCBSVN)
	if err != nil {
		a.Fail(check.TDXModule, check.CodeTDXModule, "a TDX module that Intel knows", err.Error())
		return nil
	}
	var attributes [8]byte
	binary.LittleEndian.PutUint64(attributes[:], td.SEAMAttributes)
	expected := fmt.Sprintf("signer %x, attributes %x under mask %x", identity.MRSigner, identity.Attributes, identity.AttributesMask)
	actual := fmt.Sprintf("signer %x, attributes %x", td.MRSignerSEAM, attributes)
	if td.MRSignerSEAM != identity.MRSigner || !masked(attributes[:], identity.AttributesMask[:], identity.Attributes[:]) {
		a.Fail(check.TDXModule, check.CodeTDXModule, expected, actual)
		return nil
	}
	pins := Pins{Values: a.modules()}
	if len(pins.Values) != 0 && !pins.has(td.MRSEAM[:]) {
		a.Fail(check.TDXModule, check.CodeTDXModuleNotAllowed, "MRSEAM "+pins.String(), fmt.Sprintf("%x", td.MRSEAM))
		return nil
	}
	a.Pass(check.TDXModule, expected, actual)
	return enclaveLevel(levels, uint16(td.TEETCBSVN[0]))
}

func (a *appraisal) modules() [][]byte {
	if a.p.TDX == nil {
		return nil
	}
	return a.p.TDX.Modules
}

// moduleIdentity returns what a module of that version has to look like, and its levels. TEE_TCB_SVN[1] is the major
// version; 0 is TDX 1.0, whose module the TCB info describes by itself.
func moduleIdentity(info *pcs.TCBInfo, svn [16]byte) (pcs.Module, []pcs.EnclaveLevel, error) {
	if svn[1] == 0 {
		if info.Module == nil {
			return pcs.Module{}, nil, fmt.Errorf("TCB info of %s has no TDX module", info.ID)
		}
		return *info.Module, nil, nil
	}
	id := fmt.Sprintf("TDX_%02X", svn[1])
	for _, m := range info.ModuleIdentities {
		if strings.EqualFold(m.ID, id) {
			return m.Module, m.Levels, nil
		}
	}
	return pcs.Module{}, nil, fmt.Errorf("module %s, which the TCB info does not have", id)
}

// updated finds the levels of a TDX module that was updated under the guest. It returns what has no level.
func (a *appraisal) updated(td *tdx.Body, s *statements) string {
	svn := td.V15.TEETCBSVN2
	a.res.TCB.CurrentPlatform = platformLevel(s.info, a.res.PCK, svn)
	_, levels, err := moduleIdentity(s.info, svn)
	switch {
	case err != nil:
		return err.Error()
	case a.res.TCB.CurrentPlatform == nil:
		return fmt.Sprintf("the machine with the updated module: TEE_TCB_SVN_2 %x", svn)
	}
	if svn[1] > 0 {
		if a.res.TCB.CurrentModule = verdictOf(enclaveLevel(levels, uint16(svn[0]))); a.res.TCB.CurrentModule == nil {
			return fmt.Sprintf("the updated TDX module: TEE_TCB_SVN_2 %x", svn)
		}
	}
	return ""
}

// level records whether all parts reach a level. A level that a stale document does not list may be listed by now.
func (a *appraisal) level(s *statements, missing string) {
	const expected = "a TCB level that Intel knows"
	t := &a.res.TCB
	if td := a.res.Quote.TD; missing == "" && td != nil && td.TEETCBSVN[1] > 0 && t.Module == nil {
		missing = fmt.Sprintf("the TDX module: TEE_TCB_SVN %x", td.TEETCBSVN)
	}
	switch {
	case missing == "" && t.QE == nil:
		a.Undecided(check.TCBLevel, check.CodeCollateralMissing, expected, "no QE identity that could be used")
	case missing == "":
		a.Pass(check.TCBLevel, expected, "dated "+check.Stamp(t.Platform.Date))
	case s.stale:
		a.Undecided(check.TCBLevel, check.CodeCollateralExpired, expected, "none is reached by "+missing)
	default:
		a.Fail(check.TCBLevel, check.CodeTCBLevel, expected, "none is reached by "+missing)
	}
}

// total puts the parts together. A part within grace is not counted as out of date.
func (a *appraisal) total(grace bool) trouble {
	t := &a.res.TCB
	of := func(v *pcs.Verdict) trouble {
		if v == nil {
			return 0
		}
		found := troubles(v.Status)
		if grace && a.p.Grace > 0 && found&outOfDate != 0 && !a.in.Now.After(v.Date.Add(a.p.Grace)) {
			found &^= outOfDate
		}
		return found
	}
	launched := of(t.Platform) | of(t.Module)
	all := launched
	if t.CurrentPlatform != nil {
		running := of(t.CurrentPlatform) | of(t.CurrentModule)
		if all |= running; launched&outOfDate != 0 && running&outOfDate == 0 {
			all = all&^outOfDate | relaunch
		}
	}
	return all | of(t.QE)
}

// status judges the status of all parts together.
func (a *appraisal) status(s *statements, isTD bool) {
	t := &a.res.TCB
	if t.Platform == nil || t.QE == nil || isTD && a.res.Quote.TD.TEETCBSVN[1] > 0 && t.Module == nil {
		a.Undecided(check.TCBStatus, check.CodeCollateralMissing, a.acceptedText(), "not determined")
		return
	}
	t.Status = a.total(false).status()
	graced := a.total(true).status()
	actual := fmt.Sprintf("%s (%s)", t.Status, a.parts())
	if graced != t.Status {
		actual += ", within grace"
		for _, v := range []*pcs.Verdict{t.Platform, t.Module, t.CurrentPlatform, t.CurrentModule, t.QE} {
			if v != nil && troubles(v.Status)&outOfDate != 0 {
				a.within(a.res.From, v.Date.Add(a.p.Grace))
			}
		}
	}
	ok := graced != "" && slices.Contains(a.p.accepted(), graced)
	if !ok && s.stale {
		a.Undecided(check.TCBStatus, check.CodeCollateralExpired, a.acceptedText(), actual)
		return
	}
	a.Require(ok, check.TCBStatus, check.CodeTCBStatus, a.acceptedText(), actual)
}

// parts lists the parts with the status and date of each.
func (a *appraisal) parts() string {
	t := &a.res.TCB
	var list []string
	for _, p := range []struct {
		name string
		v    *pcs.Verdict
	}{
		{"machine", t.Platform}, {"TDX module", t.Module}, {"machine now", t.CurrentPlatform},
		{"TDX module now", t.CurrentModule}, {"quoting enclave", t.QE},
	} {
		if p.v != nil {
			list = append(list, fmt.Sprintf("%s %s of %s", p.name, p.v.Status, p.v.Date.Format("2006-01-02")))
		}
	}
	return strings.Join(list, ", ")
}

func (a *appraisal) acceptedText() string {
	accepted := a.p.accepted()
	names := make([]string, len(accepted))
	for i, s := range accepted {
		names[i] = string(s)
	}
	text := strings.Join(names, ", ")
	if a.p.Grace > 0 {
		text += fmt.Sprintf(", %s of grace", a.p.Grace)
	}
	return text
}

// advisories gathers those of all levels, and judges them.
func (a *appraisal) advisories(s *statements) {
	t := &a.res.TCB
	for _, v := range []*pcs.Verdict{t.Platform, t.Module, t.CurrentPlatform, t.CurrentModule, t.QE} {
		if v != nil {
			t.Advisories = append(t.Advisories, v.Advisories...)
		}
	}
	slices.Sort(t.Advisories)
	t.Advisories = slices.Compact(t.Advisories)
	refused := slices.DeleteFunc(slices.Clone(t.Advisories), func(id string) bool {
		denied := slices.ContainsFunc(a.p.DeniedAdvisories, func(d string) bool { return strings.EqualFold(d, id) })
		return !denied && (a.p.AcceptedAdvisories == nil || slices.Contains(a.p.AcceptedAdvisories, id))
	})
	expected := "any that the status allows"
	if a.p.AcceptedAdvisories != nil {
		expected = "none but " + list(a.p.AcceptedAdvisories)
	}
	if len(a.p.DeniedAdvisories) != 0 {
		expected += ", not " + list(a.p.DeniedAdvisories)
	}
	switch {
	case len(refused) == 0:
		a.Pass(check.Advisories, expected, list(t.Advisories))
	case s.stale:
		a.Undecided(check.Advisories, check.CodeCollateralExpired, expected, list(refused))
	default:
		a.Fail(check.Advisories, check.CodeAdvisory, expected, list(refused))
	}
}

func list(words []string) string {
	if len(words) == 0 {
		return "none"
	}
	return strings.Join(words, ", ")
}
