// SPDX-License-Identifier: Apache-2.0

package verify

import (
	"bytes"
	"context"
	"encoding/hex"
	"fmt"
	"slices"

	"cofferdam.dev/evidence"
	"cofferdam.dev/verify/check"
	"cofferdam.dev/verify/uvm"
)

// measurement compares the launch measurement with the trusted ones, or with what a trusted publisher endorses.
func (a *appraisal) measurement(ctx context.Context, s *subject, doc *evidence.Document) {
	got := hex.EncodeToString(s.measurement)
	listed := slices.ContainsFunc(a.opts.Measurements, func(m []byte) bool { return bytes.Equal(m, s.measurement) })
	endorsable := s.endorsable && !a.opts.UVM.IsZero()
	switch {
	case listed:
		a.Pass(check.Measurement, check.Hex(a.opts.Measurements), got)
	case endorsable && len(doc.Endorsements) > 0:
		a.endorsement(ctx, s, doc)
	case endorsable:
		a.Undecided(check.Measurement, check.CodeEndorsementMissing, "an endorsement of the measurement", "none came with the evidence")
	case s.identified && len(a.opts.Measurements) == 0:
		a.Pass(check.Measurement, "any: the enclave's signer is pinned", got)
	case len(a.opts.Measurements) == 0:
		a.Fail(check.Measurement, check.CodeMeasurementNotSet, "a trusted measurement, but none is given", got)
	default:
		a.Fail(check.Measurement, check.CodeMeasurement, check.Hex(a.opts.Measurements), got)
	}
}

// endorsement looks for an endorsement that counts. When none does, the checks of the one that comes closest are
// recorded: evidence may carry endorsements for several relying parties.
func (a *appraisal) endorsement(ctx context.Context, s *subject, doc *evidence.Document) {
	var best *check.Record
	var bestResult uvm.Result
	fewest := 0
	for _, e := range doc.Endorsements {
		rec := &check.Record{}
		res := uvm.Appraise(ctx, rec, uvm.Input{Endorsement: e, Measurement: s.measurement, Now: a.opts.Now}, a.opts.UVM)
		n := 0
		for _, c := range rec.Checks() {
			if c.Result != check.Pass {
				n++
			}
		}
		if best == nil || n < fewest {
			best, bestResult, fewest = rec, res, n
		}
	}
	a.mandatory = append(a.mandatory, uvm.Mandatory()...)
	a.Adopt(best)
	a.v.Endorsement = endorsementClaims(&bestResult)
	if from := bestResult.From.UTC(); from.After(a.v.ValidFrom) && !a.v.ValidFrom.IsZero() {
		a.v.ValidFrom = from
	}
}

// unused refuses a part of a document that nobody judges: whoever reads it would take it for established.
func (a *appraisal) unused(doc *evidence.Document) {
	if len(doc.EventLog) != 0 && doc.Type != evidence.TypeTDX {
		a.Fail(check.Format, check.CodeEvidenceMalformed, "no event log with evidence of type "+doc.Type,
			fmt.Sprintf("%d bytes", len(doc.EventLog)))
	}
	if len(doc.Endorsements) != 0 && doc.Type != evidence.TypeSEVSNP {
		a.Fail(check.Format, check.CodeEvidenceMalformed, "no endorsements with evidence of type "+doc.Type,
			fmt.Sprint(len(doc.Endorsements)))
	}
}
