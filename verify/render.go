// SPDX-License-Identifier: Apache-2.0

package verify

import (
	"bytes"
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode"

	"cofferdam.dev/verify/check"
)

// node is one station of the picture that Render draws: a line and the checks that decide its mark.
type node struct {
	title  func(*Verdict) string
	detail func(*Verdict) string
	// leaf stations hang on the last station of the trunk; the others each hang on the one above.
	leaf bool
	// optional stations are drawn only when one of their checks was made.
	optional bool
	checks   []check.Name
}

// picture has the stations of all kinds of evidence, from the root to the runtime data. Every check belongs to one.
var picture = []node{
	{title: word("root"), detail: linkDetail("root"), checks: []check.Name{check.TrustAnchor}},
	{title: word("intermediate"), detail: linkDetail("intermediate"), checks: []check.Name{
		check.Chain, check.Profile, check.Revocation, check.RootCRL, check.PCKCRL,
	}},
	{title: word("chip key"), detail: keyDetail, checks: []check.Name{
		check.ChipCertificate, check.Validity, check.ChipTCB, check.ChipID, check.Product, check.ChipList, check.Certification,
		check.PlatformModel, check.PlatformID,
	}},
	{title: word("quoting enclave"), detail: nothing, optional: true, checks: []check.Name{
		check.QEReport, check.AttestationKey, check.QuotingEnclave, check.QEIdentity,
	}},
	{title: reportTitle, detail: reportDetail, checks: []check.Name{
		check.Format, check.EvidenceType, check.AppraisalPolicy, check.Signature, check.Signer, check.VMPL, check.GuestPolicy, check.Debug,
		check.Migration, check.Platform, check.Mitigations, check.IDBlock, check.AuthorKey, check.GuestSVN, check.GuestIdentity,
		check.TCBOrder, check.TCBCommitted, check.TCBFloor, check.TEE, check.TCBInfo, check.CollateralAge, check.TCBEvaluation,
		check.TDXModule, check.TCBLevel, check.TCBStatus, check.Advisories, check.TDAttributes, check.XFAM, check.TDConfiguration,
		check.ServiceTD, check.EnclaveAttributes, check.EnclaveSigner, check.EnclaveConfiguration,
	}},
	{title: word("paravisor"), detail: vmDetail, optional: true, checks: []check.Name{
		check.AzureEvidence, check.Paravisor, check.TDReport, check.VMConfiguration,
	}},
	{title: word("TPM quote"), detail: nothing, optional: true, checks: []check.Name{
		check.TPMQuote, check.TPMSignature, check.PCRDigest, check.PCRs,
	}},
	{title: word("measurement"), detail: func(v *Verdict) string { return clip(v.shared().measurement) }, leaf: true,
		checks: []check.Name{check.Measurement}},
	{title: word("endorsement"), detail: endorsementDetail, leaf: true, optional: true, checks: []check.Name{
		check.Endorsement, check.EndorsementChain, check.EndorsementTime, check.EndorsementSignature, check.EndorsementIssuer,
		check.EndorsementFeed, check.EndorsementSVN, check.EndorsementReceipt,
	}},
	{title: word("registers"), detail: nothing, leaf: true, optional: true, checks: []check.Name{
		check.RuntimeRegisters, check.EventLog,
	}},
	{title: word("policy hash"), detail: func(v *Verdict) string { return clip(v.shared().hostData) }, leaf: true,
		checks: []check.Name{check.HostData, check.PolicyText}},
	{title: word("runtime data"), detail: bindingDetail, leaf: true, checks: []check.Name{
		check.Source, check.Nonce, check.RuntimeData, check.ReportData,
	}},
	{title: word("rules of the appraisal policy"), detail: nothing, leaf: true, optional: true, checks: []check.Name{check.Rules}},
}

func word(s string) func(*Verdict) string { return func(*Verdict) string { return s } }

func nothing(*Verdict) string { return "" }

