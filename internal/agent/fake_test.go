// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	guestv1 "cofferdam.dev/api/guest/v1"
	"cofferdam.dev/attest"
	"cofferdam.dev/evidence/snp"
	"cofferdam.dev/internal/agent/container"
	"cofferdam.dev/internal/agent/workload"
	"cofferdam.dev/internal/channel"
	"cofferdam.dev/internal/testcap"
	"cofferdam.dev/policy"
	"cofferdam.dev/policy/engine"
)

func TestMain(m *testing.M) { os.Exit(testcap.NoLeaks(m)) }

// patience is for what must happen: it only matters when something is broken.
const patience = 2 * time.Minute

// policyText is any text: what it allows is up to the fake decider.
var policyText = []byte("package policy\n")

// journal records what happened, in order.
type journal struct {
	mu      sync.Mutex
	entries []string
}

func (j *journal) add(format string, args ...any) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.entries = append(j.entries, fmt.Sprintf(format, args...))
}

func (j *journal) take() []string {
	j.mu.Lock()
	defer j.mu.Unlock()
	e := j.entries
	j.entries = nil
	return e
}

// fakeDecider answers with what decide says, and records each decision.
type fakeDecider struct {
	log    *journal
	decide func(point engine.Point, about string) engine.Decision
	egress *policy.Egress
}

func allowAll(p engine.Point, _ string) engine.Decision {
	return engine.Decision{Point: p, Allowed: true}
}

func (f *fakeDecider) Egress() *policy.Egress { return f.egress }

func (f *fakeDecider) Begin(context.Context) (Unit, error) { return &fakeUnit{f: f}, nil }

type fakeUnit struct {
	f    *fakeDecider
	over bool
}

func (u *fakeUnit) ask(p engine.Point, about string, env []string, caps *policy.Capabilities) (engine.Decision, error) {
	d := u.f.decide(p, about)
	if d.Allowed && d.EnvList == nil {
		d.EnvList = env
	}
	if d.Allowed && d.Capabilities == nil {
		d.Capabilities = caps
	}
	if !d.Allowed && len(d.Reasons) == 0 {
		d.Reasons = []string{"the test says no"}
	}
	verdict := "deny"
	if d.Allowed {
		verdict = "allow"
	}
	u.f.log.add("%s %s %s", verdict, p, about)
	return d, nil
}

func (u *fakeUnit) MountDevice(_ context.Context, target, hash string) (engine.Decision, error) {
	return u.ask(engine.PointMountDevice, target+" "+hash, nil, nil)
}
func (u *fakeUnit) UnmountDevice(_ context.Context, target string) (engine.Decision, error) {
	return u.ask(engine.PointUnmountDevice, target, nil, nil)
}
func (u *fakeUnit) RWMountDevice(_ context.Context, target string, encrypted, ensure bool, fs string) (engine.Decision, error) {
	if !encrypted || !ensure || fs != "ext4" {
		return engine.Decision{}, errors.New("the scratch disk is not described as it is made")
	}
	return u.ask(engine.PointRWMountDevice, target, nil, nil)
}
func (u *fakeUnit) RWUnmountDevice(_ context.Context, target string) (engine.Decision, error) {
	return u.ask(engine.PointRWUnmountDevice, target, nil, nil)
}
func (u *fakeUnit) LoadFragment(_ context.Context, f engine.Fragment) (engine.Decision, error) {
	return u.ask(engine.PointLoadFragment, f.Feed, nil, nil)
}
func (u *fakeUnit) LoadTrustList(_ context.Context, l engine.TrustList) (engine.Decision, []string, error) {
	d, err := u.ask(engine.PointLoadTrustList, l.Subject, nil, nil)
	return d, l.Ledgers, err
}
func (u *fakeUnit) MountOverlay(_ context.Context, id string, layers []string, target string) (engine.Decision, error) {
	return u.ask(engine.PointMountOverlay, target+" "+strings.Join(layers, ","), nil, nil)
}
func (u *fakeUnit) UnmountOverlay(_ context.Context, target string) (engine.Decision, error) {
	return u.ask(engine.PointUnmountOverlay, target, nil, nil)
}
func (u *fakeUnit) CreateContainer(_ context.Context, in engine.CreateInput) (engine.Decision, error) {
	return u.ask(engine.PointCreateContainer, in.ContainerID+" "+strings.Join(in.Args, ","), in.Env, &in.Capabilities)
}
func (u *fakeUnit) ExecInContainer(_ context.Context, in engine.ExecInput) (engine.Decision, error) {
	return u.ask(engine.PointExecInContainer, in.ContainerID+" "+strings.Join(in.Args, ","), in.Env, &in.Capabilities)
}
func (u *fakeUnit) SignalContainerProcess(_ context.Context, in engine.SignalInput) (engine.Decision, error) {
	return u.ask(engine.PointSignalContainerProcess, fmt.Sprintf("%s %d", in.ContainerID, in.Signal), nil, nil)
}
func (u *fakeUnit) ShutdownContainer(_ context.Context, id string) (engine.Decision, error) {
	return u.ask(engine.PointShutdownContainer, id, nil, nil)
}
func (u *fakeUnit) GetProperties(context.Context) (engine.Decision, error) {
	return u.ask(engine.PointGetProperties, "", nil, nil)
}
func (u *fakeUnit) DumpStacks(context.Context) (engine.Decision, error) {
	return u.ask(engine.PointDumpStacks, "", nil, nil)
}
func (u *fakeUnit) Allows(_ context.Context, p engine.Point, _ map[string]any) (bool, error) {
	d, err := u.ask(p, "", nil, nil)
	return d.Allowed, err
}
func (u *fakeUnit) Commit() {
	u.over = true
	u.f.log.add("commit")
}
func (u *fakeUnit) Rollback() {
	if !u.over {
		u.f.log.add("rollback")
	}
	u.over = true
}

