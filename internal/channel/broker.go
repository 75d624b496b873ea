// SPDX-License-Identifier: Apache-2.0

package channel

import (
	"crypto/rand"
	"errors"
	"net"
	"sync"
)

// maxGrants bounds the tokens that are outstanding at once.
const maxGrants = 1024

// ErrTooManyGrants says that the peer was granted streams that it did not open.
var ErrTooManyGrants = errors.New("too many streams were granted and not opened")

// Broker keeps the tokens that admit data streams. The zero Broker admits none and is ready for use.
type Broker struct {
	mu     sync.Mutex
	grants map[[TokenSize]byte]func(net.Conn)
}

// Stream is the connection that a granted function serves. Besides what a connection does it says that the whole channel
// has ended, which whoever is busy elsewhere does not learn from the connection.
type Stream interface {
	net.Conn
	// ChannelDone is closed when the channel has ended.
	ChannelDone() <-chan struct{}
}

type dataStream struct {
	net.Conn
	done <-chan struct{}
}

func (d dataStream) ChannelDone() <-chan struct{} { return d.done }

// Grant returns a fresh token. The first stream that presents it is passed to serve, on a goroutine of its own that
// serve must leave by closing the stream, and soon when the channel has ended; it is a Stream. A token admits one stream.
func (b *Broker) Grant(serve func(net.Conn)) ([]byte, error) {
	var t [TokenSize]byte
	_, _ = rand.Read(t[:]) // never fails: crypto/rand aborts the program instead
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.grants) >= maxGrants {
		return nil, ErrTooManyGrants
	}
	if b.grants == nil {
		b.grants = make(map[[TokenSize]byte]func(net.Conn))
	}
	b.grants[t] = serve
	return t[:], nil
}

// Revoke withdraws a token that was not presented yet.
func (b *Broker) Revoke(token []byte) {
	if len(token) != TokenSize {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.grants, [TokenSize]byte(token))
}

// take returns the function granted with t and forgets t; nil if there is none.
func (b *Broker) take(t [TokenSize]byte) func(net.Conn) {
	b.mu.Lock()
	defer b.mu.Unlock()
	f := b.grants[t]
	delete(b.grants, t)
	return f
}
