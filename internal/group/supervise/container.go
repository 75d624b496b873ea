// SPDX-License-Identifier: Apache-2.0

package supervise

import (
	"sync"
	"time"

	"cofferdam.dev/internal/group"
	"cofferdam.dev/internal/group/lifecycle"
	"cofferdam.dev/internal/sandbox"
)

// container is one container of the group, through all of its runs.
type container struct {
	plan group.ContainerPlan
	root sandbox.Root // its layers are mounted once, by the first run of the container that is first to use them
	hub  *hub
	once bool // it does not start again by itself: the end of its output is the end of its run

	// What the loop alone uses.
	seen        lifecycle.Status
	last, early *run // the runs that have ended: the last one, and the one before
	settled     bool // done is closed

	stdin sync.Mutex // held while input is written

	mu    sync.Mutex
	now   *run   // the present run, or the last one
	next  string // the ID of the run that is being made
	done  chan struct{}
	end   group.Ended // when done is closed
	execs map[string]string
}

// run is one run of a container: each has an ID of its own, since a policy admits an ID once.
type run struct {
	n       int
	id      string
	process *sandbox.Process
	pumps   sync.WaitGroup // what carries its output

	launched time.Time     // zero if it was not started
	over     chan struct{} // closed when the process has ended, or could not be started; then finished and end are set
	finished time.Time
	end      group.Ended
	message  string // set when the loop is told of the end

	left remains // of the run in the guest; changed by the goroutine of the run alone
}

// remains are what is to be undone before the container can run again.
type remains struct{ scratch, overlay, container bool }

func newContainer(plan group.ContainerPlan, root sandbox.Root, once bool) *container {
	return &container{plan: plan, root: root, once: once, done: make(chan struct{}), execs: map[string]string{}}
}

// present is the present run, or the last one.
func (ct *container) present() *run {
	ct.mu.Lock()
	defer ct.mu.Unlock()
	return ct.now
}

func (ct *container) replace(r *run) {
	ct.mu.Lock()
	defer ct.mu.Unlock()
	ct.now, ct.next = r, ""
}

// announce says which ID the next run has, while it is being made.
func (ct *container) announce(id string) {
	ct.mu.Lock()
	defer ct.mu.Unlock()
	ct.next = id
}

// is reports whether id is that of a run that is, or is being made.
func (ct *container) is(id string) bool {
	ct.mu.Lock()
	defer ct.mu.Unlock()
	return id != "" && (ct.next == id || ct.now != nil && ct.now.id == id)
}

// ending is what to wait for, and its result when that is closed.
func (ct *container) ending() (<-chan struct{}, func() group.Ended) {
	ct.mu.Lock()
	defer ct.mu.Unlock()
	return ct.done, func() group.Ended {
		ct.mu.Lock()
		defer ct.mu.Unlock()
		return ct.end
	}
}

// settle tells those who wait that the container has ended.
func (ct *container) settle(end group.Ended) {
	ct.mu.Lock()
	defer ct.mu.Unlock()
	if !ct.settled {
		ct.end, ct.settled = end, true
		close(ct.done)
	}
}

// revive undoes settle: the container runs again.
func (ct *container) revive() {
	ct.mu.Lock()
	defer ct.mu.Unlock()
	if ct.settled {
		ct.done, ct.settled = make(chan struct{}), false
	}
}

// maxExecs bounds the exec'd processes of a container whose run is remembered, and maxExecID the names that the guest gives
// them.
const (
	maxExecs  = 1024
	maxExecID = 128
)

// started remembers which run an exec'd process belongs to.
func (ct *container) started(execID, id string) {
	ct.mu.Lock()
	defer ct.mu.Unlock()
	if len(ct.execs) < maxExecs && len(execID) <= maxExecID {
		ct.execs[execID] = id
	}
}

func (ct *container) forget(execID string) {
	ct.mu.Lock()
	defer ct.mu.Unlock()
	delete(ct.execs, execID)
}

// idOf is the container ID of an exec'd process.
func (ct *container) idOf(execID string) string {
	ct.mu.Lock()
	defer ct.mu.Unlock()
	if id := ct.execs[execID]; id != "" {
		return id
	}
	return ct.now.id
}

// stopTimeout is how long the container may take to stop. asked and grace, if set, replace what the plan says.
func (ct *container) stopTimeout(asked time.Duration, grace *time.Duration) time.Duration {
	switch {
	case asked > 0:
		return asked
	case grace != nil:
		return *grace
	case ct.plan.Life.StopTimeout != nil:
		return *ct.plan.Life.StopTimeout
	case ct.plan.StopTimeout > 0:
		return ct.plan.StopTimeout
	}
	return group.DefaultStopTimeout
}
