// SPDX-License-Identifier: Apache-2.0

package supervise

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	"cofferdam.dev/internal/group"
	"cofferdam.dev/internal/sandbox"
)

// killGrace is how long a container that was killed may take to be gone.
const killGrace = 15 * time.Second

const signalKill = 9

// watch waits for the end of a running group and brings the machine down. It returns the group's last state.
func (s *supervisor) watch(ctx context.Context) (group.State, string) {
	var waits sync.WaitGroup
	for _, c := range s.containers {
		waits.Go(func() { s.await(c) })
	}
	all := make(chan struct{})
	go func() {
		waits.Wait()
		close(all)
	}()
	reason := ""
	select {
	case <-all:
	case timeout := <-s.stop:
		reason = "stopped"
		s.stopContainers(timeout)
	case <-ctx.Done():
		reason = "stopped: the supervisor was asked to end"
		s.stopContainers(0)
	case <-s.vm.Done():
	}
	if !down(s.vm) {
		for _, c := range s.containers {
			c.hub.drain(s.vm.Done())
		}
	}
	lost := down(s.vm)
	exit := s.vm.PowerOff(context.WithoutCancel(ctx), 0)
	<-all
	if lost && reason == "" && exit.Err() != nil {
		return group.StateFailed, exit.Err().Error()
	}
	if exit.Err() != nil && exit.Reason != sandbox.Killed {
		s.warn("the machine did not power off in order: " + exit.Detail)
	}
	return group.StateExited, reason
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
		s.warn(sandbox.DiskFull + ": writes to a container's scratch disk failed")
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
func (s *supervisor) why(code uint32, outOfMemory bool) string {
	switch {
	case outOfMemory:
		return "out of memory"
	case code != 0 && s.diskFull():
		return sandbox.DiskFull
	}
	return ""
}

// await waits for one container and records its end.
func (s *supervisor) await(c *container) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go func() {
		select {
		case <-s.vm.Done():
			cancel()
		case <-ctx.Done():
		}
	}()
	resp, err := c.process.Wait(ctx)
	now := time.Now()
	if err == nil {
		c.end = group.Ended{ExitCode: int(resp.GetExitCode()), Reason: s.why(resp.GetExitCode(), resp.GetOutOfMemory())}
	} else {
		c.end = group.Ended{Broken: true, Reason: s.loss(err)}
	}
	s.update(func(r *group.Record) {
		rc := recordOf(r, c)
		rc.Reason, rc.Finished = c.end.Reason, &now
		if c.end.Broken {
			rc.State = group.StateFailed
			return
		}
		rc.State, rc.ExitCode = group.StateExited, &c.end.ExitCode
	})
	close(c.done)
}

// loss says why a container was lost, in one line.
func (s *supervisor) loss(err error) string {
	select {
	case <-s.vm.Done():
	case <-time.After(killGrace):
		return fmt.Sprintf("the guest could not say how it ended: %v", err)
	}
	if exit := s.vm.Exit(); exit.Reason != sandbox.PoweredOff && exit.Reason != sandbox.Killed {
		return exit.Detail
	}
	return "the machine was taken down"
}

// stopContainers ends all containers at the same time: the stop signal, some time, and the kill signal. A policy that
// allows no signals is no obstacle for long: the machine goes down anyway. Whoever asks once more, with less time, is
// heard.
func (s *supervisor) stopContainers(timeout time.Duration) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	hurry := make(chan struct{})
	go s.hasten(ctx, hurry)
	var all sync.WaitGroup
	for _, c := range s.containers {
		all.Go(func() { s.stopContainer(c, timeout, hurry) })
	}
	all.Wait()
}

// hasten closes hurry when the time of a later request to stop is over. A request without a time adds nothing.
func (s *supervisor) hasten(ctx context.Context, hurry chan<- struct{}) {
	for {
		select {
		case <-ctx.Done():
			return
		case timeout := <-s.stop:
			if timeout == 0 {
				continue
			}
			select {
			case <-ctx.Done():
			case <-time.After(timeout):
				close(hurry)
			}
			return
		}
	}
}

func (s *supervisor) stopContainer(c *container, timeout time.Duration, hurry <-chan struct{}) {
	if timeout == 0 {
		timeout = c.plan.StopTimeout
	}
	if timeout == 0 {
		timeout = group.DefaultStopTimeout
	}
	stop := c.plan.StopSignal
	if stop == 0 {
		stop = group.DefaultStopSignal
	}
	ctx, cancel := context.WithTimeout(context.Background(), timeout+killGrace)
	defer cancel()
	var refused []string
	err := c.process.Signal(ctx, stop)
	if err == nil {
		if c.ended(timeout, hurry) {
			return
		}
	} else {
		refused = append(refused, err.Error())
	}
	err = c.process.Signal(ctx, signalKill)
	if err != nil {
		refused = append(refused, err.Error())
		err = s.vm.Guest().ShutdownContainer(ctx, c.plan.ID)
	}
	if err == nil && c.ended(killGrace, nil) {
		return
	}
	if err != nil {
		refused = append(refused, err.Error())
	}
	if !down(s.vm) {
		s.warn(fmt.Sprintf("container %s did not stop and goes down with its machine: %s", c.plan.Name, strings.Join(refused, "; ")))
	}
}

// ended waits for the container's end, until the time is over or hurry is closed.
func (ct *container) ended(timeout time.Duration, hurry <-chan struct{}) bool {
	select {
	case <-ct.done:
		return true
	case <-hurry:
		return false
	case <-time.After(timeout):
		return false
	}
}
