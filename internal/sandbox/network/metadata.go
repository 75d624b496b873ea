// SPDX-License-Identifier: Apache-2.0

package network

import (
	"errors"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/waiter"

	"cofferdam.dev/internal/sandbox/metadata"
)

const (
	metadataPort = 80
	// metadataTimeout bounds a request to the metadata service, from its first byte to the answer's last.
	metadataTimeout = 10 * time.Second
	maxHeader       = 16 << 10
)

// service is an HTTP server inside the machine's network. Connections are handed to it one by one.
type service struct {
	conns chan net.Conn
	done  <-chan struct{}
}

// serveMetadata starts the stand-in for the metadata service. It ends with the network.
func (n *Network) serveMetadata() {
	s := &service{conns: make(chan net.Conn), done: n.ctx.Done()}
	n.metadata = s
	srv := &http.Server{
		Handler: n.cfg.Metadata, ReadTimeout: metadataTimeout, WriteTimeout: metadataTimeout, IdleTimeout: metadataTimeout,
		MaxHeaderBytes: maxHeader, ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelDebug), // the guest could fill a log
	}
	n.flows.Go(func() { _ = srv.Serve(s) }) // it ends when Accept does
	n.flows.Go(func() {
		<-n.ctx.Done()
		_ = srv.Close() // ends the connections that are left
	})
}

// Accept implements net.Listener.
func (s *service) Accept() (net.Conn, error) {
	select {
	case c := <-s.conns:
		return c, nil
	case <-s.done:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener.
func (s *service) Close() error { return nil }

// Addr implements net.Listener.
func (s *service) Addr() net.Addr {
	return &net.TCPAddr{IP: net.ParseIP(metadata.Address), Port: metadataPort}
}

// atMetadata says whether a connection is to the service, and there is one.
func (o *outward) atMetadata(id stack.TransportEndpointID) bool {
	return o.n.metadata != nil && id.LocalPort == metadataPort && id.LocalAddress == tcpip.AddrFromSlice(net.ParseIP(metadata.Address).To4())
}

// errBusy says that nobody took a connection in time.
var errBusy = errors.New("the metadata service is busy")

// answer hands a connection to the service, and returns when it is over.
func (o *outward) answer(r *tcp.ForwarderRequest) {
	if !o.enter() {
		r.Complete(true)
		return
	}
	defer o.leave()
	var queue waiter.Queue
	end, terr := r.CreateEndpoint(&queue)
	if terr != nil {
		r.Complete(true)
		return
	}
	r.Complete(false)
	c := &counted{Conn: gonet.NewTCPConn(&queue, end), over: make(chan struct{})}
	select {
	case o.n.metadata.conns <- c:
		<-c.over
	case <-o.n.ctx.Done():
		_ = c.Conn.Close()
	case <-time.After(metadataTimeout):
		_ = c.Conn.Close()
		o.n.cfg.Logger.Debug(errBusy.Error())
	}
}

// counted is a connection that says when it is closed.
type counted struct {
	net.Conn
	once sync.Once
	over chan struct{}
}

// Close implements net.Conn.
func (c *counted) Close() error {
	err := c.Conn.Close()
	c.once.Do(func() { close(c.over) })
	return err
}
