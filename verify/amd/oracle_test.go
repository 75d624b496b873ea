// SPDX-License-Identifier: Apache-2.0

package amd

import (
	"crypto/x509"
	"encoding/pem"
	"os"
	"testing"

	"github.com/google/go-sev-guest/abi"
	"github.com/google/go-sev-guest/kds"
	"github.com/google/go-sev-guest/proto/sevsnp"
	"github.com/google/go-sev-guest/validate"
	"pgregory.net/rapid"

	"cofferdam.dev/evidence/snp"
	"cofferdam.dev/internal/testcap"
	"cofferdam.dev/verify/check"
)

// drawn is a report with the rules for it, for both implementations.
type drawn struct {
	report *snp.Report
	ours   Policy
	theirs validate.Options
}

// flagRules says for each flag of the guest policy how the other implementation's options read: forbidden unless they have
// it, or required when they have it.
var flagRules = []struct {
	flag     snp.GuestPolicy
	required bool
}{
	{snp.PolicySMT, false}, {snp.PolicyCXL, false}, {snp.PolicyMigrateMA, false}, {snp.PolicyDebug, false},
	{snp.PolicySingleSocket, true}, {snp.PolicyAES256XTS, true}, {snp.PolicyRAPLDisabled, true},
	{snp.PolicyCiphertextHiding, true}, {snp.PolicyPageSwapDisabled, true},
}

var platformRules = []struct {
	bit      snp.PlatformInfo
	required bool
}{
	{snp.PlatformSMT, false}, {snp.PlatformTSME, false}, {snp.PlatformTIO, false}, {snp.PlatformECC, true},
	{snp.PlatformRAPLDisabled, true}, {snp.PlatformCiphertextHiding, true}, {snp.PlatformAliasCheckComplete, true},
}

// draw changes few things of a genuine report, so that most rules hold.
func draw(t *rapid.T, genuine *snp.Report) drawn {
	r := *genuine
	d := drawn{report: &r}
	few := func(label string) bool { return rapid.IntRange(0, 19).Draw(t, label) == 7 }
	options := snp.PolicyReservedOne
	for _, f := range flagRules {
		if few("set " + f.flag.Names()) {
			r.Policy ^= f.flag
		}
		if few("option "+f.flag.Names()) != !f.required {
			options |= f.flag
		}
		d.rule(f.flag, f.required, options&f.flag != 0)
	}
	abiMinor := uint8(rapid.SampledFrom([]int{0, 31, 32}).Draw(t, "ABI"))
	d.ours.MinimumABI = ABI{Minor: abiMinor}
	parsed, err := abi.ParseSnpPolicy(uint64(options) | uint64(abiMinor))
	if err != nil {
		t.Fatal(err)
	}
	d.theirs.GuestPolicy = parsed
	d.platform(few)
	d.tcb(t, few)
	svn := rapid.Uint32Range(0, 2)
	r.GuestSVN = svn.Draw(t, "SVN")
	d.ours.MinimumGuestSVN = svn.Draw(t, "SVN floor") / 2
	d.theirs.MinimumGuestSvn = d.ours.MinimumGuestSVN
	vmpl := rapid.IntRange(0, 1).Draw(t, "VMPL option")
	if few("VMPL") {
		r.VMPL = 1
	}
	d.ours.MinVMPL, d.ours.MaxVMPL, d.theirs.VMPL = uint32(vmpl), uint32(vmpl), &vmpl
	return d
}

func (d *drawn) rule(f snp.GuestPolicy, required, option bool) {
	switch {
	case f == snp.PolicyDebug:
		d.ours.AllowDebug = option
	case f == snp.PolicyMigrateMA:
		d.ours.AllowMigrationAgent = option
	case required && option:
		d.ours.RequirePolicy |= f
	case !required && !option:
		d.ours.ForbidPolicy |= f
	}
}

