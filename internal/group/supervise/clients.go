// SPDX-License-Identifier: Apache-2.0

package supervise

import (
	"context"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	groupv1 "cofferdam.dev/api/group/v1"
	"cofferdam.dev/internal/channel"
	"cofferdam.dev/internal/group"

	"github.com/containerd/ttrpc"
)

// maxClients bounds the connections at once.
const maxClients = 128

// clients are the connections to the group's socket.
type clients struct {
	listener net.Listener
	ctx      context.Context
	cancel   context.CancelFunc
	all      sync.WaitGroup
	count    atomic.Int32
	busy     atomic.Int32 // streams of output that somebody is owed who asked to be waited for
	owed     atomic.Int32 // calls under way, and attached clients that were not told yet how it ended
}

// flushGrace is how long an answer may take from us to a client's hands: long enough for a machine that is busy, since an
// answer that is cut off is lost. Only clients that stay connected cost it.
const flushGrace = time.Second

// listen makes the socket and serves it from now on.
func (s *supervisor) listen() error {
	l, err := group.Listen(s.dir)
	if err != nil {
		return err
	}
	c := &s.clients
	c.listener = l
	c.ctx, c.cancel = context.WithCancel(context.Background())
	c.all.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return // closed, by shut
			}
			if c.count.Load() >= maxClients {
				_ = conn.Close() // too many
				continue
			}
			c.count.Add(1)
			c.all.Go(func() {
				defer c.count.Add(-1)
				s.serve(c.ctx, conn)
			})
		}
	})
	return nil
}

// serve answers one client until it goes away, and then gives up what it had.
func (s *supervisor) serve(ctx context.Context, conn net.Conn) {
	server, err := ttrpc.NewServer(ttrpc.WithUnaryServerInterceptor(
		func(ctx context.Context, decode ttrpc.Unmarshaler, _ *ttrpc.UnaryServerInfo, call ttrpc.Method) (any, error) {
			s.clients.owed.Add(1)
			defer s.clients.owed.Add(-1)
			return call(ctx, decode)
		}))
	if err != nil {
		s.log.Error("serving a client", slog.Any("error", err))
		_ = conn.Close() // it was not served
		return
	}
	c := &client{s: s}
	groupv1.RegisterGroupService(server, c)
	err = channel.Serve(ctx, conn, server, &c.broker)
	if err != nil && ctx.Err() == nil {
		s.log.Debug("a client's connection broke", slog.Any("error", err))
	}
	c.close()
}

// linger waits until the clients have got what they are owed: without a limit for output that they asked to be waited
// for, and for some time for everything else. A client that is merely connected is owed nothing.
func (c *clients) linger(limit time.Duration) {
	deadline := time.Now().Add(limit)
	for c.count.Load() > 0 && (c.busy.Load() > 0 || c.owed.Load() > 0 && time.Now().Before(deadline)) {
		time.Sleep(10 * time.Millisecond)
	}
	for flushed := time.Now().Add(flushGrace); c.count.Load() > 0 && time.Now().Before(flushed); {
		time.Sleep(10 * time.Millisecond)
	}
}

// shut ends all connections and waits for them.
func (c *clients) shut() {
	if c.listener == nil {
		return
	}
	_ = c.listener.Close() // it has no other user
	c.cancel()
	c.all.Wait()
}
