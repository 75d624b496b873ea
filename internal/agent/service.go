// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	guestv1 "cofferdam.dev/api/guest/v1"
	"cofferdam.dev/attest"
	"cofferdam.dev/internal/agent/container"
	"cofferdam.dev/internal/agent/machine"
	"cofferdam.dev/internal/agent/workload"
	encoding "cofferdam.dev/policy/denial"
	"cofferdam.dev/policy/engine"
	"cofferdam.dev/policy/fragment"
)

// Protocol is the version of the control protocol.
const Protocol = 1

// policyDeadline bounds the loading of a policy, and each decision.
const policyDeadline = 2 * time.Minute

// Runtime runs containers. The implementation is container.Runner; tests use a fake. Like Machine it is called only
// after the policy allowed the request, except for LookupUser, which reads.
type Runtime interface {
	LookupUser(rootfs, spec string) (container.User, error)
	VolumePath(source string) string
	// SetNetwork says what the network files of containers say that are created later.
	SetNetwork(n container.Network)
	// Fill puts files into a volume, which it makes if it does not exist.
	Fill(source string, files []container.File) error
	// Share makes a new volume a directory that the host serves. CloseShares undoes all calls of it, and may be called while
	// another call waits for the host.
	Share(source string, readOnly bool) (container.Share, error)
	CloseShares() error
	// ScratchRoom says where a disk must be mounted for new empty directories to lie on it. UseScratch says that one is.
	ScratchRoom() (string, error)
	UseScratch(mounted bool) error
	// Create makes a container whose first process waits for Start. Remove undoes it, and must when it failed.
	Create(ctx context.Context, s *container.Spec) (*container.Handle, error)
	Start(ctx context.Context, id string) error
	Exec(ctx context.Context, id string, p *container.Process) (*container.Handle, error)
	Remove(ctx context.Context, id string) error
	Usage(id string) (container.Usage, error)
}

// Sockets lets containers ask for evidence. It is a workload.Server. The service opens the socket of a container only after
// the policy allowed the container.
type Sockets interface {
	// Open returns a directory of the guest's with a socket that is answered with what report returns.
	Open(id string, policy []byte, report workload.Report) (dir string, err error)
	// Close undoes Open. It does nothing for a container that has no socket.
	Close(id string) error
}

// Granter admits data streams. It is a channel.Broker.
type Granter interface {
	Grant(serve func(net.Conn)) ([]byte, error)
	Revoke(token []byte)
}

// Config is what the service works with. All fields must be set but Addresses and Egress.
type Config struct {
	TEE   string // what the measured command line says
	Build string // the agent's version

	Provider   attest.Provider
	Machine    Machine
	Runtime    Runtime
	Streams    Granter
	Evidence   Sockets
	Egress     Limiter // nil: no container is created under a policy with an egress list
	LoadPolicy func(text []byte) (Decider, error)
	VolumeRoot string // where sandbox:// sources lie
	Network    container.Network
	Addresses  Addresses // nil: the addresses are fixed
	Log        *slog.Logger
}

// Service answers the host. It implements guestv1.GuestService.
//
// One lock covers each request from its policy decision to the end of its operation: what the policy allowed in one
// state can not happen in another. Only waiting for a process, and reports, go on without it.
type Service struct {
	cfg      Config
	hostData [32]byte // of the guest's own report
	off      chan struct{}
	offOnce  sync.Once

	policySet atomic.Bool // whether policy is set, for whoever does not hold mu

	mu         sync.Mutex
	policy     Decider // nil before SetPolicy
	text       []byte  // of policy
	broken     string  // why nothing but power-off is answered; empty while all is well
	verbose    bool    // runtime_logging allowed
	layers     map[string]*layer
	scratch    map[string]*scratch
	overlays   map[string]*overlay // by container
	fragments  int                 // loaded
	trustLists int                 // loaded
	ledgers    fragment.Ledgers    // whose receipts count
	containers map[string]*instance
	network    container.Network
	settled    bool // the network stays as it is
	created    bool // there may be volumes

	reports sync.Mutex    // one report at a time
	probes  chan struct{} // those under way
}

var _ guestv1.GuestService = (*Service)(nil)

// New asks the processor for the guest's own report and returns a service that has no policy yet. Without a report
// there is no service.
func New(ctx context.Context, cfg Config) (*Service, error) {
	s := &Service{
		cfg: cfg, off: make(chan struct{}), network: cfg.Network, probes: make(chan struct{}, maxProbes),
		layers: map[string]*layer{}, scratch: map[string]*scratch{},
		overlays: map[string]*overlay{}, containers: map[string]*instance{},
	}
	var err error
	s.hostData, err = ownHostData(ctx, cfg.Provider)
	if err != nil {
		return nil, fmt.Errorf("asking the processor about this guest: %w", err)
	}
	return s, nil
}

