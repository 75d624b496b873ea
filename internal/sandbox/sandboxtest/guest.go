// SPDX-License-Identifier: Apache-2.0

package sandboxtest

import (
	"context"
	"net"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	guestv1 "cofferdam.dev/api/guest/v1"
	"cofferdam.dev/internal/channel"

	"github.com/containerd/ttrpc"
)

// MismatchedPolicy is a policy text that the played guest takes for one with the wrong hash.
const MismatchedPolicy = "mismatch"

// RefusedFragment is a policy fragment that the played guest refuses.
const RefusedFragment = "refused fragment"

// guest is the played agent. It keeps the order of calls as the real one does, as far as the host's side depends on it.
type guest struct {
	m       *machine
	broker  channel.Broker
	started time.Time

	mu        sync.Mutex
	conn      net.Conn
	policySet bool
	hung      bool
	networked bool
	onceDone  bool // CommandOnce was created
	mounted   map[string]bool
	scratch   map[string]string // the disk's serial number by its target
	roots     map[string]bool
	used      map[string]bool  // container IDs: each is good for one run
	gone      map[string]bool  // containers that were shut down
	procs     map[string]*proc // by container ID, or container ID and exec ID
	execs     int
}

var _ guestv1.GuestService = (*guest)(nil)

func newGuest(m *machine) *guest {
	return &guest{
		m: m, started: time.Now(), mounted: map[string]bool{}, scratch: map[string]string{}, roots: map[string]bool{},
		used: map[string]bool{}, gone: map[string]bool{}, procs: map[string]*proc{},
	}
}

func (g *guest) serve(ctx context.Context, conn net.Conn) {
	g.conn = conn
	server, err := ttrpc.NewServer()
	if err != nil {
		g.m.end("guest-reset", false)
		return
	}
	guestv1.RegisterGuestService(server, g)
	err = channel.Serve(ctx, conn, server, &g.broker)
	_ = err // the channel's end is the machine's business
}

func deny(code, point, reason string) error {
	return &guestv1.Denial{Code: code, Point: point, Reasons: []string{reason}}
}

// alive blocks for ever in a guest that hangs.
func (g *guest) alive(ctx context.Context) {
	g.mu.Lock()
	hung := g.hung
	g.mu.Unlock()
	if hung {
		<-ctx.Done()
		select {}
	}
}

func (g *guest) ready(ctx context.Context, point string) error {
	g.alive(ctx)
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.policySet {
		return deny(guestv1.CodeNoPolicy, point, "set the policy first")
	}
	return nil
}

