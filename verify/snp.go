// SPDX-License-Identifier: Apache-2.0

package verify

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/hex"
	"fmt"
	"math/big"
	"slices"
	"strings"
	"time"

	"cofferdam.dev/evidence"
	"cofferdam.dev/evidence/snp"
	"cofferdam.dev/verify/check"
)

// minReportVersion is the oldest version of real firmware; version 1 was never shipped with a TCB worth a floor.
const minReportVersion = 2

// snp appraises an SNP report. Checks of the content are made even when the chain fails, so that a verdict names
// everything that is wrong at once.
func (a *appraisal) snp(doc *evidence.Document) {
	a.Require(!a.opts.Now.IsZero(), check.Time, check.CodeTimeNotSet, "a time", stamp(a.opts.Now))
	r, err := snp.ParseReport(doc.Report)
	if err != nil {
		a.Fail(check.Format, check.CodeReportMalformed, "an SNP report", err.Error())
		return
	}
	a.Require(r.Version >= minReportVersion, check.Format, check.CodeVersionUnsupported,
		fmt.Sprintf("report version %d to %d", minReportVersion, snp.MaxReportVersion), fmt.Sprintf("version %d", r.Version))
	c := a.chain(doc.Certificates, r.KeyInfo.SigningKey())
	line := productLine(r, c.chip)
	a.v.Report = claims(r, c.chip, doc)
	a.signer(r, c)
	a.signature(r, c)
	a.guest(r)
	a.tcb(r, line)
	a.references(r, doc)
	a.binding(r, doc)
}

// productLine is what the certificate says, or the report where there is no certificate; empty when neither does.
func productLine(r *snp.Report, chip *snp.ChipCertificate) snp.ProductLine {
	if chip != nil {
		return chip.Line
	}
	line, err := r.CPUID.ProductLine()
	if err != nil {
		return ""
	}
	return line
}

