// SPDX-License-Identifier: Apache-2.0

package sandboxtest

import (
	"context"

	guestv1 "cofferdam.dev/api/guest/v1"
)

// The calls that groups of several containers need. The played guest takes them all; what it was given is for tests that
// look at the requests.

func (g *guest) ConfigureNetwork(ctx context.Context, _ *guestv1.ConfigureNetworkRequest) (*guestv1.ConfigureNetworkResponse, error) {
	return &guestv1.ConfigureNetworkResponse{}, g.ready(ctx, "ConfigureNetwork")
}

func (g *guest) FillVolume(ctx context.Context, _ *guestv1.FillVolumeRequest) (*guestv1.FillVolumeResponse, error) {
	return &guestv1.FillVolumeResponse{}, g.ready(ctx, "FillVolume")
}

func (g *guest) ShareVolume(ctx context.Context, _ *guestv1.ShareVolumeRequest) (*guestv1.ShareVolumeResponse, error) {
	err := g.ready(ctx, "ShareVolume")
	if err != nil {
		return nil, err
	}
	return nil, deny(guestv1.CodeFailed, "ShareVolume", "the played guest has no filesystem")
}

func (g *guest) Probe(ctx context.Context, _ *guestv1.ProbeRequest) (*guestv1.ProbeResponse, error) {
	return &guestv1.ProbeResponse{Success: true}, g.ready(ctx, "Probe")
}

func (g *guest) TerminationMessage(ctx context.Context, _ *guestv1.TerminationMessageRequest) (*guestv1.TerminationMessageResponse, error) {
	return &guestv1.TerminationMessageResponse{}, g.ready(ctx, "TerminationMessage")
}
