// SPDX-License-Identifier: Apache-2.0

package verify

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"unicode"

	"cofferdam.dev/verify/check"
)

// node is one station of the picture that Render draws: a line and the checks that decide its mark.
type node struct {
	title  string
	depth  int
	detail func(*Verdict) string
	checks []check.Name
}

var picture = []node{
	{"root", 0, linkDetail("root"), []check.Name{check.TrustAnchor}},
	{"intermediate", 1, linkDetail("intermediate"), []check.Name{check.Chain, check.Profile}},
	{"chip key", 2, chipDetail, []check.Name{check.ChipCertificate, check.Validity, check.ChipTCB, check.ChipID, check.Product}},
	{"report", 3, reportDetail, []check.Name{check.Format, check.Signature, check.Signer, check.VMPL, check.GuestPolicy,
		check.Debug, check.Migration, check.Platform, check.TCBOrder, check.TCBCommitted, check.TCBFloor}},
	{"measurement", 4, claim(func(r *ReportClaims) string { return clip(r.Measurement) }), []check.Name{check.Measurement}},
	{"policy hash", 4, claim(func(r *ReportClaims) string { return clip(r.HostData) }), []check.Name{check.HostData,
		check.PolicyText}},
	{"runtime data", 4, bindingDetail, []check.Name{check.Source, check.Nonce, check.RuntimeData, check.ReportData}},
}

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
	fmt.Fprintf(&b, "\ntime          %s", stamp(v.Time))
	if !v.ValidFrom.IsZero() {
		fmt.Fprintf(&b, "  (certificates hold from %s to %s)", stamp(v.ValidFrom), stamp(v.ValidUntil))
	}
	b.WriteString("\n\n")
	open := false
	for i, n := range picture {
		open = drawNode(&b, p, v, i, n, open)
	}
	if bytes.Contains(b.Bytes(), []byte(markNone+" ")) {
		b.WriteString("\n" + markNone + " not established\n")
	}
	drawFailures(&b, p, v.Failures())
	_, err := w.Write(b.Bytes())
	return err
}

// maxTrunk is the depth of the report, on which everything deeper hangs.
const maxTrunk = 3

// drawNode draws one station. open says that a station above did not pass; the result says so for the stations below.
func drawNode(b *bytes.Buffer, p painter, v *Verdict, i int, n node, open bool) bool {
	branch := ""
	if n.depth > 0 {
		corner := "└─ "
		if i+1 < len(picture) && picture[i+1].depth == n.depth {
			corner = "├─ "
		}
		branch = strings.Repeat("   ", n.depth-1) + corner
	}
	result := v.worst(n.checks)
	if open && result == check.Pass {
		result = ""
	}
	mark := p.mark(result)
	fmt.Fprintf(b, "%s%s %s", branch, mark, n.title)
	if d := n.detail(v); d != "" {
		fmt.Fprintf(b, "  %s", clean(d))
	}
	b.WriteByte('\n')
	return open || n.depth <= maxTrunk && result != check.Pass
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

func chipDetail(v *Verdict) string {
	if v.Report == nil || v.Report.Product == "" {
		return ""
	}
	return fmt.Sprintf("%s of %s, chip %s, TCB %s", v.Report.SigningKey, v.Report.Product, clip(v.Report.ChipID),
		v.Report.ReportedTCB)
}

func reportDetail(v *Verdict) string {
	if v.Report == nil {
		return ""
	}
	return fmt.Sprintf("version %d, VMPL %d, guest policy %s", v.Report.Version, v.Report.VMPL, v.Report.Policy)
}

func claim(f func(*ReportClaims) string) func(*Verdict) string {
	return func(v *Verdict) string {
		if v.Report == nil {
			return ""
		}
		return f(v.Report)
	}
}

func bindingDetail(v *Verdict) string {
	switch r := v.Report; {
	case r == nil:
		return ""
	case r.Source == "":
		return "report data " + clip(r.ReportData)
	default:
		return fmt.Sprintf("%d bytes, for %s, nonce %s", len(r.RuntimeData), r.Source, clip(r.Nonce))
	}
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
