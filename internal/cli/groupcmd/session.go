// SPDX-License-Identifier: Apache-2.0

package groupcmd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/term"

	"cofferdam.dev/internal/cli/console"
	"cofferdam.dev/internal/plain"
)

const (
	// insist is how soon after a signal the next one means that the group shall stop now.
	insist = 3 * time.Second
	// echo is how soon after a signal the same one is the same wish: some send it to us and to our process group.
	echo = 200 * time.Millisecond
	// drainIdle is how long output may pause after the process has ended before the rest is given up: something in
	// the container may hold a stream open for ever.
	drainIdle = 10 * time.Second
	// callTimeout bounds one small request to the supervisor.
	callTimeout = time.Minute
)

// remote is a process of a group, as far as a session steers it.
type remote interface {
	// Signal sends a signal to the process.
	Signal(ctx context.Context, number syscall.Signal) error
	// Resize sets the size of its terminal.
	Resize(ctx context.Context, columns, rows int) error
	// Wait returns its exit code, and one sentence where it did not end by itself.
	Wait(ctx context.Context) (code int, reason string, err error)
	// Stop ends the whole group, or whatever stands for it: politely, or at once.
	Stop(ctx context.Context, now bool) error
}

// session ties the standard streams of this process to a process of a group.
type session struct {
	in       io.Reader // nil if standard input is not wanted
	out, err io.Writer
	terminal *os.File // set to raw mode for the session; nil without one
	signals  <-chan os.Signal
	say      func(format string, args ...any)
	now      func() time.Time

	process remote
	stdin   io.WriteCloser // nil if the policy grants none
	stdout  io.Reader      // likewise
	stderr  io.Reader      // likewise; unused with a terminal
}

// forwarded are the signals that a foreground session passes on.
func forwarded() (<-chan os.Signal, func()) {
	c := make(chan os.Signal, 16)
	signal.Notify(c, syscall.SIGINT, syscall.SIGTERM, syscall.SIGQUIT, syscall.SIGHUP, syscall.SIGUSR1, syscall.SIGUSR2, syscall.SIGWINCH)
	pipe := make(chan os.Signal, 1) // nobody reads it: a reader that went away is seen where output is written
	signal.Notify(pipe, syscall.SIGPIPE)
	return c, func() {
		signal.Stop(c)
		signal.Stop(pipe)
	}
}

// run lasts until the process has ended and its output is written, and returns the exit code; or until the user insists
// on leaving, which is a silent failure. A process whose output nobody takes any more is stopped, as it would be at the
// head of a pipe.
func (s *session) run(ctx context.Context) (int, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if s.terminal != nil {
		before, err := term.MakeRaw(int(s.terminal.Fd()))
		if err != nil {
			return 0, fmt.Errorf("setting the terminal to raw mode: %w", err)
		}
		defer func() { _ = term.Restore(int(s.terminal.Fd()), before) }() // the terminal went away
		s.resize(ctx)
	}
	var moved atomic.Int64
	lost := make(chan error, 2)
	outDone := pump(s.out, s.stdout, &moved, lost)
	errDone := pump(s.err, s.stderr, &moved, lost)
	s.feed()

	ended := make(chan end, 1)
	go func() {
		code, reason, err := s.process.Wait(ctx)
		ended <- end{code, reason, err}
	}()
	var asked presses
	var undelivered error
	for {
		select {
		case err := <-lost:
			if undelivered == nil {
				s.giveUp(ctx, err)
			}
			undelivered = errors.Join(undelivered, err)
		case e := <-ended:
			if ctx.Err() != nil {
				return 0, ctx.Err() // our caller has left, and waits for no more output
			}
			drain(outDone, errDone, &moved)
			select {
			case err := <-lost: // the last output was too quick for us
				undelivered = errors.Join(undelivered, err)
			default:
			}
			if undelivered != nil {
				return 0, undeliveredFailure(undelivered)
			}
			return s.outcome(e)
		case sig := <-s.signals:
			if err := s.signalled(ctx, sig, &asked); err != nil {
				return 0, err
			}
		}
	}
}

// end is how a process ended.
type end struct {
	code   int
	reason string
	err    error
}

// outcome returns the exit code of a process whose output is written.
func (s *session) outcome(e end) (int, error) {
	if e.err != nil {
		return 0, e.err
	}
	if e.reason != "" {
		s.say("cofferdam: the process ended: %s", plain.Printable(e.reason))
	}
	return e.code, nil
}

// presses counts how often in a row the user asked for the end.
type presses struct {
	last   time.Time
	latest os.Signal
	count  int
}

