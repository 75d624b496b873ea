// SPDX-License-Identifier: Apache-2.0

package amd

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"cofferdam.dev/evidence/snp"
	"cofferdam.dev/verify/check"
)

func TestChipLists(t *testing.T) {
	t.Parallel()
	own, other := ChipID{1, 2}, ChipID{9}
	masked := func(r *snp.Report, _ *snp.ChipCertificate) { r.ChipID = [64]byte{} }
	for _, c := range []struct {
		name   string
		change func(*snp.Report, *snp.ChipCertificate)
		policy Policy
		want   []check.Code
	}{
		{"no list", nil, Policy{}, nil},
		{"trusted", nil, Policy{Chips: []ChipID{other, own}}, nil},
		{"not trusted", nil, Policy{Chips: []ChipID{other}}, []check.Code{check.CodeChipNotAllowed}},
		{"denied", nil, Policy{DeniedChips: []ChipID{other, own}}, []check.Code{check.CodeChipDenied}},
		{"trusted and denied", nil, Policy{Chips: []ChipID{own}, DeniedChips: []ChipID{own}}, []check.Code{check.CodeChipDenied}},
		{"another is denied", nil, Policy{DeniedChips: []ChipID{other}}, nil},
		{"masked, certificate trusted", masked, Policy{Chips: []ChipID{own}, AllowMaskedChip: true}, nil},
		{"masked, certificate denied", masked, Policy{DeniedChips: []ChipID{own}, AllowMaskedChip: true}, []check.Code{check.CodeChipDenied}},
		{"provider's key, no list", vlek, Policy{}, nil},
		{"provider's key, only some are trusted", vlek, Policy{Chips: []ChipID{own}}, []check.Code{check.CodeChipMasked}},
		{"provider's key, only some are trusted, masked allowed", vlek, Policy{Chips: []ChipID{own}, AllowMaskedChip: true},
			[]check.Code{check.CodeChipMasked}},
		{"provider's key, some are denied", vlek, Policy{DeniedChips: []ChipID{other}}, []check.Code{check.CodeChipMasked}},
		{"provider's key, some are denied, masked allowed", vlek, Policy{DeniedChips: []ChipID{other}, AllowMaskedChip: true}, nil},
		{"provider's key on a named chip that is denied", func(r *snp.Report, c *snp.ChipCertificate) {
			vlek(r, c)
			r.ChipID = other
		}, Policy{DeniedChips: []ChipID{other}, AllowMaskedChip: true}, []check.Code{check.CodeChipDenied}},
		{"provider's key on a named chip that is trusted", func(r *snp.Report, c *snp.ChipCertificate) {
			vlek(r, c)
			r.ChipID = own
		}, Policy{Chips: []ChipID{own}}, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			r, chip := milanReport(), milanChip()
			if c.change != nil {
				c.change(r, chip)
			}
			a := &appraisal{Record: &check.Record{}, in: &Input{}, p: &c.policy, res: &Result{}}
			a.chips(r, chip)
			if diff := cmp.Diff(c.want, codes(a.Record)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestParseChipID(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("ab", 64)
	if id, err := ParseChipID(long); err != nil || id.String() != long {
		t.Errorf("%s, %v", id, err)
	}
	if id, err := ParseChipID("0102030405060708"); err != nil || id != (ChipID{1, 2, 3, 4, 5, 6, 7, 8}) {
		t.Errorf("%s, %v", id, err)
	}
	for _, s := range []string{"", "01", "xy", long + "00", strings.Repeat("00", 64), strings.Repeat("00", 8), long[2:]} {
		if id, err := ParseChipID(s); err == nil {
			t.Errorf("%q is parsed as %s", s, id)
		}
	}
}

func TestIDBlockRules(t *testing.T) {
	t.Parallel()
	keyA, keyB := [48]byte{1}, [48]byte{2}
	pinned := func(p Policy) Policy {
		p.IDKeys = [][48]byte{keyA}
		return p
	}
	signed := func(r *snp.Report) { r.IDKeyDigest = keyA }
	authored := func(r *snp.Report) {
		r.IDKeyDigest, r.AuthorKeyDigest, r.KeyInfo = keyA, keyB, snp.KeyInfoAuthorKey
	}
	for _, c := range []struct {
		name   string
		change func(*snp.Report)
		policy Policy
		want   []check.Code
	}{
		{"nothing asked, none there", func(*snp.Report) {}, Policy{}, nil},
		{"nothing asked, one there", authored, Policy{}, nil},
		{"required", func(*snp.Report) {}, Policy{RequireIDBlock: true}, []check.Code{check.CodeIDBlockMissing}},
		{"required and there", signed, Policy{RequireIDBlock: true}, nil},
		{"pinned and there", signed, pinned(Policy{}), nil},
		{"pinned and absent", func(*snp.Report) {}, pinned(Policy{}), []check.Code{check.CodeIDBlockMissing}},
		{"pinned and another", func(r *snp.Report) { r.IDKeyDigest = keyB }, pinned(Policy{}), []check.Code{check.CodeIDKey}},
		{"author required", signed, Policy{RequireAuthorKey: true}, []check.Code{check.CodeAuthorKeyMissing}},
		{"author required and there", authored, Policy{RequireAuthorKey: true}, nil},
		{"author pinned", authored, Policy{AuthorKeys: [][48]byte{keyB}}, nil},
		{"author pinned and absent", signed, Policy{AuthorKeys: [][48]byte{keyB}}, []check.Code{check.CodeAuthorKeyMissing}},
		{"author pinned and another", authored, Policy{AuthorKeys: [][48]byte{keyA}}, []check.Code{check.CodeAuthorKey}},
		{"author's digest without its flag", func(r *snp.Report) { r.AuthorKeyDigest = keyB }, Policy{AuthorKeys: [][48]byte{keyB}},
			[]check.Code{check.CodeAuthorKeyFlag}},
		{"author's flag without a digest", func(r *snp.Report) { r.KeyInfo = snp.KeyInfoAuthorKey }, Policy{},
			[]check.Code{check.CodeAuthorKeyFlag}},
		{"guest SVN below the floor", signed, pinned(Policy{MinimumGuestSVN: 1}), []check.Code{check.CodeGuestSVN}},
		{"guest SVN at the floor", func(r *snp.Report) { r.IDKeyDigest, r.GuestSVN = keyA, 3 }, pinned(Policy{MinimumGuestSVN: 3}), nil},
		{"family", func(r *snp.Report) { r.IDKeyDigest, r.FamilyID = keyA, [16]byte{7} }, pinned(Policy{FamilyIDs: [][16]byte{{6}, {7}}}), nil},
		{"another family", signed, pinned(Policy{FamilyIDs: [][16]byte{{6}}}), []check.Code{check.CodeFamilyID}},
		{"another image", signed, pinned(Policy{ImageIDs: [][16]byte{{6}}}), []check.Code{check.CodeImageID}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			if err := c.policy.Validate(); err != nil {
				t.Fatal(err)
			}
			r := milanReport()
			c.change(r)
			a := &appraisal{Record: &check.Record{}, in: &Input{}, p: &c.policy, res: &Result{}}
			a.guest(r)
			if diff := cmp.Diff(c.want, codes(a.Record)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestPolicyValidate(t *testing.T) {
	t.Parallel()
	if err := (&Policy{}).Validate(); err != nil {
		t.Errorf("the zero policy, which admits nothing: %v", err)
	}
	for name, p := range map[string]Policy{
		"VMPL range":          {MinVMPL: 1},
		"ABI as flags":        {RequirePolicy: 1 << 8},
		"ABI as denied flags": {ForbidPolicy: 1},
		"policy both ways":    {RequirePolicy: snp.PolicySMT, ForbidPolicy: snp.PolicySMT | snp.PolicyCXL},
		"platform both ways":  {RequirePlatform: snp.PlatformECC, ForbidPlatform: snp.PlatformECC},
		"SVN of anybody":      {MinimumGuestSVN: 1},
		"family of anybody":   {FamilyIDs: [][16]byte{{1}}},
		"image of anybody":    {ImageIDs: [][16]byte{{1}}},
		"chip of zeros":       {Chips: []ChipID{{1}, {}}},
		"denied zeros":        {DeniedChips: []ChipID{{}}},
		"key of zeros":        {IDKeys: [][48]byte{{}}},
		"author of zeros":     {AuthorKeys: [][48]byte{{1}, {}}},
	} {
		if p.Validate() == nil {
			t.Errorf("%s: it is valid", name)
		}
	}
}
