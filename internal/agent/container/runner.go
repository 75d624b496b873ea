// SPDX-License-Identifier: Apache-2.0

package container

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"cofferdam.dev/internal/agent/machine/cgroup"
	"cofferdam.dev/internal/agent/machine/reaper"
	"cofferdam.dev/internal/evidencewire"
)

// The parts of the containers' memory that volumes may take: all of those in memory together, and what the agent itself puts
// there.
const (
	volumesShare = 2
	budgetShare  = 4
)

// killTimeout bounds the wait for killed processes to be gone.
const killTimeout = 30 * time.Second

// Runner runs containers with runc.
type Runner struct {
	Runtime   string // the path of runc
	Dir       string // an empty directory for bundles and the runtime's state, in memory
	Cgroups   string // where control groups (v2) are mounted
	Volumes   *Volumes
	PIDsLimit int64 // processes of all containers together
	Children  *reaper.Reaper
	Log       *slog.Logger
	// Privilege gets the kernel ready for a privileged container, which may mount filesystems; nil has nothing to do. Without
	// it the container is created all the same.
	Privilege func() error

	mu    sync.Mutex
	execs int                // numbers the files of exec calls
	inits map[string]*Handle // by container
}

// Setup makes the control group of all containers, which together get memoryBytes.
func (r *Runner) Setup(memoryBytes uint64) error {
	err := os.MkdirAll(filepath.Join(r.Dir, "runc"), 0o700)
	if err != nil {
		return fmt.Errorf("making the runtime's directory: %w", err)
	}
	r.Volumes.Size, r.Volumes.Budget = memoryBytes/volumesShare, int64(min(memoryBytes/budgetShare, math.MaxInt64)) // bounded here
	err = r.Volumes.share()
	if err != nil {
		return err
	}
	group := filepath.Join(r.Cgroups, cgroupParent)
	err = os.Mkdir(group, 0o755) //nolint:gosec // a control group, not a file
	if err != nil && !errors.Is(err, os.ErrExist) {
		return fmt.Errorf("making the containers' control group: %w", err)
	}
	for _, w := range []struct{ file, value string }{
		{"cgroup.subtree_control", "+cpu +memory +pids"},
		{"memory.max", strconv.FormatUint(memoryBytes, 10)},
		{"pids.max", strconv.FormatInt(r.PIDsLimit, 10)},
	} {
		err = os.WriteFile(filepath.Join(group, w.file), []byte(w.value), 0) // exists
		if err != nil {
			return fmt.Errorf("setting up the containers' control group: %w", err)
		}
	}
	r.Volumes.Charge = func(total int64) error { // at most a part of memoryBytes
		limit := strconv.FormatUint(memoryBytes-uint64(total), 10)
		err := os.WriteFile(filepath.Join(group, "memory.max"), []byte(limit), 0)
		if err != nil {
			return fmt.Errorf("taking the volumes' memory from the containers: %w", err)
		}
		return nil
	}
	return nil
}

// SetNetwork changes what the network files of containers say that are created later.
func (r *Runner) SetNetwork(n Network) {
	r.Volumes.mu.Lock()
	defer r.Volumes.mu.Unlock()
	r.Volumes.Network = n
}

// Fill puts files into a volume.
func (r *Runner) Fill(source string, files []File) error { return r.Volumes.Fill(source, files) }

// Share makes a volume a directory that the host serves.
func (r *Runner) Share(source string, readOnly bool) (Share, error) {
	return r.Volumes.Share(source, readOnly)
}

// CloseShares undoes all calls of Share.
func (r *Runner) CloseShares() error { return r.Volumes.CloseShares() }

// ScratchRoom says where a disk must be mounted for new empty directories to lie on it.
func (r *Runner) ScratchRoom() (string, error) { return r.Volumes.ScratchRoom() }

// UseScratch says whether a disk is mounted there.
func (r *Runner) UseScratch(mounted bool) error { return r.Volumes.UseScratch(mounted) }

