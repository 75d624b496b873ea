// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"context"
	"fmt"
	"net"

	guestv1 "cofferdam.dev/api/guest/v1"
	"cofferdam.dev/internal/channel"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// Protocol is the version of the guest protocol.
const Protocol = 1

// Guest is the client of a guest's agent. A refusal is a *guestv1.Denial in the error's chain.
type Guest struct {
	ch  *channel.Client
	rpc guestv1.GuestService
}

// NewGuest is the client over a channel that the caller owns.
func NewGuest(ch *channel.Client) *Guest {
	return &Guest{ch: ch, rpc: guestv1.NewGuestClient(ch.RPC())}
}

// failed names what was asked. A denial replaces the status that carried it.
func failed(doing string, err error) error {
	d := guestv1.DenialFrom(err)
	if d != nil {
		return fmt.Errorf("%s: %w", doing, d)
	}
	s, ok := status.FromError(err)
	if ok && s.Code() != codes.DeadlineExceeded && s.Code() != codes.Canceled {
		return fmt.Errorf("%s: the guest failed: %s", doing, s.Message())
	}
	return fmt.Errorf("%s: %w", doing, err)
}

// Hello asks who answers.
func (g *Guest) Hello(ctx context.Context) (*guestv1.HelloResponse, error) {
	resp, err := g.rpc.Hello(ctx, &guestv1.HelloRequest{})
	if err != nil {
		return nil, failed("greeting the guest", err)
	}
	return resp, nil
}

// SetPolicy hands over the policy text.
func (g *Guest) SetPolicy(ctx context.Context, text []byte) error {
	_, err := g.rpc.SetPolicy(ctx, &guestv1.SetPolicyRequest{Policy: text})
	if err != nil {
		return failed("setting the policy", err)
	}
	return nil
}

// LoadFragment hands over a signed policy fragment.
func (g *Guest) LoadFragment(ctx context.Context, message []byte) (*guestv1.LoadFragmentResponse, error) {
	resp, err := g.rpc.LoadFragment(ctx, &guestv1.LoadFragmentRequest{Message: message})
	if err != nil {
		return nil, failed("loading the fragment", err)
	}
	return resp, nil
}

// LoadTrustList hands over a signed list of ledgers, whose receipts then count for fragments loaded later.
func (g *Guest) LoadTrustList(ctx context.Context, message []byte) (*guestv1.LoadTrustListResponse, error) {
	resp, err := g.rpc.LoadTrustList(ctx, &guestv1.LoadTrustListRequest{Message: message})
	if err != nil {
		return nil, failed("loading the trust list", err)
	}
	return resp, nil
}

// Evidence asks for a report over nonce and runtimeData.
func (g *Guest) Evidence(ctx context.Context, nonce, runtimeData []byte) (*guestv1.EvidenceResponse, error) {
	resp, err := g.rpc.Evidence(ctx, &guestv1.EvidenceRequest{Nonce: nonce, RuntimeData: runtimeData})
	if err != nil {
		return nil, failed("asking for evidence", err)
	}
	return resp, nil
}

// Properties asks for the containers' use of resources.
func (g *Guest) Properties(ctx context.Context) (*guestv1.PropertiesResponse, error) {
	resp, err := g.rpc.Properties(ctx, &guestv1.PropertiesRequest{})
	if err != nil {
		return nil, failed("asking for properties", err)
	}
	return resp, nil
}

// PowerOff asks for the machine's end in order.
func (g *Guest) PowerOff(ctx context.Context) error {
	_, err := g.rpc.PowerOff(ctx, &guestv1.PowerOffRequest{})
	if err != nil {
		return failed("powering off", err)
	}
	return nil
}

// ShutdownContainer kills what is left of a container.
func (g *Guest) ShutdownContainer(ctx context.Context, id string) error {
	_, err := g.rpc.ShutdownContainer(ctx, &guestv1.ShutdownContainerRequest{ContainerId: id})
	if err != nil {
		return failed("shutting the container down", err)
	}
	return nil
}

// Layer is one layer to mount.
type Layer struct {
	Serial     string
	Root       [32]byte
	DataBlocks uint64
	Target     string
}

// Root is a container's root filesystem: layers that this container is the first to use, and all of its layers.
type Root struct {
	// Mount are the layers to mount first, in order.
	Mount []Layer
	// Targets are where the container's layers are mounted, base first.
	Targets []string
	// Scratch is the serial of the scratch disk, empty for a writable layer in memory.
	Scratch string
}

// containerDir is where a container's writable layer and root filesystem are in the guest.
func containerDir(id string) string { return "/run/gcs/c/" + id }

// MountRoot mounts what the container's root filesystem is made of, and then that.
func (g *Guest) MountRoot(ctx context.Context, id string, root Root) error {
	for _, l := range root.Mount {
		_, err := g.rpc.MountLayer(ctx, &guestv1.MountLayerRequest{
			Serial: l.Serial, RootHash: l.Root[:], DataBlocks: l.DataBlocks, Target: l.Target,
		})
		if err != nil {
			return failed(fmt.Sprintf("mounting layer %x", l.Root), err)
		}
	}
	if root.Scratch != "" {
		err := g.MountScratch(ctx, id, root.Scratch)
		if err != nil {
			return err
		}
	}
	return g.MountOverlay(ctx, id, root)
}

// GroupScratch stands for the group instead of a container in MountScratch.
const GroupScratch = "sandbox"

// MountScratch mounts the scratch disk of a container, or of the group.
func (g *Guest) MountScratch(ctx context.Context, id, serial string) error {
	_, err := g.rpc.MountScratch(ctx, &guestv1.MountScratchRequest{Serial: serial, Target: containerDir(id)})
	if err != nil {
		return failed("mounting the scratch disk", err)
	}
	return nil
}

