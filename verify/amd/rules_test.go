// SPDX-License-Identifier: Apache-2.0

package amd

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
		change func(*snp.Report, *snp.ChipCertificate, *Policy)
		want   []check.Code
	}{
		{"Milan", func(*snp.Report, *snp.ChipCertificate, *Policy) {}, nil},
		{"Turin", func(r *snp.Report, c *snp.ChipCertificate, _ *Policy) { turin(r, c) }, nil},
		{"Turin with a longer chip ID", func(r *snp.Report, c *snp.ChipCertificate, _ *Policy) {
			turin(r, c)
			r.ChipID[8] = 1
		}, []check.Code{check.CodeChipIDMismatch}},
		{"Siena", func(r *snp.Report, c *snp.ChipCertificate, _ *Policy) {
			c.Line, r.CPUID = snp.Genoa, snp.CPUID{Family: 0x19, Model: 0xa0, Stepping: 2}
		}, nil},
		{"version 2 names no processor", func(r *snp.Report, _ *snp.ChipCertificate, _ *Policy) {
			r.Version, r.CPUID = 2, snp.CPUID{}
		}, nil},
		{"processor of another line", func(r *snp.Report, _ *snp.ChipCertificate, _ *Policy) { r.CPUID.Model = 0x11 },
			[]check.Code{check.CodeProductMismatch}},
		{"unknown processor", func(r *snp.Report, _ *snp.ChipCertificate, _ *Policy) { r.CPUID = snp.CPUID{} },
			[]check.Code{check.CodeProductMismatch}},
		{"TCB of another certificate", func(r *snp.Report, _ *snp.ChipCertificate, _ *Policy) { r.ReportedTCB[7]-- },
			[]check.Code{check.CodeChipTCBMismatch}},
		{"masked chip ID", func(r *snp.Report, _ *snp.ChipCertificate, _ *Policy) { r.ChipID = [64]byte{} },
			[]check.Code{check.CodeChipIDMismatch}},
		{"masked chip key", func(r *snp.Report, _ *snp.ChipCertificate, _ *Policy) { r.KeyInfo = snp.KeyInfoMaskChipKey },
			[]check.Code{check.CodeSignerNotAllowed}},
		{"no key", func(r *snp.Report, _ *snp.ChipCertificate, o *Policy) { r.KeyInfo, o.AllowVLEK = 7<<2, true },
			[]check.Code{check.CodeSignerNotAllowed}},
		{"reserved key", func(r *snp.Report, _ *snp.ChipCertificate, o *Policy) { r.KeyInfo, o.AllowVLEK = 3<<2, true },
			[]check.Code{check.CodeSignerNotAllowed}},
		{"provider's key", func(r *snp.Report, c *snp.ChipCertificate, _ *Policy) { vlek(r, c) },
			[]check.Code{check.CodeSignerNotAllowed}},
		{"provider's key allowed", func(r *snp.Report, c *snp.ChipCertificate, o *Policy) {
			vlek(r, c)
			o.AllowVLEK = true
		}, nil},
		{"provider's key, chip's certificate", func(r *snp.Report, _ *snp.ChipCertificate, o *Policy) {
			r.KeyInfo, o.AllowVLEK = 1<<2, true
		}, []check.Code{check.CodeSignerMismatch}},
		{"chip's key, provider's certificate", func(r *snp.Report, c *snp.ChipCertificate, o *Policy) {
			vlek(r, c)
			r.KeyInfo, o.AllowVLEK = 0, true
		}, []check.Code{check.CodeSignerMismatch}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			r, chip, opts := milanReport(), milanChip(), Policy{}
			c.change(r, chip, &opts)
			a := &appraisal{Record: &check.Record{}, in: &Input{}, p: &opts, res: &Result{}}
			a.signer(r, &chain{chip: chip})
			if diff := cmp.Diff(c.want, codes(a.Record)); diff != "" {
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
		change func(*snp.Report, *Policy)
		want   []check.Code
	}{
		{"nothing wrong", func(*snp.Report, *Policy) {}, nil},
		{"level 1", func(r *snp.Report, _ *Policy) { r.VMPL = 1 }, []check.Code{check.CodeVMPL}},
		{"level 1 allowed", func(r *snp.Report, o *Policy) { r.VMPL, o.MaxVMPL = 1, 2 }, nil},
		{"report of the host itself", func(r *snp.Report, o *Policy) { r.VMPL, o.MaxVMPL = 0xffffffff, 3 }, []check.Code{check.CodeVMPL}},
		{"bit 17 clear", func(r *snp.Report, _ *Policy) { r.Policy &^= snp.PolicyReservedOne }, []check.Code{check.CodeGuestPolicy}},
		{"unknown policy bit", func(r *snp.Report, _ *Policy) { r.Policy |= 1 << 30 }, []check.Code{check.CodeGuestPolicy}},
		{"migration agent", func(r *snp.Report, _ *Policy) { r.Policy |= snp.PolicyMigrateMA }, []check.Code{check.CodeMigration}},
		{"migration agent allowed", func(r *snp.Report, o *Policy) {
			r.Policy |= snp.PolicyMigrateMA
			o.AllowMigrationAgent = true
		}, nil},
		{"reported above committed", func(r *snp.Report, _ *Policy) { r.ReportedTCB[7]++ }, []check.Code{check.CodeTCBOrder}},
		{"committed above current", func(r *snp.Report, o *Policy) {
			r.CommittedTCB[7]++
			o.AllowProvisionalTCB = true
		}, []check.Code{check.CodeTCBOrder}},
		{"launched below the floor", func(r *snp.Report, _ *Policy) { r.LaunchTCB[7] = 4 }, []check.Code{check.CodeTCBFloor}},
		{"reported below the floor", func(r *snp.Report, _ *Policy) { r.ReportedTCB[7] = 4 }, []check.Code{check.CodeTCBFloor}},
		{"reserved TCB byte", func(r *snp.Report, _ *Policy) { r.CurrentTCB[3] = 1 }, []check.Code{check.CodeTCBMalformed}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			r := milanReport()
			opts := Policy{MinimumTCB: map[snp.ProductLine]snp.TCBParts{snp.Milan: {Microcode: 5}}}
			c.change(r, &opts)
			a := &appraisal{Record: &check.Record{}, in: &Input{}, p: &opts, res: &Result{}}
			a.guest(r)
			a.tcb(r, snp.Milan)
			if diff := cmp.Diff(c.want, codes(a.Record)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// codes lists what did not pass.
func codes(rec *check.Record) []check.Code {
	var c []check.Code
	for _, k := range rec.Checks() {
		if k.Result != check.Pass {
			c = append(c, k.Code)
		}
	}
	return c
}
