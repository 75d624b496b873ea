// SPDX-License-Identifier: Apache-2.0

package verify

import (
	"math/big"
	"testing"
	"time"

	"cofferdam.dev/collateral"
	"cofferdam.dev/evidence"
	"cofferdam.dev/evidence/snp"
	"cofferdam.dev/internal/testamd"
	"cofferdam.dev/verify/anchor"
	"cofferdam.dev/verify/check"
	"cofferdam.dev/verify/uvm"
)

// TestEvidenceCanNotOverrideCollateral has evidence bring an older list, on which nothing is revoked yet, where the relying
// party has the newer one: that one counts, even once it is out of date.
func TestEvidenceCanNotOverrideCollateral(t *testing.T) {
	t.Parallel()
	authority, doc, o := known(t)
	o.SNP.RequireRevocation = true
	name := collateral.CRL("Milan", false).Name()
	older := authority.CRL(t, testamd.List{From: o.Now.AddDate(0, -2, 0), Until: o.Now.AddDate(0, 1, 0)})
	serials := []*big.Int{authority.Intermediate.SerialNumber}
	newer := authority.CRL(t, testamd.List{From: o.Now.AddDate(0, -1, 0), Until: o.Now.AddDate(0, 2, 0), Serials: serials})
	ended := authority.CRL(t, testamd.List{From: o.Now.AddDate(0, -1, 0), Until: o.Now.AddDate(0, 0, -1), Serials: serials})
	doc.Collateral = map[string]evidence.Item{name: {Body: older}}
	for _, f := range []*Verifier{{}, NewVerifier(100)} {
		expect(t, f.Appraise(t.Context(), doc, o), Accepted)
		for _, own := range [][]byte{newer, ended} {
			asked := o
			asked.Collateral = collateral.Embedded{name: {Body: own}}
			expect(t, f.Appraise(t.Context(), doc, asked), Refused, check.CodeCertificateRevoked)
		}
		expect(t, f.Appraise(t.Context(), doc, o), Accepted)
	}
}

// TestEvidenceCanNotLowerTheEvaluation has evidence bring statements that are signed, current, and older than what the relying
// party knows of.
func TestEvidenceCanNotLowerTheEvaluation(t *testing.T) {
	t.Parallel()
	doc := tdxDocument(t)
	o := quoteOptions(t, doc)
	expect(t, Appraise(t.Context(), doc, o), Accepted)
	o.Intel.MinimumEvaluationNumber = 18
	expect(t, Appraise(t.Context(), doc, o), Refused, check.CodeEvaluationNumber)
	o.Intel.MinimumEvaluationNumber, o.Intel.MaxCollateralAge = 0, 1
	expect(t, Appraise(t.Context(), doc, o), Undecided, check.CodeCollateralTooOld)
}

// TestRootsOfOneName configures two roots that differ in their keys alone. Each vouches for its own.
func TestRootsOfOneName(t *testing.T) {
	t.Parallel()
	_, doc, o := known(t)
	impostor := testamd.NewImpostor(t, snp.Milan, false)
	other, err := anchor.NewRoot(anchor.Simulated, "impostor", impostor.Root)
	if err != nil {
		t.Fatal(err)
	}
	list := func(a *testamd.Authority) collateral.Source {
		return collateral.Embedded{collateral.CRL("Milan", false).Name(): {
			Body: a.CRL(t, testamd.List{From: o.Now.AddDate(0, 0, -1), Until: o.Now.AddDate(0, 0, 1)}),
		}}
	}
	for _, f := range []*Verifier{{}, NewVerifier(100)} {
		for _, roots := range [][]anchor.Root{{other, o.Roots[0]}, {o.Roots[0], other}} {
			both := o
			both.Roots = roots
			v := f.Appraise(t.Context(), doc, both)
			expect(t, v, Accepted)
			if len(v.Chain) != 3 || v.Chain[0].Name != "test" {
				t.Errorf("the chain is %+v", v.Chain)
			}
			both.Collateral, both.SNP.RequireRevocation = list(impostor), true
			expect(t, f.Appraise(t.Context(), doc, both), Refused, check.CodeCollateralSignature)
		}
		alone := o
		alone.Roots = []anchor.Root{other}
		expect(t, f.Appraise(t.Context(), doc, alone), Refused, check.CodeTrustAnchorUnknown)
	}
}

