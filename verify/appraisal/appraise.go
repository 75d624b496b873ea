// SPDX-License-Identifier: Apache-2.0

package appraisal

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"cofferdam.dev/evidence"
	"cofferdam.dev/verify"
	"cofferdam.dev/verify/check"
)

// Appraiser appraises by one policy. It is safe for concurrent use.
type Appraiser struct {
	policy   *Policy
	rules    *rules
	verifier *verify.Verifier
}

// New returns an appraiser for a policy whose files were resolved. The policy must not be changed afterwards. The
// verifier may remember signatures; nil remembers none.
func New(ctx context.Context, p *Policy, v *verify.Verifier) (*Appraiser, error) {
	if err := p.Validate(); err != nil {
		return nil, err
	}
	for _, f := range p.files() {
		if len(f.names) > 0 {
			return nil, fmt.Errorf("appraisal policy: %s: files are named, but were not read", f.path)
		}
	}
	r, err := compileRules(ctx, p.Rules.Modules)
	if err != nil {
		return nil, fmt.Errorf("compiling the rules of an appraisal policy: %w", err)
	}
	if v == nil {
		v = &verify.Verifier{}
	}
	return &Appraiser{p, r, v}, nil
}

// Policy returns the policy. It must not be changed.
func (a *Appraiser) Policy() *Policy { return a.policy }

// Appraise judges evidence by the policy. It always returns a verdict.
func (a *Appraiser) Appraise(ctx context.Context, doc *evidence.Document, r Request) *verify.Verdict {
	rec := &check.Record{}
	if doc != nil {
		accepted := a.policy.accepts(doc.Type)
		rec.Require(accepted, check.EvidenceType, check.CodeEvidenceType, list(a.policy.Evidence), doc.Type)
		if !accepted {
			return &verify.Verdict{
				Schema: verify.Schema, Type: doc.Type, Outcome: verify.Refused, Time: r.Now.UTC(), Checks: rec.Checks(),
			}
		}
		doc = a.endorsed(doc)
	}
	var v *verify.Verdict
	if doc == nil {
		v = a.verifier.Appraise(ctx, nil, verify.Options{Now: r.Now})
	} else {
		v = a.verifier.Appraise(ctx, doc, a.policy.Options(doc.Type, r))
	}
	if least := int(a.policy.Binding.MinimumNonceSize); len(r.Nonce) > 0 && len(r.Nonce) < least {
		rec.Fail(check.Nonce, check.CodeNonceNotSet, fmt.Sprintf("a nonce of at least %d bytes", least), fmt.Sprintf("%d bytes are given", len(r.Nonce)))
	}
	a.judge(ctx, rec, v)
	conclude(rec, v)
	return v
}

// conclude adds checks to a verdict, which gets no better by them.
func conclude(rec *check.Record, v *verify.Verdict) {
	v.Checks = append(rec.Checks(), v.Checks...)
	for _, c := range rec.Checks() {
		switch {
		case c.Result == check.Fail:
			v.Outcome = verify.Refused
		case c.Result != check.Pass && v.Outcome == verify.Accepted:
			v.Outcome = verify.Undecided
		}
	}
}

// endorsed adds the policy's own endorsements to a copy of the document, as far as they have room.
func (a *Appraiser) endorsed(doc *evidence.Document) *evidence.Document {
	if doc.Type != evidence.TypeSEVSNP || a.policy.SNP.Endorsements == nil {
		return doc
	}
	d := *doc
	d.Endorsements = slices.Clone(doc.Endorsements)
	for _, e := range a.policy.SNP.Endorsements.Documents {
		if len(d.Endorsements) < evidence.MaxEndorsements && len(e) <= evidence.MaxEndorsementSize {
			d.Endorsements = append(d.Endorsements, e)
		}
	}
	return &d
}

// judge records what the rules deny. They see the verdict without themselves, and whatever they do it gets no better.
func (a *Appraiser) judge(ctx context.Context, rec *check.Record, v *verify.Verdict) {
	if a.rules == nil {
		return
	}
	const expected = "nothing that the policy's rules deny"
	denials, err := a.rules.evaluate(ctx, v)
	switch {
	case err != nil && ctx.Err() != nil:
		rec.Undecided(check.Rules, check.CodeCancelled, expected, ctx.Err().Error())
	case err != nil:
		rec.Fail(check.Rules, check.CodeRulesBroken, "rules that can be evaluated in "+maxRuleTime.String(), err.Error())
	case len(denials) == 0:
		rec.Pass(check.Rules, expected, "nothing")
	}
	for i, d := range denials {
		if i == maxDenials {
			rec.Fail(check.Rules, check.CodeRule, expected, fmt.Sprintf("and %d more", len(denials)-i))
			return
		}
		rec.Fail(check.Rules, d.code, expected, d.message)
	}
}

func list(types []EvidenceType) string {
	var s []string
	for _, t := range types {
		s = append(s, string(t))
	}
	return strings.Join(s, ", ")
}
