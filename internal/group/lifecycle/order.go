// SPDX-License-Identifier: Apache-2.0

package lifecycle

import (
	"slices"
	"time"

	"cofferdam.dev/internal/spec"
)

// Verb is what to do.
type Verb string

// The verbs.
const (
	Start Verb = "start" // then tell Launched and Begun, or NotStarted; later Ended
	Ask   Verb = "ask"   // make a probe, then tell Probed
	Stop  Verb = "stop"  // stop the process within its time; then tell Ended
)

// Cause says why a container is stopped.
type Cause string

// The causes.
const (
	StopGroup   Cause = "group"   // the group ends
	StopProbe   Cause = "probe"   // Order.Probe failed
	StopHook    Cause = "hook"    // the PostStart hook failed
	StopRestart Cause = "restart" // somebody asked for it
)

// Order is something to do to a container.
type Order struct {
	Do        Verb
	Container string
	// Run is the run that it is about, from 1.
	Run int
	// Probe is the one to make, or the one that failed.
	Probe Probe
	Why   Cause
	// Grace, if set, replaces the container's time to stop.
	Grace *time.Duration
}

// Orders are what is to be done now. Each is given once.
func (g *Group) Orders(now time.Time) []Order {
	for g.settle() {
	}
	var orders []Order
	for _, c := range g.all {
		switch {
		case c.status.Phase == Waiting && !g.stopping && !now.Before(c.due) && g.hindrance(c) == (hindrance{}):
			c.status.Phase, c.status.Why, c.status.For, c.status.Until = Starting, "", "", time.Time{}
			c.status.Runs++
			c.status.Restarts = c.status.Runs - 1
			orders = append(orders, Order{Do: Start, Container: c.Name, Run: c.status.Runs})
		case c.status.Phase == Running && g.stopping && g.mayStop(c):
			orders = append(orders, c.stop(Order{Do: Stop, Why: StopGroup}))
		case c.status.Phase == Running && c.kill != nil:
			orders = append(orders, c.stop(*c.kill))
		case c.status.Phase == Running:
			orders = append(orders, c.ask(now)...)
		}
	}
	g.explain()
	return orders
}

func (c *container) stop(o Order) Order {
	c.status.Phase, c.status.Ready, c.kill = Stopping, false, nil
	o.Container, o.Run = c.Name, c.status.Runs
	return o
}

func (c *container) ask(now time.Time) []Order {
	var orders []Order
	for _, which := range []Probe{Startup, Readiness, Liveness} {
		p := c.probes[which]
		if p != nil && p.ask(now) {
			orders = append(orders, Order{Do: Ask, Container: c.Name, Run: c.status.Runs, Probe: which})
		}
	}
	return orders
}

// Next is when Orders has something to say even if nothing happens; zero if never.
func (g *Group) Next() time.Time {
	var next time.Time
	sooner := func(t time.Time) {
		if next.IsZero() || t.Before(next) {
			next = t
		}
	}
	for _, c := range g.all {
		if c.status.Phase == Waiting && c.status.Runs > 0 {
			sooner(c.due)
		}
		for _, p := range c.probes {
			if c.status.Phase == Running && !p.inFlight {
				sooner(p.due)
			}
		}
	}
	return next
}

// settle makes what follows from the present state without anything to do, one step at a time. It is false when there
// is no such step.
func (g *Group) settle() bool {
	if !g.stopping {
		g.stopping = g.finished()
	}
	for _, c := range g.all {
		if c.status.Phase != Waiting {
			continue
		}
		why := ForEnd
		h := g.hindrance(c)
		switch {
		case g.stopping && c.status.Runs > 0:
			why = ""
		case g.failed != "":
			why, h.of = ForInit, g.failed
		case g.stopping:
			h.of = ""
		case h.forever:
			why = h.why
		default:
			continue
		}
		c.status.Phase, c.status.Why, c.status.For, c.status.Until = Ended, why, h.of, time.Time{}
		return true
	}
	return false
}

// finished reports whether the group has come to its end: an init container failed for good, or all that it is about has
// ended.
func (g *Group) finished() bool {
	var apps, inits int
	for _, c := range g.all {
		switch {
		case c.Init && !sidecar(c.Life) && c.status.Phase == Ended && !c.completed:
			g.failed = c.Name
			return true
		case c.Init && !sidecar(c.Life) && c.status.Phase != Ended:
			inits++
		case !c.Init && c.status.Phase != Ended:
			apps++
		}
	}
	return apps == 0 && inits == 0
}

// hindrance is what a container waits for.
type hindrance struct {
	why     Reason
	of      string
	forever bool // it can not happen any more
}

// hindrance finds what keeps a container from its first run. Later runs wait for nothing but their back-off.
func (g *Group) hindrance(c *container) hindrance {
	if c.status.Runs > 0 {
		return hindrance{}
	}
	for _, i := range g.all {
		if c.Init && i == c {
			break
		}
		done := i.completed
		if sidecar(i.Life) {
			done = i.wasUp
		}
		if i.Init && !done {
			return hindrance{why: ForInit, of: i.Name}
		}
	}
	for _, d := range c.After {
		on := g.find(d.Container)
		met := map[spec.Condition]bool{
			spec.ConditionStarted: on.wasStarted, spec.ConditionHealthy: on.wasReady, spec.ConditionCompleted: on.completed,
		}[d.Condition]
		never := !met && on.status.Phase == Ended
		if !met && (!never || !d.Optional) {
			return hindrance{why: ForDependency, of: d.Container, forever: never}
		}
	}
	return hindrance{}
}

// mayStop holds the order of a stop: first who depends on others, and sidecars last, the latest first.
func (g *Group) mayStop(c *container) bool {
	for i, other := range g.all {
		if other == c || !other.active() {
			continue
		}
		if slices.ContainsFunc(other.After, func(d spec.Dependency) bool { return d.Container == c.Name }) {
			return false
		}
		if sidecar(c.Life) && (!sidecar(other.Life) || i > slices.Index(g.all, c)) {
			return false
		}
	}
	return true
}

// explain says of those that wait what they wait for.
func (g *Group) explain() {
	for _, c := range g.all {
		if c.status.Phase != Waiting {
			continue
		}
		h := g.hindrance(c)
		c.status.Why, c.status.For, c.status.Until = h.why, h.of, time.Time{}
		if h.why == "" {
			c.status.Why, c.status.Until = ForBackOff, c.due
		}
	}
}
