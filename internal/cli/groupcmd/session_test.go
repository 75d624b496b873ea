// SPDX-License-Identifier: Apache-2.0

package groupcmd

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/creack/pty"
	"golang.org/x/term"

	"cofferdam.dev/internal/cli/console"
)

// patience bounds what a test waits for on a loaded machine.
const patience = time.Minute

// fakeProcess records what a session does to it.
type fakeProcess struct {
	mu      sync.Mutex
	calls   []string
	refuse  error // what Signal returns
	called  chan string
	endWith chan int
	reason  string
}

func newFake() *fakeProcess {
	return &fakeProcess{called: make(chan string, 16), endWith: make(chan int, 1)}
}

func (f *fakeProcess) note(format string, args ...any) {
	f.mu.Lock()
	defer f.mu.Unlock()
	c := fmt.Sprintf(format, args...)
	f.calls = append(f.calls, c)
	f.called <- c
}

func (f *fakeProcess) Signal(_ context.Context, n syscall.Signal) error {
	f.note("signal %d", n)
	return f.refuse
}

func (f *fakeProcess) Resize(_ context.Context, columns, rows int) error {
	f.note("resize %dx%d", columns, rows)
	return nil
}

func (f *fakeProcess) Wait(ctx context.Context) (int, string, error) {
	select {
	case code := <-f.endWith:
		return code, f.reason, nil
	case <-ctx.Done():
		return 0, "", ctx.Err()
	}
}

func (f *fakeProcess) Stop(_ context.Context, now bool) error {
	f.note("stop now=%v", now)
	f.endWith <- 137
	return nil
}

func (f *fakeProcess) expect(t *testing.T, want string) {
	t.Helper()
	select {
	case got := <-f.called:
		if got != want {
			t.Errorf("the session called %q, want %q", got, want)
		}
	case <-time.After(patience):
		t.Fatalf("the session did not call %q", want)
	}
}

type result struct {
	code int
	err  error
}

func start(s *session) <-chan result {
	if s.say == nil {
		s.say = func(string, ...any) {}
	}
	if s.now == nil {
		s.now = time.Now
	}
	c := make(chan result, 1)
	go func() {
		code, err := s.run(context.Background())
		c <- result{code, err}
	}()
	return c
}

func finished(t *testing.T, c <-chan result, code int) {
	t.Helper()
	select {
	case r := <-c:
		if r.err != nil || r.code != code {
			t.Errorf("the session ended with %d, %v; want %d", r.code, r.err, code)
		}
	case <-time.After(patience):
		t.Fatal("the session did not end")
	}
}

// closeNoter is a remote standard input.
type closeNoter struct {
	bytes.Buffer
	closed chan struct{}
}

func (c *closeNoter) Close() error {
	close(c.closed)
	return nil
}

func TestSessionMovesStreamsAndExitCode(t *testing.T) {
	t.Parallel()
	f := newFake()
	stdin := &closeNoter{closed: make(chan struct{})}
	var out, errOut bytes.Buffer
	done := start(&session{
		in: strings.NewReader("to the process"), out: &out, err: &errOut, process: f,
		stdin: stdin, stdout: strings.NewReader("to the user"), stderr: strings.NewReader("a complaint"),
	})
	select {
	case <-stdin.closed:
	case <-time.After(patience):
		t.Fatal("standard input was not closed at its end")
	}
	f.endWith <- 42
	finished(t, done, 42)
	if stdin.String() != "to the process" || out.String() != "to the user" || errOut.String() != "a complaint" {
		t.Errorf("streams are %q, %q, %q", stdin.String(), out.String(), errOut.String())
	}
}

func TestSessionWithoutInputClosesIt(t *testing.T) {
	t.Parallel()
	f := newFake()
	stdin := &closeNoter{closed: make(chan struct{})}
	done := start(&session{process: f, stdin: stdin, out: io.Discard, err: io.Discard})
	<-stdin.closed
	f.endWith <- 0
	finished(t, done, 0)
}

