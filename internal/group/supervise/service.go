// SPDX-License-Identifier: Apache-2.0

package supervise

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"sync"
	"time"

	groupv1 "cofferdam.dev/api/group/v1"
	guestv1 "cofferdam.dev/api/guest/v1"
	"cofferdam.dev/internal/channel"
	"cofferdam.dev/internal/group/logfile"
	"cofferdam.dev/internal/sandbox"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// client is one connection and what it holds.
type client struct {
	s      *supervisor
	broker channel.Broker

	mu     sync.Mutex
	closed bool
	undo   []func()

	// An attached client is owed the end of the process, until it has asked for it and was told.
	waits, told sync.Once
}

// owe has the group's end wait for the client to ask how its process ended.
func (c *client) owe() {
	c.waits.Do(func() {
		c.s.clients.owed.Add(1)
		c.onClose(c.settle)
	})
}

// settle is called when the client has been told, or is gone.
func (c *client) settle() {
	first := false
	c.waits.Do(func() { first = true }) // it was never owed anything
	if !first {
		c.told.Do(func() { c.s.clients.owed.Add(-1) })
	}
}

var _ groupv1.GroupService = (*client)(nil)

// onClose has f called when the connection has ended, at once if it has.
func (c *client) onClose(f func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		go f()
		return
	}
	c.undo = append(c.undo, f)
}

func (c *client) close() {
	c.mu.Lock()
	undo := c.undo
	c.closed, c.undo = true, nil
	c.mu.Unlock()
	for _, f := range undo {
		f()
	}
}

func notFound(err error) error { return status.Error(codes.NotFound, err.Error()) }

// Inspect implements the service.
func (c *client) Inspect(context.Context, *groupv1.InspectRequest) (*groupv1.InspectResponse, error) {
	c.s.mu.Lock()
	defer c.s.mu.Unlock()
	data, err := c.s.record.Marshal()
	if err != nil {
		return nil, err
	}
	return &groupv1.InspectResponse{Record: data}, nil
}

// Attach implements the service.
func (c *client) Attach(_ context.Context, r *groupv1.AttachRequest) (*groupv1.AttachResponse, error) {
	ct, err := c.s.find(r.GetContainer())
	if err != nil {
		return nil, notFound(err)
	}
	resp := &groupv1.AttachResponse{Terminal: ct.plan.Terminal}
	sub, err := ct.hub.attach(r.GetWait(), r.GetReplay())
	if err != nil {
		return nil, err
	}
	c.onClose(func() { ct.hub.detach(sub) })
	process := ct.present().process
	resp.Stdout, err = c.grantOutput(sub, logfile.Stdout, process.Stdout != nil)
	if err != nil {
		return nil, err
	}
	resp.Stderr, err = c.grantOutput(sub, logfile.Stderr, process.Stderr != nil)
	if err != nil {
		return nil, err
	}
	if r.GetStdin() && process.Stdin != nil {
		resp.Stdin, err = c.broker.Grant(func(conn net.Conn) { ct.takeInput(conn) })
		if err != nil {
			return nil, err
		}
	}
	if r.GetWait() {
		c.owe()
		c.s.attachOnce.Do(func() { close(c.s.attached) })
	}
	return resp, nil
}

// grantOutput grants one stream of an attached client. A stream that the process does not have is none.
func (c *client) grantOutput(sub *subscriber, stream string, has bool) ([]byte, error) {
	q := sub.queues[stream]
	if !has {
		q.cut()
		return nil, nil
	}
	if sub.wait {
		c.s.clients.busy.Add(1)
		var once sync.Once
		owed := func() { once.Do(func() { c.s.clients.busy.Add(-1) }) }
		c.onClose(owed)
		return c.broker.Grant(func(conn net.Conn) {
			defer owed()
			q.send(conn)
		})
	}
	return c.broker.Grant(q.send)
}

// takeInput copies a client's input to the process. Its end is the end of the process's input, except on a terminal:
// there the process may have other users.
func (ct *container) takeInput(conn net.Conn) {
	defer func() { _ = conn.Close() }() // it was read to its end
	buf := make([]byte, 32<<10)
	for {
		n, err := conn.Read(buf)
		if n > 0 {
			if ct.input(buf[:n]) != nil && ct.once {
				return
			}
		}
		if err != nil {
			if in := ct.present().process.Stdin; in != nil && !ct.plan.Terminal {
				_ = in.Close() // that is what the client asked for
			}
			return
		}
	}
}

// input writes to the present run's input. Between two runs there is nobody to take it.
func (ct *container) input(p []byte) error {
	ct.stdin.Lock()
	defer ct.stdin.Unlock()
	in := ct.present().process.Stdin
	if in == nil {
		return io.ErrClosedPipe
	}
	_, err := in.Write(p)
	return err
}