// PowerOffRequested is closed when the host asked for power-off and everything was taken down.
func (s *Service) PowerOffRequested() <-chan struct{} { return s.off }

// enter takes the lock for a call that needs a policy in force. The caller unlocks.
func (s *Service) enter(call string) error {
	s.mu.Lock()
	var d *guestv1.Denial
	switch {
	case s.broken != "":
		d = denial(guestv1.CodeBroken, call, "the guest is broken: "+s.broken)
		d.Fix = "power it off"
	case s.policy == nil:
		d = denial(guestv1.CodeNoPolicy, call, "no policy is set")
		d.Fix = "call SetPolicy first"
	default:
		return nil
	}
	s.mu.Unlock()
	return d
}

// decide asks the policy once and, if it says yes, acts. The policy's state changes only if the act succeeds; an act
// that may have had its effect although it failed must not return the error. It is called with the lock held, on a
// context that the host can not end.
func (s *Service) decide(
	ctx context.Context, point engine.Point, env []string,
	ask func(context.Context, Unit) (engine.Decision, error), act func(context.Context, engine.Decision) error,
) error {
	ctx = context.WithoutCancel(ctx)
	unit, err := s.policy.Begin(ctx)
	if err != nil {
		return denial(guestv1.CodeFailed, string(point), fmt.Sprintf("no decision could be made: %v", err))
	}
	defer unit.Rollback()
	decision, err := ask(ctx, unit)
	if err != nil {
		d := denial(guestv1.CodePolicyDenied, string(point), fmt.Sprintf("no decision could be made: %v", err))
		d.Decision = wireForm(point, decision.Input, d.GetReasons())
		return d
	}
	if !decision.Allowed {
		d := denial(guestv1.CodePolicyDenied, string(point), decision.Reasons...)
		d.Fix = "change the request, or the policy and with it the launch"
		d.Redact(env)
		d.Decision = wireForm(point, decision.Input, d.GetReasons())
		s.note("denied", slog.String("point", string(point)))
		return d
	}
	err = act(ctx, decision)
	if errors.Is(err, machine.ErrNotUndone) {
		return s.breakDown(string(point), err)
	}
	if err != nil {
		return failed(string(point), err)
	}
	unit.Commit()
	s.note("done", slog.String("point", string(point)))
	return nil
}

// wireForm is a refusal as others write it into their errors, so that whoever has only a log can read it. It says what
// the host asked for, less the values of variables; the host learns nothing from it.
func wireForm(point engine.Point, input map[string]any, reasons []string) string {
	text, err := encoding.New(string(point), input, reasons).Encode()
	if err != nil {
		return "" // the denial itself says the same, in parts
	}
	return text
}

// note logs an event of the guest's life where the policy allows that: the host reads the log.
func (s *Service) note(event string, attrs ...slog.Attr) {
	if s.verbose {
		s.cfg.Log.LogAttrs(context.Background(), slog.LevelInfo, event, attrs...)
	}
}

// breakDown makes the service refuse everything from now on: the guest's state is not what the policy's state says.
func (s *Service) breakDown(doing string, err error) error {
	s.broken = fmt.Sprintf("%s: %v", doing, err)
	s.cfg.Log.Error("the guest is broken", slog.String("operation", doing))
	return denial(guestv1.CodeBroken, doing, "it could not be undone: "+clip(err.Error(), maxReason))
}

// maxReason bounds the text of an operation's error that the host gets to see.
const maxReason = 1024

func denial(code, point string, reasons ...string) *guestv1.Denial {
	if len(reasons) == 0 {
		reasons = []string{"no reason was given"}
	}
	return &guestv1.Denial{Code: code, Point: point, Reasons: reasons}
}

// failed makes a denial of an operation's error, unless it is one.
func failed(point string, err error) error {
	d := guestv1.DenialFrom(err)
	if d != nil {
		return d
	}
	return denial(guestv1.CodeFailed, point, clip(err.Error(), maxReason))
}

func clip(s string, n int) string {
	if len(s) <= n {
		return s
	}
	return s[:n] + "…"
}

func signalError(err error) error {
	if errors.Is(err, container.ErrEnded) || errors.Is(err, unix.ESRCH) {
		return denial(guestv1.CodeWrongState, "signal_container_process", "the process has ended")
	}
	return err
}