func (g *guest) Hello(ctx context.Context, _ *guestv1.HelloRequest) (*guestv1.HelloResponse, error) {
	g.alive(ctx)
	tee := g.m.tee
	if g.m.has(BootLies) {
		tee = "snp"
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	return &guestv1.HelloResponse{
		Protocol: 1, Tee: tee, Build: "fake", PolicySet: g.policySet,
		UptimeMs: uint64(time.Since(g.started).Milliseconds()),
	}, nil
}

func (g *guest) SetPolicy(_ context.Context, r *guestv1.SetPolicyRequest) (*guestv1.SetPolicyResponse, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.policySet {
		return nil, deny(guestv1.CodePolicyAlreadySet, "set_policy", "a policy is in force")
	}
	if string(r.GetPolicy()) == MismatchedPolicy {
		return nil, deny(guestv1.CodePolicyMismatch, "set_policy", "the hash is not the launch's")
	}
	g.policySet = true
	return &guestv1.SetPolicyResponse{HostData: make([]byte, 32)}, nil
}

func (g *guest) LoadFragment(ctx context.Context, r *guestv1.LoadFragmentRequest) (*guestv1.LoadFragmentResponse, error) {
	err := g.ready(ctx, "load_fragment")
	if err != nil {
		return nil, err
	}
	if string(r.GetMessage()) == RefusedFragment {
		return nil, deny(guestv1.CodePolicyDenied, "load_fragment", "invalid fragment issuer")
	}
	return &guestv1.LoadFragmentResponse{Issuer: "did:x509:0:fake", Feed: "feed"}, nil
}

func (g *guest) LoadTrustList(ctx context.Context, r *guestv1.LoadTrustListRequest) (*guestv1.LoadTrustListResponse, error) {
	err := g.ready(ctx, "load_transparency_trust_list")
	if err != nil {
		return nil, err
	}
	if string(r.GetMessage()) == RefusedFragment {
		return nil, deny(guestv1.CodePolicyDenied, "load_transparency_trust_list", "no TTL candidate matches")
	}
	return &guestv1.LoadTrustListResponse{Issuer: "did:x509:0:fake", Subject: "subject", Ledgers: []string{"ledger"}}, nil
}

func (g *guest) MountLayer(ctx context.Context, r *guestv1.MountLayerRequest) (*guestv1.MountLayerResponse, error) {
	err := g.ready(ctx, "mount_device")
	if err != nil {
		return nil, err
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.mounted[r.GetTarget()] || len(r.GetRootHash()) != 32 {
		return nil, deny(guestv1.CodePolicyDenied, "mount_device", "target is in use, or the root has the wrong size")
	}
	g.mounted[r.GetTarget()] = true
	return &guestv1.MountLayerResponse{}, nil
}

func (g *guest) UnmountLayer(context.Context, *guestv1.UnmountLayerRequest) (*guestv1.UnmountLayerResponse, error) {
	return &guestv1.UnmountLayerResponse{}, nil
}

func (g *guest) MountScratch(ctx context.Context, r *guestv1.MountScratchRequest) (*guestv1.MountScratchResponse, error) {
	err := g.ready(ctx, "rw_mount_device")
	if err != nil {
		return nil, err
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	for target, serial := range g.scratch {
		if target == r.GetTarget() || serial == r.GetSerial() {
			return nil, deny(guestv1.CodeWrongState, "rw_mount_device", "the disk or the target is in use")
		}
	}
	g.scratch[r.GetTarget()] = r.GetSerial()
	return &guestv1.MountScratchResponse{}, nil
}

func (g *guest) UnmountScratch(_ context.Context, r *guestv1.UnmountScratchRequest) (*guestv1.UnmountScratchResponse, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.scratch[r.GetTarget()] == "" || g.roots[path.Base(r.GetTarget())] {
		return nil, deny(guestv1.CodeWrongState, "rw_unmount_device", "there is no disk, or it is in use")
	}
	delete(g.scratch, r.GetTarget())
	return &guestv1.UnmountScratchResponse{}, nil
}

func (g *guest) MountOverlay(ctx context.Context, r *guestv1.MountOverlayRequest) (*guestv1.MountOverlayResponse, error) {
	err := g.ready(ctx, "mount_overlay")
	if err != nil {
		return nil, err
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, t := range r.GetLayerTargets() {
		if !g.mounted[t] {
			return nil, deny(guestv1.CodePolicyDenied, "mount_overlay", "layer "+t+" is not mounted")
		}
	}
	if g.used[r.GetContainerId()] {
		return nil, deny(guestv1.CodePolicyDenied, "mount_overlay", "the container ID was used before")
	}
	if r.GetScratchTarget() != "" && g.scratch[r.GetScratchTarget()] == "" {
		return nil, deny(guestv1.CodeNotFound, "mount_overlay", "no scratch disk is mounted there")
	}
	g.roots[r.GetContainerId()], g.used[r.GetContainerId()] = true, true
	return &guestv1.MountOverlayResponse{}, nil
}

func (g *guest) UnmountOverlay(_ context.Context, r *guestv1.UnmountOverlayRequest) (*guestv1.UnmountOverlayResponse, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	id := path.Base(path.Dir(r.GetTarget()))
	if !g.roots[id] || g.procs[id] != nil && !g.gone[id] {
		return nil, deny(guestv1.CodeWrongState, "unmount_overlay", "there is no root filesystem, or a container uses it")
	}
	delete(g.roots, id)
	delete(g.procs, id)
	return &guestv1.UnmountOverlayResponse{}, nil
}

func (g *guest) CreateContainer(ctx context.Context, r *guestv1.CreateContainerRequest) (*guestv1.CreateContainerResponse, error) {
	err := g.ready(ctx, "create_container")
	if err != nil {
		return nil, err
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.roots[r.GetContainerId()] {
		return nil, deny(guestv1.CodeWrongState, "create_container", "the container has no root filesystem")
	}
	if r.GetCommand()[0] == CommandDenied {
		return nil, deny(guestv1.CodePolicyDenied, "create_container", "invalid command")
	}
	if r.GetCommand()[0] == CommandOnce {
		if g.onceDone {
			return nil, deny(guestv1.CodePolicyDenied, "create_container", "invalid command")
		}
		g.onceDone = true
	}
	p, tokens, err := g.prepare(r.GetCommand(), r.GetEnv(), r.GetStdio())
	if err != nil {
		return nil, err
	}
	p.message = terminationLog(r.GetMounts())
	g.procs[r.GetContainerId()] = p
	env := slices.DeleteFunc(slices.Clone(r.GetEnv()), func(v string) bool { return strings.HasPrefix(v, DroppedVariable+"=") })
	return &guestv1.CreateContainerResponse{Stdio: tokens, Env: env}, nil
}

func (g *guest) StartContainer(_ context.Context, r *guestv1.StartContainerRequest) (*guestv1.StartContainerResponse, error) {
	p := g.find(r.GetContainerId(), "")
	if p == nil {
		return nil, deny(guestv1.CodeNotFound, "start_container", "no such container")
	}
	if g.act(p) {
		return &guestv1.StartContainerResponse{Pid: 1}, nil
	}
	err := p.start()
	if err != nil {
		return nil, deny(guestv1.CodeFailed, "start_container", err.Error())
	}
	return &guestv1.StartContainerResponse{Pid: 1}, nil
}

// act does what a command of our own asks for, and reports whether it was one.
func (g *guest) act(p *proc) bool {
	switch p.cmd.Args[0] {
	case CommandPanic:
		g.m.end("guest-panic", true)
	case CommandReset:
		g.m.end("guest-reset", false)
	case CommandPowerOff:
		g.m.end("guest-shutdown", false)
	case CommandKillQEMU:
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
	case CommandChannel:
		time.AfterFunc(50*time.Millisecond, func() { _ = g.conn.Close() })
	case CommandHang:
		g.mu.Lock()
		g.hung = true
		g.mu.Unlock()
	case CommandOutOfMemory:
		p.finish(137, true)
	case CommandDiskFull:
		g.m.noSpace()
		time.AfterFunc(3*time.Second, func() { p.finish(1, false) }) // a while after its writes: the host hears of both by different ways
	case CommandFullPanic:
		g.m.noSpace()
		g.m.end("guest-panic", true)
	case CommandFloodPrint:
		go func() {
			line := []byte(strings.Repeat("x", 1023) + "\n")
			for range 4 << 10 {
				_, _ = g.m.console.Write(line)
			}
		}()
	case CommandOnce:
		p.finish(1, false)
	case CommandNoSignals:
	default:
		return false
	}
	return true
}

func (g *guest) ExecProcess(ctx context.Context, r *guestv1.ExecProcessRequest) (*guestv1.ExecProcessResponse, error) {
	err := g.ready(ctx, "exec_in_container")
	if err != nil {
		return nil, err
	}
	if r.GetCommand()[0] == CommandDenied {
		return nil, deny(guestv1.CodePolicyDenied, "exec_in_container", "invalid command")
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	of := g.procs[r.GetContainerId()]
	if of == nil {
		return nil, deny(guestv1.CodeNotFound, "exec_in_container", "no such container")
	}
	if of.ended() {
		return nil, deny(guestv1.CodeWrongState, "exec_in_container", "the container is stopped, not running")
	}
	p, tokens, err := g.prepare(r.GetCommand(), r.GetEnv(), r.GetStdio())
	if err != nil {
		return nil, err
	}
	err = p.start()
	if err != nil {
		return nil, deny(guestv1.CodeFailed, "exec_in_container", err.Error())
	}
	g.execs++
	id := strconv.Itoa(g.execs)
	g.procs[r.GetContainerId()+"/"+id] = p
	return &guestv1.ExecProcessResponse{ExecId: id, Stdio: tokens}, nil
}

func (g *guest) find(container, exec string) *proc {
	g.mu.Lock()
	defer g.mu.Unlock()
	if exec != "" {
		container += "/" + exec
	}
	return g.procs[container]
}

func (g *guest) SignalProcess(_ context.Context, r *guestv1.SignalProcessRequest) (*guestv1.SignalProcessResponse, error) {
	p := g.find(r.GetContainerId(), r.GetExecId())
	if p == nil {
		return nil, deny(guestv1.CodeNotFound, "signal_container_process", "no such process")
	}
	if p.cmd.Args[0] == CommandNoSignals {
		return nil, deny(guestv1.CodePolicyDenied, "signal_container_process", "signal is not allowed")
	}
	p.signal(syscall.Signal(r.GetSignal()))
	return &guestv1.SignalProcessResponse{}, nil
}

func (g *guest) WaitProcess(ctx context.Context, r *guestv1.WaitProcessRequest) (*guestv1.WaitProcessResponse, error) {
	p := g.find(r.GetContainerId(), r.GetExecId())
	if p == nil {
		return nil, deny(guestv1.CodeNotFound, "wait", "no such process")
	}
	select {
	case <-p.done:
		return &guestv1.WaitProcessResponse{ExitCode: p.code, OutOfMemory: p.oom}, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (g *guest) ResizeTerminal(_ context.Context, r *guestv1.ResizeTerminalRequest) (*guestv1.ResizeTerminalResponse, error) {
	p := g.find(r.GetContainerId(), r.GetExecId())
	if p == nil {
		return nil, deny(guestv1.CodeNotFound, "resize", "no such process")
	}
	return &guestv1.ResizeTerminalResponse{}, p.resize(r.GetColumns(), r.GetRows())
}

func (g *guest) ShutdownContainer(_ context.Context, r *guestv1.ShutdownContainerRequest) (*guestv1.ShutdownContainerResponse, error) {
	p := g.find(r.GetContainerId(), "")
	g.mu.Lock()
	again := g.gone[r.GetContainerId()]
	g.gone[r.GetContainerId()] = true
	g.mu.Unlock()
	if p == nil || again {
		return nil, deny(guestv1.CodeWrongState, "shutdown_container", "the container was shut down before, or never was")
	}
	p.signal(syscall.SIGKILL)
	p.finish(137, false)
	return &guestv1.ShutdownContainerResponse{}, nil
}

func (g *guest) Properties(ctx context.Context, _ *guestv1.PropertiesRequest) (*guestv1.PropertiesResponse, error) {
	err := g.ready(ctx, "get_properties")
	if err != nil {
		return nil, err
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	resp := &guestv1.PropertiesResponse{MemoryTotalBytes: 1 << 28}
	for id, p := range g.procs {
		c := &guestv1.ContainerProperties{ContainerId: id, State: "running", MemoryBytes: 1 << 20, CpuUsec: 1000, Pids: 1}
		if p.ended() {
			c = &guestv1.ContainerProperties{ContainerId: id, State: "stopped"}
		}
		if len(id) == 64 { // no exec'd process
			resp.Containers = append(resp.Containers, c)
		}
	}
	return resp, nil
}

func (g *guest) DumpStacks(context.Context, *guestv1.DumpStacksRequest) (*guestv1.DumpStacksResponse, error) {
	return &guestv1.DumpStacksResponse{}, nil
}

func (g *guest) Evidence(ctx context.Context, r *guestv1.EvidenceRequest) (*guestv1.EvidenceResponse, error) {
	err := g.ready(ctx, "evidence")
	if err != nil {
		return nil, err
	}
	return &guestv1.EvidenceResponse{Type: "sev-snp", Report: append([]byte("fake report over "), r.GetNonce()...)}, nil
}

func (g *guest) PowerOff(context.Context, *guestv1.PowerOffRequest) (*guestv1.PowerOffResponse, error) {
	if !g.m.has(IgnorePower) {
		time.AfterFunc(10*time.Millisecond, func() { g.m.end("guest-shutdown", false) })
	}
	return &guestv1.PowerOffResponse{}, nil
}