// fakeMachine and fakeRuntime record what they are told to do, and fail where fail says so.
type fakeMachine struct {
	log  *journal
	fail func(doing string) error
}

func (m *fakeMachine) act(doing, about string) error {
	m.log.add("%s %s", doing, about)
	if m.fail == nil {
		return nil
	}
	return m.fail(doing)
}

func (m *fakeMachine) OpenLayer(_ context.Context, _ string, root [32]byte, _ uint64, target string) error {
	return m.act("OpenLayer", fmt.Sprintf("%s %x", target, root))
}
func (m *fakeMachine) CloseLayer(_ context.Context, target string) error {
	return m.act("CloseLayer", target)
}
func (m *fakeMachine) OpenScratch(_ context.Context, _, target string) error {
	return m.act("OpenScratch", target)
}
func (m *fakeMachine) CloseScratch(_ context.Context, target string) error {
	return m.act("CloseScratch", target)
}
func (m *fakeMachine) MountOverlay(_ context.Context, layers []string, _ string, memory uint64, target string) error {
	if memory == 0 {
		return errors.New("the writable layer has no size")
	}
	return m.act("MountOverlay", target+" "+strings.Join(layers, ","))
}
func (m *fakeMachine) UnmountOverlay(_ context.Context, target string) error {
	return m.act("UnmountOverlay", target)
}
func (m *fakeMachine) MemoryBytes() (total, available uint64) { return 512 << 20, 256 << 20 }
func (m *fakeMachine) PowerOff() error                        { return m.act("PowerOff", "") }

type fakeRuntime struct {
	log  *journal
	fail func(doing string) error

	mu      sync.Mutex
	specs   map[string]*container.Spec
	handles map[string]*container.Handle
	execs   []*container.Handle
	last    *container.Process
	network container.Network
}

func (r *fakeRuntime) act(doing, about string) error {
	r.log.add("%s %s", doing, about)
	if r.fail == nil {
		return nil
	}
	return r.fail(doing)
}

func (r *fakeRuntime) LookupUser(_, spec string) (container.User, error) {
	if spec == "nobody-knows" {
		return container.User{}, errors.New("unable to find user nobody-knows")
	}
	return container.User{Name: "root"}, nil
}

func (r *fakeRuntime) VolumePath(source string) string { return "/volumes" + source }

func (r *fakeRuntime) Fill(source string, files []container.File) error {
	return r.act("Fill", fmt.Sprintf("%s %d", source, len(files)))
}

// fakeShare is a volume that says what the host sends.
type fakeShare struct{ log *journal }

func (f fakeShare) Serve(c net.Conn) {
	b, _ := io.ReadAll(c)
	f.log.add("served %s", b)
	_ = c.Close()
}

func (f fakeShare) Close() { f.log.add("CloseShare") }

func (r *fakeRuntime) Share(source string, readOnly bool) (container.Share, error) {
	return fakeShare{r.log}, r.act("Share", fmt.Sprintf("%s %v", source, readOnly))
}

