// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"fmt"
	"path"

	guestv1 "cofferdam.dev/api/guest/v1"
	"cofferdam.dev/internal/agent/container"
)

// Bounds of what the guest keeps at once.
const (
	maxDevices    = 512 // layers and scratch disks
	maxContainers = 128
	maxExecs      = 256 // of one container, those that ended lately included
)

// layer is a mounted layer disk.
type layer struct {
	serial string
	users  int // overlays
}

// scratch is a mounted scratch disk.
type scratch struct {
	serial string
	at     string // where it is mounted: the group's is not at its target
	used   bool   // by its container's overlay
}

// overlay is a container's root filesystem.
type overlay struct {
	target  string
	layers  []string // targets
	scratch string   // target, empty for one in memory
}

// state is where a container is in its life. It only moves forward.
type state string

const (
	stateCreated state = "created"
	stateRunning state = "running"
	stateStopped state = "stopped" // its first process has ended
)

// instance is a container that was created. It is kept until its root filesystem is unmounted, so that the host can
// still ask how it ended.
type instance struct {
	id      string
	args    []string
	init    *container.Handle
	started bool
	removed bool // shut down: nothing of it is left but this record
	logs    bool // it has a termination log
	tokens  [][]byte

	execs map[string]*execution
	order []string // of execs, oldest first
}

// execution is a further process of a container.
type execution struct {
	args   []string
	handle *container.Handle
	tokens [][]byte
}

func (i *instance) state() state {
	switch {
	case i.removed || i.init.Ended():
		return stateStopped
	case i.started:
		return stateRunning
	}
	return stateCreated
}

// find returns a container that exists.
func (s *Service) find(call, id string) (*instance, error) {
	i, ok := s.containers[id]
	if !ok {
		return nil, denial(guestv1.CodeNotFound, call, "there is no container "+id)
	}
	return i, nil
}

// enterContainer is enter for a call about one container, which it returns.
func (s *Service) enterContainer(call, id string) (*instance, error) {
	c := newCheck(call)
	c.containerID(id)
	if c.err() != nil {
		return nil, c.err()
	}
	err := s.enter(call)
	if err != nil {
		return nil, err
	}
	i, err := s.find(call, id)
	if err != nil {
		s.mu.Unlock()
	}
	return i, err
}

// handle returns a process of a container and its command.
func (s *Service) handle(call, id, execID string) (*container.Handle, []string, error) {
	i, err := s.find(call, id)
	if err != nil {
		return nil, nil, err
	}
	if execID == "" {
		return i.init, i.args, nil
	}
	e, ok := i.execs[execID]
	if !ok {
		return nil, nil, denial(guestv1.CodeNotFound, call, fmt.Sprintf("container %s has no process %s", id, execID))
	}
	return e.handle, e.args, nil
}

// remember keeps an execution. Of those that ended, the oldest makes room.
func (s *Service) remember(i *instance, id string, e *execution) {
	if i.execs == nil {
		i.execs = map[string]*execution{}
	}
	i.execs[id] = e
	i.order = append(i.order, id)
}

// room makes sure that one more execution fits.
func (s *Service) room(call string, i *instance) error {
	if len(i.order) < maxExecs {
		return nil
	}
	for n, id := range i.order {
		e := i.execs[id]
		if !e.handle.Ended() {
			continue
		}
		s.release(e.handle, e.tokens)
		delete(i.execs, id)
		i.order = append(i.order[:n], i.order[n+1:]...)
		return nil
	}
	return denial(guestv1.CodeTooMany, call, fmt.Sprintf("the container has %d processes that were started by exec", maxExecs))
}

// release gives up the streams that the host was granted and has not opened.
func (s *Service) release(h *container.Handle, tokens [][]byte) {
	for _, t := range tokens {
		s.cfg.Streams.Revoke(t)
	}
	h.CloseUnservedStreams()
}

// serialUsed reports whether a disk is mounted already.
func (s *Service) serialUsed(serial string) bool {
	for _, l := range s.layers {
		if l.serial == serial {
			return true
		}
	}
	for _, x := range s.scratch {
		if x.serial == serial {
			return true
		}
	}
	return false
}

// idOf returns the container of /run/gcs/c/ID/rootfs.
func idOf(rootfs string) string { return path.Base(path.Dir(rootfs)) }
