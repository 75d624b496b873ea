// SPDX-License-Identifier: Apache-2.0

package groupcmd

import (
	"context"
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"

	"golang.org/x/term"

	"cofferdam.dev/internal/cli/console"
	"cofferdam.dev/internal/group"
	"cofferdam.dev/internal/plain"
)

// groupProcess is a process of a group that runs: a container's first one, or one that was started by exec.
type groupProcess struct {
	client    *group.Client
	container string
	exec      string // the exec's ID, empty for the container's first process
}

var _ remote = (*groupProcess)(nil)

func (p *groupProcess) Signal(ctx context.Context, number syscall.Signal) error {
	return p.client.Signal(ctx, p.container, p.exec, uint32(number))
}

func (p *groupProcess) Resize(ctx context.Context, columns, rows int) error {
	return p.client.Resize(ctx, p.container, p.exec, uint32(columns), uint32(rows))
}

func (p *groupProcess) Wait(ctx context.Context) (int, string, error) {
	e, err := p.client.Wait(ctx, p.container, p.exec)
	if err != nil {
		return 0, "", err
	}
	if e.Broken {
		return 0, "", fmt.Errorf("the process was lost with its machine: %s", plain.Printable(e.Reason))
	}
	return e.ExitCode, e.Reason, nil
}

// Stop ends the group; for an exec'd process only that process, since the group is not the caller's to end.
func (p *groupProcess) Stop(ctx context.Context, now bool) error {
	if p.exec != "" {
		return p.client.Signal(ctx, p.container, p.exec, uint32(syscall.SIGKILL))
	}
	timeout := time.Duration(0) // as the plan says
	if now {
		timeout = time.Millisecond // zero would mean the plan's
	}
	return p.client.Stop(ctx, timeout)
}

// converse runs a foreground session with a process. signals are read from before the process started, so that none
// is lost.
func (a *App) converse(ctx context.Context, p remote, s *group.Streams, stdin bool, signals <-chan os.Signal) (int, error) {
	t := &session{out: a.Out, err: a.Err, signals: signals, say: a.Say, now: a.Now, process: p}
	// Assigned one by one: a nil connection in a non-nil interface would not be nil.
	if s.Stdin != nil {
		t.stdin = s.Stdin
	}
	if s.Stdout != nil {
		t.stdout = s.Stdout
	}
	if s.Stderr != nil {
		t.stderr = s.Stderr
	}
	if stdin {
		t.in = a.In
	}
	if s.Terminal && term.IsTerminal(int(a.In.Fd())) {
		t.terminal = a.In
	}
	return t.run(ctx)
}

// needTerminal checks that -t has a terminal to work with.
func (a *App) needTerminal() error {
	if term.IsTerminal(int(a.In.Fd())) {
		return nil
	}
	return &console.Failure{Code: console.ExitUsage, Err: errors.New("-t wants standard input to be a terminal, and it is not"), Fix: "leave -t out; -i alone passes standard input on"}
}

// own gives a failure of cofferdam itself the exit code that can not be mistaken for the process's.
func own(err error) error {
	if err == nil {
		return nil
	}
	err = console.Explain(err)
	f := &console.Failure{}
	if !errors.As(err, &f) {
		return &console.Failure{Code: console.ExitOwn, Err: err}
	}
	if f.Code == console.ExitError {
		g := *f
		g.Code = console.ExitOwn
		return &g
	}
	return err
}
