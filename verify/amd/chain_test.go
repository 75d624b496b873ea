// SPDX-License-Identifier: Apache-2.0

package amd

import (
	"crypto/x509"
	"encoding/pem"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	sevtest "github.com/google/go-sev-guest/testing"

	"cofferdam.dev/collateral"
	"cofferdam.dev/evidence/snp"
	"cofferdam.dev/internal/testamd"
	"cofferdam.dev/internal/testcap"
	"cofferdam.dev/verify/anchor"
	"cofferdam.dev/verify/check"
)

// TestTurinChain links a Turin certificate, for which no report is at hand, to its root.
func TestTurinChain(t *testing.T) {
	t.Parallel()
	der, err := os.ReadFile(testcap.Vectors(t, "snp/s10-virtee/vcek_turin.der"))
	if err != nil {
		t.Fatal(err)
	}
	in := &Input{Roots: anchor.AMDRoots(), Now: time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC), Certificates: [][]byte{der}}
	a := &appraisal{Record: &check.Record{}, in: in, p: &Policy{}, res: &Result{}}
	c := a.chain(t.Context(), &snp.Report{})
	if got := codes(a.Record); len(got) != 0 || c.root == nil || c.root.Name != "ARK-Turin" || a.res.Domain != anchor.AMD {
		t.Errorf("codes %v, root %v", got, c.root)
	}
}

// TestForgedChains brings chains that only bear the right names, with and without their own root: what evidence brings
// never becomes an anchor.
func TestForgedChains(t *testing.T) {
	t.Parallel()
	m := newMachine(t, "Milan-B0", 3, "")
	genuine := m.input(t)
	impostor := testamd.NewImpostor(t, snp.Milan, false)
	m.chip = impostor.VCEK(t, m.product, m.report.ReportedTCB, chipID)
	report, leaf := m.chip.Sign(t, m.report), m.chip.Certificate.Raw
	source := collateral.Embedded{collateral.Chain("Milan", false).Name(): {
		Body: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: impostor.Intermediate.Raw}),
	}}
	unknown := []check.Code{check.CodeTrustAnchorUnknown}
	for _, c := range []struct {
		name   string
		certs  [][]byte
		source collateral.Source
		roots  []anchor.Root
		want   []check.Code
	}{
		{"intermediate", [][]byte{leaf, impostor.Intermediate.Raw}, nil, genuine.Roots, unknown},
		{"intermediate and root", [][]byte{leaf, impostor.Intermediate.Raw, impostor.Root.Raw}, nil, genuine.Roots, unknown},
		{"intermediate from a source", [][]byte{leaf}, source, genuine.Roots, unknown},
		{"genuine intermediate", [][]byte{leaf, m.authority.Intermediate.Raw}, nil, genuine.Roots, []check.Code{check.CodeChainSignature}},
		{"under AMD's roots", [][]byte{leaf, impostor.Intermediate.Raw, impostor.Root.Raw}, nil, anchor.AMDRoots(), unknown},
		{"without roots", [][]byte{leaf, impostor.Intermediate.Raw, impostor.Root.Raw}, nil, nil, unknown},
	} {
		in := genuine
		in.Report, in.Certificates, in.Collateral, in.Roots = report, c.certs, c.source, c.roots
		for _, cache := range []*anchor.Cache{nil, anchor.NewCache(100)} {
			in.Cache = cache
			res, got, complete := judge(t, in, lenient())
			if diff := cmp.Diff(c.want, got); diff != "" || complete || len(res.Chain) != 0 || res.Domain != "" || !res.Simulated {
				t.Errorf("%s: complete %v, chain %v, domain %q (-want +got):\n%s", c.name, complete, res.Chain, res.Domain, diff)
			}
		}
	}
}

