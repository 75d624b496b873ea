// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
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
		d := denial(guestv1.CodeFragmentInvalid, string(point), strings.ToValidUTF8(clip(err.Error(), maxReason), "?"))
		d.Field = "message"
		return nil, d
	}
	err = s.decide(ctx, point, nil, func(ctx context.Context, u Unit) (engine.Decision, error) {
		// Receipts are not verified, so none is passed on: a policy that requires one denies, and says which.
		return u.LoadFragment(ctx, engine.Fragment{Issuer: f.Issuer, Feed: f.Feed, SVN: f.SVN, Text: f.Text})
	}, func(context.Context, engine.Decision) error { return nil })
	if err != nil {
		return nil, err
	}
	s.fragments++
	return &guestv1.LoadFragmentResponse{Issuer: f.Issuer, Feed: f.Feed}, nil
}
