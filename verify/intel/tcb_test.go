// SPDX-License-Identifier: Apache-2.0

package intel

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"cofferdam.dev/evidence/pcs"
	"cofferdam.dev/evidence/tdx"
)

func TestMachines(t *testing.T) {
	t.Parallel()
	const unknownModule = " tcb-level=TCB_LEVEL_NOT_FOUND tcb-status=COLLATERAL_MISSING tdx-module=TDX_MODULE_UNKNOWN"
	const unknownQE = "refused quoting-enclave=QUOTING_ENCLAVE_UNKNOWN tcb-level=COLLATERAL_MISSING tcb-status=COLLATERAL_MISSING"
	const otherModel = "refused platform-model=PLATFORM_MODEL_MISMATCH tcb-level=COLLATERAL_MISSING tcb-status=COLLATERAL_MISSING"
	body := func(f func(*tdx.Body)) func(*world) {
		return func(w *world) { f(w.quote.TD); w.quote.TD.V15.TEETCBSVN2 = w.quote.TD.TEETCBSVN }
	}
	run(t, []deviation{
		{name: "TCB info of another model", tee: sg, change: func(w *world) { w.info["fmspc"] = "000000000000" }, want: otherModel},
		{name: "TCB info of another PCE", tee: sg, change: func(w *world) { w.info["pceId"] = "0100" }, want: otherModel},
		{name: "TCB info of another kind", tee: td, change: func(w *world) { w.info["id"] = "SGX" }, want: otherModel + " tdx-module=COLLATERAL_MISSING"},
		{name: "denied model", tee: sg, policy: func(p *Policy) { p.DeniedModels = [][6]byte{{0xab, 0xcd, 0xef}} },
			want: "refused platform-model=PLATFORM_MODEL_NOT_ALLOWED"},
		{name: "model that is not listed", tee: sg, policy: func(p *Policy) { p.AllowedModels = [][6]byte{{1}} },
			want: "refused platform-model=PLATFORM_MODEL_NOT_ALLOWED"},
		{name: "model that is listed", tee: sg, policy: func(p *Policy) { p.AllowedModels = [][6]byte{{1}, {0xab, 0xcd, 0xef}} }, want: "accepted"},
		{name: "denied machine", tee: sg, policy: func(p *Policy) { p.DeniedPlatforms = [][16]byte{{1, 2, 3}} }, want: "refused platform-id=PLATFORM_ID_NOT_ALLOWED"},
		{name: "denied platform instance", tee: sg, policy: func(p *Policy) { p.DeniedPlatforms = [][16]byte{{9}} }, want: "refused platform-id=PLATFORM_ID_NOT_ALLOWED"},
		{name: "machine that is not listed", tee: sg, policy: func(p *Policy) { p.AllowedPlatforms = [][16]byte{{8}} }, want: "refused platform-id=PLATFORM_ID_NOT_ALLOWED"},
		{name: "machine that is listed", tee: sg, policy: func(p *Policy) { p.AllowedPlatforms = [][16]byte{{9}} }, want: "accepted"},
		{name: "machine that is listed and denied", tee: sg, policy: func(p *Policy) {
			p.AllowedPlatforms, p.DeniedPlatforms = [][16]byte{{9}}, [][16]byte{{1, 2, 3}}
		}, want: "refused platform-id=PLATFORM_ID_NOT_ALLOWED"},

		{name: "QE of another signer", tee: sg, change: func(w *world) { w.quote.QEReport.MRSigner[31] = 1 }, want: unknownQE},
		{name: "QE of another product", tee: sg, change: func(w *world) { w.quote.QEReport.ISVProdID = 1 }, want: unknownQE},
		{name: "QE under debug", tee: sg, change: func(w *world) { w.quote.QEReport.Attributes.Flags |= 2 }, want: unknownQE},
		{name: "QE with save areas", tee: sg, change: func(w *world) { w.quote.QEReport.MiscSelect = 1 }, want: unknownQE},
		{name: "QE of another vendor", tee: sg, change: func(w *world) { w.quote.Header.QEVendorID[0] = 0 }, want: unknownQE},
		{name: "QE identity of the other kind", tee: td, change: func(w *world) { w.identity["id"] = "QE" }, want: unknownQE},
		{name: "QE identity of version 1", tee: sg, change: func(w *world) { w.identity["version"] = 1 },
			want: "refused qe-identity=COLLATERAL_MALFORMED quoting-enclave=COLLATERAL_MISSING tcb-evaluation=COLLATERAL_MISSING tcb-level=COLLATERAL_MISSING tcb-status=COLLATERAL_MISSING"},
		{name: "QE with other processor features", tee: sg, change: func(w *world) { w.quote.QEReport.Attributes.XFRM = 3 }, want: "accepted"},
		{name: "QE below all levels", tee: sg, change: func(w *world) { w.quote.QEReport.ISVSVN = 2 },
			want: "refused tcb-level=TCB_LEVEL_NOT_FOUND tcb-status=COLLATERAL_MISSING"},
		{name: "QE out of date", tee: sg, change: func(w *world) { w.quote.QEReport.ISVSVN = 4 }, want: "refused tcb-status=TCB_STATUS_NOT_ACCEPTED"},

		{name: "module of unknown version", tee: td, change: body(func(b *tdx.Body) { b.TEETCBSVN[1] = 3 }), want: "refused" + unknownModule},
		{name: "module of another signer", tee: td, change: body(func(b *tdx.Body) { b.MRSignerSEAM[0] = 1 }), want: "refused" + unknownModule},
		{name: "module under debug", tee: td, change: body(func(b *tdx.Body) { b.SEAMAttributes = 1 }), want: "refused" + unknownModule},
		{name: "module below all levels", tee: td, change: body(func(b *tdx.Body) { b.TEETCBSVN[0] = 1 }),
			want: "refused tcb-level=TCB_LEVEL_NOT_FOUND tcb-status=COLLATERAL_MISSING"},
		{name: "module out of date", tee: td, change: body(func(b *tdx.Body) { b.TEETCBSVN[0] = 3 }), want: "refused tcb-status=TCB_STATUS_NOT_ACCEPTED"},
		{name: "module of TDX 1.0", tee: td, change: body(func(b *tdx.Body) { b.TEETCBSVN[1] = 0 }), want: "accepted"},
		{name: "module of TDX 1.0 below all levels", tee: td, change: body(func(b *tdx.Body) { b.TEETCBSVN = [16]byte{3, 0, 3} }),
			want: "refused tcb-level=TCB_LEVEL_NOT_FOUND tcb-status=COLLATERAL_MISSING"},
		{name: "module of TDX 1.0 of another signer", tee: td, change: body(func(b *tdx.Body) { b.TEETCBSVN[1], b.MRSignerSEAM[0] = 0, 1 }),
			want: "refused tdx-module=TDX_MODULE_UNKNOWN"},
		{name: "loader out of date", tee: td, change: body(func(b *tdx.Body) { b.TEETCBSVN[2] = 2 }), want: "refused tcb-status=TCB_STATUS_NOT_ACCEPTED"},
		{name: "loader below all levels", tee: td, change: body(func(b *tdx.Body) { b.TEETCBSVN[2] = 1 }),
			want: "refused tcb-level=TCB_LEVEL_NOT_FOUND tcb-status=COLLATERAL_MISSING"},

		{name: "machine out of date", tee: sg, change: func(w *world) { w.machine.Components[1] = 4; w.renewPCK() }, want: "refused tcb-status=TCB_STATUS_NOT_ACCEPTED"},
		{name: "PCE out of date", tee: sg, change: func(w *world) { w.machine.PCESVN = 12; w.renewPCK() }, want: "refused tcb-status=TCB_STATUS_NOT_ACCEPTED"},
		{name: "machine below all levels", tee: sg, change: func(w *world) { w.machine.Components[7] = 4; w.renewPCK() },
			want: "refused tcb-level=TCB_LEVEL_NOT_FOUND tcb-status=COLLATERAL_MISSING"},
		{name: "below all levels of a document out of date", tee: sg, change: func(w *world) {
			w.machine.Components[7] = 4
			w.renewPCK()
			w.info["nextUpdate"] = w.now.Add(-time.Second).Format(time.RFC3339)
		}, want: "undecided tcb-info=COLLATERAL_EXPIRED tcb-level=COLLATERAL_EXPIRED tcb-status=COLLATERAL_MISSING"},
		{name: "out of date and accepted", tee: sg, change: oldMachine, policy: func(p *Policy) { p.AcceptedStatuses = []pcs.Status{pcs.OutOfDate} }, want: "accepted"},
		{name: "another status accepted", tee: sg, change: oldMachine, policy: func(p *Policy) { p.AcceptedStatuses = []pcs.Status{pcs.UpToDate, pcs.SWHardeningNeeded} },
			want: "refused tcb-status=TCB_STATUS_NOT_ACCEPTED"},
		{name: "up to date but not accepted", tee: sg, policy: func(p *Policy) { p.AcceptedStatuses = []pcs.Status{pcs.OutOfDate} },
			want: "refused tcb-status=TCB_STATUS_NOT_ACCEPTED"},
		{name: "revoked and accepted", tee: sg, change: func(w *world) { level(w.info, 0)["tcbStatus"] = "Revoked" },
			policy: func(p *Policy) { p.AcceptedStatuses = []pcs.Status{pcs.Revoked} }, want: "refused tcb-status=TCB_STATUS_NOT_ACCEPTED"},

		{name: "within grace", tee: sg, change: oldMachine, policy: func(p *Policy) { p.Grace = 517 * 24 * time.Hour }, want: "accepted"},
		{name: "grace is over", tee: sg, change: oldMachine, policy: func(p *Policy) { p.Grace = 516 * 24 * time.Hour }, want: "refused tcb-status=TCB_STATUS_NOT_ACCEPTED"},
		{name: "grace does not cover configuration", tee: sg, change: func(w *world) {
			oldMachine(w)
			level(w.info, 1)["tcbStatus"] = "OutOfDateConfigurationNeeded"
		}, policy: func(p *Policy) { p.Grace = 1000 * 24 * time.Hour }, want: "refused tcb-status=TCB_STATUS_NOT_ACCEPTED"},
		{name: "grace beside accepted configuration", tee: sg, change: func(w *world) {
			oldMachine(w)
			level(w.info, 1)["tcbStatus"] = "OutOfDateConfigurationNeeded"
		}, policy: func(p *Policy) {
			p.Grace, p.AcceptedStatuses = 1000*24*time.Hour, []pcs.Status{pcs.ConfigurationNeeded}
		}, want: "accepted"},

		{name: "denied advisory", tee: sg, change: oldMachine, policy: func(p *Policy) {
			p.AcceptedStatuses, p.DeniedAdvisories = []pcs.Status{pcs.OutOfDate}, []string{"INTEL-SA-00002"}
		}, want: "refused advisories=ADVISORY_NOT_ACCEPTED"},
		{name: "denied advisory in small letters", tee: sg, change: oldMachine, policy: func(p *Policy) {
			p.AcceptedStatuses, p.DeniedAdvisories = []pcs.Status{pcs.OutOfDate}, []string{"intel-sa-00002"}
		}, want: "refused advisories=ADVISORY_NOT_ACCEPTED"},
		{name: "no advisory accepted", tee: sg, change: oldMachine, policy: func(p *Policy) {
			p.AcceptedStatuses, p.AcceptedAdvisories = []pcs.Status{pcs.OutOfDate}, []string{}
		}, want: "refused advisories=ADVISORY_NOT_ACCEPTED"},
		{name: "one advisory accepted", tee: sg, change: oldMachine, policy: func(p *Policy) {
			p.AcceptedStatuses, p.AcceptedAdvisories = []pcs.Status{pcs.OutOfDate}, []string{"INTEL-SA-00002"}
		}, want: "refused advisories=ADVISORY_NOT_ACCEPTED"},
		{name: "both advisories accepted", tee: sg, change: oldMachine, policy: func(p *Policy) {
			p.AcceptedStatuses, p.AcceptedAdvisories = []pcs.Status{pcs.OutOfDate}, []string{"INTEL-SA-00002", "INTEL-SA-00001"}
		}, want: "accepted"},
		{name: "all at once", tee: td, change: func(w *world) {
			oldMachine(w)
			w.quote.TD.TDAttributes |= tdx.AttributeDebug
			w.quote.TD.MROwner[0] = 1
			w.pckRevoked = append(w.pckRevoked, w.pck.cert.SerialNumber)
		}, want: "refused debug=DEBUG_ALLOWED revocation=CERTIFICATE_REVOKED tcb-status=TCB_STATUS_NOT_ACCEPTED td-configuration=TD_CONFIGURATION_NOT_TRUSTED"},
	})
}

