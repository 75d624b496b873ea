// SPDX-License-Identifier: Apache-2.0

package verify

import (
	"math/big"
	"sync"
	"testing"
	"time"

	"cofferdam.dev/collateral"
	"cofferdam.dev/evidence"
	"cofferdam.dev/evidence/snp"
	"cofferdam.dev/internal/testamd"
	"cofferdam.dev/verify/amd"
	"cofferdam.dev/verify/anchor"
	"cofferdam.dev/verify/check"
)

// known is a machine of a test's own making, with options that accept it.
func known(t testing.TB) (*testamd.Authority, *evidence.Document, Options) {
	t.Helper()
	authority := testamd.New(t, snp.Milan, false)
	tcb, id := snp.TCB{6: 0x20, 7: 5}, make([]byte, 64)
	id[0] = 1
	chip := authority.VCEK(t, "Milan-B0", tcb, id)
	report := snp.Report{
		Version: 5, Policy: snp.DefaultGuestPolicy, CPUID: snp.CPUID{Family: 0x19, Model: 1}, ChipID: [64]byte{1},
		ReportedTCB: tcb, CommittedTCB: tcb, CurrentTCB: tcb, LaunchTCB: tcb, ReportData: [64]byte{2},
	}
	doc := &evidence.Document{
		Type: evidence.TypeSEVSNP, Report: chip.Sign(t, report),
		Certificates: [][]byte{chip.Certificate.Raw, authority.Intermediate.Raw},
	}
	root, err := anchor.NewRoot(anchor.Simulated, "test", authority.Root)
	if err != nil {
		t.Fatal(err)
	}
	return authority, doc, Options{
		Roots: []anchor.Root{root}, AllowSimulated: true, Now: testamd.Begin.AddDate(1, 0, 0), HostData: [][32]byte{{}},
		Measurements: [][]byte{make([]byte, 48)}, ReportData: [][]byte{report.ReportData[:]},
		SNP: amd.Policy{MinimumTCB: amd.DefaultMinimumTCB()},
	}
}

func (f *Verifier) len() int { return f.cache.Len() + f.quotes.Len() }

// TestVerifierRemembersNoDecision changes everything that a decision rests on, after the machine was accepted and with
// everything about it remembered.
func TestVerifierRemembersNoDecision(t *testing.T) {
	t.Parallel()
	authority, doc, good := known(t)
	list := func(l testamd.List) collateral.Source {
		return collateral.Embedded{collateral.CRL("Milan", false).Name(): {Body: authority.CRL(t, l)}}
	}
	from, until := good.Now.AddDate(0, 0, -1), good.Now.AddDate(0, 0, 1)
	good.Collateral, good.SNP.RequireRevocation = list(testamd.List{From: from, Until: until}), true
	f := NewVerifier(100)
	for range 3 {
		expect(t, f.Appraise(t.Context(), doc, good), Accepted)
	}
	if f.len() == 0 {
		t.Error("nothing is remembered")
	}
	for _, c := range []struct {
		name    string
		change  func(*Options)
		outcome Outcome
		want    []check.Code
	}{
		{"roots", func(o *Options) { o.Roots = anchor.AMDRoots() }, Refused, []check.Code{check.CodeTrustAnchorUnknown}},
		{"another root of the same name", func(o *Options) { o.AllowSimulated = false }, Refused, []check.Code{check.CodeTrustAnchorUnknown}},
		{"list with the intermediate", func(o *Options) {
			o.Collateral = list(testamd.List{From: from, Until: until, Serials: []*big.Int{authority.Intermediate.SerialNumber}})
		}, Refused, []check.Code{check.CodeCertificateRevoked}},
		{"no list any more", func(o *Options) { o.Collateral = nil }, Undecided, []check.Code{check.CodeCollateralMissing}},
		{"time after the list", func(o *Options) { o.Now = until.Add(time.Second) }, Undecided, []check.Code{check.CodeCollateralExpired}},
		{"time after the certificate", func(o *Options) {
			o.Now = o.Now.AddDate(10, 0, 0)
			o.Collateral = list(testamd.List{From: o.Now, Until: o.Now.Add(time.Hour)})
		}, Undecided, []check.Code{check.CodeCertificateExpired}},
		{"policy", func(o *Options) { o.SNP.Lines = []snp.ProductLine{snp.Turin} }, Refused, []check.Code{check.CodeProductNotAllowed}},
		{"denied chip", func(o *Options) { o.SNP.DeniedChips = []amd.ChipID{{1}} }, Refused, []check.Code{check.CodeChipDenied}},
		{"measurement", func(o *Options) { o.Measurements = [][]byte{{1}} }, Refused, []check.Code{check.CodeMeasurement}},
	} {
		o := good
		c.change(&o)
		v := f.Appraise(t.Context(), doc, o)
		if v.Outcome != c.outcome {
			t.Errorf("%s: outcome %q", c.name, v.Outcome)
		}
		expect(t, v, c.outcome, c.want...)
		expect(t, Appraise(t.Context(), doc, o), c.outcome, c.want...)
		expect(t, f.Appraise(t.Context(), doc, good), Accepted)
	}
	f.Forget()
	if f.len() != 0 {
		t.Errorf("%d facts are left", f.len())
	}
	expect(t, f.Appraise(t.Context(), doc, good), Accepted)
}

// TestVerifierIsBounded shows it certificates that no root vouches for, and more good ones than it may remember.
func TestVerifierIsBounded(t *testing.T) {
	t.Parallel()
	authority, doc, o := known(t)
	f := NewVerifier(8)
	strangers := *doc
	for i := range 20 {
		chip := authority.VCEK(t, "Milan-B0", snp.TCB{7: byte(i)}, make([]byte, 64))
		strangers.Certificates = [][]byte{chip.Certificate.Raw}
		none := o
		none.Roots = anchor.AMDRoots()
		f.Appraise(t.Context(), &strangers, none)
	}
	if n := f.len(); n != 0 {
		t.Errorf("%d facts about strangers are remembered", n)
	}
	for i := range 20 {
		chip := authority.VCEK(t, "Milan-B0", snp.TCB{7: byte(i)}, make([]byte, 64))
		strangers.Certificates = [][]byte{chip.Certificate.Raw, authority.Intermediate.Raw}
		f.Appraise(t.Context(), &strangers, o)
		if n := f.len(); n > 8 {
			t.Fatalf("%d facts are remembered", n)
		}
	}
	expect(t, f.Appraise(t.Context(), doc, o), Accepted)
}

// TestVerifierIsConcurrent shares one among goroutines that judge good and damaged evidence.
func TestVerifierIsConcurrent(t *testing.T) {
	t.Parallel()
	_, doc, o := known(t)
	bad := *doc
	bad.Report = append([]byte(nil), doc.Report...)
	bad.Report[0x51] ^= 1
	f := NewVerifier(4)
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for range 5 {
				d, want := doc, Accepted
				if i%2 == 1 {
					d, want = &bad, Refused
				}
				if v := f.Appraise(t.Context(), d, o); v.Outcome != want {
					t.Errorf("outcome %q, codes %v", v.Outcome, codes(v))
				}
				if i == 0 {
					f.Forget()
				}
			}
		})
	}
	wg.Wait()
}
