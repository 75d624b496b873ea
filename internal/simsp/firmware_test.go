// SPDX-License-Identifier: Apache-2.0

package simsp

import (
	"context"
	"crypto/x509"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"cofferdam.dev/collateral"
	"cofferdam.dev/evidence/snp"
	"cofferdam.dev/verify"
	"cofferdam.dev/verify/anchor"
	"cofferdam.dev/verify/check"
)

// installation copies the shared installation and changes the copy's machine.
func installation(t testing.TB, change func(*Machine) error) *Processor {
	t.Helper()
	good, err := shared()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS(good)); err != nil {
		t.Fatal(err)
	}
	tighten(t, filepath.Join(dir, rootDir))
	if change != nil {
		if _, err := ChangeMachine(dir, change); err != nil {
			t.Fatal(err)
		}
	}
	p, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// become sets up a machine of a product.
func become(name string, change func(*Machine)) func(*Machine) error {
	return func(m *Machine) error {
		n, err := NewMachine(name)
		*m = n
		if err == nil && change != nil {
			change(m)
		}
		return err
	}
}

func parts(change func(*snp.TCBParts)) snp.TCBParts {
	t := DefaultMachine().Current
	change(&t)
	return t
}

// TestMachinesThroughTheVerifier has machines in all states make reports, and the verifier of hardware judge them.
func TestMachinesThroughTheVerifier(t *testing.T) {
	t.Parallel()
	older := parts(func(p *snp.TCBParts) { p.SNP = 0x10 })
	newer := parts(func(p *snp.TCBParts) { p.Microcode++ })
	version := Version{1, 56, 1}
	for _, c := range []struct {
		name    string
		change  func(*Machine) error
		options func(*verify.Options)
		outcome verify.Outcome
		want    []check.Code
	}{
		{"Genoa", become("Genoa", nil), nil, verify.Accepted, nil},
		{"Siena under Genoa's root", become("Siena", nil), nil, verify.Accepted, nil},
		{"Turin, with its layout", become("Turin", nil), nil, verify.Accepted, nil},
		{"Turin, version 3", become("Turin", func(m *Machine) { m.ReportVersion = 3 }), nil, verify.Accepted, nil},
		{"Milan, version 2", become("Milan", func(m *Machine) { m.ReportVersion = 2 }), nil, verify.Accepted, nil},
		{"Turin's floor", become("Turin", nil), func(o *verify.Options) {
			o.SNP.MinimumTCB[snp.Turin] = snp.TCBParts{FMC: 2}
		}, verify.Refused, []check.Code{check.CodeTCBFloor, check.CodeTCBLaunchFloor}},
		{"provisional firmware", func(m *Machine) error { return m.Update(newer, version) }, nil,
			verify.Refused, []check.Code{check.CodeTCBProvisional}},
		{"provisional firmware, allowed", func(m *Machine) error { return m.Update(newer, version) },
			func(o *verify.Options) { o.SNP.AllowProvisionalTCB = true }, verify.Accepted, nil},
		{"firmware updated and committed", func(m *Machine) error {
			if err := m.Update(newer, version); err != nil {
				return err
			}
			return m.Commit()
		}, func(o *verify.Options) { o.SNP.MinimumTCB[snp.Milan] = newer }, verify.Accepted, nil},
		{"stale TCB reported", func(m *Machine) error { return m.Report(older) }, nil,
			verify.Refused, []check.Code{check.CodeTCBFloor}},
		{"provider's key", func(m *Machine) error { m.Provider = "example"; return nil },
			func(o *verify.Options) { o.SNP.Providers = []string{"example"} }, verify.Accepted, nil},
		{"key of a provider that is not trusted", func(m *Machine) error { m.Provider = "example"; return nil }, nil,
			verify.Refused, []check.Code{check.CodeSignerNotAllowed}},
		{"key of another provider", func(m *Machine) error { m.Provider = "example"; return nil },
			func(o *verify.Options) { o.SNP.Providers = []string{"other"} }, verify.Refused, []check.Code{check.CodeProvider}},
		{"provider's key on Turin", become("Turin", func(m *Machine) { m.Provider = "example" }),
			func(o *verify.Options) { o.SNP.Providers = []string{"example"} }, verify.Accepted, nil},
		{"provider's key expired", func(m *Machine) error { m.Provider, m.ExpiredProvider = "example", true; return nil },
			func(o *verify.Options) { o.SNP.Providers = []string{"example"} }, verify.Undecided,
			[]check.Code{check.CodeCertificateExpired}},
		{"chip masked", func(m *Machine) error { m.MaskChipID = true; return nil }, nil,
			verify.Refused, []check.Code{check.CodeChipIDMismatch}},
		{"chip masked, allowed", func(m *Machine) error { m.MaskChipID = true; return nil },
			func(o *verify.Options) { o.SNP.AllowMaskedChip = true }, verify.Accepted, nil},
		{"memory not checked for aliases", func(m *Machine) error { m.AliasChecked = false; return nil },
			func(o *verify.Options) { o.SNP.RequirePlatform = snp.PlatformAliasCheckComplete },
			verify.Refused, []check.Code{check.CodePlatform}},
		{"revocation list asked for", func(*Machine) error { return nil },
			func(o *verify.Options) { o.SNP.RequireRevocation = true }, verify.Accepted, nil},
		{"intermediate revoked", func(m *Machine) error { m.RevokedIntermediate = true; return nil },
			func(o *verify.Options) { o.SNP.RequireRevocation = true }, verify.Refused, []check.Code{check.CodeCertificateRevoked}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			p := installation(t, c.change)
			doc, opts := roundTrip(t, p, launch(t))
			opts.Collateral = revocations{p}
			if c.options != nil {
				c.options(&opts)
			}
			v := verify.Appraise(t.Context(), doc, opts)
			var got []check.Code
			for _, f := range v.Failures() {
				got = append(got, f.Code)
			}
			if diff := cmp.Diff(c.want, got); v.Outcome != c.outcome || diff != "" || !v.Simulated {
				t.Errorf("outcome %q, not %q; simulated %t; codes (-want +got):\n%s", v.Outcome, c.outcome, v.Simulated, diff)
			}
		})
	}
}

