// SPDX-License-Identifier: Apache-2.0

package supervise

import (
	"context"
	"fmt"
	"time"

	"cofferdam.dev/internal/group"
	"cofferdam.dev/internal/group/event"
	"cofferdam.dev/internal/sandbox"
)

// killGrace is how long a container that was killed may take to be gone.
const killGrace = 15 * time.Second

const signalKill = 9

// outOfMemory is the reason of a process that the kernel killed for want of memory.
const outOfMemory = "out of memory"

// watch takes a running group to its end and brings the machine down. It returns the group's last state.
func (s *supervisor) watch(ctx context.Context) (group.State, string) {
	for !s.life.Done() {
		_ = s.turn(ctx, true) // only a start can fail
	}
	if !down(s.vm) {
		for _, c := range s.containers {
			if c.seen.Runs == 0 {
				c.present().process.CloseStreams() // it was never started and never will be
			}
			c.hub.drain(s.vm.Done())
		}
	}
	lost := down(s.vm)
	exit := s.vm.PowerOff(context.WithoutCancel(ctx), 0)
	s.retire()
	if lost && s.reason == "" && exit.Err() != nil {
		s.event("", event.MachineLost, event.Warning, "The machine was lost: %s", exit.Detail)
		return group.StateFailed, exit.Err().Error()
	}
	if exit.Err() != nil && exit.Reason != sandbox.Killed {
		s.warn("the machine did not power off in order: " + exit.Detail)
	}
	if name := s.life.Failed(); name != "" && s.reason == "" {
		return group.StateFailed, fmt.Sprintf("the init container %s failed, so that no other container was started", name)
	}
	return group.StateExited, s.reason
}

// retire ends the loop's work once the machine is gone: what it began has come to an end, and the record says how.
func (s *supervisor) retire() {
	if s.life == nil || s.retired {
		return
	}
	s.retired = true
	for _, c := range s.containers {
		if c.hub != nil {
			c.hub.release() // or else what carries output may wait for a client that does not read
		}
	}
	quit := make(chan struct{})
	go func() {
		s.workers.Wait()
		close(quit)
	}()
	for running := true; running; {
		select {
		case n := <-s.news:
			n(time.Now())
		case <-quit:
			running = false
		}
	}
	close(s.over)
	s.note()
}

func down(vm *sandbox.VM) bool {
	select {
	case <-vm.Done():
		return true
	default:
		return false
	}
}

// noteDiskFull notes the first time that the host has no room for what the machine writes.
func (s *supervisor) noteDiskFull() {
	select {
	case <-s.vm.DiskFull():
	case <-s.vm.Done():
	}
	if s.diskFull() {
		text := sandbox.DiskFull + ": writes to a container's scratch disk failed"
		s.warn(text)
		s.event("", event.ScratchFull, event.Warning, "%s", text)
	}
}

func (s *supervisor) diskFull() bool {
	select {
	case <-s.vm.DiskFull():
		return true
	default:
		return false
	}
}

// why says why a process ended as it did, where the guest or the host knows more than its exit code.
func (s *supervisor) why(code uint32, noMemory bool) string {
	switch {
	case noMemory:
		return outOfMemory
	case code != 0 && s.diskFull():
		return sandbox.DiskFull
	}
	return ""
}
