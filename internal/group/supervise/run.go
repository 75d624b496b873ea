// SPDX-License-Identifier: Apache-2.0

package supervise

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"log/slog"
	"strings"
	"time"

	guestv1 "cofferdam.dev/api/guest/v1"
	"cofferdam.dev/internal/group"
	"cofferdam.dev/internal/group/event"
	"cofferdam.dev/internal/group/lifecycle"
	"cofferdam.dev/internal/group/logfile"
	"cofferdam.dev/internal/sandbox"
)

// create makes the container of a run and begins to take its output.
func (s *supervisor) create(ctx context.Context, c *container, r *run) error {
	p, err := s.vm.Guest().CreateContainer(ctx, createRequest(&c.plan, r.id))
	if err != nil {
		return err
	}
	r.process, r.left.container = p, true
	s.event(c.plan.Name, event.Created, event.Normal, "Created container %s", c.plan.Name)
	if names := dropped(c.plan.Env, p.Env); len(names) > 0 && r.n == 1 {
		s.warn(fmt.Sprintf("the policy drops environment variables of %s: %s", c.plan.Name, strings.Join(names, ", ")))
	}
	c.hub.pump(logfile.Stdout, p.Stdout, r, c.once)
	c.hub.pump(logfile.Stderr, p.Stderr, r, c.once)
	return nil
}

// runContainer takes a container from its start to its end. The first run was created with the group.
func (s *supervisor) runContainer(c *container, n int) {
	r := c.present()
	var err error
	if n > 1 {
		r, err = s.renew(s.ctx, c, r, n)
	}
	if err == nil {
		err = r.process.Start(s.ctx)
	}
	if err != nil {
		s.notStarted(c, r, err)
		return
	}
	r.launched = time.Now()
	s.event(c.plan.Name, event.Started, event.Normal, "Started container %s", c.plan.Name)
	s.post(func(now time.Time) { s.life.Launched(c.plan.Name, n, now) })
	s.workers.Go(func() { s.hook(c, r) })
	s.awaitEnd(c, r)
	s.post(func(now time.Time) {
		c.early, c.last = c.last, r
		s.life.Ended(c.plan.Name, n, r.end.ExitCode, now)
		s.tellEnd(c, r, now)
	})
}

// notStarted settles a run whose process could not be started. A refusal of the policy would only be repeated.
func (s *supervisor) notStarted(c *container, r *run, err error) {
	err = s.explain(fmt.Errorf("container %s: %w", c.plan.Name, err))
	final := guestv1.DenialFrom(err).GetCode() == guestv1.CodePolicyDenied
	r.end, r.finished = group.Ended{ExitCode: lifecycle.CodeNotStarted, Reason: oneLine(err)}, time.Now()
	if c.once && r.n == 1 || down(s.vm) {
		r.end = group.Ended{Broken: true, Reason: r.end.Reason} // that fails the group, and no process had an exit code
	}
	close(r.over)
	s.post(func(now time.Time) {
		c.early, c.last = c.last, r
		if s.first && (final || c.once || down(s.vm)) {
			s.refused = err
		}
		s.life.NotStarted(c.plan.Name, r.n, now, final)
		s.event(c.plan.Name, event.Failed, event.Warning, "Error: %s", r.end.Reason)
		s.tellBackOff(c, now)
	})
}

func oneLine(err error) string {
	line, _, _ := strings.Cut(err.Error(), "\n")
	return clipped(line)
}

// maxReason bounds each text of the record, in bytes: a guest can answer with megabytes, and a record of them could not be read.
const maxReason = 4 << 10

// clipped is the beginning of a text that may be the guest's.
func clipped(text string) string {
	if len(text) > maxReason {
		text = text[:maxReason] + "…"
	}
	return strings.ToValidUTF8(text, "\uFFFD")
}

// renew makes the container again, with a new ID on the layers that are mounted already. On an error too it returns the
// run, with what is to be cleared away before the next attempt.
func (s *supervisor) renew(ctx context.Context, c *container, old *run, n int) (*run, error) {
	err := s.clear(ctx, c, old)
	r := &run{n: n, id: old.id, process: old.process, over: make(chan struct{}), left: old.left}
	if err != nil {
		c.replace(r)
		return r, fmt.Errorf("clearing away its last run: %w", err)
	}
	r.id = newContainerID()
	c.announce(r.id)
	c.hub.reopen()
	err = s.rebuild(ctx, c, r)
	c.replace(r)
	return r, err
}

// rebuild mounts and creates the container of a run.
func (s *supervisor) rebuild(ctx context.Context, c *container, r *run) error {
	g := s.vm.Guest()
	if c.root.Scratch != "" {
		err := g.MountScratch(ctx, r.id, c.root.Scratch)
		if err != nil {
			return err
		}
		r.left.scratch = true
	}
	err := g.MountOverlay(ctx, r.id, c.root)
	if err != nil {
		return err
	}
	r.left.overlay = true
	return s.create(ctx, c, r)
}

// clear takes away what an ended run left in the guest.
func (s *supervisor) clear(ctx context.Context, c *container, r *run) error {
	g := s.vm.Guest()
	if r.left.container {
		err := g.ShutdownContainer(ctx, r.id)
		if err != nil && guestv1.DenialFrom(err).GetCode() != guestv1.CodeWrongState { // that is one that was shut down before
			return err
		}
		s.quiet(c, r)
		r.left.container = false
	}
	if r.left.overlay {
		err := g.UnmountOverlay(ctx, r.id)
		if err != nil {
			return err
		}
		r.left.overlay = false
	}
	if r.left.scratch {
		err := g.UnmountScratch(ctx, r.id)
		if err != nil {
			return err
		}
		r.left.scratch = false
	}
	return nil
}