func oldMachine(w *world) { w.machine.Components[0] = 4; w.renewPCK() }

func level(document tree, i int) tree { return document["tcbLevels"].([]any)[i].(tree) }

// TestUpdatedModule holds what is said of a guest whose TDX module was updated under it.
func TestUpdatedModule(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name        string
		launch, now [16]byte
		change      func(*world)
		want        pcs.Status
	}{
		{"both up to date", [16]byte{4, 1, 3}, [16]byte{5, 1, 3}, nil, pcs.UpToDate},
		{"updated since", [16]byte{3, 1, 3}, [16]byte{4, 1, 3}, nil, TDRelaunchAdvised},
		{"updated, not enough", [16]byte{2, 1, 3}, [16]byte{3, 1, 3}, nil, pcs.OutOfDate},
		{"went back", [16]byte{4, 1, 3}, [16]byte{3, 1, 3}, nil, pcs.OutOfDate},
		{"updated, but the enclave is old", [16]byte{3, 1, 3}, [16]byte{4, 1, 3}, func(w *world) { w.quote.QEReport.ISVSVN = 4 }, pcs.OutOfDate},
		{"updated, but the machine is old", [16]byte{3, 1, 3}, [16]byte{4, 1, 3}, oldMachine, pcs.OutOfDate},
		{"updated, with a configuration", [16]byte{3, 1, 3}, [16]byte{4, 1, 3},
			func(w *world) { level(w.info, 0)["tcbStatus"] = "ConfigurationNeeded" }, TDRelaunchAdvisedConfigurationNeeded},
	} {
		w := newWorld(t, td)
		w.quote.TD.TEETCBSVN, w.quote.TD.V15.TEETCBSVN2 = c.launch, c.now
		if c.change != nil {
			c.change(w)
		}
		res, outcome, codes := judge(t, w.input(), strict())
		if res.TCB.Status != c.want || (outcome == "accepted") != (c.want == pcs.UpToDate) {
			t.Errorf("%s: status %q, not %q; %s %v", c.name, res.TCB.Status, c.want, outcome, codes)
		}
	}
	for name, svn := range map[string][16]byte{"unknown": {4, 7, 3}, "below all levels": {1, 1, 3}, "loader below all levels": {4, 1, 1}} {
		w := newWorld(t, td)
		w.quote.TD.V15.TEETCBSVN2 = svn
		if _, outcome, codes := judge(t, w.input(), strict()); outcome != "refused" || !slices.Contains(codes, "tcb-level=TCB_LEVEL_NOT_FOUND") {
			t.Errorf("updated module that is %s: %s %v", name, outcome, codes)
		}
	}
}

