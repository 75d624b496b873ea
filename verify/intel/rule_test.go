// SPDX-License-Identifier: Apache-2.0

package intel

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"cofferdam.dev/evidence/dcap"
	"cofferdam.dev/evidence/pcs"
	"cofferdam.dev/verify/anchor"
)

// TestInOrder holds that a machine on which everything is in order is accepted, of both kinds, and what is told of it.
func TestInOrder(t *testing.T) {
	t.Parallel()
	for tee, measurement := range map[dcap.TEEType]byte{dcap.TEETDX: 0xd1, dcap.TEESGX: 0xd2} {
		w := newWorld(t, tee)
		res, outcome, codes := judge(t, w.input(), strict())
		if outcome != "accepted" {
			t.Fatalf("%s: %s: %v", tee, outcome, codes)
		}
		got := []any{
			res.Domain, res.Simulated, res.Measurement[0], res.ReportData[0], res.TCB.Status, res.TCB.EvaluationNumber, len(res.Chain), res.From, res.Until,
		}
		want := []any{
			anchor.Simulated, true, measurement, byte(0xf0), pcs.UpToDate, uint32(17), 3, w.now.AddDate(0, 0, -2), w.now.AddDate(0, 0, 27),
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("%s: result differs (-want +got):\n%s", tee, d)
		}
	}
}

// TestVersions holds that all versions of quotes are judged alike.
func TestVersions(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		tee     dcap.TEEType
		version uint16
	}{{dcap.TEESGX, dcap.Version3}, {dcap.TEESGX, dcap.Version4}, {dcap.TEESGX, dcap.Version5}, {dcap.TEETDX, dcap.Version4}, {dcap.TEETDX, dcap.Version5}} {
		w := newWorld(t, c.tee)
		w.quote.Header.Version = c.version
		if w.quote.TD != nil {
			w.quote.TD.V15 = nil
		}
		if _, outcome, codes := judge(t, w.input(), strict()); outcome != "accepted" {
			t.Errorf("%s of version %d: %s %v", c.tee, c.version, outcome, codes)
		}
	}
}

// TestZeroPolicy holds that the zero policy, the zero input, and no roots accept nothing.
func TestZeroPolicy(t *testing.T) {
	t.Parallel()
	for _, tee := range []dcap.TEEType{dcap.TEETDX, dcap.TEESGX} {
		in := newWorld(t, tee).input()
		for name, outcome := range map[string]func() string{
			"policy":    func() string { _, o, _ := judge(t, in, Policy{}); return o },
			"rules":     func() string { _, o, _ := judge(t, in, Policy{TDX: &TDX{}, SGX: &SGX{}}); return o },
			"input":     func() string { _, o, _ := judge(t, Input{}, strict()); return o },
			"simulated": func() string { in := in; in.AllowSimulated = false; _, o, _ := judge(t, in, strict()); return o },
			"roots":     func() string { in := in; in.Roots = nil; _, o, _ := judge(t, in, strict()); return o },
			"Intel's root": func() string {
				in := in
				in.Roots = []anchor.Root{anchor.IntelRoot()}
				_, o, _ := judge(t, in, strict())
				return o
			},
			"time":        func() string { in := in; in.Now = time.Time{}; _, o, _ := judge(t, in, strict()); return o },
			"other kind":  func() string { in := in; in.TEE ^= dcap.TEETDX; _, o, _ := judge(t, in, strict()); return o },
			"unknown TEE": func() string { in := in; in.TEE = 7; _, o, _ := judge(t, in, strict()); return o },
		} {
			if o := outcome(); o != "refused" {
				t.Errorf("%s, zero or wrong %s: %s", tee, name, o)
			}
		}
	}
}
