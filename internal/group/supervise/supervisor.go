// SPDX-License-Identifier: Apache-2.0

package supervise

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os/signal"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"cofferdam.dev/internal/group"
	"cofferdam.dev/internal/group/event"
	"cofferdam.dev/internal/group/lifecycle"
	"cofferdam.dev/internal/group/logfile"
	"cofferdam.dev/internal/group/recording"
	"cofferdam.dev/internal/sandbox"
	"cofferdam.dev/internal/sandbox/qemu"
	"cofferdam.dev/internal/simsp"

	"github.com/sirupsen/logrus"
)

// lingerTimeout is how long a supervisor whose group has ended waits for clients to ask what they surely want to know.
const lingerTimeout = 10 * time.Second

// Config says what a supervisor runs with.
type Config struct {
	// Home is the state directory, Name the group's.
	Home, Name string
	// Lock is the group's lock. Run releases it at its very end, before Status.
	Lock io.Closer
	// Status is the connection to whoever started us; its end calls the start off.
	Status net.Conn
	Logger *slog.Logger
	// Probe finds out about the emulator; qemu.Probe if nil.
	Probe func(ctx context.Context, path string) (*qemu.Emulator, error)
	// Contents returns the files of a plan's volumes; Main sets it. A plan that needs none works without.
	Contents func(*group.Plan) (group.Contents, error)
	// GitProtocols are what repositories may be fetched by; empty is https and http.
	GitProtocols []string
	// Times are the waits between the runs of a container; zero is usual.
	Times lifecycle.Times
}

// supervisor is the state of one run.
type supervisor struct {
	cfg   Config
	store *group.Store
	dir   string
	plan  *group.Plan
	log   *slog.Logger

	rep *report
	vm  *sandbox.VM
	sim *simsp.Guest // nil on hardware

	recording *recording.Writer // nil unless the plan asks for one
	events    *event.Log
	deaf      atomic.Bool // an event was lost, and that was said

	containers []*container
	attached   chan struct{} // closed by the first client that attaches and wants to be waited for
	attachOnce sync.Once
	stop       chan time.Duration // asks for the group's end, with the time for each container
	ended      chan struct{}      // closed when the record is final and the machine gone
	clients    clients

	// The life of the containers. Only the loop uses what follows, except that news is sent from anywhere until over is
	// closed, and hurry is closed when nobody waits for a container any more.
	life        *lifecycle.Group
	first       bool  // the group is still being started
	refused     error // why it can not be
	ending      bool
	reason      string // of the end, empty if the containers ended by themselves
	stopTimeout time.Duration
	hurried     bool
	retired     bool
	news        chan news
	over, hurry chan struct{}

	ctx     context.Context // ends with the machine
	serving context.Context // ends when the group is to end, and with the machine
	close   context.CancelFunc
	workers sync.WaitGroup // what was begun by the loop

	notes sync.WaitGroup // what waits for news of the machine, and ends with it

	mu     sync.Mutex
	record *group.Record
	noted  chan struct{} // closed, and replaced, when the containers' state in the record has changed
}

// Run supervises a group from its plan to its end. The error is that of the start, if it failed; what happens later is
// in the record.
func Run(ctx context.Context, cfg Config) error {
	rep := newReport(cfg.Status)
	defer rep.close() // last: who waits for the end of the connection finds the lock free
	defer func() { _ = cfg.Lock.Close() }()
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.Probe == nil {
		cfg.Probe = qemu.Probe
	}
	store, err := group.OpenStore(cfg.Home)
	if err != nil {
		rep.failed(err)
		return err
	}
	s := &supervisor{
		cfg: cfg, rep: rep, store: store, dir: filepath.Join(store.Home(), "groups", cfg.Name), log: cfg.Logger,
		attached: make(chan struct{}), stop: make(chan time.Duration, 1), ended: make(chan struct{}),
		noted: make(chan struct{}), first: true, news: make(chan news), over: make(chan struct{}), hurry: make(chan struct{}),
	}
	var cancel context.CancelFunc
	s.ctx, cancel = context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	s.plan, s.record, err = group.Load(s.dir)
	if err != nil {
		rep.failed(err)
		return err
	}
	err = s.openEvents()
	if err != nil {
		rep.failed(err)
		return err
	}
	defer func() { _ = s.events.Close() }() // each event was written when it happened
	err = s.start(ctx, rep)
	if err != nil {
		s.event("", event.Failed, event.Warning, "The group did not start: %s", oneLine(err))
		s.log.Error("the group did not start", slog.Any("error", err))
		s.finish(group.StateFailed, err.Error(), true)
		rep.failed(err) // last, so that everything is cleaned up when the starter hears of it
		return err
	}
	rep.close()
	state, reason := s.watch(ctx)
	s.finish(state, reason, false)
	return nil
}

