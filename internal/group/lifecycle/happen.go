// SPDX-License-Identifier: Apache-2.0

package lifecycle

import "time"

// What happens to containers. News of a run that is over is ignored.

// Launched says that the container's process runs.
func (g *Group) Launched(name string, run int, now time.Time) {
	c := g.of(name, run, Starting)
	if c == nil {
		return
	}
	c.status.Phase, c.started = Running, now
	c.probes = map[Probe]*prober{}
}

// Begun says that the container was launched and its PostStart hook, if any, is done.
func (g *Group) Begun(name string, run int, _ time.Time) {
	c := g.of(name, run, Running, Stopping)
	if c == nil {
		return
	}
	c.begun, c.wasStarted = true, true
	if !c.Init || sidecar(c.Life) { // init containers that end have no probes
		c.probe(Startup)
	}
	c.judge()
}

// HookFailed says that the PostStart hook of a container failed, which ends its run.
func (g *Group) HookFailed(name string, run int) {
	c := g.of(name, run, Running)
	if c != nil {
		c.kill = &Order{Do: Stop, Why: StopHook}
	}
}

// NotStarted says that the container's process could not be started. If that is final, it is not tried again.
func (g *Group) NotStarted(name string, run int, now time.Time, final bool) {
	c := g.of(name, run, Starting)
	if c == nil {
		return
	}
	g.over(c, CodeNotStarted, 0, now, final)
}

// Ended says that the container's process has ended.
func (g *Group) Ended(name string, run int, code int, now time.Time) {
	c := g.of(name, run, Running, Stopping)
	if c == nil {
		return
	}
	g.over(c, code, now.Sub(c.started), now, false)
}

// Abandoned says that the container could not be stopped. It counts as ended, whatever becomes of it.
func (g *Group) Abandoned(name string, run int, now time.Time) {
	c := g.of(name, run, Stopping)
	if c != nil {
		g.over(c, codeKilled, now.Sub(c.started), now, false)
	}
}

// over settles what follows the end of a run.
func (g *Group) over(c *container, code int, ran time.Duration, now time.Time, final bool) {
	c.code, c.begun, c.kill, c.probes = code, false, nil, nil
	c.completed = c.completed || code == 0
	c.status.Up, c.status.Ready = false, false
	c.status.Phase, c.status.Why = Waiting, ForBackOff
	again := c.again
	c.again = false
	switch {
	case g.stopping:
		c.status.Phase, c.status.Why = Ended, ""
	case again:
		c.due = now
	case final || !c.may(code):
		c.status.Phase, c.status.Why = Ended, ""
	default:
		c.retries++
		c.due = now.Add(c.backOff.after(ran, g.times))
	}
	g.explain()
}

// Probed says how a probe went. The first result reports whether the container's readiness changed.
func (g *Group) Probed(name string, run int, which Probe, success bool, now time.Time) {
	c := g.of(name, run, Running)
	if c == nil || c.probes[which] == nil {
		return
	}
	p := c.probes[which]
	if p.answer(success, now) && p.verdict == bad && which != Readiness {
		c.kill = &Order{Do: Stop, Why: StopProbe, Probe: which, Grace: p.spec.Grace}
	}
	c.judge()
}

// judge brings Up and Ready up to date.
func (c *container) judge() {
	startup := c.probes[Startup]
	if !c.status.Up && c.begun && (startup == nil || startup.verdict == good) {
		c.status.Up, c.wasUp = true, true
		delete(c.probes, Startup)
		if !c.Init || sidecar(c.Life) {
			c.probe(Readiness)
			c.probe(Liveness)
		}
	}
	readiness := c.probes[Readiness]
	c.status.Ready = c.status.Up && c.status.Phase == Running && (readiness == nil || readiness.verdict == good)
	c.wasReady = c.wasReady || c.status.Ready
}

func (c *container) probe(which Probe) {
	of := map[Probe]*prober{
		Startup: newProber(c.Startup, c.started), Readiness: newProber(c.Readiness, c.started), Liveness: newProber(c.Liveness, c.started),
	}[which]
	if of != nil {
		c.probes[which] = of
	}
}

// Stop ends the group: nothing is started any more, and what runs is stopped in order.
func (g *Group) Stop() { g.stopping = true }

// Restart starts a container again, now and without any wait, whether it runs, waits or has ended. It returns the run that
// is to come, or 0 when the group is ending, or the container was never started: its time is still to come.
func (g *Group) Restart(name string, now time.Time) int {
	c := g.find(name)
	if c == nil || g.stopping || c.status.Runs == 0 {
		return 0
	}
	c.backOff, c.retries = backOff{}, 0
	switch c.status.Phase {
	case Waiting, Ended:
		c.status.Phase, c.due = Waiting, now
	case Running:
		c.again, c.kill = true, &Order{Do: Stop, Why: StopRestart}
	case Stopping:
		c.again = true
	case Starting: // it is on its way
		return c.status.Runs
	}
	g.explain()
	return c.status.Runs + 1
}

// of finds a container in one of phases, if run is its present run.
func (g *Group) of(name string, run int, phases ...Phase) *container {
	c := g.find(name)
	if c == nil || c.status.Runs != run {
		return nil
	}
	for _, p := range phases {
		if c.status.Phase == p {
			return c
		}
	}
	return nil
}
