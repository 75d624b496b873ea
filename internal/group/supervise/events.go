// SPDX-License-Identifier: Apache-2.0

package supervise

import (
	"fmt"
	"log/slog"
	"strings"
	"time"

	guestv1 "cofferdam.dev/api/guest/v1"
	"cofferdam.dev/internal/group"
	"cofferdam.dev/internal/group/event"
	"cofferdam.dev/internal/group/lifecycle"
)

// event notes that something happened to a container, or to the group if that is empty. What can not be noted is lost:
// no container suffers from it.
func (s *supervisor) event(container, name string, t event.Type, format string, args ...any) {
	err := s.events.Add(container, name, t, fmt.Sprintf(format, args...))
	if err != nil && !s.deaf.Swap(true) {
		s.log.Warn("some events were not noted", slog.Any("error", err))
	}
}

// denied notes a refusal of the guest's policy. A denial holds no values of variables.
func (s *supervisor) denied(id string, d *guestv1.Denial) {
	name := ""
	for _, c := range s.containers {
		if c.is(id) {
			name = c.plan.Name
		}
	}
	text := "the policy refused " + d.GetPoint() + ": " + strings.Join(d.GetReasons(), "; ")
	if f := d.GetField(); f != "" {
		text += " (" + f
		if d.GetExpected() != "" {
			text += ": want " + d.GetExpected()
		}
		if d.GetActual() != "" {
			text += ", have " + d.GetActual()
		}
		text += ")"
	}
	if d.GetFix() != "" {
		text += "; " + d.GetFix()
	}
	s.event(name, event.PolicyDenied, event.Warning, "%s", text)
}

// tellStop notes why a container is stopped.
func (s *supervisor) tellStop(c *container, o lifecycle.Order) {
	switch o.Why {
	case lifecycle.StopProbe:
		s.event(c.plan.Name, event.Killing, event.Normal, "Container %s failed its %s probe and is stopped", c.plan.Name, o.Probe)
	case lifecycle.StopHook:
		s.event(c.plan.Name, event.Killing, event.Normal, "Container %s failed its PostStart hook and is stopped", c.plan.Name)
	case lifecycle.StopRestart:
		s.event(c.plan.Name, event.Killing, event.Normal, "Stopping container %s to start it again", c.plan.Name)
	default:
		s.event(c.plan.Name, event.Killing, event.Normal, "Stopping container %s", c.plan.Name)
	}
}

// tellEnd notes how a run ended. It is called by the loop when that is decided.
func (s *supervisor) tellEnd(c *container, r *run, now time.Time) {
	t, text := event.Normal, fmt.Sprintf("Container %s ended with exit code %d", c.plan.Name, r.end.ExitCode)
	switch {
	case r.end.Broken:
		t, text = event.Warning, fmt.Sprintf("Container %s was lost: %s", c.plan.Name, r.end.Reason)
	case r.end.Reason != "":
		t, text = event.Warning, text+": "+r.end.Reason
	case r.end.ExitCode != 0:
		t = event.Warning
	}
	s.event(c.plan.Name, event.Exited, t, "%s", text)
	if r.end.Reason == outOfMemory {
		s.event(c.plan.Name, event.OutOfMemory, event.Warning, "The kernel ended a process of container %s for want of memory", c.plan.Name)
	}
	s.tellBackOff(c, now)
}

func (s *supervisor) tellBackOff(c *container, now time.Time) {
	st := s.life.Status(c.plan.Name)
	if st.Phase == lifecycle.Waiting && st.Until.After(now) {
		s.event(c.plan.Name, event.BackOff, event.Warning, "Back-off restarting failed container %s", c.plan.Name)
	}
}

// tellImages notes that the images are there: whoever made the plan got them.
func (s *supervisor) tellImages() {
	for _, c := range s.plan.Containers {
		s.event(c.Name, event.Pulled, event.Normal, "Container image %q already present on machine", c.Image)
	}
}

// openEvents opens the group's events.
func (s *supervisor) openEvents() error {
	var err error
	s.events, err = event.Open(group.EventsPath(s.dir))
	return err
}
