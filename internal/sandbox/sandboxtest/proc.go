// SPDX-License-Identifier: Apache-2.0

package sandboxtest

import (
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"sync"
	"syscall"

	guestv1 "cofferdam.dev/api/guest/v1"

	"github.com/creack/pty"
)

// proc is a container's process: an ordinary one of the host, which dies with the emulator.
type proc struct {
	cmd      *exec.Cmd
	terminal *os.File   // the controlling side, if there is one
	child    []*os.File // closed when the process has started
	done     chan struct{}
	message  string // the file of its termination log, if it has one

	once sync.Once
	code uint32
	oom  bool
}

// prepare makes a process that is not started, and grants its streams.
func (g *guest) prepare(command, env []string, stdio *guestv1.Stdio) (*proc, *guestv1.StdioTokens, error) {
	p := &proc{cmd: exec.Command(command[0], command[1:]...), done: make(chan struct{})}
	p.cmd.Env = env
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Pdeathsig: syscall.SIGKILL}
	tokens := &guestv1.StdioTokens{}
	if stdio.GetTerminal() {
		return p, tokens, g.prepareTerminal(p, tokens)
	}
	var err error
	if stdio.GetStdin() {
		r, w, perr := os.Pipe()
		if perr != nil {
			return nil, nil, perr
		}
		p.cmd.Stdin, p.child = r, append(p.child, r)
		tokens.Stdin, err = g.broker.Grant(func(c net.Conn) {
			_, _ = io.Copy(w, c)
			_ = w.Close()
			_ = c.Close()
		})
	}
	for _, o := range []struct {
		want  bool
		to    *io.Writer
		token *[]byte
	}{{stdio.GetStdout(), &p.cmd.Stdout, &tokens.Stdout}, {stdio.GetStderr(), &p.cmd.Stderr, &tokens.Stderr}} {
		if !o.want {
			continue
		}
		r, w, perr := os.Pipe()
		if perr != nil {
			return nil, nil, perr
		}
		*o.to, p.child = w, append(p.child, w)
		var gerr error
		*o.token, gerr = g.broker.Grant(func(c net.Conn) {
			_, _ = io.Copy(c, r)
			_ = r.Close()
			_ = c.Close()
		})
		err = errors.Join(err, gerr)
	}
	return p, tokens, err
}

func (g *guest) prepareTerminal(p *proc, tokens *guestv1.StdioTokens) error {
	control, tty, err := pty.Open()
	if err != nil {
		return err
	}
	p.terminal, p.child = control, append(p.child, tty)
	p.cmd.Stdin, p.cmd.Stdout, p.cmd.Stderr = tty, tty, tty
	p.cmd.SysProcAttr.Setctty = true
	tokens.Stdin, err = g.broker.Grant(func(c net.Conn) {
		_, _ = io.Copy(control, c)
		_ = c.Close()
	})
	if err != nil {
		return err
	}
	tokens.Stdout, err = g.broker.Grant(func(c net.Conn) {
		_, _ = io.Copy(c, control)
		_ = c.Close()
	})
	return err
}

func (p *proc) start() error {
	err := p.cmd.Start()
	for _, f := range p.child {
		_ = f.Close()
	}
	if err != nil {
		return err
	}
	go func() {
		err := p.cmd.Wait()
		code := p.cmd.ProcessState.ExitCode()
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			status, ok := exit.Sys().(syscall.WaitStatus)
			if ok && status.Signaled() {
				code = 128 + int(status.Signal())
			}
		}
		p.finish(uint32(code), false)
	}()
	return nil
}

// finish settles how the process ended, once.
func (p *proc) finish(code uint32, oom bool) {
	p.once.Do(func() {
		p.code, p.oom = code, oom
		if p.cmd.Process == nil {
			for _, f := range p.child {
				_ = f.Close() // it never ran: its streams end all the same
			}
		}
		close(p.done)
	})
}

func (p *proc) ended() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

func (p *proc) signal(s syscall.Signal) {
	if p.cmd.Process != nil {
		_ = syscall.Kill(-p.cmd.Process.Pid, s) // the process may be gone
	}
}

func (p *proc) resize(columns, rows uint32) error {
	if p.terminal == nil {
		return errors.New("the process has no terminal")
	}
	return pty.Setsize(p.terminal, &pty.Winsize{Cols: uint16(columns), Rows: uint16(rows)})
}