// update changes the record and stores it.
func (s *supervisor) update(change func(r *group.Record)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change(s.record)
	err := group.WriteRecord(s.dir, s.record)
	if err != nil {
		s.log.Error("storing the record", slog.Any("error", err)) // the next change tries again
	}
}

// stage notes that a part of the start is done.
func (s *supervisor) stage(rep *report, name string) {
	now := time.Now()
	s.update(func(r *group.Record) { r.Stages = append(r.Stages, group.Stage{Name: name, Time: now}) })
	rep.stage(name, now)
}

// maxWarnings bounds what a record warns of.
const maxWarnings = 100

// warn notes something that did not end the group, once. Whoever still follows the start hears of it.
func (s *supervisor) warn(text string) {
	text = clipped(text)
	s.log.Warn(text)
	s.update(func(r *group.Record) {
		if len(r.Warnings) < maxWarnings && !slices.Contains(r.Warnings, text) {
			r.Warnings = append(r.Warnings, text)
		}
	})
	s.rep.warning(text)
}

// finish takes the machine down, settles the record and leaves nothing else behind.
func (s *supervisor) finish(state group.State, reason string, failedStart bool) {
	if s.vm != nil {
		s.vm.Kill() // harmless when it has ended in order
		<-s.vm.Done()
		s.notes.Wait()
	}
	s.retire()
	for _, c := range s.containers {
		if c.hub != nil {
			c.hub.drain(s.vm.Done())
			c.hub.finish()
			err := c.hub.close()
			if err != nil {
				s.log.Warn("closing a log", slog.String("container", c.plan.Name), slog.Any("error", err))
			}
		}
	}
	if s.recording != nil {
		err := s.recording.Close()
		if err != nil {
			s.log.Warn("closing the recording", slog.Any("error", err))
		}
	}
	err := group.RemoveScratch(s.dir) // before the last record, which may find room nowhere else
	if err != nil {
		s.log.Warn("removing scratch disks", slog.Any("error", err))
	}
	s.update(func(r *group.Record) { group.Settle(r, state, clipped(reason), time.Now()) })
	close(s.ended)
	if !failedStart {
		s.clients.linger(lingerTimeout)
	}
	s.clients.shut()
	err = group.RemoveSocket(s.dir)
	if s.record.Remove {
		err = errors.Join(err, s.store.Discard(s.record.Name))
	}
	if err != nil {
		s.log.Warn("cleaning up", slog.Any("error", err))
	}
}

// openLogs makes a hub for each container.
func (s *supervisor) openLogs() error {
	for _, c := range s.containers {
		path := group.LogPath(s.dir, c.plan.Name)
		w, err := logfile.Create(path, s.plan.LogLimitBytes/2) // an older file of this size is kept as well
		if err != nil {
			return err
		}
		c.hub = newHub(w, path, func(err error) {
			s.warn(fmt.Sprintf("some output of %s was not kept: %v", c.plan.Name, err))
		})
	}
	return nil
}

// find returns the container that ref names.
func (s *supervisor) find(ref string) (*container, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	rc, err := s.record.Container(ref)
	if err != nil {
		return nil, err
	}
	for _, c := range s.containers {
		if c.plan.Name == rc.Name && c.present() != nil {
			return c, nil
		}
	}
	return nil, fmt.Errorf("container %s was not created", rc.Name)
}

// recordOf returns the record's entry of c. The record's lock is held.
func recordOf(r *group.Record, c *container) *group.Container {
	for i := range r.Containers {
		if r.Containers[i].Name == c.plan.Name {
			return &r.Containers[i]
		}
	}
	return &group.Container{} // not reached: the record was made of the plan
}

var errStopped = errors.New("the group was stopped before it ran")

// Main runs the supervisor as a process of its own, with the descriptors that group.Start hands over: cfg.Lock and
// cfg.Status are filled in. A request to terminate stops the group in order.
func Main(ctx context.Context, cfg Config) error {
	ctx, cancel := signal.NotifyContext(ctx, syscall.SIGTERM, syscall.SIGINT)
	defer cancel()
	signal.Ignore(syscall.SIGHUP, syscall.SIGPIPE)
	logrus.SetOutput(io.Discard) // a library's own log, partly at the guest's will; this process has its own
	lock, err := group.InheritLock(cfg.Home, cfg.Name)
	if err != nil {
		return err
	}
	cfg.Lock = lock
	cfg.Contents = group.InheritContents
	cfg.Status, err = group.InheritStatus()
	if err != nil {
		return errors.Join(err, lock.Close())
	}
	return Run(ctx, cfg)
}