// UnmountScratch undoes MountScratch. What was on the disk is lost with its key.
func (g *Guest) UnmountScratch(ctx context.Context, id string) error {
	_, err := g.rpc.UnmountScratch(ctx, &guestv1.UnmountScratchRequest{Target: containerDir(id)})
	if err != nil {
		return failed("unmounting the scratch disk", err)
	}
	return nil
}

// MountOverlay makes a container's root filesystem of layers, and perhaps of a scratch disk, that are mounted.
func (g *Guest) MountOverlay(ctx context.Context, id string, root Root) error {
	overlay := &guestv1.MountOverlayRequest{ContainerId: id, Target: containerDir(id) + "/rootfs"}
	for i := len(root.Targets) - 1; i >= 0; i-- { // top first
		overlay.LayerTargets = append(overlay.LayerTargets, root.Targets[i])
	}
	if root.Scratch != "" {
		overlay.ScratchTarget = containerDir(id)
	}
	_, err := g.rpc.MountOverlay(ctx, overlay)
	if err != nil {
		return failed("mounting the root filesystem", err)
	}
	return nil
}

// UnmountOverlay undoes MountOverlay, once the container was shut down.
func (g *Guest) UnmountOverlay(ctx context.Context, id string) error {
	_, err := g.rpc.UnmountOverlay(ctx, &guestv1.UnmountOverlayRequest{Target: containerDir(id) + "/rootfs"})
	if err != nil {
		return failed("unmounting the root filesystem", err)
	}
	return nil
}

// Process is a process in a guest and its standard streams. A stream that was not granted is nil.
type Process struct {
	g                     *Guest
	ContainerID, ExecID   string
	Stdin, Stdout, Stderr net.Conn
	// Env is what the policy let through of the environment that was asked for, for a container's first process.
	Env []string
}

// CreateContainer prepares a container and opens the standard streams of its init process.
func (g *Guest) CreateContainer(ctx context.Context, req *guestv1.CreateContainerRequest) (*Process, error) {
	resp, err := g.rpc.CreateContainer(ctx, req)
	if err != nil {
		return nil, failed("creating the container", err)
	}
	p := &Process{g: g, ContainerID: req.GetContainerId(), Env: resp.GetEnv()}
	return p, p.open(resp.GetStdio())
}

// Exec starts a further process in a running container and opens its standard streams.
func (g *Guest) Exec(ctx context.Context, req *guestv1.ExecProcessRequest) (*Process, error) {
	resp, err := g.rpc.ExecProcess(ctx, req)
	if err != nil {
		return nil, failed("starting the process", err)
	}
	p := &Process{g: g, ContainerID: req.GetContainerId(), ExecID: resp.GetExecId()}
	return p, p.open(resp.GetStdio())
}

// Process names a process that was started before, without its streams.
func (g *Guest) Process(containerID, execID string) *Process {
	return &Process{g: g, ContainerID: containerID, ExecID: execID}
}

// open opens the streams whose tokens were granted.
func (p *Process) open(tokens *guestv1.StdioTokens) error {
	for _, o := range []struct {
		token []byte
		conn  *net.Conn
	}{{tokens.GetStdin(), &p.Stdin}, {tokens.GetStdout(), &p.Stdout}, {tokens.GetStderr(), &p.Stderr}} {
		if len(o.token) == 0 {
			continue
		}
		conn, err := p.g.ch.OpenStream(o.token)
		if err != nil {
			p.CloseStreams()
			return err
		}
		*o.conn = conn
	}
	return nil
}

// CloseStreams closes the standard streams that are open.
func (p *Process) CloseStreams() {
	for _, c := range []net.Conn{p.Stdin, p.Stdout, p.Stderr} {
		if c != nil {
			_ = c.Close() // its end is what was asked for
		}
	}
}

// Start starts a container's init process.
func (p *Process) Start(ctx context.Context) error {
	_, err := p.g.rpc.StartContainer(ctx, &guestv1.StartContainerRequest{ContainerId: p.ContainerID})
	if err != nil {
		return failed("starting the container", err)
	}
	return nil
}

// Wait blocks until the process has ended.
func (p *Process) Wait(ctx context.Context) (*guestv1.WaitProcessResponse, error) {
	resp, err := p.g.rpc.WaitProcess(ctx, &guestv1.WaitProcessRequest{ContainerId: p.ContainerID, ExecId: p.ExecID})
	if err != nil {
		return nil, failed("waiting for the process", err)
	}
	if resp.GetExitCode() > 255 {
		return nil, fmt.Errorf("waiting for the process: exit code %d is out of range", resp.GetExitCode())
	}
	return resp, nil
}

// Signal sends a Linux signal to the process.
func (p *Process) Signal(ctx context.Context, signal uint32) error {
	_, err := p.g.rpc.SignalProcess(ctx, &guestv1.SignalProcessRequest{
		ContainerId: p.ContainerID, ExecId: p.ExecID, Signal: signal,
	})
	if err != nil {
		return failed(fmt.Sprintf("sending signal %d", signal), err)
	}
	return nil
}

// Resize sets the size of the process's terminal.
func (p *Process) Resize(ctx context.Context, columns, rows uint32) error {
	_, err := p.g.rpc.ResizeTerminal(ctx, &guestv1.ResizeTerminalRequest{
		ContainerId: p.ContainerID, ExecId: p.ExecID, Columns: columns, Rows: rows,
	})
	if err != nil {
		return failed("resizing the terminal", err)
	}
	return nil
}