// TestDeniedKeys brings certificates whose private keys are published, beside the evidence and from a source.
func TestDeniedKeys(t *testing.T) {
	t.Parallel()
	m := newMachine(t, "Milan-B0", 3, "")
	b := &sevtest.AmdSignerBuilder{Keys: sevtest.DefaultAmdKeys(), ArkCreationTime: testamd.Begin}
	signer, err := b.TestOnlyCertChain()
	if err != nil {
		t.Fatal(err)
	}
	in := m.input(t)
	in.Certificates = append(in.Certificates, signer.Ask.Raw)
	if _, got, _ := judge(t, in, lenient()); !slices.Contains(got, check.CodeTrustAnchorDenied) {
		t.Errorf("beside the evidence: codes %v", got)
	}
	in = m.input(t)
	in.Certificates = in.Certificates[:1]
	in.Collateral = collateral.Embedded{collateral.Chain("Milan", false).Name(): {
		Body: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: signer.Ask.Raw}),
	}}
	if _, got, _ := judge(t, in, lenient()); !slices.Contains(got, check.CodeTrustAnchorDenied) {
		t.Errorf("from a source: codes %v", got)
	}
}

// TestChoiceOfKey brings several certificates of chip keys, in either order.
func TestChoiceOfKey(t *testing.T) {
	t.Parallel()
	m := newMachine(t, "Milan-B0", 3, "")
	provider := testamd.New(t, snp.Milan, true).Provider(t, m.product, m.report.ReportedTCB, "provider").Certificate.Raw
	odd := m.authority.Key(t, "SEV-VCEK", nil).Certificate.Raw
	for name, c := range map[string]struct {
		other []byte
		want  []check.Code
	}{
		"a provider's besides":       {provider, []check.Code{check.CodeCertificateUnused}},
		"one that can not be read":   {odd, []check.Code{check.CodeCertificateUnused}},
		"the intermediate once more": {m.authority.Intermediate.Raw, nil},
		"the root besides":           {m.authority.Root.Raw, nil},
		"something else":             {[]byte("text"), []check.Code{check.CodeCertificateBad}},
	} {
		for _, first := range []bool{false, true} {
			in := m.input(t)
			if in.Certificates = append(in.Certificates, c.other); first {
				slices.Reverse(in.Certificates)
			}
			if _, got, _ := judge(t, in, lenient()); !slices.Equal(got, c.want) {
				t.Errorf("%s, first %v: codes %v", name, first, got)
			}
		}
	}
	in := m.input(t)
	in.Certificates = [][]byte{odd, m.authority.Intermediate.Raw}
	if _, got, _ := judge(t, in, lenient()); !slices.Contains(got, check.CodeCertificateBad) || !slices.Contains(got, check.CodeSignatureInvalid) {
		t.Errorf("only one that can not be read: codes %v", got)
	}
}

// TestPeriods judges at and around the ends of the chip certificate's period.
func TestPeriods(t *testing.T) {
	t.Parallel()
	m := newMachine(t, "Milan-B0", 3, "")
	begin, end := m.chip.Certificate.NotBefore, m.chip.Certificate.NotAfter
	for at, want := range map[time.Time][]check.Code{
		begin: nil, end: nil, begin.Add(-time.Second): {check.CodeCertificateNotYet}, end.Add(time.Second): {check.CodeCertificateExpired},
	} {
		in := m.input(t)
		in.Now = at
		res, got, _ := judge(t, in, lenient())
		if !slices.Equal(got, want) || !res.From.Equal(begin) || !res.Until.Equal(end) {
			t.Errorf("at %s: codes %v, window %s to %s", at, got, res.From, res.Until)
		}
	}
}

// TestListsOfARootThatMayNotSignThem has a root sign a list that may sign certificates alone.
func TestListsOfARootThatMayNotSignThem(t *testing.T) {
	t.Parallel()
	m := newMachine(t, "Milan-B0", 3, "")
	m.authority = testamd.NewWithoutLists(t, snp.Milan)
	m.chip = m.authority.VCEK(t, m.product, m.report.ReportedTCB, chipID)
	in := m.input(t)
	if m.authority.Root.KeyUsage&x509.KeyUsageCRLSign != 0 {
		t.Fatal("the root may sign lists")
	}
	in.Collateral = collateral.Embedded{collateral.CRL("Milan", false).Name(): {
		Body: m.authority.CRL(t, testamd.List{From: testTime.Add(-time.Hour), Until: testTime.Add(time.Hour)}),
	}}
	if _, got, _ := judge(t, in, lenient()); !slices.Equal(got, []check.Code{check.CodeCollateralSigner}) {
		t.Errorf("codes %v", got)
	}
}
