// SPDX-License-Identifier: Apache-2.0

package channel

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"github.com/containerd/ttrpc"
	"github.com/hashicorp/yamux"
)

// Serve answers one peer over conn until the peer goes away or ctx ends. It owns conn. Streams that present a token of
// broker are handed to the function that was granted with it; everything on the RPC stream goes to rpc, which the
// caller must not share with another Serve. A nil error means that the peer closed the channel.
func Serve(ctx context.Context, conn io.ReadWriteCloser, rpc *ttrpc.Server, broker *Broker) error {
	mux, err := yamux.Server(conn, muxConfig())
	if err != nil {
		return fmt.Errorf("starting the channel: %w", err)
	}
	l := newOneListener(mux)
	served := make(chan error, 1)
	go func() { served <- rpc.Serve(ctx, l) }()
	stop := context.AfterFunc(ctx, func() { _ = mux.Close() })
	defer stop()

	var streams sync.WaitGroup
	pending := make(chan struct{}, maxPending)
	for {
		var s *yamux.Stream
		s, err = mux.AcceptStream()
		if err != nil {
			break
		}
		pending <- struct{}{} // bounds goroutines that wait for a preamble
		streams.Go(func() {
			serve, err := admit(s, l, broker)
			<-pending
			if err != nil {
				_ = s.Close()
				return
			}
			if serve != nil {
				serve(s)
			}
		})
	}
	_ = mux.Close()
	_ = l.Close()
	_ = rpc.Close()
	_ = <-served // it ends because the session did: err says why
	streams.Wait()
	if errors.Is(err, io.EOF) || errors.Is(err, yamux.ErrSessionShutdown) {
		return ctx.Err()
	}
	return err
}

// admit reads a stream's preamble and returns the function that serves it, nil for the RPC stream.
func admit(s net.Conn, l *oneListener, broker *Broker) (func(net.Conn), error) {
	err := s.SetReadDeadline(time.Now().Add(preambleTimeout))
	if err != nil {
		return nil, err
	}
	var kind [1]byte
	_, err = io.ReadFull(s, kind[:])
	if err != nil {
		return nil, err
	}
	var serve func(net.Conn)
	switch kind[0] {
	case preambleRPC:
		if !l.offer(s) {
			return nil, ErrUnknownStream
		}
	case preambleData:
		var t [TokenSize]byte
		_, err = io.ReadFull(s, t[:])
		if err != nil {
			return nil, err
		}
		serve = broker.take(t)
		if serve == nil {
			return nil, ErrUnknownStream
		}
	default:
		return nil, ErrUnknownStream
	}
	return serve, s.SetReadDeadline(time.Time{})
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