// Render writes a verdict for people: the outcome, the chain from the root to the runtime data with a mark at each
// station, and every check that did not pass with its values and what to change. A station whose own checks passed is
// marked as passed only when everything above it passed too: what an unproven report says is not established. Text that comes from evidence can not
// bring control characters into the output. Color uses ANSI escapes.
func Render(w io.Writer, v *Verdict, color bool) error {
	var b bytes.Buffer
	p := painter{color: color}
	head := strings.ToUpper(string(v.Outcome))
	fmt.Fprintf(&b, "verdict       %s", p.outcome(v.Outcome, head))
	if v.Simulated {
		fmt.Fprintf(&b, "  %s", p.paint(yellow, "SIMULATED: says nothing about hardware"))
	}
	fmt.Fprintf(&b, "\ntime          %s", check.Stamp(v.Time))
	if !v.ValidFrom.IsZero() {
		fmt.Fprintf(&b, "  (certificates hold from %s to %s)", check.Stamp(v.ValidFrom), check.Stamp(v.ValidUntil))
	}
	b.WriteString("\n\n")
	drawPicture(&b, p, v)
	if bytes.Contains(b.Bytes(), []byte(markNone+" ")) {
		b.WriteString("\n" + markNone + " not established\n")
	}
	drawFailures(&b, p, v.Failures())
	_, err := w.Write(b.Bytes())
	return err
}

// drawPicture draws the stations that the verdict has.
func drawPicture(b *bytes.Buffer, p painter, v *Verdict) {
	drawn := slices.DeleteFunc(slices.Clone(picture), func(n node) bool { return n.optional && v.worst(n.checks) == "" })
	open, depth := false, 0
	for i, n := range drawn {
		branch := ""
		if depth > 0 {
			corner := "└─ "
			if n.leaf && i+1 < len(drawn) {
				corner = "├─ "
			}
			branch = strings.Repeat("   ", depth-1) + corner
		}
		result := v.worst(n.checks)
		if !n.leaf {
			depth++
		}
		mark := result
		if open && result == check.Pass {
			mark = ""
		}
		fmt.Fprintf(b, "%s%s %s", branch, p.mark(mark), n.title(v))
		if d := n.detail(v); d != "" {
			fmt.Fprintf(b, "  %s", clean(d))
		}
		b.WriteByte('\n')
		// A station of the trunk that did not pass leaves everything below it open.
		open = open || !n.leaf && result != check.Pass
	}
}

func drawFailures(b *bytes.Buffer, p painter, failures []check.Check) {
	for _, c := range failures {
		fmt.Fprintf(b, "\n%s %s\n", p.mark(c.Result), p.paint(bold, string(c.Code)))
		for _, line := range []struct{ name, text string }{
			{"required", c.Title}, {"expected", c.Expected}, {"actual", c.Actual}, {"fix", c.Fix},
		} {
			if line.text != "" {
				fmt.Fprintf(b, "    %-9s %s\n", line.name, clean(line.text))
			}
		}
	}
}

// worst returns the worst result among the checks of these names; empty when none was made.
func (v *Verdict) worst(names []check.Name) check.Result {
	rank := map[check.Result]int{check.Pass: 1, check.NotDecided: 2, check.Fail: 3}
	var worst check.Result
	for _, c := range v.Checks {
		for _, n := range names {
			if c.Name == n && rank[c.Result] > rank[worst] {
				worst = c.Result
			}
		}
	}
	return worst
}

func linkDetail(role string) func(*Verdict) string {
	return func(v *Verdict) string {
		for _, l := range v.Chain {
			if l.Role != role {
				continue
			}
			s := l.Label + ", key " + clip(l.SPKI)
			if l.Name != "" {
				s = fmt.Sprintf("%q, domain %s: %s", l.Name, v.Domain, s)
			}
			return s
		}
		return ""
	}
}

