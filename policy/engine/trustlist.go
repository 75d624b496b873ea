// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"context"
	"slices"
)

// TrustList is a signed list of ledgers and their keys whose signature, chain and issuer have been verified.
type TrustList struct {
	Issuer  string // did:x509:…
	Subject string
	SVN     int64
	Ledgers []string // that it names keys of
}

// LoadTrustList asks whether receipts that are signed with a trust list's keys may count, and returns the ledgers for
// which the policy lets them. The caller keeps the keys: see Receipt.
func (e *Engine) LoadTrustList(ctx context.Context, l TrustList) (Decision, []string, error) {
	tx, err := e.Begin(ctx)
	if err != nil {
		return denied(PointLoadTrustList, "no decision: "+err.Error()), nil, err
	}
	defer tx.Rollback()
	d, ledgers, err := tx.LoadTrustList(ctx, l)
	if err == nil {
		tx.Commit()
	}
	return d, ledgers, err
}

// LoadTrustList is Engine.LoadTrustList within the unit.
func (t *Tx) LoadTrustList(ctx context.Context, l TrustList) (Decision, []string, error) {
	d, said, err := t.answer(ctx, PointLoadTrustList, map[string]any{
		"issuer": l.Issuer, "subject": l.Subject, "svn": l.SVN, "ledgers": list(l.Ledgers),
	}, true)
	if err != nil || !d.Allowed {
		return d, nil, err
	}
	ledgers := keep(slices.Clone(l.Ledgers), orEmpty(member(said, "allowed_ledgers")))
	if len(ledgers) == 0 {
		return denied(PointLoadTrustList, "the policy's answer allows none of the ledgers"), nil, nil
	}
	return d, ledgers, nil
}
