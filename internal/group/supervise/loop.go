// SPDX-License-Identifier: Apache-2.0

package supervise

import (
	"context"
	"fmt"
	"time"

	"cofferdam.dev/internal/group"
	"cofferdam.dev/internal/group/event"
	"cofferdam.dev/internal/group/lifecycle"
)

// The life of the containers is decided in one loop: what happens anywhere is posted to it as a piece of news, and what
// is to be done is begun by it and carried out elsewhere.

// news is something that happened. It is called by the loop, which alone uses the group's life.
type news func(now time.Time)

// post hands news to the loop. When there is none any more nobody is interested.
func (s *supervisor) post(n news) {
	select {
	case s.news <- n:
	case <-s.over:
	}
}

// begin starts the group's life and returns when everything that starts first was started.
func (s *supervisor) begin(ctx context.Context, rep *report) error {
	err := s.turn(ctx, false)
	for err == nil && s.life.Starting() {
		err = s.turn(ctx, true)
	}
	s.first = false
	if err == nil {
		err = s.refused
	}
	if err != nil {
		return err
	}
	s.stage(rep, group.StageRunning)
	return nil
}

// turn waits for news, if wait is set, and does what follows.
func (s *supervisor) turn(ctx context.Context, wait bool) error {
	if wait {
		err := s.await(ctx)
		if err != nil {
			return err
		}
	}
	for _, o := range s.life.Orders(time.Now()) {
		s.carryOut(o)
	}
	s.note()
	if s.first {
		return s.refused
	}
	return nil
}

// await waits for one thing to happen. During the start the end of ctx is an error; later it ends the group in order.
func (s *supervisor) await(ctx context.Context) error {
	var alarm <-chan time.Time
	if next := s.life.Next(); !next.IsZero() {
		timer := time.NewTimer(time.Until(next))
		defer timer.Stop()
		alarm = timer.C
	}
	machine, ended := s.vm.Done(), ctx.Done()
	if s.ending {
		machine, ended = nil, nil // what runs ends by itself, and says so
	}
	select {
	case n := <-s.news:
		n(time.Now())
	case <-alarm:
	case timeout := <-s.stop:
		s.stopped(timeout)
	case <-machine:
		s.end("")
	case <-ended:
		if s.first {
			return ctx.Err()
		}
		s.end("stopped: the supervisor was asked to end")
	}
	return nil
}

// end lets nothing start any more, and what runs be stopped.
func (s *supervisor) end(reason string) {
	s.ending = true
	if s.reason == "" {
		s.reason = reason
	}
	s.life.Stop()
	s.close()
}

// stopped takes a request to stop. Whoever asks once more, with less time, is heard: when that is over, nobody waits for
// any container any more. A further request without a time adds nothing.
func (s *supervisor) stopped(timeout time.Duration) {
	if !s.ending {
		s.stopTimeout = timeout
		s.event("", event.GroupStopping, event.Normal, "Somebody asked for the end of the group")
		s.end("stopped")
		return
	}
	if timeout > 0 && !s.hurried {
		s.hurried = true
		s.workers.Go(func() {
			select {
			case <-s.over:
			case <-time.After(timeout):
			}
			close(s.hurry)
		})
	}
}

// carryOut begins what an order says.
func (s *supervisor) carryOut(o lifecycle.Order) {
	c := s.named(o.Container)
	switch o.Do {
	case lifecycle.Start:
		s.workers.Go(func() { s.runContainer(c, o.Run) })
	case lifecycle.Ask:
		s.workers.Go(func() { s.probe(c, o) })
	case lifecycle.Stop:
		if down(s.vm) {
			return // it ends without our doing
		}
		s.tellStop(c, o)
		timeout := c.stopTimeout(s.stopTimeout, o.Grace)
		s.workers.Go(func() { s.stopContainer(c, o, timeout) })
	}
}

func (s *supervisor) named(name string) *container {
	for _, c := range s.containers {
		if c.plan.Name == name {
			return c
		}
	}
	return nil // not reached: the life was made of the same plan
}

