// SPDX-License-Identifier: Apache-2.0

package channel

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"syscall"
	"time"

	"github.com/containerd/ttrpc"
	"github.com/hashicorp/yamux"
)

// Serve answers one peer over conn until the peer goes away or ctx ends. It owns conn. Streams that present a token of
// broker are handed to the function that was granted with it; everything on the RPC stream goes to rpc, which the
// caller must not share with another Serve. Only unary calls are served. A nil error means that the peer closed the
// channel.
func Serve(ctx context.Context, conn io.ReadWriteCloser, rpc *ttrpc.Server, broker *Broker) error {
	mux, err := yamux.Server(conn, muxConfig())
	if err != nil {
		return fmt.Errorf("starting the channel: %w", err)
	}
	s := &session{mux: mux, broker: broker, rpc: newOneListener(mux)}
	served := make(chan struct{})
	go func() {
		defer close(served)
		_ = rpc.Serve(ctx, s.rpc) // it ends because the session did, and that error says why
	}()
	stop := context.AfterFunc(ctx, func() { _ = mux.Close() })
	defer stop()

	err = s.accept()
	_ = mux.Close()
	_ = s.rpc.Close()
	_ = rpc.Close()
	<-served
	s.streams.Wait()
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case s.violation() != nil:
		return s.violation()
	case errors.Is(err, io.EOF), errors.Is(err, yamux.ErrSessionShutdown), errors.Is(err, io.ErrClosedPipe),
		errors.Is(err, syscall.EPIPE), errors.Is(err, syscall.ECONNRESET):
		return nil // the peer went away; which call notices first is chance
	}
	return err
}

// session is one Serve in progress.
type session struct {
	mux     *yamux.Session
	rpc     *oneListener
	broker  *Broker
	streams sync.WaitGroup

	mu      sync.Mutex
	refused int
	broken  error // the first violation of the protocol
}

// accept takes streams until the session ends.
func (s *session) accept() error {
	pending := make(chan struct{}, maxPending)
	for {
		stream, err := s.mux.AcceptStream()
		if err != nil {
			return err
		}
		pending <- struct{}{} // bounds goroutines that wait for a preamble
		s.streams.Go(func() {
			serve, err := s.admit(stream)
			<-pending
			if err != nil {
				_ = stream.Close()
				s.refuse()
				return
			}
			if serve != nil {
				serve(dataStream{stream, s.mux.CloseChan()})
			}
		})
	}
}

// refuse counts a stream that was not admitted. A closed stream still holds what the peer sends into it until the peer
// closes it too, so a peer that keeps opening such streams is cut off.
func (s *session) refuse() {
	s.mu.Lock()
	s.refused++
	many := s.refused > maxRefused
	s.mu.Unlock()
	if many {
		s.violate(fmt.Errorf("%w: %w, more than %d times", ErrProtocol, ErrUnknownStream, maxRefused))
	}
}

func (s *session) violate(err error) {
	s.mu.Lock()
	if s.broken == nil {
		s.broken = err
	}
	s.mu.Unlock()
	_ = s.mux.Close()
}

func (s *session) violation() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.broken
}

// admit reads a stream's preamble and returns the function that serves it, nil for the RPC stream.
func (s *session) admit(c net.Conn) (func(net.Conn), error) {
	err := c.SetReadDeadline(time.Now().Add(preambleTimeout))
	if err != nil {
		return nil, err
	}
	var kind [1]byte
	_, err = io.ReadFull(c, kind[:])
	if err != nil {
		return nil, err
	}
	var serve func(net.Conn)
	switch kind[0] {
	case preambleRPC:
		if !s.rpc.offer(newGuard(c, s.violate)) {
			return nil, ErrUnknownStream
		}
	case preambleData:
		var t [TokenSize]byte
		_, err = io.ReadFull(c, t[:])
		if err != nil {
			return nil, err
		}
		serve = s.broker.take(t)
		if serve == nil {
			return nil, ErrUnknownStream
		}
	default:
		return nil, ErrUnknownStream
	}
	return serve, c.SetReadDeadline(time.Time{})
}

// oneListener hands exactly one connection to a ttrpc server.
type oneListener struct {
	conn  chan net.Conn
	done  chan struct{}
	once  sync.Once
	taken sync.Once
	addr  net.Addr
}

func newOneListener(mux *yamux.Session) *oneListener {
	return &oneListener{conn: make(chan net.Conn, 1), done: make(chan struct{}), addr: mux.Addr()}
}

// offer reports whether c was the first connection.
func (l *oneListener) offer(c net.Conn) bool {
	ok := false
	l.taken.Do(func() {
		l.conn <- c
		ok = true
	})
	return ok
}

func (l *oneListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conn:
		return c, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}

func (l *oneListener) Close() error {
	l.once.Do(func() { close(l.done) })
	return nil
}

func (l *oneListener) Addr() net.Addr { return l.addr }
