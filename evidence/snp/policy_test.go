// SPDX-License-Identifier: Apache-2.0

package snp

import "testing"

// TestBitsByName takes every bit by the name that it is shown with.
func TestBitsByName(t *testing.T) {
	t.Parallel()
	for i, name := range platformNames {
		if name == "" {
			continue
		}
		b, err := ParsePlatformBit(name)
		if err != nil || b != 1<<i {
			t.Errorf("%s is %s, %v", name, b, err)
		}
	}
	for i, name := range policyNames {
		if name == "" {
			continue
		}
		p, err := ParseGuestPolicyFlag(name)
		if err != nil || p != 1<<i || p.Names() != name {
			t.Errorf("%s is %s, %v", name, p.Names(), err)
		}
	}
	for _, s := range []string{"", "SMT", "none", "unknown 0x100"} {
		if b, err := ParsePlatformBit(s); err == nil {
			t.Errorf("platform bit %q is %s", s, b)
		}
		if p, err := ParseGuestPolicyFlag(s); err == nil {
			t.Errorf("policy flag %q is %s", s, p)
		}
	}
	if got := (GuestPolicy(0x1f)).Names(); got != "none" {
		t.Errorf("the names of no flag are %q", got)
	}
}
