// SPDX-License-Identifier: Apache-2.0

package container

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"cofferdam.dev/internal/channel"
)

// Streams are the guest's ends of a process's standard streams; nil where the process has /dev/null.
type Streams struct {
	Stdin, Stdout, Stderr *Stream
}

// all returns the streams that exist.
func (s Streams) all() []*Stream {
	var list []*Stream
	for _, x := range []*Stream{s.Stdin, s.Stdout, s.Stderr} {
		if x != nil {
			list = append(list, x)
		}
	}
	return list
}

// Stream is the guest's end of one standard stream of one process. Nothing is read from the process before Serve, and
// no more than the host takes: a process that writes faster waits, as on any pipe.
type Stream struct {
	input bool // from the host to the process

	mu     sync.Mutex
	file   *os.File
	served net.Conn
	closed bool
}

// NewStream returns a stream over the guest's end of a pipe, which it owns. Input goes from the host to the process.
func NewStream(f *os.File, input bool) *Stream { return &Stream{input: input, file: f} }

// Serve joins the stream with a connection to the host until either ends. It is called at most once, and owns c.
func (s *Stream) Serve(c net.Conn) {
	defer func() { _ = c.Close() }()
	s.mu.Lock()
	s.served = c
	f, closed := s.file, s.closed
	s.mu.Unlock()
	if closed {
		return
	}
	if s.input {
		s.forward(f, c)
	} else {
		s.output(f, c)
	}
	s.Close()
}

// forward copies what the host sends; whoever ends it ends the other. A process that reads nothing does not hold it up
// when the host has gone.
func (s *Stream) forward(f *os.File, c net.Conn) {
	over := make(chan struct{})
	defer close(over)
	if ch, ok := c.(channel.Stream); ok {
		go func() {
			select {
			case <-ch.ChannelDone():
				s.Close()
			case <-over:
			}
		}()
	}
	_, _ = io.Copy(f, c)
}

// output copies what the process writes. The host says by closing its end that it reads no more; then the process
// must see a broken pipe at its next write.
func (s *Stream) output(f *os.File, c net.Conn) {
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		var b [1]byte
		_, _ = c.Read(b[:]) // nothing is expected but the end
		s.Close()
	}()
	_, _ = io.Copy(c, f)
	_ = c.Close()
	_ = c.SetReadDeadline(time.Unix(1, 0)) // wakes the watcher
	<-watched
}

// Close ends the stream: a process that reads it gets its end, one that writes it a broken pipe.
func (s *Stream) Close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return
	}
	s.closed = true
	_ = s.file.Close()
	if s.served != nil && s.input {
		_ = s.served.SetReadDeadline(time.Unix(1, 0)) // wakes the copying
	}
}

// CloseUnlessServed closes a stream that the host has not opened.
func (s *Stream) CloseUnlessServed() {
	s.mu.Lock()
	served := s.served != nil
	s.mu.Unlock()
	if !served {
		s.Close()
	}
}

// pipes are the two sides of a process's standard streams.
type pipes struct {
	child   [3]*os.File // nil is /dev/null
	streams Streams
}

// newPipes makes the pipes that a process without a terminal needs.
func newPipes(want Stdio) (*pipes, error) {
	p := &pipes{}
	if want.Terminal {
		return p, nil // see console
	}
	for i, w := range []bool{want.Stdin, want.Stdout, want.Stderr} {
		if !w {
			continue
		}
		r, wr, err := os.Pipe()
		if err != nil {
			p.closeAll()
			return nil, fmt.Errorf("making a pipe: %w", err)
		}
		switch i {
		case 0:
			p.child[i], p.streams.Stdin = r, NewStream(wr, true)
		case 1:
			p.child[i], p.streams.Stdout = wr, NewStream(r, false)
		case 2:
			p.child[i], p.streams.Stderr = wr, NewStream(r, false)
		}
	}
	return p, nil
}

// closeChild closes the process's side, which the process itself holds by now.
func (p *pipes) closeChild() {
	for i, f := range p.child {
		if f != nil {
			_ = f.Close()
			p.child[i] = nil
		}
	}
}

func (p *pipes) closeAll() {
	p.closeChild()
	for _, s := range p.streams.all() {
		s.Close()
	}
}

// terminalStreams makes the streams of a pseudo-terminal. Each has a file of its own: the terminal hangs up when the
// last is closed.
func terminalStreams(want Stdio, master *os.File) (Streams, error) {
	var s Streams
	var err error
	if want.Stdin {
		s.Stdin, err = dupStream(master, true)
	}
	if err == nil && want.Stdout {
		s.Stdout, err = dupStream(master, false)
	}
	if err != nil {
		for _, x := range s.all() {
			x.Close()
		}
		return Streams{}, err
	}
	return s, nil
}

func dupStream(f *os.File, input bool) (*Stream, error) {
	fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("duplicating the terminal: %w", err)
	}
	err = unix.SetNonblock(fd, true) // so that closing it ends a read
	if err != nil {
		return nil, errors.Join(fmt.Errorf("preparing the terminal: %w", err), unix.Close(fd))
	}
	return NewStream(os.NewFile(uintptr(fd), "terminal"), input), nil
}