// LookupUser is the function of that name.
func (*Runner) LookupUser(rootfs, spec string) (User, error) { return LookupUser(rootfs, spec) }

// VolumePath returns where a mount's source lies in the guest.
func (r *Runner) VolumePath(source string) string { return r.Volumes.Path(source) }

// Create prepares a container and its first process, which waits for Start. If it fails, the caller must call Remove.
func (r *Runner) Create(ctx context.Context, s *Spec) (*Handle, error) {
	for _, m := range s.Mounts {
		if IsTerminationLog(m.Source) {
			continue // see below
		}
		err := r.Volumes.prepare(s.Rootfs, m)
		if err == nil && s.Evidence != "" && m.Destination == path.Dir(evidencewire.Directory) {
			err = r.Volumes.makeRoom(m, path.Base(evidencewire.Directory))
		}
		if err != nil {
			return nil, err
		}
	}
	extra, err := r.Volumes.network(s)
	if err != nil {
		return nil, fmt.Errorf("making the network files: %w", err)
	}
	if s.Privileged && r.Privilege != nil {
		err = r.Privilege()
		if err != nil {
			r.Log.Warn("a privileged container can not use all of the kernel", slog.Any("error", err))
		}
	}
	dir := r.bundle(s.ID)
	err = os.Mkdir(dir, 0o700)
	if err != nil {
		return nil, fmt.Errorf("making the bundle: %w", err)
	}
	err = writeJSON(filepath.Join(dir, "config.json"), config(s, r.Volumes, extra, r.PIDsLimit))
	if err != nil {
		return nil, err
	}
	var log *os.File
	if source := s.terminationLog(); source != "" {
		log, err = r.Volumes.newLog(s.ID, source)
		if err != nil {
			return nil, err
		}
	}
	h, err := r.launch(ctx, s.ID, "init", s.Stdio, log, "create", "--bundle", dir)
	if err != nil {
		_ = message(log)
		return nil, err
	}
	r.mu.Lock()
	if r.inits == nil {
		r.inits = map[string]*Handle{}
	}
	r.inits[s.ID] = h
	r.mu.Unlock()
	return h, nil
}

// Start lets the first process of a created container run.
func (r *Runner) Start(ctx context.Context, id string) error {
	return r.runc(ctx, r.bundle(id), [3]*os.File{}, "start", id)
}

// Exec starts a further process in a running container.
func (r *Runner) Exec(ctx context.Context, id string, p *Process) (*Handle, error) {
	r.mu.Lock()
	r.execs++
	name := "exec" + strconv.Itoa(r.execs)
	r.mu.Unlock()
	file := filepath.Join(r.bundle(id), name+".json")
	err := writeJSON(file, process(p))
	if err != nil {
		return nil, err
	}
	defer func() { _ = os.Remove(file) }()
	return r.launch(ctx, id, name, p.Stdio, nil, "exec", "--detach", "--process", file)
}

// launch has the runtime start a process and leave it to us. The handle that it returns owns log, which may be nil.
func (r *Runner) launch(ctx context.Context, id, name string, want Stdio, log *os.File, args ...string) (*Handle, error) {
	dir := r.bundle(id)
	pidFile := filepath.Join(dir, name+".pid")
	args = append(args, "--pid-file", pidFile)
	defer func() { _ = os.Remove(pidFile) }()
	p, err := newPipes(want)
	if err != nil {
		return nil, err
	}
	var con *console
	if want.Terminal {
		con, err = newConsole(filepath.Join(r.Dir, name+id[:min(len(id), 32)]+".sock"))
		if err != nil {
			return nil, err
		}
		defer con.close()
		args = append(args, "--console-socket", con.path)
	}
	err = r.runc(ctx, dir, p.child, append(args, id)...)
	p.closeChild()
	if err != nil {
		p.closeAll()
		return nil, err
	}
	pid, err := readPID(pidFile)
	if err != nil {
		p.closeAll()
		return nil, err
	}
	process, err := r.Children.Adopt(pid)
	if err != nil {
		p.closeAll()
		return nil, err
	}
	var terminal *os.File
	if con != nil {
		p.streams, terminal, err = con.streams(want)
	}
	if err != nil {
		_ = process.Signal(unix.SIGKILL) // nobody would hear of it again
		go process.Wait()
		p.closeAll()
		return nil, err
	}
	return r.follow(id, process, p.streams, terminal, log), nil
}

