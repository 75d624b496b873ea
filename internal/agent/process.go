// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"crypto/rand"
	"encoding/hex"

	"golang.org/x/sys/unix"

	guestv1 "cofferdam.dev/api/guest/v1"
	"cofferdam.dev/internal/agent/container"
	"cofferdam.dev/policy/engine"
)

// StartContainer implements guestv1.GuestService. The policy decided about the container when it was created; it runs
// once.
func (s *Service) StartContainer(ctx context.Context, r *guestv1.StartContainerRequest) (*guestv1.StartContainerResponse, error) {
	const call = "StartContainer"
	i, err := s.enterContainer(call, r.GetContainerId())
	if err != nil {
		return nil, err
	}
	defer s.mu.Unlock()
	if i.state() != stateCreated {
		return nil, denial(guestv1.CodeWrongState, call, "the container is "+string(i.state())+", and starts only once")
	}
	i.started = true // even if it fails: whether the process ran is not known then
	err = s.cfg.Runtime.Start(context.WithoutCancel(ctx), i.id)
	if err != nil {
		return nil, failed(call, err)
	}
	return &guestv1.StartContainerResponse{Pid: uint32(i.init.PID)}, nil // a process number is positive
}

// ExecProcess implements guestv1.GuestService.
func (s *Service) ExecProcess(ctx context.Context, r *guestv1.ExecProcessRequest) (*guestv1.ExecProcessResponse, error) {
	point := engine.PointExecInContainer
	c := newCheck(string(point))
	c.containerID(r.GetContainerId())
	c.program(r.GetCommand(), r.GetEnv(), r.GetWorkingDir(), r.GetUser(), r.GetCapabilities())
	if c.err() != nil {
		return nil, c.err()
	}
	err := s.enter(string(point))
	if err != nil {
		return nil, err
	}
	defer s.mu.Unlock()
	i, err := s.find(string(point), r.GetContainerId())
	if err != nil {
		return nil, err
	}
	if i.state() != stateRunning {
		return nil, denial(guestv1.CodeWrongState, string(point), "the container is "+string(i.state())+", not running")
	}
	err = s.room(string(point), i)
	if err != nil {
		return nil, err
	}
	user, err := s.lookupUser(point, s.overlays[i.id], r.GetUser())
	if err != nil {
		return nil, err
	}
	p := &container.Process{
		Args: r.GetCommand(), Env: r.GetEnv(), WorkingDir: r.GetWorkingDir(), User: user,
		NoNewPrivileges: r.GetNoNewPrivileges(), Capabilities: capabilities(r.GetCapabilities()), Stdio: stdio(r.GetStdio()),
	}
	var resp *guestv1.ExecProcessResponse
	var failure error
	err = s.decide(ctx, point, r.GetEnv(), func(ctx context.Context, u Unit) (engine.Decision, error) {
		return u.ExecInContainer(ctx, engine.ExecInput{ContainerID: i.id, Process: question(p)})
	}, func(ctx context.Context, d engine.Decision) error {
		narrow(p, d)
		s.withhold(p)
		resp, failure = s.exec(ctx, i, p)
		return nil // even if it failed the process may have run, so what it took of the policy stays taken
	})
	if err != nil {
		return nil, err
	}
	if failure != nil {
		return nil, failed(string(point), failure)
	}
	return resp, nil
}

func (s *Service) exec(ctx context.Context, i *instance, p *container.Process) (*guestv1.ExecProcessResponse, error) {
	h, err := s.cfg.Runtime.Exec(ctx, i.id, p)
	if err != nil {
		return nil, err
	}
	tokens, all, err := s.grant(h)
	if err != nil {
		_ = h.Signal(unix.SIGKILL) // it may have ended already
		return nil, err
	}
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails: crypto/rand aborts the program instead
	id := hex.EncodeToString(b[:])
	s.remember(i, id, &execution{args: p.Args, handle: h, tokens: all})
	return &guestv1.ExecProcessResponse{ExecId: id, Stdio: tokens, Identity: identity(p.User)}, nil
}

