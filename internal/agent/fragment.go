// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"fmt"
	"slices"
	"strings"

	guestv1 "cofferdam.dev/api/guest/v1"
	"cofferdam.dev/policy/engine"
	"cofferdam.dev/policy/fragment"
)

// maxFragments bounds how often fragments are loaded: each adds to what every later decision looks at.
const maxFragments = 64

// LoadFragment implements guestv1.GuestService. The signature and the signer's chain are verified here; whether the
// signer, the feed and the version count is for the policy, and until it says yes the text is bytes. The guest's clock
// is the host's to set and is not asked: the chain is held against the time at which the signer says to have signed,
// and what must no longer be loaded is for the policy's minimum version.
func (s *Service) LoadFragment(ctx context.Context, r *guestv1.LoadFragmentRequest) (*guestv1.LoadFragmentResponse, error) {
	point := engine.PointLoadFragment
	c := newCheck(string(point))
	c.size("message", len(r.GetMessage()), 1, fragment.MaxSize)
	if c.err() != nil {
		return nil, c.err()
	}
	err := s.enter(string(point))
	if err != nil {
		return nil, err
	}
	defer s.mu.Unlock()
	if s.fragments >= maxFragments {
		return nil, denial(guestv1.CodeTooMany, string(point), "no further fragments can be loaded")
	}
	f, err := fragment.Open(r.GetMessage())
	if err != nil {
		return nil, invalid(guestv1.CodeFragmentInvalid, point, err)
	}
	var receipts []engine.Receipt
	for _, v := range s.ledgers.Verified(f) {
		receipts = append(receipts, engine.Receipt{Issuer: v.Ledger, TTLSubjects: v.Subjects})
	}
	err = s.decide(ctx, point, nil, func(ctx context.Context, u Unit) (engine.Decision, error) {
		return u.LoadFragment(ctx, engine.Fragment{Issuer: f.Issuer, Feed: f.Feed, SVN: f.SVN, Receipts: receipts, Text: f.Text})
	}, func(context.Context, engine.Decision) error { return nil })
	if err != nil {
		return nil, withReceipts(err, len(f.Receipts), len(receipts))
	}
	s.fragments++
	return &guestv1.LoadFragmentResponse{Issuer: f.Issuer, Feed: f.Feed}, nil
}

// withReceipts says in the denial for want of a receipt how many there were: they may be there and not count.
func withReceipts(err error, have, verified int) error {
	d := guestv1.DenialFrom(err)
	missing := func(reason string) bool { return strings.HasPrefix(reason, "missing receipt from ") }
	if d != nil && slices.ContainsFunc(d.GetReasons(), missing) {
		d.Field, d.Expected = "message", "the receipts that the policy requires, of ledgers whose keys a loaded trust list names"
		d.Actual = fmt.Sprintf("%d, of which %d verify", have, verified)
		return d
	}
	return err
}

// maxTrustLists bounds how often trust lists are loaded.
const maxTrustLists = 64

// LoadTrustList implements guestv1.GuestService. As with fragments, signature and chain are verified here, the guest's
// clock is not asked, and whether the signer may name ledgers, and which, is for the policy.
func (s *Service) LoadTrustList(ctx context.Context, r *guestv1.LoadTrustListRequest) (*guestv1.LoadTrustListResponse, error) {
	point := engine.PointLoadTrustList
	c := newCheck(string(point))
	c.size("message", len(r.GetMessage()), 1, fragment.MaxTrustListSize)
	if c.err() != nil {
		return nil, c.err()
	}
	err := s.enter(string(point))
	if err != nil {
		return nil, err
	}
	defer s.mu.Unlock()
	if s.trustLists >= maxTrustLists {
		return nil, denial(guestv1.CodeTooMany, string(point), "no further trust lists can be loaded")
	}
	l, err := fragment.OpenTrustList(r.GetMessage())
	if err != nil {
		return nil, invalid(guestv1.CodeTrustListInvalid, point, err)
	}
	var ledgers []string
	err = s.decide(ctx, point, nil, func(ctx context.Context, u Unit) (d engine.Decision, err error) {
		d, ledgers, err = u.LoadTrustList(ctx, engine.TrustList{Issuer: l.Issuer, Subject: l.Subject, SVN: l.SVN, Ledgers: l.Names()})
		return d, err
	}, func(context.Context, engine.Decision) error {
		s.ledgers = s.ledgers.With(l, ledgers)
		return nil
	})
	if err != nil {
		return nil, err
	}
	s.trustLists++
	return &guestv1.LoadTrustListResponse{Issuer: l.Issuer, Subject: l.Subject, Ledgers: ledgers}, nil
}

// invalid is the denial of a message that does not verify.
func invalid(code string, point engine.Point, err error) error {
	d := denial(code, string(point), strings.ToValidUTF8(clip(err.Error(), maxReason), "?"))
	d.Field = "message"
	return d
}