// Exec implements the service.
func (c *client) Exec(ctx context.Context, r *groupv1.ExecRequest) (*groupv1.ExecResponse, error) {
	ct, err := c.s.find(r.GetContainer())
	if err != nil {
		return nil, notFound(err)
	}
	if len(r.GetCommand()) == 0 {
		return nil, status.Error(codes.InvalidArgument, "command is empty")
	}
	id := ct.present().id
	p, err := c.s.vm.Guest().Exec(ctx, execRequest(ct, id, r))
	if err != nil {
		return nil, c.s.explain(err)
	}
	ct.started(p.ExecID, id)
	c.onClose(p.CloseStreams)
	if r.GetTerminal() && r.GetColumns() > 0 && r.GetRows() > 0 {
		err = p.Resize(ctx, r.GetColumns(), r.GetRows())
		if err != nil {
			c.s.log.Debug("sizing a new terminal", slog.Any("error", err)) // the client sends its size again when it changes
		}
	}
	resp := &groupv1.ExecResponse{ExecId: p.ExecID}
	for _, o := range []struct {
		stream net.Conn
		token  *[]byte
	}{{p.Stdout, &resp.Stdout}, {p.Stderr, &resp.Stderr}} {
		if o.stream == nil {
			continue
		}
		*o.token, err = c.broker.Grant(func(conn net.Conn) { giveOutput(conn, o.stream) })
		if err != nil {
			return nil, err
		}
	}
	if p.Stdin != nil {
		resp.Stdin, err = c.broker.Grant(func(conn net.Conn) {
			_, _ = io.Copy(p.Stdin, conn)
			_ = p.Stdin.Close() // the end of the client's input is the end of the process's
			_ = conn.Close()
		})
		if err != nil {
			return nil, err
		}
	}
	return resp, nil
}

func execRequest(ct *container, id string, r *groupv1.ExecRequest) *guestv1.ExecProcessRequest {
	e := &guestv1.ExecProcessRequest{
		ContainerId: id, Command: r.GetCommand(), Env: r.GetEnv(), WorkingDir: r.GetWorkingDir(), User: r.GetUser(),
		NoNewPrivileges: ct.plan.NoNewPrivileges,
		Stdio: &guestv1.Stdio{
			Stdin: r.GetStdin() || r.GetTerminal(), Stdout: true, Stderr: !r.GetTerminal(), Terminal: r.GetTerminal(),
		},
	}
	// What the client leaves open is what the container's own process has.
	if len(e.Env) == 0 {
		e.Env = ct.plan.Env
	}
	if e.WorkingDir == "" {
		e.WorkingDir = ct.plan.WorkingDir
	}
	if e.User == "" {
		e.User = ct.plan.User
	}
	e.Capabilities = capabilities(ct.plan.Capabilities)
	if ct.plan.NoStdio {
		e.Stdio = &guestv1.Stdio{}
	}
	return e
}

// giveOutput copies a stream of the guest to a client until either ends.
func giveOutput(conn, from net.Conn) {
	go func() {
		_, _ = io.Copy(io.Discard, conn) // a client that closes its side reads no more
		_ = from.Close()
	}()
	_, _ = io.Copy(conn, from)
	_ = conn.Close() // the client sees the end of the output
	_ = from.Close()
}

// process returns the process that a request names. An exec'd one needs no more than its ID: the guest knows it.
func (c *client) process(ref, execID string) (*container, *sandbox.Process, error) {
	ct, err := c.s.find(ref)
	if err != nil {
		return nil, nil, notFound(err)
	}
	if execID == "" {
		return ct, ct.present().process, nil
	}
	return ct, c.s.vm.Guest().Process(ct.idOf(execID), execID), nil
}

// Signal implements the service.
func (c *client) Signal(ctx context.Context, r *groupv1.SignalRequest) (*groupv1.SignalResponse, error) {
	_, p, err := c.process(r.GetContainer(), r.GetExecId())
	if err != nil {
		return nil, err
	}
	return &groupv1.SignalResponse{}, p.Signal(ctx, r.GetSignal())
}

// Resize implements the service.
func (c *client) Resize(ctx context.Context, r *groupv1.ResizeRequest) (*groupv1.ResizeResponse, error) {
	_, p, err := c.process(r.GetContainer(), r.GetExecId())
	if err != nil {
		return nil, err
	}
	return &groupv1.ResizeResponse{}, p.Resize(ctx, r.GetColumns(), r.GetRows())
}

// Wait implements the service.
func (c *client) Wait(ctx context.Context, r *groupv1.WaitRequest) (*groupv1.WaitResponse, error) {
	ct, p, err := c.process(r.GetContainer(), r.GetExecId())
	if err != nil {
		return nil, err
	}
	if r.GetExecId() == "" {
		return c.waitContainer(ctx, ct)
	}
	resp, err := p.Wait(ctx)
	if err == nil {
		ct.forget(r.GetExecId())
		return &groupv1.WaitResponse{ExitCode: resp.GetExitCode(), Reason: c.s.why(resp.GetExitCode(), resp.GetOutOfMemory())}, nil
	}
	if guestv1.DenialFrom(err) != nil || ctx.Err() != nil {
		return nil, err
	}
	return &groupv1.WaitResponse{Broken: true, Reason: c.s.loss(err)}, nil
}

// waitContainer waits for the end of a container that is not started again.
func (c *client) waitContainer(ctx context.Context, ct *container) (*groupv1.WaitResponse, error) {
	defer c.settle()
	done, end := ct.ending()
	select {
	case <-done:
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-c.s.ended: // perhaps before the container ran
		select {
		case <-done:
		default:
			return &groupv1.WaitResponse{Broken: true, Reason: "the group ended before the container ran"}, nil
		}
	}
	e := end()
	return &groupv1.WaitResponse{ExitCode: uint32(e.ExitCode), Reason: e.Reason, Broken: e.Broken}, nil
}

// Stop implements the service.
func (c *client) Stop(ctx context.Context, r *groupv1.StopRequest) (*groupv1.StopResponse, error) {
	select {
	case c.s.stop <- time.Duration(r.GetTimeoutMs()) * time.Millisecond: // the loop may be busy, and hears of each request
	case <-c.s.ended:
	case <-ctx.Done():
	}
	select {
	case <-c.s.ended:
		return &groupv1.StopResponse{}, nil
	case <-ctx.Done():
		return nil, errors.Join(ctx.Err(), errStopping)
	}
}

var errStopping = errors.New("the group goes on stopping")