// TestAdvisories holds that those of all parts are told, whatever comes of them.
func TestAdvisories(t *testing.T) {
	t.Parallel()
	w := newWorld(t, td)
	oldMachine(w)
	w.quote.TD.TEETCBSVN, w.quote.TD.V15.TEETCBSVN2 = [16]byte{3, 1, 3}, [16]byte{3, 1, 3}
	w.quote.QEReport.ISVSVN = 4
	res, _, _ := judge(t, w.input(), strict())
	if d := cmp.Diff([]string{"INTEL-SA-00001", "INTEL-SA-00002", "INTEL-SA-00003", "INTEL-SA-00004"}, res.TCB.Advisories); d != "" {
		t.Errorf("differs (-want +got):\n%s", d)
	}
}

var statuses = []pcs.Status{
	pcs.UpToDate, pcs.SWHardeningNeeded, pcs.ConfigurationNeeded, pcs.ConfigurationAndSWHardeningNeeded, TDRelaunchAdvised,
	TDRelaunchAdvisedConfigurationNeeded, pcs.OutOfDate, pcs.OutOfDateConfigurationNeeded, pcs.Revoked,
}

// TestConvergence holds Intel's table: "DCAP quote verification", how the status of enclave and module changes the machine's.
func TestConvergence(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ machine, other, want pcs.Status }{
		{pcs.UpToDate, pcs.UpToDate, pcs.UpToDate},
		{pcs.UpToDate, pcs.OutOfDate, pcs.OutOfDate},
		{pcs.SWHardeningNeeded, pcs.UpToDate, pcs.SWHardeningNeeded},
		{pcs.SWHardeningNeeded, pcs.OutOfDate, pcs.OutOfDate},
		{pcs.ConfigurationNeeded, pcs.UpToDate, pcs.ConfigurationNeeded},
		{pcs.ConfigurationNeeded, pcs.OutOfDate, pcs.OutOfDateConfigurationNeeded},
		{pcs.ConfigurationAndSWHardeningNeeded, pcs.UpToDate, pcs.ConfigurationAndSWHardeningNeeded},
		{pcs.ConfigurationAndSWHardeningNeeded, pcs.OutOfDate, pcs.OutOfDateConfigurationNeeded},
		{pcs.OutOfDate, pcs.UpToDate, pcs.OutOfDate},
		{pcs.OutOfDate, pcs.OutOfDate, pcs.OutOfDate},
		{pcs.OutOfDateConfigurationNeeded, pcs.OutOfDate, pcs.OutOfDateConfigurationNeeded},
		{pcs.Revoked, pcs.UpToDate, pcs.Revoked},
		{pcs.UpToDate, pcs.Revoked, pcs.Revoked},
		{pcs.OutOfDateConfigurationNeeded, pcs.Revoked, pcs.Revoked},
		{pcs.UpToDate, "Invented", ""},
		{"Invented", pcs.Revoked, ""},
		{"", pcs.UpToDate, ""},
	} {
		if got := (troubles(c.machine) | troubles(c.other)).status(); got != c.want {
			t.Errorf("%s with %s is %q, not %q", c.machine, c.other, got, c.want)
		}
	}
	for _, s := range statuses {
		if got := troubles(s).status(); got != s {
			t.Errorf("%s alone is %s", s, got)
		}
	}
}

// TestConvergenceIsWorstWins: whatever the order, no part makes the whole better than another part is.
func TestConvergenceIsWorstWins(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		parts := rapid.SliceOfN(rapid.SampledFrom(statuses), 1, 5).Draw(t, "parts")
		var all trouble
		for _, s := range parts {
			all |= troubles(s)
		}
		got := all.status()
		if got == "" || strings.HasPrefix(string(got), "UpToDate") != !slices.ContainsFunc(parts, func(s pcs.Status) bool { return s != pcs.UpToDate }) {
			t.Fatalf("%v are %q", parts, got)
		}
		for _, s := range parts {
			if (troubles(got) | troubles(s)).status() != got {
				t.Fatalf("%v are %q, which hides %q", parts, got, s)
			}
		}
	})
}
