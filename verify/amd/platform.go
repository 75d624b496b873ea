// SPDX-License-Identifier: Apache-2.0

package amd

import (
	"fmt"
	"slices"
	"strings"

	"cofferdam.dev/evidence/snp"
	"cofferdam.dev/verify/check"
)

// platform checks the properties of the machine.
func (a *appraisal) platform(r *snp.Report) {
	info := r.PlatformInfo
	need, bad := a.p.RequirePlatform, a.p.ForbidPlatform
	a.Require(info.Has(need) && info&bad == 0, check.Platform, check.CodePlatform,
		fmt.Sprintf("with %s, without %s", need, bad), info.String())
	unknown := info.Unknown() &^ a.p.AllowUnknownPlatform
	a.Require(unknown == 0, check.Platform, check.CodePlatformUnknown, "no unknown bit", info.String())
}

// line checks that the product line is one that is trusted.
func (a *appraisal) line(line snp.ProductLine) {
	if line == "" || len(a.p.Lines) == 0 {
		return // the floors decide
	}
	var names []string
	for _, l := range a.p.Lines {
		names = append(names, string(l))
	}
	a.Require(slices.Contains(a.p.Lines, line), check.Product, check.CodeProductNotAllowed, strings.Join(names, ", "), string(line))
}

// tcb compares TCB versions with each other and with the floors. Without a product line they have no meaning.
func (a *appraisal) tcb(r *snp.Report, line snp.ProductLine) {
	if line == "" {
		a.Undecided(check.TCBFloor, check.CodeProductUnknown, "a known product line", r.CPUID.String())
		return
	}
	parts := make([]snp.TCBParts, 4)
	for i, t := range []snp.TCB{r.ReportedTCB, r.CommittedTCB, r.CurrentTCB, r.LaunchTCB} {
		p, err := t.Parts(line)
		if err != nil {
			a.Fail(check.TCBOrder, check.CodeTCBMalformed, "TCB versions of "+string(line), err.Error())
			return
		}
		parts[i] = p
	}
	reported, committed, current, launch := parts[0], parts[1], parts[2], parts[3]
	a.Require(committed.AtLeast(reported) && current.AtLeast(committed) && !r.CurrentVersion.Before(r.CommittedVersion), check.TCBOrder,
		check.CodeTCBOrder, "reported <= committed <= current", fmt.Sprintf("%s; %s; %s; firmware %s committed, %s current", r.ReportedTCB,
			r.CommittedTCB, r.CurrentTCB, r.CommittedVersion, r.CurrentVersion))
	a.Require(a.p.AllowProvisionalTCB || current == committed && r.CurrentVersion == r.CommittedVersion, check.TCBCommitted,
		check.CodeTCBProvisional, fmt.Sprintf("current is committed: %s, firmware %s", committed, r.CommittedVersion),
		fmt.Sprintf("%s, firmware %s", current, r.CurrentVersion))
	a.floors(line, reported, launch)
}

func (a *appraisal) floors(line snp.ProductLine, reported, launch snp.TCBParts) {
	floor, ok := a.p.MinimumTCB[line]
	if !ok {
		a.Fail(check.TCBFloor, check.CodeTCBFloorMissing, "a floor for "+string(line), "none configured")
		return
	}
	a.Require(reported.AtLeast(floor), check.TCBFloor, check.CodeTCBFloor, floor.String(), "reported "+reported.String())
	if at, ok := a.p.MinimumLaunchTCB[line]; ok {
		floor = at
	}
	a.Require(launch.AtLeast(floor), check.TCBFloor, check.CodeTCBLaunchFloor, floor.String(), "at launch "+launch.String())
}

// mitigations checks the mitigation vectors, which reports have since version 5.
func (a *appraisal) mitigations(r *snp.Report, line snp.ProductLine) {
	want := a.p.Mitigations[line]
	expected := fmt.Sprintf("launch %#x, current %#x", want.Launch, want.Current)
	got := fmt.Sprintf("launch %#x, current %#x", r.LaunchMitigations, r.CurrentMitigations)
	switch {
	case want == (Mitigations{}):
		a.Pass(check.Mitigations, "none is asked for", got)
	case r.Version < mitigationVersion:
		a.Fail(check.Mitigations, check.CodeMitigationsUnreported, expected, fmt.Sprintf("a report of version %d has no vectors", r.Version))
	default:
		a.Require(r.LaunchMitigations&want.Launch == want.Launch && r.CurrentMitigations&want.Current == want.Current,
			check.Mitigations, check.CodeMitigations, expected, got)
	}
}

// mitigationVersion is the first report version with mitigation vectors.
const mitigationVersion = 5