// TestSimulationStaysOne asks in every way that there is for simulated evidence to pass for hardware.
func TestSimulationStaysOne(t *testing.T) {
	t.Parallel()
	authority, doc, good := known(t)
	v := Appraise(t.Context(), doc, good)
	expect(t, v, Accepted)
	if !v.Simulated || v.Domain != anchor.Simulated {
		t.Errorf("simulated %v, domain %q", v.Simulated, v.Domain)
	}
	for name, change := range map[string]func(*evidence.Document, *Options){
		"not allowed":      func(_ *evidence.Document, o *Options) { o.AllowSimulated = false },
		"as AMD's":         func(_ *evidence.Document, o *Options) { o.Roots[0].Domain = anchor.AMD },
		"as Intel's":       func(_ *evidence.Document, o *Options) { o.Roots[0].Domain = anchor.Intel },
		"without a domain": func(_ *evidence.Document, o *Options) { o.Roots[0].Domain = "" },
		"in capitals":      func(_ *evidence.Document, o *Options) { o.Roots[0].Domain = "AMD" },
		"made by hand":     func(_ *evidence.Document, o *Options) { o.Roots[0] = anchor.Root{Certificate: authority.Root} },
		"beside AMD's": func(_ *evidence.Document, o *Options) {
			o.Roots = append(anchor.AMDRoots(), o.Roots[0])
			o.AllowSimulated = false
		},
		"root in evidence": func(d *evidence.Document, o *Options) {
			o.Roots = anchor.AMDRoots()
			d.Certificates = append(d.Certificates, authority.Root.Raw)
		},
		"AMD's intermediate": func(_ *evidence.Document, o *Options) {
			o.Roots[0].Certificate = anchor.AMDRoots()[0].Intermediates()[0]
		},
		"AMD's certificate": func(_ *evidence.Document, o *Options) { o.Roots[0].Certificate = anchor.AMDRoots()[0].Certificate },
	} {
		d, o := *doc, good
		d.Certificates, o.Roots = append([][]byte{}, doc.Certificates...), append([]anchor.Root{}, good.Roots...)
		change(&d, &o)
		if v := Appraise(t.Context(), &d, o); v.Outcome != Refused || !v.Simulated || v.Domain != "" {
			t.Errorf("%s: outcome %q, simulated %v, domain %q", name, v.Outcome, v.Simulated, v.Domain)
		}
	}
}

// TestWindow judges at both ends of the time in which a verdict says that it would be the same, and beyond.
func TestWindow(t *testing.T) {
	t.Parallel()
	authority, machine, simulated := known(t)
	simulated.SNP.RequireRevocation = true
	simulated.Collateral = collateral.Embedded{collateral.CRL("Milan", false).Name(): {
		Body: authority.CRL(t, testamd.List{From: simulated.Now.AddDate(0, 0, -1), Until: simulated.Now.AddDate(0, 0, 1)}),
	}}
	td := tdxDocument(t)
	aged := quoteOptions(t, td)
	aged.Intel.MaxCollateralAge = 7 * 24 * time.Hour
	container := byName("s1").document(t)
	endorsed := pinned(t, container)
	endorsed.Measurements, endorsed.UVM = nil, uvm.AzureContainerPlat(22)
	container.Endorsements = [][]byte{read(t, "snp/s1-aci-milan-v2/body.uvm_reference_info.bin")}
	for name, c := range map[string]struct {
		doc *evidence.Document
		o   Options
	}{
		"list": {machine, simulated}, "quote": {td, quoteOptions(t, td)}, "aged quote": {td, aged}, "endorsed": {container, endorsed},
	} {
		v := Appraise(t.Context(), c.doc, c.o)
		if !v.Accepted() || v.ValidFrom.After(c.o.Now) || v.ValidUntil.Before(c.o.Now) {
			t.Errorf("%s: outcome %q with codes %v, from %s until %s", name, v.Outcome, codes(v), v.ValidFrom, v.ValidUntil)
			continue
		}
		for at, want := range map[time.Time]Outcome{
			v.ValidFrom: Accepted, v.ValidUntil: Accepted, v.ValidFrom.Add(-time.Second): Undecided, v.ValidUntil.Add(time.Second): Undecided,
		} {
			o := c.o
			o.Now = at
			if got := Appraise(t.Context(), c.doc, o); got.Outcome != want {
				t.Errorf("%s: at %s of %s to %s the outcome is %q, not %q: %v", name, at, v.ValidFrom, v.ValidUntil, got.Outcome, want, codes(got))
			}
		}
	}
}
