// SPDX-License-Identifier: Apache-2.0

package container

import (
	"errors"
	"fmt"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// ErrEnded says that a process has ended.
var ErrEnded = errors.New("the process has ended")

// Handle is a process that was started.
type Handle struct {
	PID     int
	Streams Streams

	signal func(unix.Signal) error

	mu       sync.Mutex
	terminal *os.File // nil without one
	done     chan struct{}
	exit     Exit
}

// NewHandle returns a handle for a process that signal reaches. It owns terminal, which is nil where there is none.
// Whoever starts the process calls End.
func NewHandle(pid int, streams Streams, terminal *os.File, signal func(unix.Signal) error) *Handle {
	return &Handle{PID: pid, Streams: streams, terminal: terminal, signal: signal, done: make(chan struct{})}
}

// End records how the process ended, once, and closes its input. No signal is sent after it returns. Output that the host has not read yet stays.
func (h *Handle) End(e Exit) {
	h.mu.Lock()
	defer h.mu.Unlock()
	select {
	case <-h.done:
		return
	default:
	}
	h.exit = e
	close(h.done)
	if h.Streams.Stdin != nil {
		h.Streams.Stdin.Close()
	}
	if h.terminal != nil {
		_ = h.terminal.Close()
		h.terminal = nil
	}
}

// Done is closed when the process has ended.
func (h *Handle) Done() <-chan struct{} { return h.done }

// Ended reports whether the process has ended.
func (h *Handle) Ended() bool {
	select {
	case <-h.done:
		return true
	default:
		return false
	}
}

// Exit is how the process ended; call it after Done is closed.
func (h *Handle) Exit() Exit { return h.exit }

// Signal sends a signal.
func (h *Handle) Signal(sig unix.Signal) error {
	h.mu.Lock() // after End no signal may be on its way
	defer h.mu.Unlock()
	if h.Ended() {
		return ErrEnded
	}
	return h.signal(sig)
}

// Terminal reports whether the process has a terminal to resize.
func (h *Handle) Terminal() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.terminal != nil
}

// Resize sets the size of the process's terminal.
func (h *Handle) Resize(columns, rows uint16) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.terminal == nil {
		return ErrEnded
	}
	raw, err := h.terminal.SyscallConn()
	if err != nil {
		return fmt.Errorf("setting the terminal's size: %w", err)
	}
	var ioctl error
	err = raw.Control(func(fd uintptr) {
		ioctl = unix.IoctlSetWinsize(int(fd), unix.TIOCSWINSZ, &unix.Winsize{Row: rows, Col: columns})
	})
	err = errors.Join(err, ioctl)
	if err != nil {
		return fmt.Errorf("setting the terminal's size: %w", err)
	}
	return nil
}

// CloseUnservedStreams closes the streams that the host has not opened.
func (h *Handle) CloseUnservedStreams() {
	for _, s := range h.Streams.all() {
		s.CloseUnlessServed()
	}
}
