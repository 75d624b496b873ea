// SPDX-License-Identifier: Apache-2.0

package group

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net"
	"time"

	groupv1 "cofferdam.dev/api/group/v1"
	guestv1 "cofferdam.dev/api/guest/v1"
	"cofferdam.dev/internal/channel"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// Client talks to the supervisor of one group.
type Client struct {
	ch  *channel.Client
	svc groupv1.GroupService
}

// Dial connects to the supervisor of the group that ref names (see Lookup). The error is ErrNotRunning when the group
// has none.
func (s *Store) Dial(ref string) (*Client, error) {
	g, err := s.Lookup(ref)
	if err != nil {
		return nil, err
	}
	if !g.Alive {
		return nil, fmt.Errorf("%w: %s is %s", ErrNotRunning, g.Record.Name, g.Record.State)
	}
	return DialDir(g.Dir)
}

// DialDir connects to the supervisor of the group directory dir.
func DialDir(dir string) (*Client, error) {
	var conn net.Conn
	err := viaDirectory(dir, func(path string) error {
		var err error
		conn, err = net.Dial("unix", path)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("connecting to the group's supervisor: %w", err)
	}
	ch, err := channel.NewClient(conn)
	if err != nil {
		_ = conn.Close() // the first error is the telling one
		return nil, fmt.Errorf("connecting to the group's supervisor: %w", err)
	}
	return &Client{ch: ch, svc: groupv1.NewGroupClient(ch.RPC())}, nil
}

// ErrSupervisorGone says that the supervisor ended, or was killed, before it could answer. The record says more.
var ErrSupervisorGone = errors.New("the group's supervisor is gone")

// RemoteError is a failure that the supervisor reported and that is no denial.
type RemoteError struct {
	Code    codes.Code
	Message string
}

// Error returns the supervisor's message.
func (e *RemoteError) Error() string { return e.Message }

// goneGrace is how long a connection that broke may take to be known as broken.
const goneGrace = time.Second

// failed names what was asked. A refusal of the guest becomes a *guestv1.Denial in the error's chain, any other answer
// a *RemoteError, and none at all because the connection broke ErrSupervisorGone: in which of its layers the break is
// noticed first is chance.
func (c *Client) failed(doing string, err error) error {
	d := guestv1.DenialFrom(err)
	if d != nil {
		return fmt.Errorf("%s: %w", doing, d)
	}
	s, ok := status.FromError(err)
	if ok {
		return fmt.Errorf("%s: %w", doing, &RemoteError{Code: s.Code(), Message: s.Message()})
	}
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("%s: %w", doing, err)
	}
	select {
	case <-c.Done():
		return fmt.Errorf("%s: %w", doing, ErrSupervisorGone)
	case <-time.After(goneGrace):
		return fmt.Errorf("%s: %w", doing, err)
	}
}

// Close ends the connection and every stream of it.
func (c *Client) Close() error { return c.ch.Close() }

// Done is closed when the supervisor is gone.
func (c *Client) Done() <-chan struct{} { return c.ch.Done() }

// Inspect returns the group's record as the supervisor has it now.
func (c *Client) Inspect(ctx context.Context) (*Record, error) {
	resp, err := c.svc.Inspect(ctx, &groupv1.InspectRequest{})
	if err != nil {
		return nil, c.failed("inspecting the group", err)
	}
	return ParseRecord(resp.GetRecord())
}

// Streams are the standard streams of a process as a client sees them. Those that were not granted are nil. With a
// terminal, Stdout is the terminal's output and Stderr is nil. Close each: closing Stdin is the end of input.
type Streams struct {
	Stdin, Stdout, Stderr net.Conn
	Terminal              bool
}

// Close closes all streams.
func (s *Streams) Close() error {
	var errs []error
	for _, c := range []net.Conn{s.Stdin, s.Stdout, s.Stderr} {
		if c != nil {
			errs = append(errs, c.Close())
		}
	}
	return errors.Join(errs...)
}

