// SPDX-License-Identifier: Apache-2.0

package verify

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"cofferdam.dev/evidence/snp"
	"cofferdam.dev/verify/check"
)

// milanReport passes every rule below; the cases spoil it. The layouts of which no signed report is at hand are judged
// here, rule by rule.
func milanReport() *snp.Report {
	return &snp.Report{
		Version: 3, Policy: snp.DefaultGuestPolicy, CPUID: snp.CPUID{Family: 0x19, Model: 1, Stepping: 1},
		ReportedTCB: snp.TCB{7: 5}, CommittedTCB: snp.TCB{7: 5}, CurrentTCB: snp.TCB{7: 5}, LaunchTCB: snp.TCB{7: 5},
		ChipID: [64]byte{1, 2},
	}
}

func milanChip() *snp.ChipCertificate {
	id := [64]byte{1, 2}
	return &snp.ChipCertificate{ProductName: "Milan-B0", Line: snp.Milan, TCB: snp.TCB{7: 5}, HWID: id[:]}
}

func TestSignerRules(t *testing.T) {
	t.Parallel()
	turin := func(r *snp.Report, c *snp.ChipCertificate) {
		c.Line, c.ProductName, c.HWID = snp.Turin, "Turin", []byte{1, 2, 0, 0, 0, 0, 0, 0}
		r.CPUID = snp.CPUID{Family: 0x1a, Model: 2, Stepping: 1}
	}
	for _, c := range []struct {
		name   string
		change func(*snp.Report, *snp.ChipCertificate, *Options)
		want   []check.Code
	}{
		{"Milan", func(*snp.Report, *snp.ChipCertificate, *Options) {}, nil},
		{"Turin", func(r *snp.Report, c *snp.ChipCertificate, _ *Options) { turin(r, c) }, nil},
		{"Turin with a longer chip ID", func(r *snp.Report, c *snp.ChipCertificate, _ *Options) {
			turin(r, c)
			r.ChipID[8] = 1
		}, []check.Code{check.CodeChipIDMismatch}},
		{"Siena", func(r *snp.Report, c *snp.ChipCertificate, _ *Options) {
			c.Line, r.CPUID = snp.Genoa, snp.CPUID{Family: 0x19, Model: 0xa0, Stepping: 2}
		}, nil},
		{"version 2 names no processor", func(r *snp.Report, _ *snp.ChipCertificate, _ *Options) {
			r.Version, r.CPUID = 2, snp.CPUID{}
		}, nil},
		{"processor of another line", func(r *snp.Report, _ *snp.ChipCertificate, _ *Options) { r.CPUID.Model = 0x11 },
			[]check.Code{check.CodeProductMismatch}},
		{"unknown processor", func(r *snp.Report, _ *snp.ChipCertificate, _ *Options) { r.CPUID = snp.CPUID{} },
			[]check.Code{check.CodeProductMismatch}},
		{"TCB of another certificate", func(r *snp.Report, _ *snp.ChipCertificate, _ *Options) { r.ReportedTCB[7]-- },
			[]check.Code{check.CodeChipTCBMismatch}},
		{"masked chip ID", func(r *snp.Report, _ *snp.ChipCertificate, _ *Options) { r.ChipID = [64]byte{} },
			[]check.Code{check.CodeChipIDMismatch}},
		{"masked chip key", func(r *snp.Report, _ *snp.ChipCertificate, _ *Options) { r.KeyInfo = snp.KeyInfoMaskChipKey },
			[]check.Code{check.CodeSignerNotAllowed}},
		{"no key", func(r *snp.Report, _ *snp.ChipCertificate, o *Options) { r.KeyInfo, o.AllowVLEK = 7<<2, true },
			[]check.Code{check.CodeSignerNotAllowed}},
		{"reserved key", func(r *snp.Report, _ *snp.ChipCertificate, o *Options) { r.KeyInfo, o.AllowVLEK = 3<<2, true },
			[]check.Code{check.CodeSignerNotAllowed}},
		{"provider's key", func(r *snp.Report, c *snp.ChipCertificate, _ *Options) { vlek(r, c) },
			[]check.Code{check.CodeSignerNotAllowed}},
		{"provider's key allowed", func(r *snp.Report, c *snp.ChipCertificate, o *Options) {
			vlek(r, c)
			o.AllowVLEK = true
		}, nil},
		{"provider's key, chip's certificate", func(r *snp.Report, _ *snp.ChipCertificate, o *Options) {
			r.KeyInfo, o.AllowVLEK = 1<<2, true
		}, []check.Code{check.CodeSignerMismatch}},
		{"chip's key, provider's certificate", func(r *snp.Report, c *snp.ChipCertificate, o *Options) {
			vlek(r, c)
			r.KeyInfo, o.AllowVLEK = 0, true
		}, []check.Code{check.CodeSignerMismatch}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			r, chip, opts := milanReport(), milanChip(), Options{}
			c.change(r, chip, &opts)
			a := &appraisal{opts: &opts, v: &Verdict{}}
			a.signer(r, &chain{chip: chip})
			a.v.Checks = a.Checks()
			if diff := cmp.Diff(c.want, codes(a.v)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// vlek makes report and certificate those of a cloud provider's key, which names no chip.
func vlek(r *snp.Report, c *snp.ChipCertificate) {
	r.KeyInfo, r.ChipID = 1<<2, [64]byte{}
	c.Key, c.HWID, c.CSPID = snp.SigningKeyVLEK, nil, "provider"
}

func TestGuestAndTCBRules(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		change func(*snp.Report, *Options)
		want   []check.Code
	}{
		{"nothing wrong", func(*snp.Report, *Options) {}, nil},
		{"level 1", func(r *snp.Report, _ *Options) { r.VMPL = 1 }, []check.Code{check.CodeVMPL}},
		{"level 1 allowed", func(r *snp.Report, o *Options) { r.VMPL, o.MaxVMPL = 1, 2 }, nil},
		{"report of the host itself", func(r *snp.Report, o *Options) { r.VMPL, o.MaxVMPL = 0xffffffff, 3 }, []check.Code{check.CodeVMPL}},
		{"bit 17 clear", func(r *snp.Report, _ *Options) { r.Policy &^= snp.PolicyReservedOne }, []check.Code{check.CodeGuestPolicy}},
		{"unknown policy bit", func(r *snp.Report, _ *Options) { r.Policy |= 1 << 30 }, []check.Code{check.CodeGuestPolicy}},
		{"migration agent", func(r *snp.Report, _ *Options) { r.Policy |= snp.PolicyMigrateMA }, []check.Code{check.CodeMigration}},
		{"migration agent allowed", func(r *snp.Report, o *Options) {
			r.Policy |= snp.PolicyMigrateMA
			o.AllowMigrationAgent = true
		}, nil},
		{"reported above committed", func(r *snp.Report, _ *Options) { r.ReportedTCB[7]++ }, []check.Code{check.CodeTCBOrder}},
		{"committed above current", func(r *snp.Report, o *Options) {
			r.CommittedTCB[7]++
			o.AllowProvisionalTCB = true
		}, []check.Code{check.CodeTCBOrder}},
		{"launched below the floor", func(r *snp.Report, _ *Options) { r.LaunchTCB[7] = 4 }, []check.Code{check.CodeTCBFloor}},
		{"reported below the floor", func(r *snp.Report, _ *Options) { r.ReportedTCB[7] = 4 }, []check.Code{check.CodeTCBFloor}},
		{"reserved TCB byte", func(r *snp.Report, _ *Options) { r.CurrentTCB[3] = 1 }, []check.Code{check.CodeTCBMalformed}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			r := milanReport()
			opts := Options{MinimumTCB: map[snp.ProductLine]snp.TCBParts{snp.Milan: {Microcode: 5}}}
			c.change(r, &opts)
			a := &appraisal{opts: &opts, v: &Verdict{}}
			a.guest(r)
			a.tcb(r, snp.Milan)
			a.v.Checks = a.Checks()
			if diff := cmp.Diff(c.want, codes(a.v)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// TestNothingIsAcceptedWithoutEveryCheck takes away one mandatory check at a time.
func TestNothingIsAcceptedWithoutEveryCheck(t *testing.T) {
	t.Parallel()
	all := func() *Verdict {
		v := &Verdict{}
		for _, n := range mandatory {
			v.Checks = append(v.Checks, check.Check{Name: n, Code: check.CodeOK, Result: check.Pass})
		}
		return v
	}
	v := all()
	if v.conclude(); v.Outcome != Accepted {
		t.Fatalf("all checks passed and the outcome is %q", v.Outcome)
	}
	for i, n := range mandatory {
		for name, change := range map[string]func(*Verdict){
			"missing":         func(v *Verdict) { v.Checks = append(v.Checks[:i], v.Checks[i+1:]...) },
			"failed":          func(v *Verdict) { v.Checks[i].Result = check.Fail },
			"undecided":       func(v *Verdict) { v.Checks[i].Result = check.NotDecided },
			"without result":  func(v *Verdict) { v.Checks[i].Result = "" },
			"failed besides":  func(v *Verdict) { v.Checks = append(v.Checks, check.Check{Name: n, Result: check.Fail}) },
			"unknown results": func(v *Verdict) { v.Checks[i].Result = "passed" },
		} {
			v := all()
			change(v)
			if v.conclude(); v.Outcome == Accepted {
				t.Errorf("%s %s: it is accepted", n, name)
			}
		}
		if n.Title() == "" {
			t.Errorf("%s has no title", n)
		}
	}
	drawn := map[check.Name]bool{check.Time: true}
	for _, n := range picture {
		for _, c := range n.checks {
			drawn[c] = true
		}
	}
	for _, n := range check.Names() {
		if !drawn[n] {
			t.Errorf("%s is in no station of the picture", n)
		}
	}
}
