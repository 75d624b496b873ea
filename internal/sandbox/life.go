// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"context"
	"net"

	guestv1 "cofferdam.dev/api/guest/v1"
)

// ConfigureNetwork says how the group's containers find others. It comes before the first container.
func (g *Guest) ConfigureNetwork(ctx context.Context, req *guestv1.ConfigureNetworkRequest) error {
	_, err := g.rpc.ConfigureNetwork(ctx, req)
	if err != nil {
		return failed("configuring the network", err)
	}
	return nil
}

// FillVolume puts files into the volume that source names. They are at most 1 MiB together.
func (g *Guest) FillVolume(ctx context.Context, source string, files ...*guestv1.VolumeFile) error {
	_, err := g.rpc.FillVolume(ctx, &guestv1.FillVolumeRequest{Source: source, Files: files})
	if err != nil {
		return failed("filling the volume", err)
	}
	return nil
}

// ShareVolume makes the volume that source names a directory that the caller serves on the returned stream.
func (g *Guest) ShareVolume(ctx context.Context, source string, readOnly bool) (net.Conn, error) {
	resp, err := g.rpc.ShareVolume(ctx, &guestv1.ShareVolumeRequest{Source: source, ReadOnly: readOnly})
	if err != nil {
		return nil, failed("sharing the volume", err)
	}
	return g.ch.OpenStream(resp.GetToken())
}

// Probe asks whether a server of the group answers.
func (g *Guest) Probe(ctx context.Context, req *guestv1.ProbeRequest) (*guestv1.ProbeResponse, error) {
	resp, err := g.rpc.Probe(ctx, req)
	if err != nil {
		return nil, failed("probing", err)
	}
	return resp, nil
}

// maxTerminationMessage is what a guest of ours sends at most, in bytes.
const maxTerminationMessage = 4096

// TerminationMessage returns the end of what an ended container left as its message.
func (g *Guest) TerminationMessage(ctx context.Context, id string) ([]byte, error) {
	resp, err := g.rpc.TerminationMessage(ctx, &guestv1.TerminationMessageRequest{ContainerId: id})
	if err != nil {
		return nil, failed("asking for the termination message", err)
	}
	m := resp.GetMessage()
	return m[max(0, len(m)-maxTerminationMessage):], nil
}
