// SPDX-License-Identifier: Apache-2.0

package lifecycle

import (
	"time"

	"cofferdam.dev/internal/spec"
)

// Probe is one of a container's probes.
type Probe string

// The probes.
const (
	Startup   Probe = "startup"   // holds the others back until it has succeeded
	Readiness Probe = "readiness" // says whether the container is ready
	Liveness  Probe = "liveness"  // ends the container when it fails
)

// The usual numbers of a probe, for those that are zero.
const (
	DefaultPeriod           = 10 * time.Second
	DefaultTimeout          = time.Second
	DefaultSuccessThreshold = 1
	DefaultFailureThreshold = 3
)

// Complete returns p with its zero numbers replaced.
func Complete(p spec.Probe) spec.Probe {
	if p.Period <= 0 {
		p.Period = DefaultPeriod
	}
	if p.Timeout <= 0 {
		p.Timeout = DefaultTimeout
	}
	if p.SuccessThreshold <= 0 {
		p.SuccessThreshold = DefaultSuccessThreshold
	}
	if p.FailureThreshold <= 0 {
		p.FailureThreshold = DefaultFailureThreshold
	}
	return p
}

// verdict is what a probe's results amount to.
type verdict int

const (
	undecided verdict = iota
	good
	bad
)

// prober is one probe of one run of a container.
type prober struct {
	spec     spec.Probe
	due      time.Time // when it is asked next
	asked    time.Time // when it was asked last
	inFlight bool
	seen     bool      // it has succeeded before
	patience time.Time // until then failures before the first success do not count
	success  bool      // the last result
	row      int       // how many results in a row were like it
	verdict  verdict
}

// newProber makes a probe of a run that began at started.
func newProber(p *spec.Probe, started time.Time) *prober {
	if p == nil {
		return nil
	}
	c := Complete(*p)
	return &prober{spec: c, due: started.Add(c.InitialDelay), patience: started.Add(c.StartPeriod)}
}

// ask reports whether the probe is due, and notes that it is asked.
func (p *prober) ask(now time.Time) bool {
	if p.inFlight || now.Before(p.due) {
		return false
	}
	p.inFlight, p.asked = true, now
	return true
}

// answer takes a result and reports whether the verdict changed.
func (p *prober) answer(success bool, now time.Time) bool {
	p.inFlight = false
	early := !success && !p.seen && p.asked.Before(p.patience)
	if p.row > 0 && success != p.success {
		p.row = 0
	}
	p.success = success
	if !early {
		p.row++
	}
	p.seen = p.seen || success
	p.due = p.asked.Add(p.period())
	if p.due.Before(now) {
		p.due = now
	}
	before := p.verdict
	switch {
	case success && p.row >= p.spec.SuccessThreshold:
		p.verdict = good
	case !success && p.row >= p.spec.FailureThreshold:
		p.verdict = bad
	}
	return p.verdict != before
}

func (p *prober) period() time.Duration {
	if p.spec.StartInterval > 0 && !p.seen && p.asked.Before(p.patience) {
		return p.spec.StartInterval
	}
	return p.spec.Period
}
