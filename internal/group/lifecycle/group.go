// SPDX-License-Identifier: Apache-2.0

package lifecycle

import (
	"time"

	"cofferdam.dev/internal/spec"
)

// CodeNotStarted stands for the exit code of a container whose process could not be started.
const CodeNotStarted = 128

// codeKilled is the exit code of a process that was killed.
const codeKilled = 137

// Phase is where a container is in its life.
type Phase string

// The phases. From Stopping, and from Running by itself, a container gets to Waiting again or to Ended.
const (
	Waiting  Phase = "waiting"  // to be started
	Starting Phase = "starting" // an order to start it was given
	Running  Phase = "running"
	Stopping Phase = "stopping" // an order to stop it was given
	Ended    Phase = "ended"    // nothing follows, unless it is restarted by hand
)

// Reason says why a container waits, or why it ended without having run.
type Reason string

// The reasons.
const (
	ForInit       Reason = "init"       // init containers come first
	ForDependency Reason = "dependency" // another container has not come so far, or never will
	ForBackOff    Reason = "back-off"   // it ended too soon to be started again at once
	ForEnd        Reason = "end"        // the group ended before its turn
)

// Status is what is known of a container.
type Status struct {
	Phase Phase
	// Why and For say why it is Waiting, or Ended and never ran, and which container that is about; Until is when a
	// back-off is over.
	Why   Reason
	For   string
	Until time.Time
	// Runs counts how often it was to be started, Restarts how often that was again.
	Runs, Restarts int
	// Up is true when it runs and its startup probe, if any, has succeeded; Ready when its readiness probe has, too.
	Up, Ready bool
}

// container is the state of one container.
type container struct {
	Container
	restart spec.RestartPolicy
	status  Status
	started time.Time
	begun   bool // this run's process runs and its hook is done
	code    int
	backOff backOff
	retries int       // how often it was started again by itself after a failure
	due     time.Time // before that it is not started again
	again   bool      // restarted by hand as soon as it has ended
	kill    *Order    // to give when it runs

	wasStarted, wasUp, wasReady, completed bool

	probes map[Probe]*prober
}

// Group is the life of a group's containers.
type Group struct {
	times    Times
	all      []*container
	stopping bool
	failed   string // the init container that failed for good
}

// New is the life of containers of which none was started. policy is for those that have none of their own; empty is
// RestartNever.
func New(containers []Container, policy spec.RestartPolicy, times Times) (*Group, error) {
	err := Check(containers)
	if err != nil {
		return nil, err
	}
	g := &Group{times: times.orUsual()}
	for _, c := range containers {
		g.all = append(g.all, &container{Container: c, restart: effective(c.Life, policy), status: Status{Phase: Waiting}})
	}
	g.explain()
	return g, nil
}

// effective is the policy of one container. An init container has done its work once, whatever the group's policy.
func effective(l spec.Life, group spec.RestartPolicy) spec.RestartPolicy {
	p := l.Restart
	if p == "" {
		p = group
	}
	switch {
	case p == "":
		return spec.RestartNever
	case l.Init && !sidecar(l) && p == spec.RestartAlways:
		return spec.RestartOnFailure
	}
	return p
}

// MayRestart reports whether a container can be started again without anybody asking for it.
func MayRestart(l spec.Life, policy spec.RestartPolicy) bool {
	return effective(l, policy) != spec.RestartNever
}

func (g *Group) find(name string) *container {
	for _, c := range g.all {
		if c.Name == name {
			return c
		}
	}
	return nil
}

// Status is what is known of a container. An unknown one has ended.
func (g *Group) Status(name string) Status {
	c := g.find(name)
	if c == nil {
		return Status{Phase: Ended}
	}
	return c.status
}

// Done reports whether every container has ended.
func (g *Group) Done() bool {
	for _, c := range g.all {
		if c.status.Phase != Ended {
			return false
		}
	}
	return true
}

// Failed names the init container that failed for good, so that the others were never started; empty if none did.
func (g *Group) Failed() string { return g.failed }

// Starting reports whether a container is being started.
func (g *Group) Starting() bool {
	for _, c := range g.all {
		if c.status.Phase == Starting {
			return true
		}
	}
	return false
}

// AllStarted reports whether every container that is no init container was started at least once, or never will be.
func (g *Group) AllStarted() bool {
	for _, c := range g.all {
		if !c.Init && c.started.IsZero() && c.status.Phase != Ended {
			return false
		}
	}
	return true
}

// Ready reports whether containers run and all that are to run are ready. One that has done its work is not to run.
func (g *Group) Ready() bool {
	some := false
	for _, c := range g.all {
		done := c.status.Phase == Ended && c.status.Runs > 0 && c.code == 0
		if !c.status.Ready && !done {
			return false
		}
		some = some || c.status.Ready
	}
	return some
}

// may reports whether a container that ended with code is started again by itself.
func (c *container) may(code int) bool {
	again := c.restart == spec.RestartOnFailure && code != 0
	return c.restart == spec.RestartAlways || again && (c.MaxRestarts == 0 || c.retries < c.MaxRestarts)
}

func (c *container) active() bool {
	return c.status.Phase == Starting || c.status.Phase == Running || c.status.Phase == Stopping
}