// TestUnsignedReports masks the chip's key. Whatever is allowed, nobody vouches for such a report.
func TestUnsignedReports(t *testing.T) {
	t.Parallel()
	p := installation(t, func(m *Machine) error { m.MaskChipKey = true; return nil })
	doc, opts := roundTrip(t, p, launch(t))
	r, err := snp.ParseReport(doc.Report)
	if err != nil {
		t.Fatal(err)
	}
	if r.R != [48]byte{} || r.S != [48]byte{} || r.KeyInfo.SigningKey() != snp.SigningKeyNone ||
		r.KeyInfo&snp.KeyInfoMaskChipKey == 0 || len(doc.Certificates) != 0 {
		t.Errorf("report with key info %#x and %d certificates", r.KeyInfo, len(doc.Certificates))
	}
	if v := verify.Appraise(t.Context(), doc, opts); v.Outcome == verify.Accepted {
		t.Error("an unsigned report was accepted")
	}
}

// TestRunningGuestSeesItsHost changes the machine under a guest: the launch stays what it was, the rest follows.
func TestRunningGuestSeesItsHost(t *testing.T) {
	t.Parallel()
	p := installation(t, nil)
	g := mustLaunch(t, p, launch(t))
	newer := parts(func(t *snp.TCBParts) { t.SNP++ })
	before := certificates(t, g)
	_, err := ChangeMachine(p.dir, func(m *Machine) error {
		if err := m.Update(newer, Version{1, 56, 0}); err != nil {
			return err
		}
		return m.Commit()
	})
	if err != nil {
		t.Fatal(err)
	}
	r, err := snp.ParseReport(reportOf(t, g, [64]byte{}, 0))
	if err != nil {
		t.Fatal(err)
	}
	want, err := newer.TCB(snp.Milan)
	if err != nil {
		t.Fatal(err)
	}
	if r.CurrentTCB != want || r.CommittedTCB != want || r.ReportedTCB != want || r.LaunchTCB != defaultTCB {
		t.Errorf("current %s, committed %s, reported %s, launch %s", r.CurrentTCB, r.CommittedTCB, r.ReportedTCB, r.LaunchTCB)
	}
	if r.CommittedVersion != (snp.FirmwareVersion{Major: 1, Minor: 56}) {
		t.Errorf("committed version is %s", r.CommittedVersion)
	}
	after := certificates(t, g)
	if slices.Equal(before[0], after[0]) || !slices.Equal(before[1], after[1]) {
		t.Error("the chip certificate did not change with the TCB, or the intermediate did")
	}
	// A key of the TCB that is committed now can be had, and could not before.
	tcb := snp.KeyRequest{Fields: snp.FieldTCB, TCB: want}
	if rsp, err := g.answerKey(tcb.Marshal()); err != nil || rsp.Status != snp.StatusSuccess {
		t.Errorf("key of the committed TCB: %v, %v", rsp, err)
	}
	if rsp, err := mustLaunch(t, installation(t, nil), launch(t)).answerKey(tcb.Marshal()); err != nil || rsp.Status == snp.StatusSuccess {
		t.Errorf("key of a TCB that is not committed: %v, %v", rsp, err)
	}
	if _, err := ChangeMachine(p.dir, become("Genoa", nil)); err != nil {
		t.Fatal(err)
	}
	if _, err := g.answerReport((&snp.ReportRequest{}).Marshal()); err == nil {
		t.Error("a guest went on under another processor")
	}
}

