// SPDX-License-Identifier: Apache-2.0

package channel

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
)

// ErrProtocol says that the peer broke the RPC framing, which ends the whole channel.
var ErrProtocol = errors.New("peer broke the RPC protocol")

// Bounds of requests that were read and not yet answered. Reading stops while either is exceeded.
const (
	maxInFlight      = 1024    // calls that wait for a process end take one each for its lifetime
	maxInFlightBytes = 8 << 20 // a single request may be larger than the rest of the budget, never larger than ttrpc's limit
)

// The framing of ttrpc (its PROTOCOL.md): length, stream number, type, flags.
const (
	frameHeaderSize = 10
	frameRequest    = 0x01
	frameResponse   = 0x02
)

// guard sits between a peer that is not trusted and a ttrpc server. It lets through nothing but unary requests with
// odd, rising stream numbers (the server's code for streaming calls does not survive data frames for a unary call) and
// bounds what is in progress at once (the server starts a goroutine for each request, without a limit of its own).
type guard struct {
	net.Conn
	violated func(error) // called once with the reason when the peer breaks the framing

	// Of the reading side, which one goroutine of the server uses.
	header [frameHeaderSize]byte
	ready  []byte // what of header was not delivered yet
	body   uint32 // what of the body was not delivered yet
	last   uint32 // the newest stream number

	// Of the writing side, which one goroutine of the server uses.
	sent     [frameHeaderSize]byte
	sentLen  int
	sentBody uint32

	mu       sync.Mutex
	changed  *sync.Cond
	closed   bool
	inFlight map[uint32]int // size of each request by stream number
	bytes    int
}

func newGuard(c net.Conn, violated func(error)) *guard {
	g := &guard{Conn: c, violated: violated, inFlight: map[uint32]int{}}
	g.changed = sync.NewCond(&g.mu)
	return g
}

// Read implements net.Conn.
func (g *guard) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	if len(g.ready) == 0 && g.body == 0 {
		err := g.next()
		if err != nil {
			return 0, err
		}
	}
	if len(g.ready) > 0 {
		n := copy(p, g.ready)
		g.ready = g.ready[n:]
		return n, nil
	}
	n, err := g.Conn.Read(p[:min(uint64(len(p)), uint64(g.body))])
	g.body -= uint32(n) // n is at most g.body
	return n, err
}

// next reads and checks one header, and waits until its request may be taken up.
func (g *guard) next() error {
	_, err := io.ReadFull(g.Conn, g.header[:])
	if err != nil {
		return err
	}
	size, id := binary.BigEndian.Uint32(g.header[:4]), binary.BigEndian.Uint32(g.header[4:8])
	switch {
	case g.header[8] != frameRequest:
		return g.violation("frame type %#x, want %#x (request)", g.header[8], frameRequest)
	case id%2 != 1:
		return g.violation("request number %d is not odd", id)
	case id <= g.last:
		return g.violation("request number %d after %d", id, g.last)
	}
	g.last = id
	err = g.begin(id, size)
	if err != nil {
		return err
	}
	g.ready, g.body = g.header[:], size
	return nil
}

func (g *guard) violation(format string, args ...any) error {
	err := fmt.Errorf("%w: "+format, append([]any{ErrProtocol}, args...)...)
	g.violated(err)
	return err
}

func (g *guard) begin(id, size uint32) error {
	cost := int(min(size, maxInFlightBytes)) // ttrpc discards the body of a larger request and answers with an error
	g.mu.Lock()
	defer g.mu.Unlock()
	for !g.closed && len(g.inFlight) > 0 && (len(g.inFlight) >= maxInFlight || g.bytes+cost > maxInFlightBytes) {
		g.changed.Wait()
	}
	if g.closed {
		return net.ErrClosed
	}
	g.inFlight[id] = cost
	g.bytes += cost
	return nil
}

func (g *guard) end(id uint32) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.bytes -= g.inFlight[id]
	delete(g.inFlight, id)
	g.changed.Broadcast()
}

// Write implements net.Conn. It follows the server's frames to see which requests were answered.
func (g *guard) Write(p []byte) (int, error) {
	for rest := p; len(rest) > 0; {
		if g.sentBody > 0 {
			n := min(uint64(len(rest)), uint64(g.sentBody))
			rest = rest[n:]
			g.sentBody -= uint32(n) // n is at most g.sentBody
			continue
		}
		n := copy(g.sent[g.sentLen:], rest)
		rest = rest[n:]
		g.sentLen += n
		if g.sentLen < frameHeaderSize {
			continue
		}
		g.sentLen = 0
		g.sentBody = binary.BigEndian.Uint32(g.sent[:4])
		if g.sent[8] == frameResponse {
			g.end(binary.BigEndian.Uint32(g.sent[4:8]))
		}
	}
	return g.Conn.Write(p)
}

// Close implements net.Conn.
func (g *guard) Close() error {
	g.mu.Lock()
	g.closed = true
	g.changed.Broadcast()
	g.mu.Unlock()
	return g.Conn.Close()
}
