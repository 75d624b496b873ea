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
		{"no key", func(r *snp.Report, _ *snp.ChipCertificate, o *Policy) {
			r.KeyInfo, o.Providers = 7<<2, []string{"provider"}
		},
			[]check.Code{check.CodeSignerNotAllowed}},
		{"reserved key", func(r *snp.Report, _ *snp.ChipCertificate, o *Policy) {
			r.KeyInfo, o.Providers = 3<<2, []string{"provider"}
		},
			[]check.Code{check.CodeSignerNotAllowed}},
		{"provider's key", func(r *snp.Report, c *snp.ChipCertificate, _ *Policy) { vlek(r, c) },
			[]check.Code{check.CodeSignerNotAllowed}},
		{"provider's key allowed", func(r *snp.Report, c *snp.ChipCertificate, o *Policy) {
			vlek(r, c)
			o.Providers = []string{"provider"}
		}, nil},
		{"unknown bit in the key information", func(r *snp.Report, _ *snp.ChipCertificate, _ *Policy) { r.KeyInfo = 1 << 5 },
			[]check.Code{check.CodeKeyInfo}},
		{"key of another provider", func(r *snp.Report, c *snp.ChipCertificate, o *Policy) {
			vlek(r, c)
			o.Providers = []string{"other", "another"}
		}, []check.Code{check.CodeProvider}},
		{"masked chip ID allowed", func(r *snp.Report, _ *snp.ChipCertificate, o *Policy) {
			r.ChipID, o.AllowMaskedChip = [64]byte{}, true
		}, nil},
		{"other chip where masked ones are allowed", func(r *snp.Report, _ *snp.ChipCertificate, o *Policy) {
			r.ChipID[5], o.AllowMaskedChip = 1, true
		}, []check.Code{check.CodeChipIDMismatch}},
		{"provider's key, chip's certificate", func(r *snp.Report, _ *snp.ChipCertificate, o *Policy) {
			r.KeyInfo, o.Providers = 1<<2, []string{"provider"}
		}, []check.Code{check.CodeSignerMismatch}},
		{"chip's key, provider's certificate", func(r *snp.Report, c *snp.ChipCertificate, o *Policy) {
			vlek(r, c)
			r.KeyInfo, o.Providers = 0, []string{"provider"}
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
		{"level below the range", func(_ *snp.Report, o *Policy) { o.MinVMPL, o.MaxVMPL = 1, 3 }, []check.Code{check.CodeVMPL}},
		{"level within the range", func(r *snp.Report, o *Policy) { r.VMPL, o.MinVMPL, o.MaxVMPL = 2, 1, 3 }, nil},
		{"multithreading forbidden", func(_ *snp.Report, o *Policy) { o.ForbidPolicy = snp.PolicySMT }, []check.Code{check.CodeGuestPolicyFlags}},
		{"multithreading forbidden and absent", func(r *snp.Report, o *Policy) {
			r.Policy &^= snp.PolicySMT
			o.ForbidPolicy = snp.PolicySMT
		}, nil},
		{"several sockets", func(_ *snp.Report, o *Policy) { o.RequirePolicy = snp.PolicySingleSocket },
			[]check.Code{check.CodeGuestPolicyFlags}},
		{"single socket", func(r *snp.Report, o *Policy) {
			r.Policy |= snp.PolicySingleSocket
			o.RequirePolicy = snp.PolicySingleSocket
		}, nil},
		{"one of two flags missing", func(r *snp.Report, o *Policy) {
			r.Policy |= snp.PolicyCiphertextHiding
			o.RequirePolicy = snp.PolicyCiphertextHiding | snp.PolicyPageSwapDisabled
		}, []check.Code{check.CodeGuestPolicyFlags}},
		{"CXL forbidden", func(r *snp.Report, o *Policy) {
			r.Policy |= snp.PolicyCXL
			o.ForbidPolicy = snp.PolicyCXL
		}, []check.Code{check.CodeGuestPolicyFlags}},
		{"ABI at the floor", func(_ *snp.Report, o *Policy) { o.MinimumABI = ABI{0, 31} }, nil},
		{"ABI below the floor", func(_ *snp.Report, o *Policy) { o.MinimumABI = ABI{1, 0} }, []check.Code{check.CodeGuestABI}},
		{"greater major, smaller minor", func(r *snp.Report, o *Policy) {
			r.Policy = r.Policy&^0xffff | 0x0137
			o.MinimumABI = ABI{0, 0xff}
		}, nil},
		{"alias check required", func(_ *snp.Report, o *Policy) { o.RequirePlatform = snp.PlatformAliasCheckComplete },
			[]check.Code{check.CodePlatform}},
		{"alias check complete", func(r *snp.Report, o *Policy) {
			r.PlatformInfo = snp.PlatformAliasCheckComplete
			o.RequirePlatform = snp.PlatformAliasCheckComplete
		}, nil},
		{"machine with multithreading", func(r *snp.Report, o *Policy) {
			r.PlatformInfo, o.ForbidPlatform = snp.PlatformSMT, snp.PlatformSMT
		}, []check.Code{check.CodePlatform}},
		{"unknown platform bit", func(r *snp.Report, _ *Policy) { r.PlatformInfo = 1 << 8 }, []check.Code{check.CodePlatformUnknown}},
		{"unknown platform bit allowed", func(r *snp.Report, o *Policy) { r.PlatformInfo, o.AllowUnknownPlatform = 1<<8, 1<<8 }, nil},
		{"another unknown platform bit", func(r *snp.Report, o *Policy) { r.PlatformInfo, o.AllowUnknownPlatform = 3<<8, 1<<8 },
			[]check.Code{check.CodePlatformUnknown}},
		{"mitigations before version 5", func(_ *snp.Report, o *Policy) { o.Mitigations = mitigations(0, 1) },
			[]check.Code{check.CodeMitigationsUnreported}},
		{"mitigations of another line", func(_ *snp.Report, o *Policy) {
			o.Mitigations = map[snp.ProductLine]Mitigations{snp.Turin: {1, 1}}
		}, nil},
		{"mitigation missing now", func(r *snp.Report, o *Policy) {
			r.Version, r.LaunchMitigations, r.CurrentMitigations, o.Mitigations = 5, 3, 1, mitigations(1, 3)
		}, []check.Code{check.CodeMitigations}},
		{"mitigation missing at launch", func(r *snp.Report, o *Policy) {
			r.Version, r.LaunchMitigations, r.CurrentMitigations, o.Mitigations = 5, 1, 3, mitigations(3, 1)
		}, []check.Code{check.CodeMitigations}},
		{"more mitigations than are asked for", func(r *snp.Report, o *Policy) {
			r.Version, r.LaunchMitigations, r.CurrentMitigations, o.Mitigations = 5, 7, 7, mitigations(3, 1)
		}, nil},
		{"line not among the allowed", func(_ *snp.Report, o *Policy) { o.Lines = []snp.ProductLine{snp.Genoa, snp.Turin} },
			[]check.Code{check.CodeProductNotAllowed}},
		{"line among the allowed", func(_ *snp.Report, o *Policy) { o.Lines = []snp.ProductLine{snp.Milan} }, nil},
		{"bit 17 clear", func(r *snp.Report, _ *Policy) { r.Policy &^= snp.PolicyReservedOne }, []check.Code{check.CodeGuestPolicy}},
		{"unknown policy bit", func(r *snp.Report, _ *Policy) { r.Policy |= 1 << 30 }, []check.Code{check.CodeGuestPolicy}},
		{"debugging", func(r *snp.Report, _ *Policy) { r.Policy |= snp.PolicyDebug }, []check.Code{check.CodeDebug}},
		{"debugging allowed", func(r *snp.Report, o *Policy) {
			r.Policy |= snp.PolicyDebug
			o.AllowDebug = true
		}, nil},
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
		{"committed firmware above the current", func(r *snp.Report, o *Policy) {
			r.CommittedVersion.Build, o.AllowProvisionalTCB = 1, true
		}, []check.Code{check.CodeTCBOrder}},
		{"older build of a newer minor version", func(r *snp.Report, o *Policy) {
			r.CommittedVersion = snp.FirmwareVersion{Major: 1, Minor: 51, Build: 9}
			r.CurrentVersion = snp.FirmwareVersion{Major: 1, Minor: 52, Build: 1}
			o.AllowProvisionalTCB = true
		}, nil},
		{"launched below the floor", func(r *snp.Report, _ *Policy) { r.LaunchTCB[7] = 4 }, []check.Code{check.CodeTCBLaunchFloor}},
		{"launched above a floor of its own", func(r *snp.Report, o *Policy) {
			r.LaunchTCB[7] = 4
			o.MinimumLaunchTCB = map[snp.ProductLine]snp.TCBParts{snp.Milan: {Microcode: 4}}
		}, nil},
		{"launched below a floor of its own", func(_ *snp.Report, o *Policy) {
			o.MinimumLaunchTCB = map[snp.ProductLine]snp.TCBParts{snp.Milan: {Microcode: 6}}
		}, []check.Code{check.CodeTCBLaunchFloor}},
		{"no floor for the line", func(_ *snp.Report, o *Policy) { o.MinimumTCB = nil }, []check.Code{check.CodeTCBFloorMissing}},
		{"provisional TCB", func(r *snp.Report, _ *Policy) { r.CurrentTCB[7]++ }, []check.Code{check.CodeTCBProvisional}},
		{"provisional firmware", func(r *snp.Report, _ *Policy) { r.CurrentVersion.Build++ }, []check.Code{check.CodeTCBProvisional}},
		{"provisional, allowed", func(r *snp.Report, o *Policy) {
			r.CurrentTCB[7]++
			r.CurrentVersion.Build++
			o.AllowProvisionalTCB = true
		}, nil},
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
			a.platform(r)
			a.mitigations(r, snp.Milan)
			a.line(snp.Milan)
			a.tcb(r, snp.Milan)
			if diff := cmp.Diff(c.want, codes(a.Record)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func mitigations(launch, current uint64) map[snp.ProductLine]Mitigations {
	return map[snp.ProductLine]Mitigations{snp.Milan: {launch, current}}
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