// follow makes the handle of a process that the runtime started, and waits for its end.
func (r *Runner) follow(id string, p *reaper.Process, streams Streams, terminal, log *os.File) *Handle {
	h := NewHandle(p.PID, streams, terminal, func(sig unix.Signal) error {
		err := p.Signal(sig)
		if errors.Is(err, os.ErrProcessDone) {
			return ErrEnded
		}
		return err
	})
	go func() {
		status := p.Wait()
		// With the first process all others of the container are gone, so nobody writes to its log any more.
		h.End(Exit{Code: uint32(reaper.ExitCode(status)), OutOfMemory: r.outOfMemory(id), Message: message(log)}) // 0 to 255
	}()
	return h
}

func (r *Runner) outOfMemory(id string) bool {
	n, err := cgroup.OOMKills(r.cgroup(id))
	return err == nil && n > 0
}

// Usage reads what a container uses.
func (r *Runner) Usage(id string) (Usage, error) {
	s, err := cgroup.Read(r.cgroup(id))
	if err != nil {
		return Usage{}, err
	}
	return Usage{MemoryBytes: s.MemoryBytes, CPUMicros: s.CPUMicros, PIDs: uint32(min(s.Processes, 1<<22))}, nil // bounded
}

// Remove kills what is left of a container and forgets it. A container that does not exist is no error.
func (r *Runner) Remove(ctx context.Context, id string) error {
	r.mu.Lock()
	h := r.inits[id]
	delete(r.inits, id)
	r.mu.Unlock()
	_ = os.WriteFile(filepath.Join(r.cgroup(id), "cgroup.kill"), []byte("1"), 0) // exists, or there is nothing to kill
	if h != nil {
		if !r.ends(h) {
			return fmt.Errorf("killing container %s: its first process is still there after %v", id, killTimeout)
		}
	}
	dir := r.bundle(id)
	_, err := os.Stat(dir)
	if errors.Is(err, os.ErrNotExist) {
		return r.Volumes.forget(id)
	}
	err = r.runc(ctx, dir, [3]*os.File{}, "delete", "--force", id)
	if err != nil {
		return err
	}
	return errors.Join(os.RemoveAll(dir), r.Volumes.forget(id))
}

// ends waits for a killed process. One that waits for the host can not be killed before it has its answer: the host loses the
// share after a while.
func (r *Runner) ends(h *Handle) bool {
	const tick = time.Second
	for waited := time.Duration(0); waited < killTimeout; waited += tick {
		select {
		case <-h.Done():
			return true
		case <-time.After(tick):
		}
		switch {
		case waited >= killTimeout/2: // it answers each question, and each late
			r.Volumes.freeStuck(0)
		case waited >= stuckTime:
			r.Volumes.freeStuck(stuckTime / 2)
		}
	}
	return h.Ended()
}

func (r *Runner) bundle(id string) string { return filepath.Join(r.Dir, id) }

func (r *Runner) cgroup(id string) string { return filepath.Join(r.Cgroups, cgroupParent, id) }

func writeJSON(path string, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("encoding %s: %w", filepath.Base(path), err)
	}
	err = os.WriteFile(path, b, 0o600)
	if err != nil {
		return fmt.Errorf("writing %s: %w", filepath.Base(path), err)
	}
	return nil
}