// Output that is still on its way when the process has ended must not be lost.
func TestSessionWaitsForTheRestOfTheOutput(t *testing.T) {
	t.Parallel()
	f := newFake()
	r, w := io.Pipe()
	var out bytes.Buffer
	done := start(&session{process: f, out: &out, err: io.Discard, stdout: r})
	f.endWith <- 0
	for range 20 {
		time.Sleep(10 * time.Millisecond)
		_, _ = w.Write([]byte("x"))
	}
	_ = w.Close()
	finished(t, done, 0)
	if out.Len() != 20 {
		t.Errorf("%d bytes of 20 arrived", out.Len())
	}
}

func TestSessionForwardsSignals(t *testing.T) {
	t.Parallel()
	f := newFake()
	signals := make(chan os.Signal, 4)
	done := start(&session{process: f, signals: signals, out: io.Discard, err: io.Discard})
	signals <- syscall.SIGTERM
	f.expect(t, "signal 15")
	f.endWith <- 143
	finished(t, done, 143)
}

func TestSessionSecondInterruptStopsTheGroup(t *testing.T) {
	t.Parallel()
	f := newFake()
	signals := make(chan os.Signal, 4)
	done := start(&session{process: f, signals: signals, out: io.Discard, err: io.Discard, now: ticks(time.Second)})
	signals <- syscall.SIGINT
	f.expect(t, "signal 2")
	signals <- syscall.SIGINT
	f.expect(t, "stop now=true")
	finished(t, done, 137)
}

func TestSessionThirdInterruptLeaves(t *testing.T) {
	t.Parallel()
	f := newFake()
	f.endWith = make(chan int) // Stop hangs
	signals := make(chan os.Signal, 4)
	done := start(&session{process: f, signals: signals, out: io.Discard, err: io.Discard, now: ticks(time.Second)})
	signals <- syscall.SIGINT
	signals <- syscall.SIGINT
	signals <- syscall.SIGINT
	r := <-done
	var left *console.Failure
	if !errors.As(r.err, &left) || left.Code != console.ExitInterrupt || !errors.Is(r.err, console.ErrSilent) {
		t.Errorf("the session ended with %d, %v; want to leave with %d", r.code, r.err, console.ExitInterrupt)
	}
}

func TestSessionStopsWhereThePolicyRefusesTheSignal(t *testing.T) {
	t.Parallel()
	f := newFake()
	f.refuse = errors.New("signal not in the policy")
	var said bytes.Buffer
	signals := make(chan os.Signal, 4)
	done := start(&session{process: f, signals: signals, out: io.Discard, err: io.Discard,
		say: func(format string, args ...any) { fmt.Fprintf(&said, format+"\n", args...) }})
	signals <- syscall.SIGINT
	f.expect(t, "signal 2")
	f.expect(t, "stop now=false")
	finished(t, done, 137)
	if !strings.Contains(said.String(), "signal not in the policy") {
		t.Errorf("the session said %q", said.String())
	}
}

func TestSessionSaysWhyAProcessEnded(t *testing.T) {
	t.Parallel()
	f := newFake()
	f.reason = "out of memory\x1b[2J"
	var said bytes.Buffer
	done := start(&session{process: f, out: io.Discard, err: io.Discard,
		say: func(format string, args ...any) { fmt.Fprintf(&said, format, args...) }})
	f.endWith <- 137
	finished(t, done, 137)
	if !strings.Contains(said.String(), "out of memory?[2J") {
		t.Errorf("the session said %q", said.String())
	}
}

