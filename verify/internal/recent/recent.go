// SPDX-License-Identifier: Apache-2.0

// Package recent remembers what was found out lately, by digests of everything that it depends on: mathematical facts
// alone, which can not be out of date. What is trusted, valid or allowed is never among them.
package recent

import (
	"crypto/sha256"
	"encoding/binary"
	"sync"
)

// Key names a fact by the digest of what it is about.
type Key [32]byte

// Digest makes the key of the parts, each with its length, under a word that says what they are.
func Digest(what string, parts ...[]byte) Key {
	h := sha256.New()
	_, _ = h.Write([]byte(what)) // a hash never fails
	for _, p := range parts {
		_, _ = h.Write(binary.BigEndian.AppendUint64(nil, uint64(len(p))))
		_, _ = h.Write(p)
	}
	return Key(h.Sum(nil))
}

// Map is a bounded map, safe for concurrent use. A nil Map works and remembers nothing.
type Map[V any] struct {
	mu         sync.Mutex
	half       int
	young, old map[Key]V
}

// New returns a map of at most size facts. Of those that were not used for longest, half are dropped at a time.
func New[V any](size int) *Map[V] { return &Map[V]{half: max(size/2, 1), young: map[Key]V{}} }

// Len returns the number of facts that are remembered.
func (m *Map[V]) Len() int {
	if m == nil {
		return 0
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.young) + len(m.old)
}

// Forget drops everything.
func (m *Map[V]) Forget() {
	if m == nil {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.young, m.old = map[Key]V{}, nil
}

// Get returns a fact, and moves it to the half that is not dropped next.
func (m *Map[V]) Get(key Key) (v V, ok bool) {
	if m == nil {
		return v, false
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if v, ok = m.young[key]; ok {
		return v, true
	}
	if v, ok = m.old[key]; ok {
		delete(m.old, key)
		m.add(key, v)
	}
	return v, ok
}

// Put remembers a fact.
func (m *Map[V]) Put(key Key, v V) {
	if m == nil {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.add(key, v)
}

// add keeps both halves within their bound. Its caller holds the lock.
func (m *Map[V]) add(key Key, v V) {
	if len(m.young) >= m.half {
		m.young, m.old = make(map[Key]V, m.half), m.young
	}
	m.young[key] = v
}
