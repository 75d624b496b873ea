// SPDX-License-Identifier: Apache-2.0

package amd

import (
	"crypto/ecdsa"
	"crypto/sha512"
	"encoding/hex"
	"fmt"
	"math/big"
	"slices"
	"strings"

	"cofferdam.dev/evidence/snp"
	"cofferdam.dev/verify/anchor"
	"cofferdam.dev/verify/check"
)

// signer compares what the report says about its key with what the key's certificate says about itself.
func (a *appraisal) signer(r *snp.Report, c *chain) {
	a.Require(r.KeyInfo.Unknown() == 0, check.Signer, check.CodeKeyInfo, "no unknown bit in the key information",
		fmt.Sprintf("%#x (unknown %#x)", uint32(r.KeyInfo), uint32(r.KeyInfo.Unknown())))
	a.signingKey(r, c)
	if c.chip == nil {
		return
	}
	a.Require(r.ReportedTCB == c.chip.TCB, check.ChipTCB, check.CodeChipTCBMismatch, c.chip.TCB.String(),
		r.ReportedTCB.String())
	a.chipID(r, c.chip)
	a.product(r, c.chip)
}

func (a *appraisal) signingKey(r *snp.Report, c *chain) {
	key := r.KeyInfo.SigningKey()
	allowed := "VCEK"
	if len(a.p.Providers) > 0 {
		allowed = "VCEK, or VLEK of " + strings.Join(a.p.Providers, ", ")
	}
	switch {
	case r.KeyInfo&snp.KeyInfoMaskChipKey != 0:
		a.Fail(check.Signer, check.CodeSignerNotAllowed, allowed, "masked chip key")
	case key != snp.SigningKeyVCEK && (key != snp.SigningKeyVLEK || len(a.p.Providers) == 0):
		a.Fail(check.Signer, check.CodeSignerNotAllowed, allowed, key.String())
	case c.chip == nil:
		a.Pass(check.Signer, allowed, key.String()) // the check of the certificate says that it is missing
	case c.chip.Key != key:
		a.Fail(check.Signer, check.CodeSignerMismatch, key.String(), "certificate of a "+c.chip.Key.String())
	case key == snp.SigningKeyVLEK && !slices.Contains(a.p.Providers, c.chip.CSPID):
		a.Fail(check.Signer, check.CodeProvider, allowed, fmt.Sprintf("VLEK of %q", c.chip.CSPID))
	default:
		a.Pass(check.Signer, allowed, key.String())
	}
}

// chipID requires that report and certificate name one chip. A host may mask the ID in reports; the policy says whether
// that is admitted.
func (a *appraisal) chipID(r *snp.Report, chip *snp.ChipCertificate) {
	masked := ChipID(r.ChipID) == ChipID{}
	got := hex.EncodeToString(r.ChipID[:])
	switch {
	case masked && a.p.AllowMaskedChip:
		a.Pass(check.ChipID, "any: masked chip IDs are allowed", "masked")
	case chip.Key == snp.SigningKeyVLEK:
		a.Pass(check.ChipID, "any: a VLEK belongs to provider "+chip.CSPID, got)
	default:
		var want [64]byte // Turin has eight bytes, the rest of the field is zero
		copy(want[:], chip.HWID)
		a.Require(r.ChipID == want, check.ChipID, check.CodeChipIDMismatch, hex.EncodeToString(want[:]), got)
	}
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

// chips holds the chip against the lists. The chip is the one that the report names, or else the certificate: a VCEK
// belongs to one chip. With a masked ID and a VLEK it is unknown.
func (a *appraisal) chips(r *snp.Report, chip *snp.ChipCertificate) {
	id := ChipID(r.ChipID)
	if id == (ChipID{}) && chip != nil {
		copy(id[:], chip.HWID)
	}
	expected := fmt.Sprintf("one of %d trusted chips, none of %d denied ones", len(a.p.Chips), len(a.p.DeniedChips))
	if len(a.p.Chips) == 0 {
		expected = fmt.Sprintf("none of %d denied chips", len(a.p.DeniedChips))
	}
	unknown := id == ChipID{}
	switch {
	case slices.Contains(a.p.DeniedChips, id):
		a.Fail(check.ChipList, check.CodeChipDenied, expected, id.String())
	case unknown && (len(a.p.Chips) > 0 || len(a.p.DeniedChips) > 0 && !a.p.AllowMaskedChip):
		a.Fail(check.ChipList, check.CodeChipMasked, expected, "the chip is masked")
	case len(a.p.Chips) > 0 && !slices.Contains(a.p.Chips, id):
		a.Fail(check.ChipList, check.CodeChipNotAllowed, expected, id.String())
	case unknown:
		a.Pass(check.ChipList, expected, "the chip is masked")
	default:
		a.Pass(check.ChipList, expected, id.String())
	}
}
