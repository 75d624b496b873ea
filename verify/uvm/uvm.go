// SPDX-License-Identifier: Apache-2.0

package uvm

import (
	"bytes"
	"context"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"time"

	"cofferdam.dev/evidence/didx509"
	"cofferdam.dev/evidence/receipt"
	"cofferdam.dev/evidence/uvm"
	"cofferdam.dev/verify/check"
)

// Input is what an appraisal is made of.
type Input struct {
	// Endorsement is the signed endorsement, as it was delivered.
	Endorsement []byte
	// Measurement is the launch measurement that a report states, 48 bytes.
	Measurement []byte
	// Now is the time of appraisal: an endorsement of a later time is not used. Zero refuses.
	Now time.Time
}

// Result is what an appraisal established. It is worth something only when all checks passed.
type Result struct {
	// Endorsement is the parsed endorsement, or nil when there is none.
	Endorsement *uvm.Endorsement
	// From is the time of signing, before which the endorsement would not have been used. Nothing about an endorsement
	// expires: its SVN is what grows too old.
	From time.Time
	// Ledger is the ledger whose receipt counted, or empty when none was asked for.
	Ledger string
}

// Mandatory returns the checks without which no endorsement counts.
func Mandatory() []check.Name { return slices.Clone(mandatory) }

var mandatory = []check.Name{
	check.Endorsement, check.EndorsementChain, check.EndorsementTime, check.EndorsementSignature, check.EndorsementIssuer,
	check.EndorsementFeed, check.EndorsementSVN, check.EndorsementReceipt, check.Measurement,
}

// appraisal is one run of Appraise.
type appraisal struct {
	*check.Record

	in  *Input
	p   *Policy
	e   *uvm.Endorsement
	res *Result
}

// Appraise judges an endorsement and records every check. The last is whether it endorses the launch measurement.
func Appraise(ctx context.Context, rec *check.Record, in Input, p Policy) Result {
	a := &appraisal{Record: rec, in: &in, p: &p, res: &Result{}}
	if ctx.Err() != nil {
		a.Undecided(check.Endorsement, check.CodeCancelled, "time to appraise", ctx.Err().Error())
		return *a.res
	}
	e, err := uvm.Parse(in.Endorsement)
	if err != nil {
		a.Fail(check.Endorsement, check.CodeEndorsementMalformed, "an endorsement", err.Error())
		return *a.res
	}
	a.Pass(check.Endorsement, "an endorsement", fmt.Sprintf("of %d bytes", len(in.Endorsement)))
	a.e, a.res.Endorsement, a.res.From = e, e, e.IssuedAt
	a.signature()
	a.time()
	a.pins()
	a.receipt()
	a.measurement()
	return *a.res
}

// signature checks that the issuer's identifier names the signer, and that this signer signed. The certificates' periods
// are the next check's.
func (a *appraisal) signature() {
	key, err := didx509.Resolve(a.e.Issuer, a.e.Chain, time.Time{})
	if err != nil {
		a.Fail(check.EndorsementChain, check.CodeEndorsementUnresolved, "certificates that "+show(a.e.Issuer)+" resolves to", err.Error())
		a.Undecided(check.EndorsementSignature, check.CodeSignatureNotChecked, "a signature by the issuer", "no key is known to be the issuer's")
		return
	}
	leaf := a.e.Chain[0]
	a.Pass(check.EndorsementChain, "certificates that "+show(a.e.Issuer)+" resolves to", leaf.Subject.String())
	expected := fmt.Sprintf("%s signature by %s", a.e.Message.Header.Algorithm, leaf.Subject)
	if err = a.e.Message.VerifySignature(key); err != nil {
		a.Fail(check.EndorsementSignature, check.CodeEndorsementSignature, expected, err.Error())
		return
	}
	a.Pass(check.EndorsementSignature, expected, "valid")
}

// time requires every certificate to have been valid when the signer says to have signed, and that time to have come.
func (a *appraisal) time() {
	if len(a.e.Chain) == 0 {
		a.Fail(check.EndorsementTime, check.CodeEndorsementTime, "certificates", "none")
		return
	}
	leaf, at := a.e.Chain[0], a.e.IssuedAt
	expected := fmt.Sprintf("%s to %s", check.Stamp(leaf.NotBefore), check.Stamp(leaf.NotAfter))
	switch {
	case at.IsZero():
		a.Fail(check.EndorsementTime, check.CodeEndorsementTime, expected, "the endorsement does not say when it was signed")
	case at.Before(leaf.NotBefore) || at.After(leaf.NotAfter):
		a.Fail(check.EndorsementTime, check.CodeEndorsementTime, expected, check.Stamp(at))
	case didx509.VerifyChain(a.e.Chain, at) != nil:
		a.Fail(check.EndorsementTime, check.CodeEndorsementTime, "certificates that are all valid at "+check.Stamp(at),
			didx509.VerifyChain(a.e.Chain, at).Error())
	case a.in.Now.IsZero():
		a.Fail(check.EndorsementTime, check.CodeTimeNotSet, "a time of appraisal", "none")
	case at.After(a.in.Now):
		a.Undecided(check.EndorsementTime, check.CodeEndorsementNotYet, "signed before "+check.Stamp(a.in.Now), check.Stamp(at))
	default:
		a.Pass(check.EndorsementTime, expected, check.Stamp(at))
	}
}