// quiet waits until all output of an ended run has been taken, or comes no more, or the group is to end.
func (s *supervisor) quiet(c *container, r *run) {
	taken := make(chan struct{})
	go func() {
		r.pumps.Wait()
		close(taken)
	}()
	c.hub.untilQuiet(taken, s.serving.Done())
	r.process.CloseStreams()
}

func newContainerID() string {
	var b [32]byte
	_, _ = rand.Read(b[:]) // never fails: crypto/rand aborts the program instead
	return hex.EncodeToString(b[:])
}

// awaitEnd waits for the end of a run and notes how it was.
func (s *supervisor) awaitEnd(c *container, r *run) {
	resp, err := r.process.Wait(s.ctx)
	r.finished = time.Now()
	if err != nil {
		r.end = group.Ended{Broken: true, Reason: s.loss(err)}
		close(r.over)
		return
	}
	r.end = group.Ended{ExitCode: int(resp.GetExitCode()), Reason: s.why(resp.GetExitCode(), resp.GetOutOfMemory())}
	close(r.over)
	r.message = s.lastWords(c, r)
	if c.plan.Life.Init && c.plan.Life.Restart == "" && r.end.ExitCode == 0 {
		err = s.clear(s.ctx, c, r)
		if err != nil && s.ctx.Err() == nil {
			s.log.Warn("clearing an init container away", slog.Any("error", err)) // it costs memory only
		}
	}
}

// lastMessageWait is how long the end of a container's output is waited for, to be its message. It comes at once, but on a
// machine that is busy.
const lastMessageWait = 10 * time.Second

// lastWords is what an ended container left as its message: in its file, or else, if it failed, at the end of its output.
func (s *supervisor) lastWords(c *container, r *run) string {
	life := &c.plan.Life
	if life.TerminationMessagePath != "" {
		m, err := s.vm.Guest().TerminationMessage(s.ctx, r.id)
		if err != nil && s.ctx.Err() == nil {
			s.log.Debug("asking for a message", slog.String("container", c.plan.Name), slog.Any("error", err)) // it has none, then
		}
		if len(m) > 0 {
			return strings.ToValidUTF8(string(m), "\uFFFD")
		}
	}
	if !life.TerminationMessageFromLog || r.end.ExitCode == 0 {
		return ""
	}
	taken := make(chan struct{})
	go func() {
		r.pumps.Wait()
		close(taken)
	}()
	select {
	case <-taken:
	case <-time.After(lastMessageWait):
	}
	return strings.ToValidUTF8(c.hub.recent(), "\uFFFD")
}

// stopContainer ends a container: its hook, the stop signal, some time, and the kill signal. A policy that allows no
// signals is no obstacle for long: at the group's end the machine goes down anyway.
func (s *supervisor) stopContainer(c *container, o lifecycle.Order, timeout time.Duration) {
	r := c.present()
	if r.n != o.Run {
		return // it has ended meanwhile, and the next one is not meant
	}
	ctx, cancel := context.WithTimeout(s.ctx, timeout+killGrace)
	defer cancel()
	begun := time.Now()
	stop := c.plan.StopSignal
	if stop == 0 {
		stop = group.DefaultStopSignal
	}
	var refused []string
	if timeout > 0 {
		s.preStop(ctx, c, r, timeout)
		left := timeout - time.Since(begun)
		if c.plan.Life.PreStop != nil {
			left = max(left, afterHook)
		}
		err := r.process.Signal(ctx, stop)
		if err != nil {
			refused = append(refused, err.Error())
		} else if r.ended(left, s.hurry) {
			return
		}
	}
	err := r.process.Signal(ctx, signalKill)
	if err != nil {
		refused = append(refused, err.Error())
		err = s.vm.Guest().ShutdownContainer(ctx, r.id)
	}
	if err == nil && r.ended(killGrace, nil) {
		return
	}
	if err != nil {
		refused = append(refused, err.Error())
	}
	if r.ended(0, nil) || down(s.vm) {
		return
	}
	s.warn(fmt.Sprintf("container %s did not stop and goes down with its machine: %s", c.plan.Name, strings.Join(refused, "; ")))
	s.post(func(now time.Time) { s.life.Abandoned(c.plan.Name, o.Run, now) })
}

// ended waits for the run's end, until the time is over or hurry is closed.
func (r *run) ended(timeout time.Duration, hurry <-chan struct{}) bool {
	select {
	case <-r.over:
		return true
	default:
	}
	select {
	case <-r.over:
		return true
	case <-hurry:
		return false
	case <-time.After(timeout):
		return false
	}
}

// loss says why a container was lost, in one line.
func (s *supervisor) loss(err error) string {
	select {
	case <-s.vm.Done():
	case <-time.After(killGrace):
		return clipped(fmt.Sprintf("the guest could not say how it ended: %v", err))
	}
	if exit := s.vm.Exit(); exit.Reason != sandbox.PoweredOff && exit.Reason != sandbox.Killed {
		return exit.Detail
	}
	return "the machine was taken down"
}
