// SPDX-License-Identifier: Apache-2.0

package supervise

import (
	"context"
	"fmt"

	groupv1 "cofferdam.dev/api/group/v1"
	"cofferdam.dev/evidence"
	"cofferdam.dev/evidence/snp"
)

// Attest implements the service: the guest's report, with the certificates that the platform has for it and the policy
// text. Nothing is checked here; whoever appraises the document is somebody else.
func (c *client) Attest(ctx context.Context, r *groupv1.AttestRequest) (*groupv1.AttestResponse, error) {
	resp, err := c.s.vm.Guest().Evidence(ctx, r.GetNonce(), r.GetRuntimeData())
	if err != nil {
		return nil, c.s.explain(err)
	}
	d := &evidence.Document{
		Type: resp.GetType(), Report: resp.GetReport(), Source: evidence.SourceHost,
		Nonce: r.GetNonce(), RuntimeData: r.GetRuntimeData(), Policy: c.s.plan.Policy,
	}
	if c.s.sim != nil {
		d.Certificates, err = c.s.sim.Certificates()
	} else {
		d.Certificates, err = snp.ChainCertificates(resp.GetCertificates())
	}
	if err != nil {
		return nil, fmt.Errorf("getting the platform's certificates: %w", err)
	}
	data, err := d.Marshal()
	if err != nil {
		return nil, fmt.Errorf("making the evidence document: %w", err)
	}
	return &groupv1.AttestResponse{Evidence: data}, nil
}
