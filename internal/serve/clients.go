// SPDX-License-Identifier: Apache-2.0

package serve

import (
	"net"
	"net/netip"
	"sync"

	"golang.org/x/time/rate"
)

// maxClients bounds the addresses whose rate is remembered.
const maxClients = 10_000

// clients bounds the rate of requests by address. When there are more addresses than it remembers, those that were idle
// longest are forgotten first; who comes anew begins with a full burst.
type clients struct {
	rate  rate.Limit
	burst int

	mu    sync.Mutex
	young map[netip.Prefix]*rate.Limiter
	old   map[netip.Prefix]*rate.Limiter
}

func newClients(perSecond float64, burst int) *clients {
	return &clients{rate: rate.Limit(perSecond), burst: burst, young: map[netip.Prefix]*rate.Limiter{}}
}

func (c *clients) allow(who netip.Prefix) bool {
	if c.rate == 0 {
		return true
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	l := c.young[who]
	if l == nil {
		if l = c.old[who]; l == nil {
			l = rate.NewLimiter(c.rate, c.burst)
		}
		if len(c.young) >= maxClients/2 {
			c.young, c.old = map[netip.Prefix]*rate.Limiter{}, c.young
		}
		c.young[who] = l
	}
	return l.Allow()
}

// limitListener lets at most n connections be open at a time; more wait in the kernel. Those of one address beyond a quarter
// are closed at once.
func limitListener(l net.Listener, n int) net.Listener {
	return &limited{Listener: l, most: max(leastShare, n/shareOfOne), slots: make(chan struct{}, n), done: make(chan struct{}), open: map[netip.Prefix]int{}}
}

type limited struct {
	net.Listener

	most  int
	slots chan struct{}
	done  chan struct{}
	once  sync.Once

	mu   sync.Mutex
	open map[netip.Prefix]int
}

// Accept implements net.Listener.
func (l *limited) Accept() (net.Conn, error) {
	for {
		select {
		case l.slots <- struct{}{}:
		case <-l.done:
			return nil, net.ErrClosed
		}
		c, err := l.Listener.Accept()
		if err != nil {
			<-l.slots
			return nil, err
		}
		who := address(c.RemoteAddr().String())
		if l.enter(who) {
			return &counted{Conn: c, release: func() { l.leave(who); <-l.slots }}, nil
		}
		_ = c.Close() // its address has enough of them
		<-l.slots
	}
}

func (l *limited) enter(who netip.Prefix) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.open[who] >= l.most && !who.Addr().IsLoopback() {
		return false
	}
	l.open[who]++
	return true
}

func (l *limited) leave(who netip.Prefix) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.open[who]--; l.open[who] == 0 {
		delete(l.open, who)
	}
}

// Close implements net.Listener.
func (l *limited) Close() error {
	l.once.Do(func() { close(l.done) })
	return l.Listener.Close()
}

type counted struct {
	net.Conn

	once    sync.Once
	release func()
}

// Close implements net.Conn.
func (c *counted) Close() error {
	err := c.Conn.Close()
	c.once.Do(c.release)
	return err
}
