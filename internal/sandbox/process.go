// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"runtime"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// maxStderr is how much of QEMU's error output is kept, from the end.
const maxStderr = 4 << 10

// process is the QEMU process.
type process struct {
	cmd    *exec.Cmd
	stderr *ring
	exited chan struct{} // closed when the process is gone; then err is set
	err    error
}

// startProcess runs the emulator with the given descriptors from 3 on, and without an environment. The process dies
// with this one, however it ends.
func startProcess(path string, args []string, files []*os.File) (*process, error) {
	p := &process{cmd: exec.Command(path, args...), stderr: newRing(maxStderr), exited: make(chan struct{})}
	p.cmd.Dir = "/"
	p.cmd.Env = []string{"LC_ALL=C"}
	p.cmd.Stderr = p.stderr
	p.cmd.ExtraFiles = files
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	started := make(chan error, 1)
	go func() {
		// The kernel sends the death signal when the thread that forked ends, not the process. So this goroutine
		// keeps its thread for as long as the child lives.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := p.cmd.Start()
		started <- err
		if err != nil {
			return
		}
		p.err = p.cmd.Wait()
		close(p.exited)
	}()
	err := <-started
	if err != nil {
		return nil, fmt.Errorf("starting QEMU: %w", err)
	}
	return p, nil
}

// kill ends the process at once. It is harmless when the process is gone.
func (p *process) kill() { _ = p.cmd.Process.Kill() }

// endpoint makes a socket pair: a connection for us and a file for the child.
func endpoint(name string) (net.Conn, *os.File, error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("making the %s channel: %w", name, err)
	}
	theirs := os.NewFile(uintptr(fds[1]), name)
	ours := os.NewFile(uintptr(fds[0]), name)
	defer func() { _ = ours.Close() }() // FileConn works on a copy
	conn, err := net.FileConn(ours)
	if err != nil {
		_ = theirs.Close() // the first error is the telling one
		return nil, nil, fmt.Errorf("making the %s channel: %w", name, err)
	}
	return conn, theirs, nil
}

// ring keeps the last bytes that were written to it.
type ring struct {
	mu  sync.Mutex
	buf []byte
	max int
}

func newRing(size int) *ring { return &ring{max: size} }

// Write keeps the end of what it was ever given. It never fails.
func (r *ring) Write(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.buf = append(r.buf, p[max(0, len(p)-r.max):]...)
	if extra := len(r.buf) - r.max; extra > 0 {
		r.buf = append(r.buf[:0], r.buf[extra:]...)
	}
	return len(p), nil
}

// String returns what is kept, with everything that could upset a terminal replaced.
func (r *ring) String() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return printable(r.buf)
}

// printable keeps newlines, tabs and visible ASCII of b.
func printable(b []byte) string {
	out := make([]byte, 0, len(b))
	for _, c := range b {
		switch {
		case c == '\n' || c == '\t' || c >= ' ' && c < 0x7f:
			out = append(out, c)
		case c == '\r':
		default:
			out = append(out, '?')
		}
	}
	return string(out)
}