// signer compares what the report says about its key with what the key's certificate says about itself.
func (a *appraisal) signer(r *snp.Report, c *chain) {
	key := r.KeyInfo.SigningKey()
	allowed := "VCEK"
	if a.opts.AllowVLEK {
		allowed = "VCEK or VLEK"
	}
	switch {
	case r.KeyInfo&snp.KeyInfoMaskChipKey != 0:
		a.Fail(check.Signer, check.CodeSignerNotAllowed, allowed, "masked chip key")
	case key != snp.SigningKeyVCEK && (key != snp.SigningKeyVLEK || !a.opts.AllowVLEK):
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
	a.Require(ok, check.Signature, check.CodeSignatureInvalid, "signature by key "+spki(c.leaf), actual)
}

func integer(le [48]byte) *big.Int {
	b := le
	slices.Reverse(b[:])
	return new(big.Int).SetBytes(b[:])
}

// guest checks how the guest was launched and who in it asked.
func (a *appraisal) guest(r *snp.Report) {
	a.Require(r.VMPL <= a.opts.MaxVMPL, check.VMPL, check.CodeVMPL, fmt.Sprintf("at most %d", a.opts.MaxVMPL),
		fmt.Sprint(r.VMPL))
	a.Require(r.Policy.Has(snp.PolicyReservedOne) && r.Policy.Unknown() == 0, check.GuestPolicy, check.CodeGuestPolicy,
		"bit 17 set and no unknown bit", r.Policy.String())
	a.Require(a.opts.AllowDebug || !r.Policy.Has(snp.PolicyDebug), check.Debug, check.CodeDebug,
		allowance("debugging", a.opts.AllowDebug), r.Policy.String())
	a.Require(a.opts.AllowMigrationAgent || !r.Policy.Has(snp.PolicyMigrateMA), check.Migration, check.CodeMigration,
		allowance("migration agent", a.opts.AllowMigrationAgent), r.Policy.String())
	need, bad := a.opts.RequirePlatform, a.opts.ForbidPlatform
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
	a.Require(a.opts.AllowProvisionalTCB || current == committed, check.TCBCommitted, check.CodeTCBProvisional,
		"current is committed: "+committed.String(), current.String())
	floor, ok := a.opts.MinimumTCB[line]
	if !ok {
		a.Fail(check.TCBFloor, check.CodeTCBFloorMissing, "a floor for "+string(line), "none configured")
		return
	}
	a.Require(reported.AtLeast(floor) && launch.AtLeast(floor), check.TCBFloor, check.CodeTCBFloor, floor.String(),
		fmt.Sprintf("reported %s; at launch %s", reported, launch))
}

// references compares what was launched with what is trusted.
func (a *appraisal) references(r *snp.Report, doc *evidence.Document) {
	got := hex.EncodeToString(r.Measurement[:])
	if len(a.opts.Measurements) == 0 {
		a.Fail(check.Measurement, check.CodeMeasurementNotSet, "a trusted measurement, but none is given", got)
	} else {
		ok := slices.ContainsFunc(a.opts.Measurements, func(m []byte) bool { return bytes.Equal(m, r.Measurement[:]) })
		a.Require(ok, check.Measurement, check.CodeMeasurement, hexList(a.opts.Measurements), got)
	}
	got = hex.EncodeToString(r.HostData[:])
	if len(a.opts.HostData) == 0 {
		a.Fail(check.HostData, check.CodeHostDataNotSet, "trusted host data, but none are given", got)
	} else {
		var list [][]byte
		for _, h := range a.opts.HostData {
			list = append(list, h[:])
		}
		a.Require(slices.Contains(a.opts.HostData, r.HostData), check.HostData, check.CodeHostData, hexList(list), got)
	}
	if len(doc.Policy) != 0 {
		sum := sha256.Sum256(doc.Policy)
		a.Require(sum == r.HostData, check.PolicyText, check.CodePolicyText, got, hex.EncodeToString(sum[:]))
	}
}

// binding checks the report data, in the form of evidence.ReportData unless the options list report data of their own.
func (a *appraisal) binding(r *snp.Report, doc *evidence.Document) {
	o := a.opts
	got := hex.EncodeToString(r.ReportData[:])
	if len(o.ReportData) != 0 {
		ok := slices.ContainsFunc(o.ReportData, func(d []byte) bool { return bytes.Equal(d, r.ReportData[:]) })
		a.Require(ok, check.ReportData, check.CodeReportData, hexList(o.ReportData), got)
		if o.Source == "" && len(o.Nonce) == 0 && o.RuntimeData == nil {
			return
		}
	}
	switch {
	case o.Source.Validate() != nil:
		a.Fail(check.Source, check.CodeSourceNotSet, "an expected source", fmt.Sprintf("%q", string(o.Source)))
	default:
		a.Require(doc.Source == o.Source, check.Source, check.CodeSource, string(o.Source), string(doc.Source))
	}
	switch {
	case len(o.Nonce) < evidence.MinNonceSize:
		a.Fail(check.Nonce, check.CodeNonceNotSet, fmt.Sprintf("a nonce of at least %d bytes", evidence.MinNonceSize),
			fmt.Sprintf("%d bytes are given", len(o.Nonce)))
	default:
		a.Require(bytes.Equal(doc.Nonce, o.Nonce), check.Nonce, check.CodeNonce, hex.EncodeToString(o.Nonce),
			hex.EncodeToString(doc.Nonce))
	}
	if o.RuntimeData != nil {
		a.Require(bytes.Equal(doc.RuntimeData, o.RuntimeData), check.RuntimeData, check.CodeRuntimeData,
			short(o.RuntimeData), short(doc.RuntimeData))
	}
	want := evidence.ReportData(o.Source, o.Nonce, doc.RuntimeData)
	a.Require(want == r.ReportData, check.ReportData, check.CodeReportData, hex.EncodeToString(want[:]), got)
}

func claims(r *snp.Report, chip *snp.ChipCertificate, doc *evidence.Document) *ReportClaims {
	c := &ReportClaims{
		Version: r.Version, ChipID: hex.EncodeToString(r.ChipID[:]), SigningKey: r.KeyInfo.SigningKey().String(),
		VMPL: r.VMPL, GuestSVN: r.GuestSVN, Policy: r.Policy.String(), PlatformInfo: r.PlatformInfo.String(),
		ReportedTCB: r.ReportedTCB.String(), CommittedTCB: r.CommittedTCB.String(), CurrentTCB: r.CurrentTCB.String(),
		LaunchTCB: r.LaunchTCB.String(), Measurement: hex.EncodeToString(r.Measurement[:]),
		HostData: hex.EncodeToString(r.HostData[:]), ReportData: hex.EncodeToString(r.ReportData[:]),
		ReportID: hex.EncodeToString(r.ReportID[:]), Source: string(doc.Source), Nonce: hex.EncodeToString(doc.Nonce),
		RuntimeData: doc.RuntimeData,
	}
	if chip != nil {
		c.Product = chip.ProductName
	}
	return c
}

// hexList shows a list of byte strings, and how many there are when there are many.
func hexList(list [][]byte) string {
	const most = 4
	var s []string
	for i, b := range list {
		if i == most {
			s = append(s, fmt.Sprintf("and %d more", len(list)-most))
			break
		}
		s = append(s, hex.EncodeToString(b))
	}
	return strings.Join(s, ", ")
}

// short names bytes by their number and digest.
func short(b []byte) string { return fmt.Sprintf("%d bytes with SHA-256 %x", len(b), sha256.Sum256(b)) }

func stamp(t time.Time) string {
	if t.IsZero() {
		return "none"
	}
	return t.UTC().Format(time.RFC3339)
}