func keyDetail(v *Verdict) string {
	switch {
	case v.Report != nil && v.Report.Product != "":
		owner := "chip " + clip(v.Report.ChipID)
		if v.Report.Provider != "" {
			owner = "provider " + v.Report.Provider
		}
		return fmt.Sprintf("%s of %s, %s, TCB %s", v.Report.SigningKey, v.Report.Product, owner, v.Report.ReportedTCB)
	case v.Quote != nil && v.Quote.FMSPC != "":
		return fmt.Sprintf("PCK of model %s, machine %s", v.Quote.FMSPC, v.Quote.PPID)
	}
	return ""
}

func reportTitle(v *Verdict) string {
	if v.Quote != nil {
		return "quote"
	}
	return "report"
}

func reportDetail(v *Verdict) string {
	switch {
	case v.Report != nil:
		return fmt.Sprintf("version %d, VMPL %d, guest policy %s", v.Report.Version, v.Report.VMPL, v.Report.Policy)
	case v.Quote != nil:
		s := fmt.Sprintf("%s, version %d, attributes %s", v.Quote.TEE, v.Quote.Version, v.Quote.Attributes)
		if v.Quote.TCBStatus != "" {
			s += ", TCB " + v.Quote.TCBStatus
		}
		if n := len(v.Quote.Advisories); n > 0 {
			s += fmt.Sprintf(" (%d advisories)", n)
		}
		return s
	}
	return ""
}

func vmDetail(v *Verdict) string {
	if v.VM == nil {
		return ""
	}
	return "VM " + v.VM.UniqueID
}

func endorsementDetail(v *Verdict) string {
	if v.Endorsement == nil {
		return ""
	}
	return fmt.Sprintf("%s, security version %d, of %s", v.Endorsement.Feed, v.Endorsement.SVN, clip(v.Endorsement.Issuer))
}

// common is what the claims of all kinds of evidence have.
type common struct {
	measurement, hostData, reportData string
	BindingClaims
}

func (v *Verdict) shared() common {
	var c common
	switch {
	case v.Report != nil:
		c = common{v.Report.Measurement, v.Report.HostData, v.Report.ReportData, v.Report.BindingClaims}
	case v.Quote != nil:
		c = common{v.Quote.Measurement, v.Quote.HostData, v.Quote.ReportData, v.Quote.BindingClaims}
	}
	if v.VM != nil {
		c.reportData = v.VM.ExtraData
	}
	return c
}

func bindingDetail(v *Verdict) string {
	switch c := v.shared(); {
	case c.Source != "":
		return fmt.Sprintf("%d bytes, for %s, nonce %s", len(c.RuntimeData), c.Source, clip(c.Nonce))
	case c.reportData != "":
		return "report data " + clip(c.reportData)
	}
	return ""
}

// clip shortens a digest.
func clip(hex string) string {
	const most = 32
	if len(hex) <= most {
		return hex
	}
	return hex[:most] + "…"
}

// clean replaces what could steer a terminal.
func clean(s string) string {
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return '\uFFFD'
		}
		return r
	}, s)
}

// markNone marks what was not established.
const markNone = "·"

// The ANSI colours that are used.
const (
	red    = "\x1b[31m"
	green  = "\x1b[32m"
	yellow = "\x1b[33m"
	bold   = "\x1b[1m"
	reset  = "\x1b[0m"
)

type painter struct{ color bool }

func (p painter) paint(code, s string) string {
	if !p.color {
		return s
	}
	return code + s + reset
}

func (p painter) outcome(o Outcome, s string) string {
	switch o {
	case Accepted:
		return p.paint(green, s)
	case Undecided:
		return p.paint(yellow, s)
	}
	return p.paint(red, s)
}

func (p painter) mark(r check.Result) string {
	switch r {
	case check.Pass:
		return p.paint(green, "✓")
	case check.Fail:
		return p.paint(red, "✗")
	case check.NotDecided:
		return p.paint(yellow, "?")
	}
	return markNone
}