func TestChosenKeys(t *testing.T) {
	t.Parallel()
	loaded := installation(t, func(m *Machine) error { m.Provider = "example"; return nil })
	masked := installation(t, func(m *Machine) error { m.MaskChipKey = true; return nil })
	both := installation(t, func(m *Machine) error { m.MaskChipKey, m.Provider = true, "example"; return nil })
	for _, c := range []struct {
		name   string
		p      *Processor
		choice uint32
		want   snp.SigningKey
	}{
		{"firmware's choice", loaded, 0, snp.SigningKeyVLEK}, {"chip's", loaded, 1, snp.SigningKeyVCEK},
		{"provider's", loaded, 2, snp.SigningKeyVLEK}, {"masked", masked, 1, snp.SigningKeyNone},
		{"masked, firmware's choice", masked, 0, snp.SigningKeyNone},
		{"masked beside a provider's", both, 0, snp.SigningKeyVLEK}, {"masked, chosen", both, 1, snp.SigningKeyNone},
	} {
		rsp, err := mustLaunch(t, c.p, launch(t)).answerReport((&snp.ReportRequest{KeySelect: c.choice}).Marshal())
		if err != nil || rsp.Status != snp.StatusSuccess {
			t.Fatalf("%s: %v, %v", c.name, rsp, err)
		}
		r, err := snp.ParseReport(rsp.Report)
		if err != nil || r.KeyInfo.SigningKey() != c.want {
			t.Errorf("%s: key is %s, %v", c.name, r.KeyInfo.SigningKey(), err)
		}
	}
	derive := func(p *Processor, r snp.KeyRequest) *snp.KeyResponse {
		t.Helper()
		rsp, err := mustLaunch(t, p, launch(t)).answerKey(r.Marshal())
		if err != nil {
			t.Fatal(err)
		}
		return rsp
	}
	if s := derive(masked, snp.KeyRequest{}).Status; s != snp.StatusInvalidKey {
		t.Errorf("key of a masked chip: %s", s)
	}
	if s := derive(masked, snp.KeyRequest{RootKey: snp.RootKeyVMRK}).Status; s != snp.StatusSuccess {
		t.Errorf("key of the guest's own: %s", s)
	}
	chips, providers := derive(installation(t, nil), snp.KeyRequest{}), derive(loaded, snp.KeyRequest{})
	if chips.Status != snp.StatusSuccess || providers.Status != snp.StatusSuccess || chips.Key == providers.Key {
		t.Errorf("keys of chip and provider: %s, %s, or the same", chips.Status, providers.Status)
	}
	rsp, err := mustLaunch(t, masked, launch(t)).answerReport((&snp.ReportRequest{KeySelect: 2}).Marshal())
	if err != nil || rsp.Status != snp.StatusInvalidKey {
		t.Errorf("a provider's key that is not loaded: %v, %v", rsp, err)
	}
}

