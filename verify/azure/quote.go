// SPDX-License-Identifier: Apache-2.0

package azure

import (
	"bytes"
	"crypto"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"strings"

	"cofferdam.dev/evidence/hcl"
	"cofferdam.dev/verify/check"
)

// Registers that say what was booted. TCG PC Client Platform Firmware Profile, "PCR usage".
const (
	pcrBootManager = 4 // the code that the firmware started
	pcrSecureBoot  = 7 // the secure boot policy, and whose signature was used
)

// quote judges the TPM's quote with the key of the claims, and the registers that it is about.
func (a *appraisal) quote(q *hcl.Quote) {
	attest, err := hcl.ParseAttest(q.Message)
	if err != nil {
		a.Fail(check.TPMQuote, check.CodeTPMQuoteMalformed, "a TPMS_ATTEST of a quote", err.Error())
	} else {
		a.Pass(check.TPMQuote, "a TPMS_ATTEST of a quote", fmt.Sprintf("reset %d, restart %d", attest.Resets, attest.Restarts))
		a.res.Quote, a.res.ExtraData = attest, attest.ExtraData
	}
	a.tpmSignature(q)
	if attest != nil {
		a.digest(attest, &q.PCRs)
	}
	a.values(&q.PCRs)
}

// tpmSignature verifies the quote with the key in the claims, whether these are bound or not.
func (a *appraisal) tpmSignature(q *hcl.Quote) {
	const expected = "RSASSA-PKCS1-v1_5 signature with SHA-256 by " + hcl.AttestationKey
	if a.res.Claims == nil {
		a.Undecided(check.TPMSignature, check.CodeSignatureNotChecked, expected, "no key is known")
		return
	}
	key := a.res.Claims.AttestationKey
	sig, err := hcl.ParseSignature(q.Signature, key.Size())
	if err == nil {
		sum := sha256.Sum256(q.Message)
		err = rsa.VerifyPKCS1v15(key, crypto.SHA256, sum[:], sig)
	}
	actual := "valid"
	if err != nil {
		actual = err.Error()
	}
	a.Require(err == nil, check.TPMSignature, check.CodeTPMSignature, expected, actual)
}

// digest compares the values with the quote's digest, which must be over all registers of the SHA-256 bank. A value that
// the quote does not cover could be anything.
func (a *appraisal) digest(q *hcl.Attest, pcrs *[hcl.PCRCount][sha256.Size]byte) {
	all := make([]int, hcl.PCRCount)
	for i := range all {
		all[i] = i
	}
	if len(q.Selections) != 1 || q.Selections[0].Algorithm != hcl.AlgSHA256 || !slices.Equal(q.Selections[0].PCRs, all) {
		a.Fail(check.PCRDigest, check.CodePCRSelection, fmt.Sprintf("PCR 0 to %d of SHA-256", hcl.PCRCount-1), describe(q.Selections))
		return
	}
	h := sha256.New()
	for _, v := range pcrs {
		_, _ = h.Write(v[:]) // a hash never fails
	}
	got := h.Sum(nil)
	a.Require(bytes.Equal(got, q.PCRDigest), check.PCRDigest, check.CodePCRDigest, hex.EncodeToString(q.PCRDigest), hex.EncodeToString(got))
}

func describe(list []hcl.Selection) string {
	var parts []string
	for _, s := range list {
		parts = append(parts, fmt.Sprintf("PCRs %v of algorithm %#04x", s.PCRs, s.Algorithm))
	}
	return strings.Join(parts, ", ")
}

// values compares the registers with the trusted ones, and requires that they say what was booted.
func (a *appraisal) values(pcrs *[hcl.PCRCount][sha256.Size]byte) {
	if a.p.PCRs[pcrBootManager] == nil && a.p.PCRs[pcrSecureBoot] == nil {
		a.Fail(check.PCRs, check.CodePCRNotPinned, fmt.Sprintf("trusted values for PCR %d or PCR %d, but none are given", pcrBootManager, pcrSecureBoot),
			fmt.Sprintf("PCR %d is %x, PCR %d is %x", pcrBootManager, pcrs[pcrBootManager], pcrSecureBoot, pcrs[pcrSecureBoot]))
	}
	for _, i := range slices.Sorted(maps.Keys(a.p.PCRs)) {
		trusted := a.p.PCRs[i]
		switch {
		case i < 0 || i >= hcl.PCRCount:
			a.Fail(check.PCRs, check.CodePCR, fmt.Sprintf("a register from 0 to %d", hcl.PCRCount-1), fmt.Sprintf("PCR %d", i))
		case len(trusted) == 0:
			a.Fail(check.PCRs, check.CodePCRNotPinned, fmt.Sprintf("a trusted value for PCR %d, but none is given", i), hex.EncodeToString(pcrs[i][:]))
		default:
			var known [][]byte
			for _, v := range trusted {
				known = append(known, v[:])
			}
			a.Require(slices.Contains(trusted, pcrs[i]), check.PCRs, check.CodePCR, fmt.Sprintf("PCR %d: %s", i, check.Hex(known)),
				hex.EncodeToString(pcrs[i][:]))
		}
	}
}
