// SPDX-License-Identifier: Apache-2.0

package group

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	guestv1 "cofferdam.dev/api/guest/v1"

	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/encoding/protojson"
)

// The descriptors that a supervisor inherits.
const (
	LockFD   = 3 // the group's lock, held
	StatusFD = 4 // one end of a socket pair; Events go out, and its end means that the starter is gone

	ContentsFD = 5 // a sealed file in memory with the volumes' files, only for plans that need it
)

// The stages of a start, in order. Every stage is reported when it is done.
const (
	StageMachine    = "machine"    // QEMU runs
	StageGuest      = "guest"      // the agent inside answers
	StagePolicy     = "policy"     // the policy is in force
	StageLayers     = "layers"     // layers and root filesystems are mounted
	StageContainers = "containers" // the containers are created
	StageAttach     = "attach"     // the supervisor waits for a client to attach
	StageRunning    = "running"    // the containers run; the last event of a good start
)

// Event is one line of a supervisor's report about its start.
type Event struct {
	Stage string    `json:"stage,omitempty"`
	Time  time.Time `json:"time"`
	// Warning is something that a person should know and that does not end the start. An event with it has no stage.
	Warning string `json:"warning,omitempty"`
	// Error ends a start; Denial is the guest's refusal behind it, if there was one.
	Error  string          `json:"error,omitempty"`
	Denial json.RawMessage `json:"denial,omitempty"`
}

// StartError is a start that failed, as the supervisor told it.
type StartError struct {
	Message string
	// Denial is the guest's refusal, nil if something else went wrong.
	Denial *guestv1.Denial
}

// Error returns the supervisor's message.
func (e *StartError) Error() string { return e.Message }

// StartOptions say how to run the supervisor.
type StartOptions struct {
	// Command is the supervisor's command line without the group's name, for example
	// ["/usr/bin/cofferdam", "supervise"].
	Command []string
	// Progress, if set, is called for every stage in order.
	Progress func(Event)
	// Warning, if set, is called for everything that the record notes as a warning while the start is followed.
	Warning func(text string)
	// Contents are the files of the plan's volumes. They are handed over in memory, and stay the caller's.
	Contents Contents
}

// Starting is a start under way.
type Starting struct {
	status *net.UnixConn
	events *json.Decoder
	opts   StartOptions
	dir    string
	exited chan struct{}
}

// Start runs the supervisor of a group as a session of its own, which outlives the caller, and gives it the group's
// lock. Follow it with Wait. While the start is under way the supervisor gives up when the caller goes away.
func Start(c *Created, opts StartOptions) (*Starting, error) {
	if c.lock == nil || len(opts.Command) == 0 {
		return nil, errors.New("starting the group: it was started before, or no supervisor command is given")
	}
	err := opts.Contents.check(c.plan)
	if err != nil {
		return nil, fmt.Errorf("starting the group: %w", err)
	}
	ours, theirs, err := socketpair()
	if err != nil {
		return nil, fmt.Errorf("starting the group: %w", err)
	}
	defer func() { _ = theirs.Close() }() // the supervisor has its own copy
	log, err := os.OpenFile(filepath.Join(c.Dir, fileSupervisor), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		_ = ours.Close()
		return nil, fmt.Errorf("starting the group: %w", err)
	}
	defer func() { _ = log.Close() }() // likewise
	cmd := exec.Command(opts.Command[0], append(opts.Command[1:len(opts.Command):len(opts.Command)], c.Record.Name)...)
	cmd.Dir = "/"
	cmd.Stdout, cmd.Stderr = log, log
	cmd.ExtraFiles = []*os.File{c.lock, theirs}
	if c.plan.NeedsContents() {
		contents, err := opts.Contents.file(c.plan)
		if err != nil {
			_ = ours.Close()
			return nil, fmt.Errorf("starting the group: %w", err)
		}
		defer func() { _ = contents.Close() }() // likewise
		cmd.ExtraFiles = append(cmd.ExtraFiles, contents)
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	err = cmd.Start()
	if err != nil {
		_ = ours.Close()
		return nil, fmt.Errorf("starting the supervisor: %w", err)
	}
	exited := make(chan struct{})
	go func() {
		_ = cmd.Wait() // reaps it, if we are still there when it ends; how it ended is in the record
		close(exited)
	}()
	err = c.release()
	if err != nil {
		_ = ours.Close()
		return nil, fmt.Errorf("handing over the group's lock: %w", err)
	}
	return &Starting{status: ours, events: json.NewDecoder(ours), opts: opts, dir: c.Dir, exited: exited}, nil
}

// Wait follows the start until the stage until is done (StageRunning, or StageAttach for a plan that waits for a
// client) and may be called again for a later one. When ctx ends, the start is called off and Wait returns after the
// supervisor has cleaned up. A failed start is a *StartError.
func (s *Starting) Wait(ctx context.Context, until string) error {
	cancel := context.AfterFunc(ctx, func() { _ = s.status.CloseWrite() })
	defer cancel()
	for {
		var e Event
		err := s.events.Decode(&e)
		if err != nil {
			return s.lost(ctx, err)
		}
		if e.Error != "" {
			return s.failed(ctx, e)
		}
		if e.Warning != "" {
			if s.opts.Warning != nil {
				s.opts.Warning(e.Warning)
			}
			continue
		}
		if s.opts.Progress != nil {
			s.opts.Progress(e)
		}
		if e.Stage == until {
			return nil
		}
	}
}

// failed turns the supervisor's last event into an error, and waits for the end of its cleaning up.
func (s *Starting) failed(ctx context.Context, e Event) error {
	_, _ = io.Copy(io.Discard, s.status) // ends when the supervisor does
	if ctx.Err() != nil {
		return fmt.Errorf("the start was called off: %w", context.Cause(ctx))
	}
	se := &StartError{Message: e.Error}
	if len(e.Denial) > 0 {
		d := &guestv1.Denial{}
		err := protojson.Unmarshal(e.Denial, d)
		if err != nil {
			return fmt.Errorf("%s (and the denial can not be read: %w)", e.Error, err)
		}
		se.Denial = d
	}
	return se
}

// lost describes a supervisor that ended without a last event.
func (s *Starting) lost(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return fmt.Errorf("the start was called off: %w", context.Cause(ctx))
	}
	if !errors.Is(err, io.EOF) {
		return fmt.Errorf("following the supervisor: %w", err)
	}
	return fmt.Errorf("the supervisor ended without a word; the end of its log: %s",
		tail(filepath.Join(s.dir, fileSupervisor), 2048))
}

