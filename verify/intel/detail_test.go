// SPDX-License-Identifier: Apache-2.0

package intel

import (
	"bytes"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"cofferdam.dev/collateral"
	"cofferdam.dev/evidence/pcs"
	"cofferdam.dev/verify/check"
)

// named returns the vector of that name.
func named(t testing.TB, name string) vector {
	t.Helper()
	for _, v := range vectors {
		if v.name == name {
			return v
		}
	}
	t.Fatalf("there is no vector %q", name)
	return vector{}
}

// results returns what an appraisal recorded under a name.
func results(t testing.TB, in Input, p Policy, name check.Name) []check.Check {
	t.Helper()
	var rec check.Record
	Appraise(t.Context(), &rec, in, p)
	return slices.DeleteFunc(rec.Checks(), func(c check.Check) bool { return c.Name != name })
}

// TestEventLogs holds that a log that belongs to its quote passes, and that exactly the registers that differ are named.
func TestEventLogs(t *testing.T) {
	t.Parallel()
	for name, want := range map[string][]string{
		"t6, log and quote belong together": nil,
		"t7 pair a, the log is another's":   {"RTMR2"},
		"t7 pair b, the log is another's":   {"RTMR0", "RTMR1"},
	} {
		in := named(t, name)
		got := results(t, in.input(t), lenient(), check.EventLog)
		if len(got) != 1 || (got[0].Result == check.Pass) != (want == nil) {
			t.Errorf("%s: %+v", name, got)
			continue
		}
		var registers []string
		for _, r := range []string{"RTMR0", "RTMR1", "RTMR2", "RTMR3"} {
			if strings.Contains(got[0].Actual, r) {
				registers = append(registers, r)
			}
		}
		if d := cmp.Diff(want, registers); d != "" {
			t.Errorf("%s: named registers differ (-want +got):\n%s", name, d)
		}
	}
	v := named(t, "t6, log and quote belong together")
	res, _, _ := judge(t, v.input(t), lenient())
	if nonce := load(t, "tdx/t6-ccel-google/nonce.dat"); !bytes.Equal(res.ReportData[:], nonce) {
		t.Errorf("report data are %x, not %x", res.ReportData, nonce)
	}
}

// TestVectorsUnderOtherPolicies changes what is asked for of real quotes.
func TestVectorsUnderOtherPolicies(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, vector string
		policy       func(*Policy)
		outcome      string
		has          string
	}{
		{"floor of 17", "t1", func(p *Policy) { p.MinimumEvaluationNumber = 17 }, "accepted", ""},
		{"floor of 18", "t1", func(p *Policy) { p.MinimumEvaluationNumber = 18 }, "refused", "tcb-evaluation=TCB_EVALUATION_TOO_LOW"},
		{"status is accepted", "g1", func(p *Policy) { p.AcceptedStatuses = []pcs.Status{pcs.ConfigurationAndSWHardeningNeeded} }, "accepted", ""},
		{"status is accepted, an advisory is not", "g1", func(p *Policy) {
			p.AcceptedStatuses = []pcs.Status{pcs.ConfigurationAndSWHardeningNeeded}
			p.DeniedAdvisories = []string{"INTEL-SA-00615"}
		}, "refused", "advisories=ADVISORY_NOT_ACCEPTED"},
		{"text may follow", "t5 ends with text and reaches no level", func(p *Policy) { p.AllowTrailingData = true }, "refused", "tcb-level=TCB_LEVEL_NOT_FOUND"},
		{"debug and status are accepted", "t3 is a debug domain on a machine out of date", func(p *Policy) {
			p.TDX.AllowDebug, p.AcceptedStatuses = true, []pcs.Status{pcs.OutOfDate}
		}, "accepted", ""},
	} {
		v, p := named(t, c.vector), lenient()
		c.policy(&p)
		_, outcome, codes := judge(t, v.input(t), p)
		if outcome != c.outcome || c.has != "" && !slices.Contains(codes, c.has) {
			t.Errorf("%s: %s %v", c.name, outcome, codes)
		}
	}
}

// TestBadSigningChain gives TCB info whose signature is good a chain that ends in a machine's authority.
func TestBadSigningChain(t *testing.T) {
	t.Parallel()
	v := named(t, "g3")
	in := v.input(t)
	items := in.Collateral.(collateral.Embedded)
	name := collateral.TCBInfo(collateral.SGX, [6]byte{0, 0x60, 0x6a}).Name()
	items[name] = collateral.Item{Body: items[name].Body, IssuerChain: load(t, badChain)}
	res, outcome, codes := judge(t, in, lenient())
	if outcome != "refused" || !slices.Contains(codes, "tcb-info=COLLATERAL_SIGNER_INVALID") || res.TCB.Status != "" {
		t.Errorf("%s %v, status %q", outcome, codes, res.TCB.Status)
	}
}

// TestVersion5 holds what is said of the machine of a quote of version 5, whose TDX module was updated since its launch.
func TestVersion5(t *testing.T) {
	t.Parallel()
	v := named(t, "t5 of version 5, without QE identity and lists")
	in := v.input(t)
	res, _, _ := judge(t, in, lenient())
	tcb := res.TCB
	if tcb.Platform == nil || tcb.Module == nil || tcb.CurrentPlatform == nil || tcb.CurrentModule == nil {
		t.Fatalf("TCB is %+v", tcb)
	}
	got := []pcs.Status{tcb.Platform.Status, tcb.Module.Status, tcb.CurrentPlatform.Status, tcb.CurrentModule.Status}
	if d := cmp.Diff([]pcs.Status{pcs.UpToDate, pcs.UpToDate, pcs.UpToDate, pcs.UpToDate}, got); d != "" {
		t.Errorf("statuses differ (-want +got):\n%s", d)
	}
	for _, name := range []check.Name{check.Signature, check.QEReport, check.AttestationKey, check.TrustAnchor} {
		if r := results(t, in, lenient(), name); len(r) != 1 || r[0].Result != check.Pass {
			t.Errorf("%s: %+v", name, r)
		}
	}
}

// TestSignaturesOfAllVectors holds what is documented of all quotes with a chain: their signatures verify.
func TestSignaturesOfAllVectors(t *testing.T) {
	t.Parallel()
	n := 0
	for _, v := range vectors {
		if strings.Contains(v.name, "without a certificate chain") {
			continue
		}
		n++
		for _, name := range []check.Name{check.Signature, check.QEReport, check.AttestationKey, check.TrustAnchor, check.Chain, check.Profile} {
			if r := results(t, v.input(t), lenient(), name); len(r) != 1 || r[0].Result != check.Pass {
				t.Errorf("%s: %s: %+v", v.name, name, r)
			}
		}
	}
	if n < 14 {
		t.Errorf("only %d quotes were verified", n)
	}
}
