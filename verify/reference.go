// SPDX-License-Identifier: Apache-2.0

package verify

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"

	"cofferdam.dev/evidence"
	"cofferdam.dev/verify/check"
)

// references compares what was launched with what is trusted.
func (a *appraisal) references(ctx context.Context, s *subject, doc *evidence.Document) {
	got := hex.EncodeToString(s.hostData)
	if !s.judged {
		a.measurement(ctx, s, doc)
		a.hostData(s, got)
	}
	if len(doc.Policy) != 0 {
		sum := sha256.Sum256(doc.Policy)
		a.Require(s.has(sum), check.PolicyText, check.CodePolicyText, got, hex.EncodeToString(sum[:]))
	}
}

func (a *appraisal) hostData(s *subject, got string) {
	if len(a.opts.HostData) == 0 {
		a.Fail(check.HostData, check.CodeHostDataNotSet, "trusted host data, but none are given", got)
		return
	}
	var list [][]byte
	for _, h := range a.opts.HostData {
		list = append(list, h[:])
	}
	a.Require(slices.ContainsFunc(a.opts.HostData, s.has), check.HostData, check.CodeHostData, check.Hex(list), got)
}

// has reports whether the host data are the value, with zeros where the field is longer.
func (s *subject) has(value [32]byte) bool {
	rest, ok := bytes.CutPrefix(s.hostData, value[:])
	return ok && len(bytes.Trim(rest, "\x00")) == 0
}

// binding checks the report data, in the form of evidence.ReportData unless the options list report data of their own.
func (a *appraisal) binding(s *subject, doc *evidence.Document) {
	o := a.opts
	got := hex.EncodeToString(s.reportData)
	if len(o.ReportData) != 0 {
		ok := slices.ContainsFunc(o.ReportData, func(d []byte) bool { return len(d) > 0 && bytes.Equal(d, s.reportData) })
		a.Require(ok, check.ReportData, check.CodeReportData, check.Hex(o.ReportData), got)
		if o.Source == "" && len(o.Nonce) == 0 && o.RuntimeData == nil {
			if doc.Source != "" { // what the document says besides must be true, or a reader would take it for established
				a.bound(doc.Source, doc.Nonce, s, doc)
			}
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
	a.bound(o.Source, o.Nonce, s, doc)
}

// bound requires the report data to be made of source, nonce and the document's runtime data.
func (a *appraisal) bound(source evidence.Source, nonce []byte, s *subject, doc *evidence.Document) {
	data := evidence.ReportData(source, nonce, doc.RuntimeData)
	want := data[:]
	if doc.Type == evidence.TypeAzureVTPM {
		q := evidence.QualifyingData(source, nonce, doc.RuntimeData)
		want = q[:]
	}
	a.Require(bytes.Equal(want, s.reportData), check.ReportData, check.CodeReportData, hex.EncodeToString(want),
		hex.EncodeToString(s.reportData))
}

// short names bytes by their number and digest.
func short(b []byte) string { return fmt.Sprintf("%d bytes with SHA-256 %x", len(b), sha256.Sum256(b)) }