func TestSessionRawTerminal(t *testing.T) {
	t.Parallel()
	master, slave, err := pty.Open()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = master.Close(), slave.Close() })
	err = pty.Setsize(master, &pty.Winsize{Cols: 101, Rows: 37})
	if err != nil {
		t.Fatal(err)
	}
	before, err := term.GetState(int(slave.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	f := newFake()
	toProcess, stdin := io.Pipe()
	stdout, fromProcess := io.Pipe()
	signals := make(chan os.Signal, 1)
	done := start(&session{in: slave, out: slave, err: io.Discard, terminal: slave, signals: signals,
		process: f, stdin: stdin, stdout: stdout})
	f.expect(t, "resize 101x37")

	// Raw: Ctrl-C is a byte for the process and not a signal, nothing waits for a line, and newlines stay as they are.
	_, err = master.Write([]byte{'a', 3})
	if err != nil {
		t.Fatal(err)
	}
	got := make([]byte, 2)
	_, err = io.ReadFull(toProcess, got)
	if err != nil || got[0] != 'a' || got[1] != 3 {
		t.Errorf("the process read %q, %v", got, err)
	}
	_, err = fromProcess.Write([]byte("one\ntwo"))
	if err != nil {
		t.Fatal(err)
	}
	shown := make([]byte, 7)
	_, err = io.ReadFull(master, shown)
	if err != nil || string(shown) != "one\ntwo" {
		t.Errorf("the terminal shows %q, %v", shown, err)
	}

	err = pty.Setsize(master, &pty.Winsize{Cols: 80, Rows: 25})
	if err != nil {
		t.Fatal(err)
	}
	signals <- syscall.SIGWINCH
	f.expect(t, "resize 80x25")

	_ = fromProcess.Close()
	f.endWith <- 0
	finished(t, done, 0)
	after, err := term.GetState(int(slave.Fd()))
	if err != nil || fmt.Sprint(after) != fmt.Sprint(before) {
		t.Errorf("the terminal was not restored: %v, %v", after, err)
	}
}

// refuses is standard output that takes nothing.
type refuses struct{ err error }

func (r refuses) Write([]byte) (int, error) {
	return 0, &os.PathError{Op: "write", Path: "out", Err: r.err}
}

func TestSessionStopsWhenOutputIsLost(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		err  error
		stop string
		code int
		say  string
	}{
		"the reader went away": {syscall.EPIPE, "stop now=true", console.ExitPipe, ""},
		"the disk is full":     {syscall.ENOSPC, "stop now=false", console.ExitOwn, "some output is lost: write out: no space left on device"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFake()
			// More than any buffer on the way: what is not taken must not hold up the end.
			c := start(&session{out: refuses{tc.err}, err: io.Discard, process: f, stdout: strings.NewReader(strings.Repeat("y\n", 1<<20))})
			f.expect(t, tc.stop)
			select {
			case r := <-c:
				got := &console.Failure{}
				if !errors.As(own(r.err), &got) || got.Code != tc.code {
					t.Errorf("the session ended with %v, want the exit code %d", r.err, tc.code)
				}
				if silent := errors.Is(r.err, console.ErrSilent); silent != (tc.say == "") || !silent && r.err.Error() != tc.say {
					t.Errorf("the session says %q, want %q", r.err, tc.say)
				}
			case <-time.After(patience):
				t.Fatal("the session did not end")
			}
		})
	}
}

// ticks is a clock that goes on by a step whenever it is read.
func ticks(step time.Duration) func() time.Time {
	now := time.Unix(1700000000, 0)
	return func() time.Time {
		now = now.Add(step)
		return now
	}
}

// A signal that is sent to the process and to its group, as timeout(1) does, is one wish and not an insistence.
func TestSessionTakesAnEchoForOneSignal(t *testing.T) {
	t.Parallel()
	f := newFake()
	signals := make(chan os.Signal, 4)
	done := start(&session{process: f, signals: signals, out: io.Discard, err: io.Discard, now: ticks(time.Millisecond)})
	signals <- syscall.SIGTERM
	signals <- syscall.SIGTERM
	f.expect(t, "signal 15")
	signals <- syscall.SIGUSR1 // the echo was taken before this one
	f.expect(t, "signal 10")
	signals <- syscall.SIGUSR1
	f.expect(t, "signal 10")
	f.endWith <- 0
	finished(t, done, 0)
	if len(f.called) > 0 {
		t.Errorf("the session called %q", f.calls)
	}
}