// pins compares issuer, series and version with the trusted ones.
func (a *appraisal) pins() {
	if len(a.p.Issuers) == 0 {
		a.Fail(check.EndorsementIssuer, check.CodeEndorsementIssuerNotSet, "a trusted issuer, but none is given", show(a.e.Issuer))
	} else {
		a.Require(slices.Contains(a.p.Issuers, a.e.Issuer), check.EndorsementIssuer, check.CodeEndorsementIssuer,
			strings.Join(a.p.Issuers, ", "), show(a.e.Issuer))
	}
	if a.p.Feed == "" {
		a.Fail(check.EndorsementFeed, check.CodeEndorsementFeedNotSet, "a trusted series, but none is given", show(a.e.Feed))
	} else {
		a.Require(a.e.Feed == a.p.Feed, check.EndorsementFeed, check.CodeEndorsementFeed, a.p.Feed, show(a.e.Feed))
	}
	got := "not stated"
	if a.e.SVN != nil {
		got = fmt.Sprint(*a.e.SVN)
	}
	if a.p.MinimumSVN == 0 {
		a.Fail(check.EndorsementSVN, check.CodeEndorsementSVNNotSet, "a lowest version of at least 1, but none is given", got)
	} else {
		a.Require(a.e.SVN != nil && *a.e.SVN >= a.p.MinimumSVN, check.EndorsementSVN, check.CodeEndorsementSVN,
			fmt.Sprintf("at least %d", a.p.MinimumSVN), got)
	}
}

// receipt asks for one good receipt of a trusted ledger. Others do not matter: anybody can add receipts to a message.
func (a *appraisal) receipt() {
	const expected = "a receipt of a trusted ledger"
	if !a.p.RequireReceipt {
		a.Pass(check.EndorsementReceipt, "no receipt is asked for", fmt.Sprintf("%d receipts", len(a.e.Message.Receipts)))
		return
	}
	if len(a.e.Message.Receipts) == 0 {
		a.Undecided(check.EndorsementReceipt, check.CodeReceiptMissing, expected, "none")
		return
	}
	code, actual := check.CodeLedgerNotTrusted, ""
	for i, raw := range a.e.Message.Receipts {
		r, err := receipt.Parse(raw)
		if err != nil {
			code, actual = worse(code, check.CodeReceiptMalformed), actual+fmt.Sprintf("receipt %d: %v; ", i, err)
			continue
		}
		keys, ok := a.p.Ledgers[r.Ledger]
		if !ok {
			actual += fmt.Sprintf("receipt %d is of %s; ", i, show(r.Ledger))
			continue
		}
		if err = r.Verify(a.in.Endorsement, keys); err != nil {
			code, actual = check.CodeReceiptInvalid, actual+fmt.Sprintf("receipt %d: %v; ", i, err)
			continue
		}
		a.res.Ledger = r.Ledger
		a.Pass(check.EndorsementReceipt, expected, fmt.Sprintf("transaction %s of %s", show(r.TransactionID), show(r.Ledger)))
		return
	}
	a.Fail(check.EndorsementReceipt, code, expected, strings.TrimSuffix(actual, "; "))
}

// worse keeps the code that says most: a receipt of a trusted ledger that does not hold says more than one that can not be
// read, and that more than one of another ledger.
func worse(a, b check.Code) check.Code {
	if a == check.CodeReceiptInvalid {
		return a
	}
	return b
}

func (a *appraisal) measurement() {
	got := hex.EncodeToString(a.in.Measurement)
	if len(a.e.Measurement) == 0 {
		a.Fail(check.Measurement, check.CodeEndorsementEmpty, "an endorsed launch measurement", "the endorsement has none")
		return
	}
	a.Require(bytes.Equal(a.e.Measurement, a.in.Measurement), check.Measurement, check.CodeMeasurement,
		hex.EncodeToString(a.e.Measurement)+", as endorsed", got)
}

// show bounds and quotes what an endorsement says.
func show(s string) string {
	const most = 300
	if len(s) > most {
		return fmt.Sprintf("%q…", s[:most])
	}
	return fmt.Sprintf("%q", s)
}
