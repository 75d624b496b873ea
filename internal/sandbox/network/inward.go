// SPDX-License-Identifier: Apache-2.0

package network

import (
	"context"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
)

// dialTimeout bounds how long one side may take to accept a connection, about as long as Linux does by itself. An emulated guest
// can be slow, and packets that are lost are sent again after longer and longer pauses.
const dialTimeout = 2 * time.Minute

// flowIdle is how long a datagram flow is remembered without traffic.
const flowIdle = 90 * time.Second

// maxDatagram is the largest payload of a UDP datagram.
const maxDatagram = 65507

// guest is the guest's address with port.
func guest(port uint16) tcpip.FullAddress {
	return tcpip.FullAddress{NIC: nicID, Addr: tcpip.AddrFromSlice(netip.MustParseAddr(GuestIP).AsSlice()), Port: port}
}

// tcpInward forwards connections of a host port.
type tcpInward struct {
	listener *net.TCPListener
	port     uint16
}

func (t *tcpInward) close() error { return t.listener.Close() }

func (t *tcpInward) serve(n *Network) {
	slots := make(chan struct{}, maxFlows)
	for {
		c, err := t.listener.AcceptTCP()
		if err != nil {
			if n.ctx.Err() != nil {
				return
			}
			n.cfg.Logger.Warn("accepting a forwarded connection", slog.Int("port", int(t.port)), slog.Any("error", err))
			select { // out of descriptors, most likely: wait for some to be freed
			case <-n.ctx.Done():
				return
			case <-time.After(100 * time.Millisecond):
			}
			continue
		}
		select {
		case slots <- struct{}{}:
			n.flows.Go(func() {
				defer func() { <-slots }()
				n.forward(c, t.port)
			})
		default:
			_ = c.Close() // too many at once
		}
	}
}

// forward joins a host connection with a new one to the guest.
func (n *Network) forward(c *net.TCPConn, port uint16) {
	ctx, cancel := context.WithTimeout(n.ctx, dialTimeout)
	defer cancel()
	g, err := gonet.DialContextTCP(ctx, n.stack, guest(port), ipv4.ProtocolNumber)
	if err != nil {
		_ = c.SetLinger(0) // nothing listens there: let the peer see a reset
		_ = c.Close()
		return
	}
	relay(n.ctx, c, g)
}

// halfCloser is a connection that can end one direction.
type halfCloser interface {
	net.Conn
	CloseWrite() error
}

// relay copies in both directions until both have ended, or ctx has, and closes both connections.
func relay(ctx context.Context, a, b halfCloser) {
	closeBoth := func() {
		_ = a.Close()
		_ = b.Close()
	}
	defer closeBoth()
	stop := context.AfterFunc(ctx, closeBoth)
	defer stop()
	var both sync.WaitGroup
	both.Go(func() { pipe(a, b) })
	both.Go(func() { pipe(b, a) })
	both.Wait()
}

// pipe copies from src to dst. An error ends both directions; the end of src ends one.
func pipe(dst, src halfCloser) {
	buf := make([]byte, 32<<10)
	for {
		n, err := src.Read(buf)
		if n > 0 {
			_, werr := dst.Write(buf[:n])
			if werr != nil {
				_ = src.Close()
				return
			}
		}
		if err != nil {
			_ = dst.CloseWrite() // fails only when dst is gone, which the other direction sees
			return
		}
	}
}

// udpInward forwards datagrams of a host port: one flow to the guest for each peer.
type udpInward struct {
	conn *net.UDPConn
	port uint16

	mu    sync.Mutex
	peers map[netip.AddrPort]net.Conn
}

func (u *udpInward) close() error { return u.conn.Close() }

func (u *udpInward) serve(n *Network) {
	buf := make([]byte, maxDatagram)
	for {
		size, peer, err := u.conn.ReadFromUDPAddrPort(buf)
		if n.ctx.Err() != nil {
			return
		}
		if err != nil {
			continue // an ICMP error of an earlier answer; the socket goes on
		}
		flow := u.flow(n, peer)
		if flow == nil {
			continue // as with any datagram that can not be delivered
		}
		_ = flow.SetReadDeadline(time.Now().Add(flowIdle))
		_, _ = flow.Write(buf[:size]) // likewise
	}
}

// flow returns the flow of peer, and makes it when it is new.
func (u *udpInward) flow(n *Network, peer netip.AddrPort) net.Conn {
	u.mu.Lock()
	defer u.mu.Unlock()
	flow := u.peers[peer]
	if flow != nil || len(u.peers) >= maxFlows {
		return flow
	}
	to := guest(u.port)
	flow, err := gonet.DialUDP(n.stack, nil, &to, ipv4.ProtocolNumber)
	if err != nil {
		return nil
	}
	u.peers[peer] = flow
	n.flows.Go(func() { u.answer(n, flow, peer) })
	return flow
}

// answer sends what the guest answers to peer until the flow has been idle.
func (u *udpInward) answer(n *Network, flow net.Conn, peer netip.AddrPort) {
	stop := context.AfterFunc(n.ctx, func() { _ = flow.Close() })
	defer func() {
		stop()
		u.mu.Lock()
		delete(u.peers, peer)
		u.mu.Unlock()
		_ = flow.Close()
	}()
	copyDatagrams(flow, func(b []byte) error {
		_, err := u.conn.WriteToUDPAddrPort(b, peer)
		return err
	})
}

// copyDatagrams passes on what arrives at from until it has been idle or ends.
func copyDatagrams(from net.Conn, send func([]byte) error) {
	buf := make([]byte, maxDatagram)
	for {
		n, err := from.Read(buf)
		if err != nil {
			return
		}
		err = send(buf[:n])
		if err != nil {
			return
		}
		_ = from.SetReadDeadline(time.Now().Add(flowIdle))
	}
}
