// SPDX-License-Identifier: Apache-2.0

package serve

import (
	"context"
	"crypto/tls"
	"math"
	"net"
	"net/http"
	"net/netip"
	"path/filepath"
	"testing"
)

// TestShares leaves places and memory to others, whatever one address does, and gives back what was taken.
func TestShares(t *testing.T) {
	t.Parallel()
	s := newShares(&Limits{Concurrent: 40, Memory: 4000})
	greedy, other, local := netip.MustParsePrefix("192.0.2.1/32"), netip.MustParsePrefix("192.0.2.2/32"), netip.MustParsePrefix("127.0.0.1/32")
	var held []func()
	take := func(who netip.Prefix, memory int64) bool {
		leave := s.take(who, memory)
		if leave != nil {
			held = append(held, leave)
		}
		return leave != nil
	}
	n := 0
	for take(greedy, 1) {
		n++
	}
	if n != 10 {
		t.Errorf("one address has %d places of 40", n)
	}
	if !take(other, 1000) || take(other, 1) {
		t.Error("another has its share of memory, and no more")
	}
	for n = 0; take(local, 10); n++ {
	}
	if n != 29 {
		t.Errorf("a proxy of the operator's has %d places", n)
	}
	for _, leave := range held {
		leave()
	}
	if len(s.clients) != 0 || s.all != (share{}) {
		t.Errorf("left: %v, %v", s.clients, s.all)
	}
	if !take(greedy, 4000) || take(other, 1) {
		t.Error("one request can have all memory, and then there is none")
	}
}

// fixed is a listener whose connections come from one address.
type fixed struct{ net.Listener }

type remote struct {
	net.Conn

	closed bool
}

func (*remote) RemoteAddr() net.Addr { return &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 1} }
func (r *remote) Close() error       { r.closed = true; return nil }
func (fixed) Close() error           { return nil }

// TestConnectionsOfOne closes what one address opens beyond its share.
func TestConnectionsOfOne(t *testing.T) {
	t.Parallel()
	conns := make(chan *remote, 100)
	l := limitListener(&chanListener{conns: conns}, 40)
	var list []*remote
	for range 11 {
		c := &remote{}
		list = append(list, c)
		conns <- c
	}
	var open []net.Conn
	for range 10 {
		c, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		open = append(open, c)
	}
	if err := open[0].Close(); err != nil {
		t.Error(err)
	}
	if _, err := l.Accept(); err != nil || list[10].closed {
		t.Errorf("a place that was given back: %v", err)
	}
	more := &remote{}
	conns <- more
	close(conns)
	if _, err := l.Accept(); err == nil || !more.closed {
		t.Error("one more than its share is open")
	}
}

type chanListener struct {
	fixed

	conns chan *remote
}

func (l *chanListener) Accept() (net.Conn, error) {
	c, ok := <-l.conns
	if !ok {
		return nil, net.ErrClosed
	}
	return c, nil
}

// TestNoHTTP2 has no client multiplex requests on a connection: what bounds connections bounds requests.
func TestNoHTTP2(t *testing.T) {
	t.Parallel()
	config, err := DevelopmentTLS(filepath.Join(t.TempDir(), "tls.pem"), []string{"127.0.0.1"})
	if err != nil {
		t.Fatal(err)
	}
	s, err := New(t.Context(), Options{Name: "test", Address: "127.0.0.1:0", TLS: config, Handler: http.NotFoundHandler()})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	d := tls.Dialer{Config: &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2", "http/1.1"}}}
	c, err := d.DialContext(t.Context(), "tcp", s.Addr())
	if err != nil {
		t.Fatal(err)
	}
	if state := c.(*tls.Conn).ConnectionState(); state.NegotiatedProtocol == "h2" {
		t.Error("HTTP/2 is spoken")
	}
	_ = c.Close() // of no use any more
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// TestLimits refuses limits that would turn everybody away.
func TestLimits(t *testing.T) {
	t.Parallel()
	for name, l := range map[string]Limits{
		"places": {Concurrent: -1}, "rate": {ClientRate: -5}, "no number": {ClientRate: math.NaN()}, "body": {Body: -1}, "memory": {Memory: -1},
		"time": {Read: -1},
	} {
		if _, err := New(t.Context(), Options{Name: "test", Address: "127.0.0.1:0", Handler: http.NotFoundHandler(), Limits: l}); err == nil {
			t.Errorf("%s: it starts", name)
		}
	}
}
