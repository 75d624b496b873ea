// SPDX-License-Identifier: Apache-2.0

// Package reaper collects the exit statuses of every child of PID 1: those it started, and orphans of the containers.
//
// A process whose parent has gone becomes a child of PID 1, and stays a zombie until PID 1 waits for it. Waiting for
// any child, though, takes statuses away from os/exec. So there is one loop that waits for all children, and processes
// are started and waited for through it: Start instead of exec.Cmd.Start, Process.Wait instead of exec.Cmd.Wait.
// Nothing else in the program may start processes. An orphan whose number is known, such as a container's first
// process after the runtime's client has left, can be waited for by Adopt.
//
// Numbers of processes are given again once their status was collected, and a container can make that happen soon. So
// an adopted process is held by a handle of the kernel's, opened while its status can not be collected.
package reaper

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"sync"

	"golang.org/x/sys/unix"
)

// ErrNotChild says that a process is not, and was not lately, a child of this one.
var ErrNotChild = errors.New("process is not a child")

// maxRecent bounds how many statuses of unclaimed orphans are kept for Adopt.
const maxRecent = 1024

// Reaper waits for all children of this process.
type Reaper struct {
	signals chan os.Signal
	stopped chan struct{}

	// mu is held while a process is started, so that its status can not be collected before it is known.
	mu      sync.Mutex
	claimed map[int]*Process
	recent  map[int]unix.WaitStatus
	order   []int // the keys of recent, oldest first
}

// Process is a child whose end can be waited for.
type Process struct {
	// PID is the process's number. It may belong to another process after Done is closed.
	PID int

	cmd    *exec.Cmd // nil for an orphan
	done   chan struct{}
	status unix.WaitStatus

	finish sync.Once

	mu sync.Mutex
	fd int // of an orphan, -1 when it was not or is no longer open
}

// New starts to collect. There must be one Reaper in a process, from before its first child.
func New() *Reaper {
	r := &Reaper{
		signals: make(chan os.Signal, 1), // one pending signal is enough: each is answered by collecting all
		stopped: make(chan struct{}),
		claimed: make(map[int]*Process),
		recent:  make(map[int]unix.WaitStatus),
	}
	signal.Notify(r.signals, unix.SIGCHLD)
	go r.loop()
	return r
}

// Close stops collecting. Processes that are still waited for are never reported.
func (r *Reaper) Close() {
	signal.Stop(r.signals)
	close(r.signals)
	<-r.stopped
}

func (r *Reaper) loop() {
	defer close(r.stopped)
	r.collect() // what ended before the signal was asked for
	for range r.signals {
		r.collect()
	}
}

func (r *Reaper) collect() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for {
		var status unix.WaitStatus
		pid, err := unix.Wait4(-1, &status, unix.WNOHANG|unix.WALL, nil)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil || pid <= 0 {
			return // no children, or none that has ended
		}
		r.ended(pid, status)
	}
}

func (r *Reaper) ended(pid int, status unix.WaitStatus) {
	if p, ok := r.claimed[pid]; ok {
		delete(r.claimed, pid)
		p.status = status
		close(p.done)
		return
	}
	if _, ok := r.recent[pid]; !ok {
		r.order = append(r.order, pid)
	}
	r.recent[pid] = status
	if len(r.order) > maxRecent {
		delete(r.recent, r.order[0])
		r.order = r.order[1:]
	}
}

// Start starts cmd. The caller must call Wait on the result and must not call cmd.Wait.
func (r *Reaper) Start(cmd *exec.Cmd) (*Process, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	err := cmd.Start()
	if err != nil {
		return nil, err
	}
	p := &Process{PID: cmd.Process.Pid, cmd: cmd, done: make(chan struct{}), fd: -1}
	r.claimed[p.PID] = p
	return p, nil
}

// Adopt returns the process pid, which must be a child that nobody else waits for: usually an orphan, which may have
// ended already.
func (r *Reaper) Adopt(pid int) (*Process, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if pid <= 0 {
		return nil, fmt.Errorf("adopting process %d: %w", pid, ErrNotChild)
	}
	if _, ok := r.claimed[pid]; ok {
		return nil, fmt.Errorf("adopting process %d: it is waited for already", pid)
	}
	p := &Process{PID: pid, done: make(chan struct{}), fd: -1}
	status, ended := r.forget(pid)
	// WNOWAIT only asks whether there is such a child; the loop, which needs the lock, collects it.
	err := unix.Waitid(unix.P_PID, pid, nil, unix.WEXITED|unix.WNOHANG|unix.WNOWAIT|unix.WALL, nil)
	if err == nil {
		p.fd, err = unix.PidfdOpen(pid, 0)
		if err != nil {
			return nil, fmt.Errorf("adopting process %d: %w", pid, err)
		}
		r.claimed[pid] = p
		return p, nil
	}
	if !ended {
		return nil, fmt.Errorf("adopting process %d: %w", pid, ErrNotChild)
	}
	p.status = status
	close(p.done)
	return p, nil
}

// forget takes pid out of the recent statuses. A status from before the number was given to another process must not
// be taken for that one's.
func (r *Reaper) forget(pid int) (unix.WaitStatus, bool) {
	status, ok := r.recent[pid]
	if !ok {
		return 0, false
	}
	delete(r.recent, pid)
	for i, p := range r.order {
		if p == pid {
			r.order = append(r.order[:i], r.order[i+1:]...)
			break
		}
	}
	return status, true
}

// Done is closed when the process has ended.
func (p *Process) Done() <-chan struct{} { return p.done }

// Signal sends a signal to an adopted process. Once that has ended it returns os.ErrProcessDone, whatever has its
// number then.
func (p *Process) Signal(sig unix.Signal) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.fd < 0 {
		return os.ErrProcessDone
	}
	err := unix.PidfdSendSignal(p.fd, sig, nil, 0)
	if errors.Is(err, unix.ESRCH) {
		return os.ErrProcessDone
	}
	return err
}

// Wait waits for the process to end and, for a started one, for its output to be copied. It may be called again. It
// must be called for each process, to give its handle back.
func (p *Process) Wait() unix.WaitStatus {
	<-p.done
	p.finish.Do(func() {
		if p.cmd == nil {
			p.mu.Lock()
			defer p.mu.Unlock()
			_ = unix.Close(p.fd) // a handle holds no data
			p.fd = -1
			return
		}
		_ = p.cmd.Wait()            // ends the copying; its error says only that the status was collected already
		_ = p.cmd.Process.Release() // closes the handle, which Wait leaves open in that case
	})
	return p.status
}

// ExitCode is a status as shells give it: the exit code, or 128 and the number of the signal that ended the process.
func ExitCode(status unix.WaitStatus) int {
	if status.Signaled() {
		return 128 + int(status.Signal())
	}
	return status.ExitStatus()
}