func (r *fakeRuntime) CloseShares() error { return nil }

func (r *fakeRuntime) ScratchRoom() (string, error) {
	return "/volumes/tmp/atlas/emptydir", r.act("ScratchRoom", "")
}

func (r *fakeRuntime) UseScratch(mounted bool) error { return r.act("UseScratch", fmt.Sprint(mounted)) }

func (r *fakeRuntime) SetNetwork(n container.Network) { r.network = n }

func (r *fakeRuntime) process(p *container.Process) *container.Handle {
	var s container.Streams
	if p.Stdio.Stdout {
		read, write, err := os.Pipe()
		if err != nil {
			panic(err)
		}
		go func() {
			_, _ = write.WriteString("output\n")
			_ = write.Close()
		}()
		s.Stdout = container.NewStream(read, false)
	}
	if p.Stdio.Stdin {
		read, write, err := os.Pipe()
		if err != nil {
			panic(err)
		}
		go func() {
			_, _ = io.Copy(io.Discard, read)
			_ = read.Close()
		}()
		s.Stdin = container.NewStream(write, true)
	}
	var h *container.Handle
	h = container.NewHandle(42, s, nil, func(sig unix.Signal) error {
		r.log.add("Signal %d", sig)
		if sig == unix.SIGKILL {
			go h.End(container.Exit{Code: 137})
		}
		return nil
	})
	return h
}

func (r *fakeRuntime) Create(_ context.Context, s *container.Spec) (*container.Handle, error) {
	err := r.act("Create", s.ID+" "+strings.Join(s.Args, ","))
	if err != nil {
		return nil, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.handles == nil {
		r.handles, r.specs = map[string]*container.Handle{}, map[string]*container.Spec{}
	}
	h := r.process(&s.Process)
	r.handles[s.ID], r.specs[s.ID] = h, s
	return h, nil
}

func (r *fakeRuntime) Start(_ context.Context, id string) error { return r.act("Start", id) }

func (r *fakeRuntime) Exec(_ context.Context, id string, p *container.Process) (*container.Handle, error) {
	err := r.act("Exec", id+" "+strings.Join(p.Args, ","))
	if err != nil {
		return nil, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	h := r.process(p)
	r.execs, r.last = append(r.execs, h), p
	return h, nil
}

func (r *fakeRuntime) Remove(_ context.Context, id string) error {
	err := r.act("Remove", id)
	r.mu.Lock()
	defer r.mu.Unlock()
	h := r.handles[id]
	if h != nil {
		h.End(container.Exit{Code: 137})
	}
	return err
}

func (r *fakeRuntime) Usage(string) (container.Usage, error) {
	return container.Usage{MemoryBytes: 1, CPUMicros: 2, PIDs: 3}, nil
}

// fakeProvider makes unsigned reports with the given host data.
type fakeProvider struct {
	hostData [32]byte
	kind     string
	stale    bool
	asked    [][64]byte
}

func (p *fakeProvider) Kind() string { return "fake" }

func (p *fakeProvider) Report(_ context.Context, data [64]byte) (*attest.Result, error) {
	p.asked = append(p.asked, data)
	if p.stale {
		data[0] ^= 1
	}
	report := &snp.Report{Version: 3, HostData: p.hostData, ReportData: data}
	kind := p.kind
	if kind == "" {
		kind = attest.TypeSEVSNP
	}
	return &attest.Result{Type: kind, Report: report.Marshal()}, nil
}

// fakeSockets keeps what containers would ask, for tests to ask it.
type fakeSockets struct {
	err error

	mu   sync.Mutex
	open map[string]workload.Report
	text string
}

func (f *fakeSockets) Open(id string, policy []byte, report workload.Report) (string, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.open == nil {
		f.open = map[string]workload.Report{}
	}
	if f.err == nil {
		f.open[id], f.text = report, string(policy)
	}
	return "/sockets/" + id, f.err
}

func (f *fakeSockets) Close(id string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.open, id)
	return nil
}

// rig is a service with fakes around it.
type rig struct {
	*Service
	sockets  *fakeSockets
	log      *journal
	decider  *fakeDecider
	machine  *fakeMachine
	runtime  *fakeRuntime
	provider *fakeProvider
	broker   *channel.Broker
}

func newRig(t testing.TB) *rig {
	t.Helper()
	j := &journal{}
	r := &rig{
		log: j, decider: &fakeDecider{log: j, decide: allowAll}, machine: &fakeMachine{log: j},
		runtime: &fakeRuntime{log: j}, provider: &fakeProvider{hostData: policy.Hash(policyText)}, broker: &channel.Broker{},
		sockets: &fakeSockets{},
	}
	s, err := New(t.Context(), Config{
		TEE: "simulated", Build: "test", Provider: r.provider, Machine: r.machine, Runtime: r.runtime, Streams: r.broker, Evidence: r.sockets,
		LoadPolicy: func([]byte) (Decider, error) { return r.decider, nil }, VolumeRoot: "/volumes",
		Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	r.Service = s
	t.Cleanup(func() { r.takeDown(context.Background()) })
	return r
}

// ready returns a rig with its policy set and nothing in its journal.
func ready(t testing.TB) *rig {
	t.Helper()
	r := newRig(t)
	_, err := r.SetPolicy(t.Context(), &guestv1.SetPolicyRequest{Policy: policyText})
	if err != nil {
		t.Fatal(err)
	}
	r.log.take()
	return r
}

// host connects a client to the rig as the host is connected.
func (r *rig) host(t *testing.T) (guestv1.GuestService, *channel.Client) {
	t.Helper()
	guest, host := net.Pipe()
	rpc, err := NewServer(r.Service)
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- channel.Serve(context.Background(), guest, rpc, r.broker) }()
	c, err := channel.NewClient(host)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = c.Close()
		select {
		case err := <-served:
			t.Logf("serving ended with: %v", err)
		case <-time.After(patience):
			t.Error("the channel did not end")
		}
	})
	return guestv1.NewGuestClient(c.RPC()), c
}