// AttachOptions say what to attach to.
type AttachOptions struct {
	// Container is a name, an ID or a prefix; empty is the only container.
	Container string
	Stdin     bool
	// Replay sends what the log already holds first.
	Replay bool
	// Wait makes the container wait when the caller does not read. Without it a caller that falls far behind is cut
	// off.
	Wait bool
}

// Attach opens live copies of the standard streams of a container's init process.
func (c *Client) Attach(ctx context.Context, opts AttachOptions) (*Streams, error) {
	resp, err := c.svc.Attach(ctx, &groupv1.AttachRequest{
		Container: opts.Container, Stdin: opts.Stdin, Replay: opts.Replay, Wait: opts.Wait,
	})
	if err != nil {
		return nil, c.failed("attaching", err)
	}
	return c.open(resp.GetStdin(), resp.GetStdout(), resp.GetStderr(), resp.GetTerminal())
}

// open opens the streams whose tokens were granted.
func (c *Client) open(stdin, stdout, stderr []byte, terminal bool) (*Streams, error) {
	s := &Streams{Terminal: terminal}
	for _, o := range []struct {
		token []byte
		conn  *net.Conn
	}{{stdout, &s.Stdout}, {stderr, &s.Stderr}, {stdin, &s.Stdin}} {
		if len(o.token) == 0 {
			continue
		}
		conn, err := c.ch.OpenStream(o.token)
		if err != nil {
			return nil, errors.Join(err, s.Close())
		}
		*o.conn = conn
	}
	return s, nil
}

// ExecOptions describe a further process.
type ExecOptions struct {
	Container  string
	Command    []string
	Env        []string
	WorkingDir string
	User       string
	Stdin      bool
	Terminal   bool
	// Columns and Rows are the terminal's first size; 0 leaves it to the guest.
	Columns, Rows uint32
}

// Exec starts a process in a running container. The returned ID names it in Signal, Resize and Wait.
func (c *Client) Exec(ctx context.Context, opts ExecOptions) (string, *Streams, error) {
	resp, err := c.svc.Exec(ctx, &groupv1.ExecRequest{
		Container: opts.Container, Command: opts.Command, Env: opts.Env, WorkingDir: opts.WorkingDir, User: opts.User,
		Stdin: opts.Stdin, Terminal: opts.Terminal, Columns: opts.Columns, Rows: opts.Rows,
	})
	if err != nil {
		return "", nil, c.failed("starting the process", err)
	}
	s, err := c.open(resp.GetStdin(), resp.GetStdout(), resp.GetStderr(), opts.Terminal)
	return resp.GetExecId(), s, err
}

// Signal sends a Linux signal to a container's init process, or to the exec'd process execID.
func (c *Client) Signal(ctx context.Context, container, execID string, signal uint32) error {
	_, err := c.svc.Signal(ctx, &groupv1.SignalRequest{Container: container, ExecId: execID, Signal: signal})
	if err != nil {
		return c.failed("signalling", err)
	}
	return nil
}

// Resize sets the size of a terminal.
func (c *Client) Resize(ctx context.Context, container, execID string, columns, rows uint32) error {
	_, err := c.svc.Resize(ctx, &groupv1.ResizeRequest{
		Container: container, ExecId: execID, Columns: columns, Rows: rows,
	})
	if err != nil {
		return c.failed("resizing the terminal", err)
	}
	return nil
}

// Ended is how a process ended.
type Ended struct {
	ExitCode int
	// Reason is empty for a normal end, otherwise one sentence.
	Reason string
	// Broken is true when the process did not end by itself but was lost with its machine; ExitCode means nothing then.
	Broken bool
}

// Wait blocks until a process has ended. A container that is started again has not: its last end counts.
func (c *Client) Wait(ctx context.Context, container, execID string) (Ended, error) {
	resp, err := c.svc.Wait(ctx, &groupv1.WaitRequest{Container: container, ExecId: execID})
	if err != nil {
		return Ended{}, c.failed("waiting for the process", err)
	}
	return Ended{ExitCode: int(resp.GetExitCode()), Reason: resp.GetReason(), Broken: resp.GetBroken()}, nil
}