func (d *drawn) platform(few func(string) bool) {
	var options snp.PlatformInfo
	for _, p := range platformRules {
		if few("set " + p.bit.String()) {
			d.report.PlatformInfo ^= p.bit
		}
		option := few("option "+p.bit.String()) != !p.required
		switch {
		case option && p.required:
			d.ours.RequirePlatform |= p.bit
		case !option && !p.required:
			d.ours.ForbidPlatform |= p.bit
		}
		if option {
			options |= p.bit
		}
	}
	info, err := abi.ParseSnpPlatformInfo(uint64(options))
	if err != nil {
		return // no such bit is drawn
	}
	d.theirs.PlatformInfo = &info
}

// tcb changes the versions that are compared. The reported one stays below the committed one: only this implementation
// requires that.
func (d *drawn) tcb(t *rapid.T, few func(string) bool) {
	r := d.report
	step := func(label string, v *snp.TCB, by int) {
		if few(label) {
			v[7] = uint8(int(v[7]) + by)
		}
	}
	step("current above", &r.CurrentTCB, 1)
	step("launched lower", &r.LaunchTCB, -1)
	step("reported lower", &r.ReportedTCB, -1)
	if few("committed build") {
		r.CommittedVersion.Build--
	}
	d.ours.AllowProvisionalTCB = rapid.Bool().Draw(t, "provisional")
	d.theirs.PermitProvisionalFirmware = d.ours.AllowProvisionalTCB
	floor, err := r.ReportedTCB.Parts(snp.Milan)
	if err != nil {
		t.Fatal(err)
	}
	if few("floor above") {
		floor.Microcode++
	}
	launch := floor
	if few("launch floor below") {
		launch.Microcode--
	}
	d.ours.MinimumTCB = map[snp.ProductLine]snp.TCBParts{snp.Milan: floor}
	d.ours.MinimumLaunchTCB = map[snp.ProductLine]snp.TCBParts{snp.Milan: launch}
	d.theirs.MinimumTCB = kds.TCBParts{BlSpl: floor.Bootloader, TeeSpl: floor.TEE, SnpSpl: floor.SNP, UcodeSpl: floor.Microcode}
	d.theirs.MinimumLaunchTCB = kds.TCBParts{BlSpl: launch.Bootloader, TeeSpl: launch.TEE, SnpSpl: launch.SNP, UcodeSpl: launch.Microcode}
}

// TestRulesAgainstOracle has both implementations hold changed copies of a genuine report against the same rules. The
// signature, which the changes break, is no matter of this test.
func TestRulesAgainstOracle(t *testing.T) {
	t.Parallel()
	raw, err := os.ReadFile(testcap.Vectors(t, "snp/s6-aci-v3/milan_report.bin"))
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(testcap.Vectors(t, "snp/s6-aci-v3/milan_vcek.pem"))
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(text)
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	chip, err := snp.ParseChipCertificate(cert)
	if err != nil {
		t.Fatal(err)
	}
	genuine, err := snp.ParseReport(raw)
	if err != nil {
		t.Fatal(err)
	}
	agreed := map[bool]int{}
	rapid.Check(t, func(t *rapid.T) {
		d := draw(t, genuine)
		a := &appraisal{Record: &check.Record{}, in: &Input{}, p: &d.ours, res: &Result{}}
		a.signer(d.report, &chain{chip: chip})
		a.guest(d.report)
		a.platform(d.report)
		a.tcb(d.report, snp.Milan)
		report, err := abi.ReportToProto(d.report.Marshal())
		if err == nil {
			err = validate.SnpAttestation(&sevsnp.Attestation{
				Report: report, CertificateChain: &sevsnp.CertificateChain{VcekCert: cert.Raw},
			}, &d.theirs)
		}
		got := codes(a.Record)
		if (err == nil) != (len(got) == 0) {
			t.Fatalf("the oracle says %v, the codes are %v", err, got)
		}
		agreed[err == nil]++
	})
	t.Logf("both accepted %d reports and refused %d", agreed[true], agreed[false])
}