// Exited is closed when the supervisor process has ended.
func (s *Starting) Exited() <-chan struct{} { return s.exited }

// Close stops following the start. Before StageRunning that calls the start off.
func (s *Starting) Close() error { return s.status.Close() }

// tail returns the last n bytes of a file for an error message.
func tail(path string, n int64) string {
	f, err := os.Open(path)
	if err != nil {
		return "(" + err.Error() + ")"
	}
	defer func() { _ = f.Close() }() // opened for reading only
	if size, err := f.Seek(0, io.SeekEnd); err == nil && size > n {
		_, _ = f.Seek(size-n, io.SeekStart)
	} else {
		_, _ = f.Seek(0, io.SeekStart)
	}
	b, err := io.ReadAll(io.LimitReader(f, n))
	if err != nil || len(b) == 0 {
		return "(empty)"
	}
	return string(b)
}

// socketpair returns two connected ends, ours as a connection and theirs as a file to inherit.
func socketpair() (*net.UnixConn, *os.File, error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("making a socket pair: %w", err)
	}
	theirs := os.NewFile(uintptr(fds[1]), "status")
	ours := os.NewFile(uintptr(fds[0]), "status")
	defer func() { _ = ours.Close() }() // FileConn works on a copy
	conn, err := net.FileConn(ours)
	if err != nil {
		_ = theirs.Close()
		return nil, nil, fmt.Errorf("making a socket pair: %w", err)
	}
	return conn.(*net.UnixConn), theirs, nil
}

// inheritedLock is a group's lock that this process has taken over.
type inheritedLock struct{ f *os.File }

// Close gives the lock up, also where a process that its maker was just starting has a copy of it.
func (l inheritedLock) Close() error {
	letGo(l.f)
	return nil
}

// InheritLock takes over the lock that Start handed to this process, and makes sure that it is the group's. Closing it says
// that the supervisor is gone.
func InheritLock(home, name string) (io.Closer, error) {
	f := os.NewFile(LockFD, "lock")
	unix.CloseOnExec(LockFD)
	path := filepath.Join(home, "groups", name, fileLock)
	want, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("taking over the group's lock: %w", err)
	}
	got, err := f.Stat()
	if err != nil || !os.SameFile(want, got) {
		return nil, fmt.Errorf("descriptor %d is not the lock of group %s: a supervisor is started by other commands, not by hand", LockFD, name)
	}
	err = unix.Flock(LockFD, unix.LOCK_EX|unix.LOCK_NB)
	if err != nil {
		return nil, fmt.Errorf("taking over the group's lock: %w", err)
	}
	return inheritedLock{f}, nil
}

// InheritStatus takes over the connection to whoever started this process.
func InheritStatus() (net.Conn, error) {
	f := os.NewFile(StatusFD, "status")
	unix.CloseOnExec(StatusFD)
	defer func() { _ = f.Close() }() // FileConn works on a copy
	conn, err := net.FileConn(f)
	if err != nil {
		return nil, fmt.Errorf("taking over the status connection: %w", err)
	}
	return conn, nil
}
