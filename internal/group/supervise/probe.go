// SPDX-License-Identifier: Apache-2.0

package supervise

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"time"

	guestv1 "cofferdam.dev/api/guest/v1"
	"cofferdam.dev/internal/group/event"
	"cofferdam.dev/internal/group/lifecycle"
	"cofferdam.dev/internal/sandbox"
	"cofferdam.dev/internal/spec"
)

const (
	// maxProbeOutput is how much of a probe's output is kept, in bytes: it is the tenant's, and goes into a message.
	maxProbeOutput = 1 << 10
	// maxLate is how long the output of a command that has ended may take to arrive, as on a machine that is busy.
	maxLate = 5 * time.Second
	// hookTimeout bounds a PostStart hook. No description can.
	hookTimeout = 10 * time.Minute
	// afterHook is the least time that a container has to stop when its PreStop hook took all of it, as with the kubelet.
	afterHook = 2 * time.Second
)

// probe makes a probe and tells the loop how it went.
func (s *supervisor) probe(c *container, o lifecycle.Order) {
	p := map[lifecycle.Probe]*spec.Probe{
		lifecycle.Startup: c.plan.Life.Startup, lifecycle.Readiness: c.plan.Life.Readiness, lifecycle.Liveness: c.plan.Life.Liveness,
	}[o.Probe]
	full := lifecycle.Complete(*p)
	r := c.present()
	if r.n != o.Run {
		return // that run is over
	}
	err := s.act(s.ctx, c, r, full.Action, full.Timeout)
	if err != nil && s.ctx.Err() == nil && !r.ended(0, nil) {
		kind := strings.ToUpper(string(o.Probe[:1])) + string(o.Probe[1:])
		s.event(c.plan.Name, event.Unhealthy, event.Warning, "%s probe failed: %s", kind, oneLine(err))
	}
	s.post(func(now time.Time) { s.life.Probed(c.plan.Name, o.Run, o.Probe, err == nil, now) })
}

// hook runs what follows the start of a run, and tells the loop that it is done.
func (s *supervisor) hook(c *container, r *run) {
	if c.plan.Life.PostStart != nil {
		err := s.act(s.ctx, c, r, *c.plan.Life.PostStart, hookTimeout)
		if err != nil {
			s.event(c.plan.Name, event.FailedPostStartHook, event.Warning, "PostStart hook failed: %s", oneLine(err))
			s.post(func(time.Time) { s.life.HookFailed(c.plan.Name, r.n) })
			return
		}
	}
	s.post(func(now time.Time) { s.life.Begun(c.plan.Name, r.n, now) })
}

// preStop runs what precedes the stop signal, within the time that the container has.
func (s *supervisor) preStop(ctx context.Context, c *container, r *run, timeout time.Duration) {
	if c.plan.Life.PreStop == nil {
		return
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		select {
		case <-r.over: // it need not be prepared any more
			cancel()
		case <-s.hurry:
			cancel()
		case <-ctx.Done():
		}
	}()
	err := s.act(ctx, c, r, *c.plan.Life.PreStop, timeout)
	if err != nil && !r.ended(0, nil) && s.ctx.Err() == nil {
		s.event(c.plan.Name, event.FailedPreStopHook, event.Warning, "PreStop hook failed: %s", oneLine(err))
	}
}

// act does one thing to a container and reports whether it went well.
func (s *supervisor) act(ctx context.Context, c *container, r *run, a spec.Action, timeout time.Duration) error {
	limited, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	switch {
	case len(a.Exec) > 0:
		return s.actExec(limited, c, r, a.Exec)
	case a.HTTP != nil:
		req := &guestv1.ProbeRequest{Port: uint32(a.HTTP.Port), Http: &guestv1.HTTPProbe{Path: a.HTTP.Path, Tls: a.HTTP.TLS}}
		for _, h := range a.HTTP.Headers {
			req.Http.Headers = append(req.Http.Headers, &guestv1.HTTPHeader{Name: h.Name, Value: h.Value})
		}
		return s.actProbe(ctx, req, timeout)
	case a.TCP != nil:
		return s.actProbe(ctx, &guestv1.ProbeRequest{Port: uint32(a.TCP.Port)}, timeout)
	case a.Sleep > 0:
		select {
		case <-time.After(a.Sleep):
		case <-limited.Done():
		}
	}
	return nil
}

// maxProbeTimeout is the longest timeout that a guest takes.
const maxProbeTimeout = 10 * time.Minute

func (s *supervisor) actProbe(ctx context.Context, req *guestv1.ProbeRequest, timeout time.Duration) error {
	req.TimeoutMs = uint32(min(max(timeout, time.Millisecond), maxProbeTimeout).Milliseconds())
	ctx, cancel := context.WithTimeout(ctx, timeout+killGrace) // the guest keeps the time
	defer cancel()
	resp, err := s.vm.Guest().Probe(ctx, req)
	if err != nil {
		return err
	}
	if !resp.GetSuccess() {
		return errors.New(event.Clean(resp.GetReason()))
	}
	return nil
}

// actExec runs a command in a container. When its time is over it is killed, if the policy lets us.
func (s *supervisor) actExec(ctx context.Context, c *container, r *run, command []string) error {
	p, err := s.vm.Guest().Exec(ctx, probeExec(c, r.id, command))
	if err != nil {
		return err
	}
	defer p.CloseStreams()
	var out tail
	var reads sync.WaitGroup
	for _, from := range []net.Conn{p.Stdout, p.Stderr} {
		if from != nil {
			reads.Go(func() { _, _ = io.Copy(&out, from) })
		}
	}
	resp, err := p.Wait(ctx)
	if err != nil {
		if ctx.Err() != nil && s.ctx.Err() == nil {
			s.killExec(p)
			return errors.New("the command did not end in time")
		}
		return err
	}
	late := time.AfterFunc(maxLate, p.CloseStreams) // what it started may hold its output open
	reads.Wait()
	late.Stop()
	if code := resp.GetExitCode(); code != 0 {
		return fmt.Errorf("the command ended with exit code %d: %s", code, event.Clean(out.String()))
	}
	return nil
}

func (s *supervisor) killExec(p *sandbox.Process) {
	ctx, cancel := context.WithTimeout(s.ctx, killGrace)
	defer cancel()
	_ = p.Signal(ctx, signalKill) // a policy that forbids it leaves the command to itself
}

// probeExec is the request for a command of a container's own description: it runs as the container does.
func probeExec(c *container, id string, command []string) *guestv1.ExecProcessRequest {
	return &guestv1.ExecProcessRequest{
		ContainerId: id, Command: command, Env: c.plan.Env, WorkingDir: c.plan.WorkingDir, User: c.plan.User,
		NoNewPrivileges: c.plan.NoNewPrivileges, Capabilities: capabilities(c.plan.Capabilities),
		Stdio: &guestv1.Stdio{Stdout: !c.plan.NoStdio, Stderr: !c.plan.NoStdio},
	}
}

// tail keeps the end of what is written to it, maxProbeOutput bytes.
type tail struct {
	mu  sync.Mutex
	buf []byte
}

// Write never fails.
func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.buf = keepEnd(t.buf, p, maxProbeOutput)
	return len(p), nil
}

// String is what was kept.
func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(t.buf)
}

// keepEnd appends p to buf and keeps the last limit bytes.
func keepEnd(buf, p []byte, limit int) []byte {
	buf = append(buf, p[max(0, len(p)-limit):]...)
	if extra := len(buf) - limit; extra > 0 {
		buf = append(buf[:0], buf[extra:]...)
	}
	return buf
}