// signalled passes a signal on. One that repeats too soon is an echo of the same key; who asks for the end a third time
// leaves, which is the error.
func (s *session) signalled(ctx context.Context, sig os.Signal, p *presses) error {
	switch sig {
	case syscall.SIGWINCH:
		s.resize(ctx)
		return nil
	case syscall.SIGUSR1, syscall.SIGUSR2: // never a wish to end, however often
		s.deliver(ctx, sig.(syscall.Signal), 1)
		return nil
	}
	since := s.now().Sub(p.last)
	if sig == p.latest && since < echo {
		return nil
	}
	if since > insist {
		p.count = 0
	}
	p.last, p.latest = s.now(), sig
	p.count++
	if p.count > 2 {
		return &console.Failure{Code: console.ExitInterrupt, Err: console.ErrLeft}
	}
	s.deliver(ctx, sig.(syscall.Signal), p.count)
	return nil
}

// giveUp stops the process because its output can not be written: at once when the reader went away, which ends a local
// process at once as well, and in order for any other reason.
func (s *session) giveUp(ctx context.Context, err error) {
	pipe := errors.Is(err, syscall.EPIPE)
	if !pipe {
		s.say("cofferdam: stopping, since output can not be written")
	}
	go func() { _ = s.process.Stop(ctx, pipe) }() // Wait tells how it ended
}

// undeliveredFailure is how a session ends whose output could not be written. A reader that went away is no news.
func undeliveredFailure(err error) error {
	if errors.Is(err, syscall.EPIPE) {
		return console.Quiet(console.ExitPipe)
	}
	return fmt.Errorf("some output is lost: %w", err)
}

// deliver passes a signal on. A second one in a row stops the group at once; where the policy refuses the signal, the
// group is stopped as `group stop` does.
func (s *session) deliver(ctx context.Context, sig syscall.Signal, pressed int) {
	if pressed > 1 {
		s.say("cofferdam: stopping now; once more leaves without waiting")
		go func() { _ = s.process.Stop(ctx, true) }() // Wait tells how it ended
		return
	}
	go func() {
		c, cancel := context.WithTimeout(ctx, callTimeout)
		defer cancel()
		err := s.process.Signal(c, sig)
		if ctx.Err() != nil {
			return
		}
		if err == nil {
			if sig == syscall.SIGINT {
				s.say("cofferdam: sent %s; again within %d seconds stops the group", sig, int(insist.Seconds()))
			}
			return
		}
		switch sig {
		case syscall.SIGINT, syscall.SIGTERM, syscall.SIGQUIT, syscall.SIGHUP:
			s.say("cofferdam: stopping the group: %s can not be sent: %v", sig, brief(err))
			_ = s.process.Stop(ctx, false) // Wait tells how it ended
		default:
			s.say("cofferdam: %s can not be sent: %v", sig, brief(err))
		}
	}()
}

// brief is the one line of an error.
func brief(err error) error {
	var f *console.Failure
	if errors.As(console.Explain(err), &f) {
		return f.Err
	}
	return err
}

func (s *session) resize(ctx context.Context) {
	if s.terminal == nil {
		return
	}
	columns, rows, err := term.GetSize(int(s.terminal.Fd()))
	if err != nil {
		return
	}
	c, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	_ = s.process.Resize(c, columns, rows) // a wrong size is no reason to end the session
}

// feed copies standard input until it ends. The goroutine may outlive the session in a read that nobody answers; the
// process ends soon after.
func (s *session) feed() {
	if s.stdin == nil {
		return
	}
	if s.in == nil {
		_ = s.stdin.Close() // nothing was written
		return
	}
	go func() {
		_, _ = io.Copy(s.stdin, s.in) // the process stopped reading, or ended
		_ = s.stdin.Close()           // likewise
	}()
}

// pump copies until the end of from and closes the channel that it returns. What can not be written is told to lost,
// once; the rest is then thrown away, so that nothing waits for us.
func pump(to io.Writer, from io.Reader, moved *atomic.Int64, lost chan<- error) <-chan struct{} {
	done := make(chan struct{})
	if from == nil {
		close(done)
		return done
	}
	go func() {
		defer close(done)
		buf := make([]byte, 32<<10)
		for {
			n, err := from.Read(buf)
			moved.Add(int64(n) + 1)
			if n > 0 && to != io.Discard {
				_, werr := to.Write(buf[:n])
				if werr != nil {
					lost <- werr
					to = io.Discard
				}
			}
			if err != nil {
				return
			}
		}
	}()
	return done
}

// drain waits for the rest of the output, as long as there is some.
func drain(out, err <-chan struct{}, moved *atomic.Int64) {
	for _, c := range []<-chan struct{}{out, err} {
		for seen := int64(-1); ; {
			select {
			case <-c:
			case <-time.After(drainIdle):
				if n := moved.Load(); n != seen {
					seen = n
					continue
				}
				return
			}
			break
		}
	}
}
