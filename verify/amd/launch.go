// SPDX-License-Identifier: Apache-2.0

package amd

import (
	"encoding/hex"
	"fmt"
	"slices"

	"cofferdam.dev/evidence/snp"
	"cofferdam.dev/verify/check"
)

// guest checks how the guest was launched and who in it asked.
func (a *appraisal) guest(r *snp.Report) {
	a.Require(r.VMPL >= a.p.MinVMPL && r.VMPL <= a.p.MaxVMPL, check.VMPL, check.CodeVMPL,
		fmt.Sprintf("%d to %d", a.p.MinVMPL, a.p.MaxVMPL), fmt.Sprint(r.VMPL))
	a.guestPolicy(r.Policy)
	a.idBlock(r)
	a.authorKey(r)
	a.guestIdentity(r)
}

func (a *appraisal) guestPolicy(g snp.GuestPolicy) {
	a.Require(g.Has(snp.PolicyReservedOne) && g.Unknown() == 0, check.GuestPolicy, check.CodeGuestPolicy,
		"bit 17 set and no unknown bit", g.String())
	a.Require(a.p.AllowDebug || !g.Has(snp.PolicyDebug), check.Debug, check.CodeDebug,
		allowance("debugging", a.p.AllowDebug), g.String())
	a.Require(a.p.AllowMigrationAgent || !g.Has(snp.PolicyMigrateMA), check.Migration, check.CodeMigration,
		allowance("migration agent", a.p.AllowMigrationAgent), g.String())
	need, bad := a.p.RequirePolicy&^abiBytes, a.p.ForbidPolicy&^abiBytes
	a.Require(g.Has(need) && g&bad == 0, check.GuestPolicy, check.CodeGuestPolicyFlags,
		fmt.Sprintf("with %s, without %s", need.Names(), bad.Names()), g.String())
	abi := ABI{g.ABIMajor(), g.ABIMinor()}
	a.Require(abi.atLeast(a.p.MinimumABI), check.GuestPolicy, check.CodeGuestABI, "ABI "+a.p.MinimumABI.String()+" or later",
		"ABI "+abi.String())
}

func allowance(what string, allowed bool) string {
	if allowed {
		return what + " allowed"
	}
	return "no " + what
}

// idBlock checks who signed the ID block. Its digest is zero when there was none.
func (a *appraisal) idBlock(r *snp.Report) {
	none := r.IDKeyDigest == [48]byte{}
	got := hex.EncodeToString(r.IDKeyDigest[:])
	switch {
	case none && (a.p.RequireIDBlock || len(a.p.IDKeys) > 0):
		a.Fail(check.IDBlock, check.CodeIDBlockMissing, digests("an ID block", a.p.IDKeys), "none")
	case none:
		a.Pass(check.IDBlock, "none is asked for", "none")
	case len(a.p.IDKeys) == 0:
		a.Pass(check.IDBlock, "any key", got)
	default:
		a.Require(slices.Contains(a.p.IDKeys, r.IDKeyDigest), check.IDBlock, check.CodeIDKey, digests("an ID block", a.p.IDKeys), got)
	}
}

// authorKey checks who vouched for the ID block's key. The digest counts only with its bit in the key information.
func (a *appraisal) authorKey(r *snp.Report) {
	used := r.KeyInfo&snp.KeyInfoAuthorKey != 0
	zero := r.AuthorKeyDigest == [48]byte{}
	got := hex.EncodeToString(r.AuthorKeyDigest[:])
	switch {
	case used == zero:
		a.Fail(check.AuthorKey, check.CodeAuthorKeyFlag, "a digest exactly when the key information says that there is one",
			fmt.Sprintf("flag %v, digest %s", used, got))
	case !used && (a.p.RequireAuthorKey || len(a.p.AuthorKeys) > 0):
		a.Fail(check.AuthorKey, check.CodeAuthorKeyMissing, digests("an author key", a.p.AuthorKeys), "none")
	case !used:
		a.Pass(check.AuthorKey, "none is asked for", "none")
	case len(a.p.AuthorKeys) == 0:
		a.Pass(check.AuthorKey, "any key", got)
	default:
		a.Require(slices.Contains(a.p.AuthorKeys, r.AuthorKeyDigest), check.AuthorKey, check.CodeAuthorKey,
			digests("an author key", a.p.AuthorKeys), got)
	}
}

// guestIdentity checks what the ID block says about the guest.
func (a *appraisal) guestIdentity(r *snp.Report) {
	a.Require(r.GuestSVN >= a.p.MinimumGuestSVN, check.GuestSVN, check.CodeGuestSVN,
		fmt.Sprintf("at least %d", a.p.MinimumGuestSVN), fmt.Sprint(r.GuestSVN))
	a.oneOf(r.FamilyID, a.p.FamilyIDs, "family ID", check.CodeFamilyID)
	a.oneOf(r.ImageID, a.p.ImageIDs, "image ID", check.CodeImageID)
}

func (a *appraisal) oneOf(id [16]byte, trusted [][16]byte, what string, code check.Code) {
	got := what + " " + hex.EncodeToString(id[:])
	if len(trusted) == 0 {
		a.Pass(check.GuestIdentity, "any "+what, got)
		return
	}
	expected := what
	for _, t := range trusted {
		expected += " " + hex.EncodeToString(t[:])
	}
	a.Require(slices.Contains(trusted, id), check.GuestIdentity, code, expected, got)
}

// digests describes a pin.
func digests(what string, list [][48]byte) string {
	if len(list) == 0 {
		return what
	}
	s := what + " with digest"
	for _, d := range list {
		s += " " + hex.EncodeToString(d[:])
	}
	return s
}