// revocations gives out the revocation lists of a simulated root, as its key distribution service does.
type revocations struct{ p *Processor }

func (s revocations) Get(_ context.Context, r collateral.Request) (collateral.Item, error) {
	if r.Kind != collateral.AMDCRL {
		return collateral.Item{}, collateral.ErrUnavailable
	}
	crl, err := s.p.CRL(snp.ProductLine(r.Product), r.VLEK)
	return collateral.Item{Body: crl}, err
}

func TestRevocationLists(t *testing.T) {
	t.Parallel()
	for name, revoked := range map[string]bool{"honest": false, "fault": true} {
		p := installation(t, func(m *Machine) error { m.RevokedIntermediate = revoked; return nil })
		for _, vlek := range []bool{false, true} {
			ark, ask, err := p.Authority(snp.Genoa, vlek)
			if err != nil {
				t.Fatal(err)
			}
			der, err := p.CRL(snp.Genoa, vlek)
			if err != nil {
				t.Fatal(err)
			}
			list, err := x509.ParseRevocationList(der)
			if err != nil {
				t.Fatal(err)
			}
			if err := list.CheckSignatureFrom(ark); err != nil {
				t.Error(err)
			}
			named := slices.ContainsFunc(list.RevokedCertificateEntries, func(e x509.RevocationListEntry) bool {
				return e.SerialNumber.Cmp(ask.SerialNumber) == 0
			})
			if named != revoked {
				t.Errorf("%s: the list names %s: %t", name, ask.Subject.CommonName, named)
			}
		}
	}
}

// TestAuthoritiesStay opens an installation twice: what was issued once is what relying parties were given.
func TestAuthoritiesStay(t *testing.T) {
	t.Parallel()
	p := installation(t, become("Turin", nil))
	again, err := Open(p.dir)
	if err != nil {
		t.Fatal(err)
	}
	ark, ask, err1 := p.Authority(snp.Turin, false)
	ark2, ask2, err2 := again.Authority(snp.Turin, false)
	if err := joinErrors(err1, err2); err != nil || !ark.Equal(ark2) || !ask.Equal(ask2) {
		t.Errorf("the second opening has other authorities, %v", err)
	}
	b, err := os.ReadFile(RootCertificatePath(p.dir))
	if err != nil || !slices.Equal(b, encodePEM("CERTIFICATE", ark.Raw)) {
		t.Errorf("the root is not where it is said to be: %v", err)
	}
	if _, err := anchor.NewRoot(anchor.Simulated, "local", ark); err != nil {
		t.Error(err)
	}
	if _, err := anchor.NewRoot(anchor.AMD, "local", ark); err == nil {
		t.Error("a simulated root is one of AMD's")
	}
	if _, _, err := p.Authority("Rome", false); err == nil {
		t.Error("there is an authority of a product line without SNP")
	}
}

// TestChipCertificates asks for certificates as a key distribution service is asked.
func TestChipCertificates(t *testing.T) {
	t.Parallel()
	p := installation(t, nil)
	for line, size := range map[snp.ProductLine]int{snp.Milan: 64, snp.Genoa: 64, snp.Turin: 8} {
		id, err := p.ChipID(line)
		if err != nil || len(id) != size {
			t.Errorf("%s: chip ID has %d bytes, %v", line, len(id), err)
		}
		der, err := p.ChipCertificate(line, snp.TCB{0: 3, 7: 9})
		if err != nil {
			t.Fatal(err)
		}
		cert, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		chip, err := snp.ParseChipCertificate(cert)
		if err != nil || chip.Line != line || chip.TCB != (snp.TCB{0: 3, 7: 9}) || !slices.Equal(chip.HWID, id) {
			t.Errorf("%s: %+v, %v", line, chip, err)
		}
	}
	if _, err := p.ChipCertificate(snp.Milan, snp.TCB{3: 1}); err == nil {
		t.Error("a certificate for a TCB that Milan can not have")
	}
	if _, err := p.ChipCertificate("Rome", snp.TCB{}); err == nil {
		t.Error("a certificate for a product line without SNP")
	}
}
