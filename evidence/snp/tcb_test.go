// SPDX-License-Identifier: Apache-2.0

package snp

import (
	"testing"

	"pgregory.net/rapid"
)

func TestProductLines(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name  string
		eax   uint32
		cpuid CPUID
		want  ProductLine
	}{
		{"Milan", 0x00a00f11, CPUID{0x19, 0x01, 1}, Milan},
		{"Genoa", 0x00a10f11, CPUID{0x19, 0x11, 1}, Genoa},
		{"Bergamo or Siena", 0x00aa0f02, CPUID{0x19, 0xa0, 2}, Genoa},
		{"Turin", 0x00b00f21, CPUID{0x1a, 0x02, 1}, Turin},
		{"Turin Dense", 0x00b10f10, CPUID{0x1a, 0x11, 0}, Turin},
		{"Rome", 0x00830f10, CPUID{0x17, 0x31, 0}, ""},
		{"consumer Zen 3", 0x00a20f10, CPUID{0x19, 0x21, 0}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			got := ParseCPUSignature(c.eax)
			if got != c.cpuid || got.Signature() != c.eax {
				t.Errorf("%#x is %+v, and back %#x", c.eax, got, got.Signature())
			}
			line, err := got.ProductLine()
			if line != c.want || (err == nil) != (c.want != "") {
				t.Errorf("product line is %q, %v", line, err)
			}
		})
	}
	if line, err := (CPUID{}).ProductLine(); err == nil {
		t.Errorf("a report without CPUID is of line %q", line)
	}
}

func TestProductNames(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]ProductLine{
		"Milan-B0": Milan, "Milan": Milan, "Genoa": Genoa, "Turin": Turin, "Turin-C1": Turin, "": "", "Rome": "",
		"milan": "", "Milan-": "", "MilanX": "", "-B0": "",
	} {
		if got, err := ParseProductLine(name); got != want || (err == nil) != (want != "") {
			t.Errorf("%q is of %q, %v", name, got, err)
		}
	}
}

func TestTCBLayouts(t *testing.T) {
	t.Parallel()
	old := TCB{4, 1, 0, 0, 0, 0, 0x18, 0xdb}
	want := TCBParts{Bootloader: 4, TEE: 1, SNP: 0x18, Microcode: 0xdb}
	for _, line := range []ProductLine{Milan, Genoa} {
		if got, err := old.Parts(line); got != want || err != nil {
			t.Errorf("%s: %+v, %v", line, got, err)
		}
	}
	turin := TCB{1, 2, 3, 4, 0, 0, 0, 5}
	if got, err := turin.Parts(Turin); got != (TCBParts{FMC: 1, Bootloader: 2, TEE: 3, SNP: 4, Microcode: 5}) || err != nil {
		t.Errorf("Turin: %+v, %v", got, err)
	}
	for name, try := range map[string]struct {
		tcb  TCB
		line ProductLine
	}{
		"unknown line": {old, "Rome"}, "no line": {old, ""}, "reserved byte of Milan": {turin, Milan},
		"reserved byte of Turin": {old, Turin},
	} {
		if _, err := try.tcb.Parts(try.line); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	if _, err := (TCBParts{FMC: 1}).TCB(Genoa); err == nil {
		t.Error("FMC on Genoa: no error")
	}
	if s := (TCBParts{FMC: 1, SNP: 0x18}).String(); s != "fmc 01, bootloader 00, tee 00, snp 18, microcode 00" {
		t.Errorf("it prints as %q", s)
	}
}

// TestAtLeastIsComponentWise pins that a high part never makes up for a low one.
func TestAtLeastIsComponentWise(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		draw := func(label string) TCBParts {
			b := rapid.SliceOfN(rapid.ByteRange(0, 2), 5, 5).Draw(t, label)
			return TCBParts{b[0], b[1], b[2], b[3], b[4]}
		}
		a, b := draw("a"), draw("b")
		want := a.FMC >= b.FMC && a.Bootloader >= b.Bootloader && a.TEE >= b.TEE && a.SNP >= b.SNP && a.Microcode >= b.Microcode
		if a.AtLeast(b) != want || !a.AtLeast(a) || !a.AtLeast(TCBParts{}) {
			t.Fatalf("%v at least %v", a, b)
		}
		if a.AtLeast(b) && b.AtLeast(a) && a != b {
			t.Fatalf("%v and %v are at least each other", a, b)
		}
	})
}

func TestFlagsNameTheirBits(t *testing.T) {
	t.Parallel()
	for want, got := range map[string]string{
		"0x3001f (ABI 0.31, smt, reserved-one)":                    DefaultGuestPolicy.String(),
		"0xb0000 (ABI 0.0, smt, reserved-one, debug)":              GuestPolicy(0xb0000).String(),
		"0x8000000000000000 (ABI 0.0, unknown 0x8000000000000000)": GuestPolicy(1 << 63).String(),
		"0x25 (smt, ecc, alias-check-complete)":                    PlatformInfo(0x25).String(),
		"0x0 (none)":                                               PlatformInfo(0).String(),
		"0x100 (unknown 0x100)":                                    PlatformInfo(0x100).String(),
		"VCEK":                                                     KeyInfo(0).SigningKey().String(),
		"VLEK":                                                     KeyInfo(1 << 2).SigningKey().String(),
		"none":                                                     KeyInfo(7 << 2).SigningKey().String(),
		"reserved(3)":                                              KeyInfo(3 << 2).SigningKey().String(),
		"1.55 build 29":                                            FirmwareVersion{Build: 29, Minor: 55, Major: 1}.String(),
	} {
		if got != want {
			t.Errorf("it prints as %q, not %q", got, want)
		}
	}
	p := GuestPolicy(1<<40 | PolicyReservedOne | 1<<8 | 51)
	if p.Unknown() != 1<<40 || p.ABIMajor() != 1 || p.ABIMinor() != 51 || p.Has(PolicySMT|PolicyReservedOne) {
		t.Errorf("policy %s is misread", p)
	}
	if PlatformInfo(0x1ff).Unknown() != 0x100 || KeyInfo(0x23).Unknown() != 0x20 {
		t.Error("unknown bits are misread")
	}
}