// note brings the record up to date with the group's life.
func (s *supervisor) note() {
	var changed []*container
	for _, c := range s.containers {
		if c.present() == nil {
			continue // the start failed before it was created
		}
		st := s.life.Status(c.plan.Name)
		late := st.Phase == lifecycle.Ended && !c.settled && s.settles(c, st)
		if st != c.seen || late {
			c.seen = st
			changed = append(changed, c)
		}
	}
	starting := s.record.State == group.StateStarting && s.life.AllStarted()
	if len(changed) == 0 && !starting && s.record.Ready == s.life.Ready() {
		return
	}
	now := time.Now()
	s.update(func(r *group.Record) {
		for _, c := range changed {
			describe(recordOf(r, c), c)
		}
		r.Ready = s.life.Ready()
		if starting {
			r.State, r.Started = group.StateRunning, &now
		}
	})
	for _, c := range changed {
		s.tell(c)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	close(s.noted)
	s.noted = make(chan struct{})
}

// settles reports whether it is known how a container that ends for good has ended.
func (s *supervisor) settles(c *container, st lifecycle.Status) bool {
	return st.Runs == 0 || c.last != nil && c.last.n == st.Runs
}

// tell lets those go on who wait for a container's end.
func (s *supervisor) tell(c *container) {
	if c.seen.Phase != lifecycle.Ended || !s.settles(c, c.seen) {
		return
	}
	if c.seen.Runs == 0 {
		c.settle(group.Ended{Broken: true, Reason: notStarted(c.seen)})
		c.hub.finish()
		return
	}
	c.settle(c.last.end)
	r, chapter := c.last, c.hub.chapter()
	s.workers.Go(func() {
		r.pumps.Wait()
		c.hub.finishChapter(chapter)
	})
}

// describe enters what is known of a container into the record.
func describe(rc *group.Container, c *container) {
	st := c.seen
	rc.RestartCount, rc.Ready = st.Restarts, st.Ready
	rc.ExitCode, rc.Reason, rc.Started, rc.Finished, rc.Message = nil, "", nil, nil, ""
	rc.Previous = past(c.last)
	now := c.present()
	rc.ID = now.id
	switch st.Phase {
	case lifecycle.Waiting:
		rc.State, rc.Reason = group.StateWaiting, waitsFor(st)
		if st.Why == lifecycle.ForBackOff && st.Runs == 0 {
			rc.State, rc.Reason = group.StateCreated, ""
		}
	case lifecycle.Starting:
		rc.State = group.StateCreated
	case lifecycle.Running, lifecycle.Stopping:
		rc.State, rc.Started = group.StateRunning, &now.launched
	case lifecycle.Ended:
		conclude(rc, c)
	}
}

// conclude enters how a container has ended.
func conclude(rc *group.Container, c *container) {
	switch {
	case c.seen.Runs == 0:
		rc.State, rc.Reason = group.StateExited, notStarted(c.seen)
	case c.last == nil || c.last.n != c.seen.Runs:
		rc.State, rc.Started = group.StateRunning, &c.present().launched // it could not be stopped and goes down with the machine
	default:
		p := past(c.last)
		rc.State, rc.ExitCode, rc.Reason, rc.Started, rc.Finished, rc.Message = group.StateExited, p.ExitCode, p.Reason, p.Started, p.Finished, p.Message
		if c.last.end.Broken || p.Started == nil {
			rc.State = group.StateFailed
		}
		rc.Previous = past(c.early)
	}
}

// past is the record of a run that has ended; nil of none.
func past(r *run) *group.Run {
	if r == nil {
		return nil
	}
	p := &group.Run{Reason: r.end.Reason, Finished: &r.finished, Message: r.message}
	if !r.launched.IsZero() {
		p.Started = &r.launched
	}
	if !r.end.Broken {
		p.ExitCode = &r.end.ExitCode
	}
	return p
}

// waitsFor says what a container waits for.
func waitsFor(st lifecycle.Status) string {
	switch st.Why {
	case lifecycle.ForInit:
		return fmt.Sprintf("waits for the init container %s", st.For)
	case lifecycle.ForDependency:
		return fmt.Sprintf("waits for the container %s", st.For)
	}
	return fmt.Sprintf("back-off: starts again at %s", st.Until.UTC().Format(time.RFC3339))
}

// notStarted says why a container was never started.
func notStarted(st lifecycle.Status) string {
	switch st.Why {
	case lifecycle.ForInit:
		return fmt.Sprintf("not started: the init container %s has not done its work", st.For)
	case lifecycle.ForDependency:
		return fmt.Sprintf("not started: the container %s can not come as far as it must", st.For)
	}
	return "not started: the group ended before"
}
