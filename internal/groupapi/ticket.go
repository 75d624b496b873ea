// SPDX-License-Identifier: Apache-2.0

package groupapi

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"sync"
	"time"

	"cofferdam.dev/internal/group"
)

const (
	// ticketLife is how long a session can be connected to.
	ticketLife = time.Minute
	// maxTickets bounds the sessions that nobody has connected to yet.
	maxTickets = 256
)

// ticket is a session that somebody was promised. It is good for one connection.
type ticket struct {
	expires  time.Time
	password [sha256.Size]byte

	dir       string // of the group
	container string
	exec      *group.ExecOptions // nil to attach
}

// proves says whether a password is the ticket's.
func (t *ticket) proves(password string) bool {
	hash := sha256.Sum256([]byte(password))
	return subtle.ConstantTimeCompare(hash[:], t.password[:]) == 1
}

// tickets are those that are open.
type tickets struct {
	now func() time.Time

	mu   sync.Mutex
	open map[string]*ticket
}

// issue makes a ticket good and returns its ID and password. It is false when there are too many.
func (s *tickets) issue(t *ticket) (id, password string, ok bool) {
	id, password = rand.Text(), rand.Text()
	t.password = sha256.Sum256([]byte(password))
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.now()
	for key, old := range s.open {
		if now.After(old.expires) {
			delete(s.open, key)
		}
	}
	if len(s.open) >= maxTickets {
		return "", "", false
	}
	if s.open == nil {
		s.open = map[string]*ticket{}
	}
	t.expires = now.Add(ticketLife)
	s.open[id] = t
	return id, password, true
}

// take returns a ticket, once; nil if there is none.
func (s *tickets) take(id string) *ticket {
	s.mu.Lock()
	defer s.mu.Unlock()
	t := s.open[id]
	delete(s.open, id)
	if t == nil || s.now().After(t.expires) {
		return nil
	}
	return t
}
