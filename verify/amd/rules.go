// SPDX-License-Identifier: Apache-2.0

package amd

import (
	"crypto/ecdsa"
	"crypto/sha512"
	"encoding/hex"
	"fmt"
	"math/big"
	"slices"

	"cofferdam.dev/evidence/snp"
	"cofferdam.dev/verify/anchor"
	"cofferdam.dev/verify/check"
)

// signer compares what the report says about its key with what the key's certificate says about itself.
func (a *appraisal) signer(r *snp.Report, c *chain) {
	key := r.KeyInfo.SigningKey()
	allowed := "VCEK"
	if a.p.AllowVLEK {
		allowed = "VCEK or VLEK"
	}
	switch {
	case r.KeyInfo&snp.KeyInfoMaskChipKey != 0:
		a.Fail(check.Signer, check.CodeSignerNotAllowed, allowed, "masked chip key")
	case key != snp.SigningKeyVCEK && (key != snp.SigningKeyVLEK || !a.p.AllowVLEK):
		a.Fail(check.Signer, check.CodeSignerNotAllowed, allowed, key.String())
	case c.chip != nil && c.chip.Key != key:
		a.Fail(check.Signer, check.CodeSignerMismatch, key.String(), "certificate of a "+c.chip.Key.String())
	default:
		a.Pass(check.Signer, allowed, key.String())
	}
	if c.chip == nil {
		return
	}
	a.Require(r.ReportedTCB == c.chip.TCB, check.ChipTCB, check.CodeChipTCBMismatch, c.chip.TCB.String(),
		r.ReportedTCB.String())
	a.chipID(r, c.chip)
	a.product(r, c.chip)
}

func (a *appraisal) chipID(r *snp.Report, chip *snp.ChipCertificate) {
	if chip.Key == snp.SigningKeyVLEK {
		a.Pass(check.ChipID, "any: a VLEK belongs to provider "+chip.CSPID, hex.EncodeToString(r.ChipID[:]))
		return
	}
	var want [64]byte // Turin has eight bytes, the rest of the field is zero
	copy(want[:], chip.HWID)
	a.Require(r.ChipID == want, check.ChipID, check.CodeChipIDMismatch, hex.EncodeToString(want[:]),
		hex.EncodeToString(r.ChipID[:]))
}

func (a *appraisal) product(r *snp.Report, chip *snp.ChipCertificate) {
	if r.Version < 3 {
		a.Pass(check.Product, string(chip.Line), fmt.Sprintf("unnamed in reports of version %d", r.Version))
		return
	}
	line, err := r.CPUID.ProductLine()
	a.Require(err == nil && line == chip.Line, check.Product, check.CodeProductMismatch, string(chip.Line), r.CPUID.String())
}

// signature verifies the report with the chip key, whether that key is trusted or not.
func (a *appraisal) signature(r *snp.Report, c *chain) {
	if r.SignatureAlgorithm != snp.SignatureECDSAP384SHA384 {
		a.Fail(check.Signature, check.CodeSignatureInvalid, "ECDSA P-384 with SHA-384 (1)",
			fmt.Sprintf("algorithm %d", r.SignatureAlgorithm))
		return
	}
	if c.leaf == nil {
		a.Undecided(check.Signature, check.CodeSignatureNotChecked, "a valid signature", "no chip certificate to verify it with")
		return
	}
	pub, ok := c.leaf.PublicKey.(*ecdsa.PublicKey)
	digest := sha512.Sum384(r.SignedBytes())
	ok = ok && ecdsa.Verify(pub, digest[:], integer(r.R), integer(r.S))
	actual := "valid"
	if !ok {
		actual = "the signature does not verify"
	}
	a.Require(ok, check.Signature, check.CodeSignatureInvalid, "signature by key "+anchor.SPKI(c.leaf), actual)
}

func integer(le [48]byte) *big.Int {
	b := le
	slices.Reverse(b[:])
	return new(big.Int).SetBytes(b[:])
}

// guest checks how the guest was launched and who in it asked.
func (a *appraisal) guest(r *snp.Report) {
	a.Require(r.VMPL <= a.p.MaxVMPL, check.VMPL, check.CodeVMPL, fmt.Sprintf("at most %d", a.p.MaxVMPL),
		fmt.Sprint(r.VMPL))
	a.Require(r.Policy.Has(snp.PolicyReservedOne) && r.Policy.Unknown() == 0, check.GuestPolicy, check.CodeGuestPolicy,
		"bit 17 set and no unknown bit", r.Policy.String())
	a.Require(a.p.AllowDebug || !r.Policy.Has(snp.PolicyDebug), check.Debug, check.CodeDebug,
		allowance("debugging", a.p.AllowDebug), r.Policy.String())
	a.Require(a.p.AllowMigrationAgent || !r.Policy.Has(snp.PolicyMigrateMA), check.Migration, check.CodeMigration,
		allowance("migration agent", a.p.AllowMigrationAgent), r.Policy.String())
	need, bad := a.p.RequirePlatform, a.p.ForbidPlatform
	a.Require(r.PlatformInfo.Has(need) && r.PlatformInfo&bad == 0, check.Platform, check.CodePlatform,
		fmt.Sprintf("with %s, without %s", need, bad), r.PlatformInfo.String())
}

func allowance(what string, allowed bool) string {
	if allowed {
		return what + " allowed"
	}
	return "no " + what
}

// tcb compares TCB versions with each other and with the floors. Without a product line they have no meaning.
func (a *appraisal) tcb(r *snp.Report, line snp.ProductLine) {
	if line == "" {
		a.Undecided(check.TCBFloor, check.CodeProductUnknown, "a known product line", r.CPUID.String())
		return
	}
	parts := make([]snp.TCBParts, 4)
	for i, t := range []snp.TCB{r.ReportedTCB, r.CommittedTCB, r.CurrentTCB, r.LaunchTCB} {
		p, err := t.Parts(line)
		if err != nil {
			a.Fail(check.TCBOrder, check.CodeTCBMalformed, "TCB versions of "+string(line), err.Error())
			return
		}
		parts[i] = p
	}
	reported, committed, current, launch := parts[0], parts[1], parts[2], parts[3]
	a.Require(committed.AtLeast(reported) && current.AtLeast(committed), check.TCBOrder, check.CodeTCBOrder,
		"reported <= committed <= current", fmt.Sprintf("%s; %s; %s", r.ReportedTCB, r.CommittedTCB, r.CurrentTCB))
	a.Require(a.p.AllowProvisionalTCB || current == committed, check.TCBCommitted, check.CodeTCBProvisional,
		"current is committed: "+committed.String(), current.String())
	floor, ok := a.p.MinimumTCB[line]
	if !ok {
		a.Fail(check.TCBFloor, check.CodeTCBFloorMissing, "a floor for "+string(line), "none configured")
		return
	}
	a.Require(reported.AtLeast(floor) && launch.AtLeast(floor), check.TCBFloor, check.CodeTCBFloor, floor.String(),
		fmt.Sprintf("reported %s; at launch %s", reported, launch))
}