// SignalProcess implements guestv1.GuestService.
func (s *Service) SignalProcess(ctx context.Context, r *guestv1.SignalProcessRequest) (*guestv1.SignalProcessResponse, error) {
	point := engine.PointSignalContainerProcess
	c := newCheck(string(point))
	c.process(r.GetContainerId(), r.GetExecId())
	c.number("signal", uint64(r.GetSignal()), 1, maxSignal)
	if c.err() != nil {
		return nil, c.err()
	}
	err := s.enter(string(point))
	if err != nil {
		return nil, err
	}
	defer s.mu.Unlock()
	h, args, err := s.handle(string(point), r.GetContainerId(), r.GetExecId())
	if err != nil {
		return nil, err
	}
	if h.Ended() {
		return nil, signalError(container.ErrEnded)
	}
	in := engine.SignalInput{ContainerID: r.GetContainerId(), Signal: int(r.GetSignal()), Init: r.GetExecId() == "", Args: args}
	err = s.decide(ctx, point, nil, func(ctx context.Context, u Unit) (engine.Decision, error) {
		return u.SignalContainerProcess(ctx, in)
	}, func(context.Context, engine.Decision) error {
		return signalError(h.Signal(unix.Signal(in.Signal)))
	})
	if err != nil {
		return nil, err
	}
	return &guestv1.SignalProcessResponse{}, nil
}

// WaitProcess implements guestv1.GuestService. It holds nothing up while it waits.
func (s *Service) WaitProcess(ctx context.Context, r *guestv1.WaitProcessRequest) (*guestv1.WaitProcessResponse, error) {
	h, err := s.process("WaitProcess", r.GetContainerId(), r.GetExecId(), newCheck("WaitProcess"))
	if err != nil {
		return nil, err
	}
	select {
	case <-h.Done():
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	e := h.Exit()
	return &guestv1.WaitProcessResponse{ExitCode: e.Code, OutOfMemory: e.OutOfMemory}, nil
}

// TerminationMessage implements guestv1.GuestService. The policy decided about the file when the container was created.
func (s *Service) TerminationMessage(_ context.Context, r *guestv1.TerminationMessageRequest) (*guestv1.TerminationMessageResponse, error) {
	const call = "TerminationMessage"
	i, err := s.enterContainer(call, r.GetContainerId())
	if err != nil {
		return nil, err
	}
	defer s.mu.Unlock()
	if !i.logs {
		return nil, denial(guestv1.CodeNotFound, call, "the container has no termination log")
	}
	if !i.init.Ended() {
		return nil, denial(guestv1.CodeWrongState, call, "the container is "+string(i.state())+", and has not ended")
	}
	return &guestv1.TerminationMessageResponse{Message: i.init.Exit().Message}, nil
}

// ResizeTerminal implements guestv1.GuestService.
func (s *Service) ResizeTerminal(_ context.Context, r *guestv1.ResizeTerminalRequest) (*guestv1.ResizeTerminalResponse, error) {
	const call = "ResizeTerminal"
	c := newCheck(call)
	c.number("columns", uint64(r.GetColumns()), 1, maxTerminalSize)
	c.number("rows", uint64(r.GetRows()), 1, maxTerminalSize)
	h, err := s.process(call, r.GetContainerId(), r.GetExecId(), c)
	if err != nil {
		return nil, err
	}
	if !h.Terminal() {
		return nil, denial(guestv1.CodeWrongState, call, "the process has no terminal")
	}
	err = h.Resize(uint16(r.GetColumns()), uint16(r.GetRows())) // checked above
	if err != nil {
		return nil, failed(call, err)
	}
	return &guestv1.ResizeTerminalResponse{}, nil
}

// process finds a process for a call that needs no decision of its own: the policy decided when it was started.
func (s *Service) process(call, id, execID string, c *check) (*container.Handle, error) {
	c.process(id, execID)
	if c.err() != nil {
		return nil, c.err()
	}
	err := s.enter(call)
	if err != nil {
		return nil, err
	}
	defer s.mu.Unlock()
	h, _, err := s.handle(call, id, execID)
	return h, err
}

// ShutdownContainer implements guestv1.GuestService.
func (s *Service) ShutdownContainer(ctx context.Context, r *guestv1.ShutdownContainerRequest) (*guestv1.ShutdownContainerResponse, error) {
	point := engine.PointShutdownContainer
	i, err := s.enterContainer(string(point), r.GetContainerId())
	if err != nil {
		return nil, err
	}
	defer s.mu.Unlock()
	if i.removed {
		return nil, denial(guestv1.CodeWrongState, string(point), "the container was shut down before")
	}
	err = s.decide(ctx, point, nil, func(ctx context.Context, u Unit) (engine.Decision, error) {
		return u.ShutdownContainer(ctx, i.id)
	}, func(ctx context.Context, _ engine.Decision) error {
		err := s.remove(ctx, i.id)
		if err != nil {
			return s.breakDown(string(point), err)
		}
		i.removed = true
		s.release(i.init, i.tokens)
		for _, e := range i.execs {
			s.release(e.handle, e.tokens)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return &guestv1.ShutdownContainerResponse{}, nil
}
