// SPDX-License-Identifier: Apache-2.0

package intel

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha256"
	"encoding/hex"
	"math/big"

	"cofferdam.dev/evidence/dcap"
	"cofferdam.dev/verify/anchor"
	"cofferdam.dev/verify/check"
)

// signatures follows the quote from the machine's key to what the guest asked to have signed: the machine's key signed the
// quoting enclave's report, that report names the attestation key, and the attestation key signed the quote. All three are
// verified whether the machine's key is trusted or not.
func (a *appraisal) signatures(q *dcap.Quote, c *chain) {
	const wrong = "the signature does not verify"
	if c.leaf == nil {
		a.Undecided(check.QEReport, check.CodeSignatureNotChecked, "a valid signature", "no machine certificate to verify it with")
	} else {
		pub, ok := c.leaf.PublicKey.(*ecdsa.PublicKey)
		ok = ok && pub.Curve == elliptic.P256() && verifies(pub, q.QEReport.Marshal(), q.QEReportSignature)
		a.Require(ok, check.QEReport, check.CodeQEReportSignature, "signature by key "+anchor.SPKI(c.leaf), outcome(ok, wrong))
	}
	digest := sha256.Sum256(append(q.AttestationKey[:], q.QEAuthData...))
	var want [64]byte // the digest and 32 zero bytes
	copy(want[:], digest[:])
	a.Require(want == q.QEReport.ReportData, check.AttestationKey, check.CodeAttestationKey, hex.EncodeToString(want[:]),
		hex.EncodeToString(q.QEReport.ReportData[:]))
	pub, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), append([]byte{4}, q.AttestationKey[:]...))
	ok := err == nil && verifies(pub, q.SignedBytes(), q.Signature)
	a.Require(ok, check.Signature, check.CodeSignatureInvalid, "signature by the attestation key", outcome(ok, wrong))
}

// verifies checks an ECDSA P-256 signature over the SHA-256 of a message, in Intel's form: r and s, big-endian.
func verifies(pub *ecdsa.PublicKey, message []byte, sig [64]byte) bool {
	digest := sha256.Sum256(message)
	return ecdsa.Verify(pub, digest[:], new(big.Int).SetBytes(sig[:32]), new(big.Int).SetBytes(sig[32:]))
}

func outcome(ok bool, wrong string) string {
	if ok {
		return "valid"
	}
	return wrong
}