// Stop stops the group and returns when it is down. timeout is for each container; zero means what the plan says.
func (c *Client) Stop(ctx context.Context, timeout time.Duration) error {
	_, err := c.svc.Stop(ctx, &groupv1.StopRequest{TimeoutMs: uint32(min(timeout.Milliseconds(), 1<<31))})
	if err != nil {
		return c.failed("stopping the group", err)
	}
	return nil
}

// Restart starts a container again, or all that have run if container is empty, and returns when each runs or has ended
// once more. The machine stays, and with it the volumes.
func (c *Client) Restart(ctx context.Context, container string) error {
	_, err := c.svc.Restart(ctx, &groupv1.RestartRequest{Container: container})
	if err != nil {
		return c.failed("restarting", err)
	}
	return nil
}

// Stats are the use of resources of a group's containers, as the guest tells it.
type Stats struct {
	Containers []ContainerStats `json:"containers"`
	// MemoryTotalBytes and MemoryAvailableBytes are the machine's.
	MemoryTotalBytes     uint64 `json:"memory_total_bytes"`
	MemoryAvailableBytes uint64 `json:"memory_available_bytes"`
}

// ContainerStats are the use of resources of one container.
type ContainerStats struct {
	Name string `json:"name"`
	// ID is the present run's; State is "created", "running" or "stopped".
	ID          string        `json:"id"`
	State       string        `json:"state"`
	MemoryBytes uint64        `json:"memory_bytes"`
	CPU         time.Duration `json:"cpu_ns"` // since the container's start, of all processors
	Processes   int           `json:"processes"`
}

// Stats asks for the containers' use of resources. The policy may refuse it.
func (c *Client) Stats(ctx context.Context) (*Stats, error) {
	resp, err := c.svc.Stats(ctx, &groupv1.StatsRequest{})
	if err != nil {
		return nil, c.failed("asking for the use of resources", err)
	}
	s := &Stats{MemoryTotalBytes: resp.GetMemoryTotalBytes(), MemoryAvailableBytes: resp.GetMemoryAvailableBytes()}
	for _, x := range resp.GetContainers() {
		s.Containers = append(s.Containers, ContainerStats{
			Name: x.GetName(), ID: x.GetId(), State: x.GetState(), MemoryBytes: x.GetMemoryBytes(),
			CPU: time.Duration(min(x.GetCpuUsec(), math.MaxInt64/1000)) * time.Microsecond, Processes: int(x.GetPids()),
		})
	}
	return s, nil
}

// Loaded is a signed message that the guest's policy has accepted.
type Loaded struct {
	Issuer  string
	Feed    string   // of a trust list, its subject
	Ledgers []string // of a trust list, those whose receipts count from now on
}

// Load hands a signed policy fragment, or a transparency trust list, to the guest.
func (c *Client) Load(ctx context.Context, message []byte, trustList bool) (Loaded, error) {
	resp, err := c.svc.Load(ctx, &groupv1.LoadRequest{Message: message, TrustList: trustList})
	if err != nil {
		return Loaded{}, c.failed("loading into the group", err)
	}
	return Loaded{Issuer: resp.GetIssuer(), Feed: resp.GetFeed(), Ledgers: resp.GetLedgers()}, nil
}

// Attest returns an evidence document (package evidence) of the group's guest over nonce and runtimeData, as JSON.
func (c *Client) Attest(ctx context.Context, nonce, runtimeData []byte) ([]byte, error) {
	resp, err := c.svc.Attest(ctx, &groupv1.AttestRequest{Nonce: nonce, RuntimeData: runtimeData})
	if err != nil {
		return nil, c.failed("getting evidence", err)
	}
	return resp.GetEvidence(), nil
}
