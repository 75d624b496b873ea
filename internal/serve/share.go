// SPDX-License-Identifier: Apache-2.0

package serve

import (
	"net/netip"
	"sync"
)

// shareOfOne is the part of places and memory that requests of one address can have: a quarter. Who holds requests up, a
// byte at a time, leaves the rest to others. Loopback addresses can have all: they are the operator's own, such as a proxy.
const shareOfOne = 4

// leastShare are the places that an address can have in any case.
const leastShare = 4

// shares bounds the requests that are under way, and the bytes of their bodies, together and by address.
type shares struct {
	places int
	memory int64

	mu      sync.Mutex
	all     share
	clients map[netip.Prefix]share
}

type share struct {
	places int
	memory int64
}

func newShares(l *Limits) *shares {
	return &shares{places: l.Concurrent, memory: l.Memory, clients: map[netip.Prefix]share{}}
}

// take reserves a place and memory for a request; it returns nil when there is none left.
func (s *shares) take(who netip.Prefix, memory int64) (leave func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	one := s.clients[who]
	full := s.all.places >= s.places || s.all.memory+memory > s.memory
	greedy := one.places > 0 && (one.places >= max(leastShare, s.places/shareOfOne) || one.memory+memory > s.memory/shareOfOne)
	if full || greedy && !who.Addr().IsLoopback() {
		return nil
	}
	s.add(who, 1, memory)
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.add(who, -1, -memory)
	}
}

func (s *shares) add(who netip.Prefix, places int, memory int64) {
	one := s.clients[who]
	one.places, one.memory = one.places+places, one.memory+memory
	s.all.places, s.all.memory = s.all.places+places, s.all.memory+memory
	if one.places == 0 {
		delete(s.clients, who)
		return
	}
	s.clients[who] = one
}