const (
	idA     = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
	idB     = "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"
	layer0  = "/run/mounts/scsi/m0"
	layer1  = "/run/mounts/scsi/m1"
	rootfsA = "/run/gcs/c/" + idA + "/rootfs"
)

func layerRequest(n int) *guestv1.MountLayerRequest {
	return &guestv1.MountLayerRequest{
		Serial: fmt.Sprintf("layer%d", n), RootHash: make([]byte, 32), DataBlocks: 10, Target: fmt.Sprintf("/run/mounts/scsi/m%d", n),
	}
}

func overlayRequest(id string) *guestv1.MountOverlayRequest {
	return &guestv1.MountOverlayRequest{ContainerId: id, LayerTargets: []string{layer1, layer0}, Target: "/run/gcs/c/" + id + "/rootfs"}
}

func createRequest(id string) *guestv1.CreateContainerRequest {
	return &guestv1.CreateContainerRequest{
		ContainerId: id, Command: []string{"/bin/true"}, Env: []string{"PATH=/bin", "TOKEN=s3cret"}, WorkingDir: "/",
		Capabilities: &guestv1.Capabilities{Bounding: []string{"CAP_CHOWN"}},
		Stdio:        &guestv1.Stdio{Stdin: true, Stdout: true},
	}
}

func execRequest(id string) *guestv1.ExecProcessRequest {
	return &guestv1.ExecProcessRequest{
		ContainerId: id, Command: []string{"/bin/ls"}, Env: []string{"PATH=/bin"}, WorkingDir: "/", Stdio: &guestv1.Stdio{Stdout: true},
	}
}

// running brings container A up.
func running(t testing.TB) *rig {
	t.Helper()
	r := ready(t)
	mounted(t, r)
	_, err := r.CreateContainer(t.Context(), createRequest(idA))
	if err == nil {
		_, err = r.StartContainer(t.Context(), &guestv1.StartContainerRequest{ContainerId: idA})
	}
	if err != nil {
		t.Fatal(err)
	}
	r.log.take()
	return r
}

// mounted mounts two layers and container A's root filesystem.
func mounted(t testing.TB, r *rig) {
	t.Helper()
	for n := range 2 {
		_, err := r.MountLayer(t.Context(), layerRequest(n))
		if err != nil {
			t.Fatal(err)
		}
	}
	_, err := r.MountOverlay(t.Context(), overlayRequest(idA))
	if err != nil {
		t.Fatal(err)
	}
}

// acts are the journal's entries that change the machine.
func acts(entries []string) []string {
	return slices.DeleteFunc(slices.Clone(entries), func(e string) bool {
		word, _, _ := strings.Cut(e, " ")
		return word == "allow" || word == "deny" || word == "commit" || word == "rollback"
	})
}
