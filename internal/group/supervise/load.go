// SPDX-License-Identifier: Apache-2.0

package supervise

import (
	"context"

	groupv1 "cofferdam.dev/api/group/v1"
)

// Load implements the service: the guest verifies the message, and its policy decides.
func (c *client) Load(ctx context.Context, r *groupv1.LoadRequest) (*groupv1.LoadResponse, error) {
	if r.GetTrustList() {
		resp, err := c.s.vm.Guest().LoadTrustList(ctx, r.GetMessage())
		if err != nil {
			return nil, c.s.explain(err)
		}
		return &groupv1.LoadResponse{Issuer: resp.GetIssuer(), Feed: resp.GetSubject(), Ledgers: resp.GetLedgers()}, nil
	}
	resp, err := c.s.vm.Guest().LoadFragment(ctx, r.GetMessage())
	if err != nil {
		return nil, c.s.explain(err)
	}
	return &groupv1.LoadResponse{Issuer: resp.GetIssuer(), Feed: resp.GetFeed()}, nil
}
