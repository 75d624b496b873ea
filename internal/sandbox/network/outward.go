// SPDX-License-Identifier: Apache-2.0

package network

import (
	"context"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/tcpip/transport/udp"
	"gvisor.dev/gvisor/pkg/waiter"
)

// maxHandshakes bounds the guest's connections that are being made.
const maxHandshakes = 64

// outward makes the guest's connections anew from the host.
type outward struct {
	n     *Network
	slots chan struct{}
}

func newOutward(n *Network) *outward {
	o := &outward{n: n, slots: make(chan struct{}, maxFlows)}
	n.stack.SetSpoofing(nicID, true)        // answers come from addresses that are not ours
	n.stack.SetPromiscuousMode(nicID, true) // and so do requests
	n.stack.SetTransportProtocolHandler(tcp.ProtocolNumber, tcp.NewForwarder(n.stack, 0, maxHandshakes, o.tcp).HandlePacket)
	n.stack.SetTransportProtocolHandler(udp.ProtocolNumber, udp.NewForwarder(n.stack, o.udp).HandlePacket)
	return o
}

// target returns where a connection or flow of the guest really goes, or false where it may not go.
func (o *outward) target(protocol string, id stack.TransportEndpointID) (string, bool) {
	addr, ok := netip.AddrFromSlice(id.LocalAddress.AsSlice())
	if !ok {
		return "", false
	}
	nat := o.n.cfg.Mode == NAT
	switch {
	case !atGateway(id):
		return netip.AddrPortFrom(addr, id.LocalPort).String(), nat && Reachable(addr)
	case id.LocalPort == resolverPort:
		return o.n.cfg.resolver(), nat || protocol == "udp" // by UDP, names answers what the resolver may not
	case protocol == "tcp" && slices.Contains(o.n.cfg.HostPorts, id.LocalPort):
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), id.LocalPort).String(), true
	}
	return "", false
}

func atGateway(id stack.TransportEndpointID) bool {
	return id.LocalAddress == tcpip.AddrFromSlice(netip.MustParseAddr(GatewayIP).AsSlice())
}

// clouds are addresses beyond the link-local ones at which clouds answer for a machine: AWS and Google by IPv6.
var clouds = []netip.Prefix{netip.MustParsePrefix("fd00:ec2::/32"), netip.MustParsePrefix("fd20:ce::/32")}

// translated is where networks without IPv4 reach it: an IPv4 address is in the last four bytes (RFC 6052).
var translated = netip.MustParsePrefix("64:ff9b::/96")

// Reachable reports whether a guest may connect to addr: not the host's loopback, nothing link-local (cloud metadata
// services among it) and no other metadata service, no multicast or broadcast, and not the stack's own subnets.
func Reachable(addr netip.Addr) bool {
	addr = addr.Unmap()
	if translated.Contains(addr) {
		b := addr.As16()
		addr = netip.AddrFrom4([4]byte(b[12:]))
	}
	switch {
	case !addr.IsValid(), addr.IsLoopback(), addr.IsUnspecified(), addr.IsLinkLocalUnicast(), addr.IsMulticast():
		return false
	case addr.Is4():
		return !netip.MustParsePrefix("0.0.0.0/8").Contains(addr) && !netip.MustParsePrefix("240.0.0.0/4").Contains(addr) &&
			!netip.MustParsePrefix(Subnet).Contains(addr)
	case slices.ContainsFunc(clouds, func(p netip.Prefix) bool { return p.Contains(addr) }), netip.MustParsePrefix(Subnet6).Contains(addr):
		return false
	}
	// Global unicast and unique local addresses; nothing else is in use, but for forms of IPv4 addresses.
	return netip.MustParsePrefix("2000::/3").Contains(addr) || netip.MustParsePrefix("fc00::/7").Contains(addr)
}

// enter takes one of the flows, unless there are too many or the network ends. leave gives it back.
func (o *outward) enter() bool {
	select {
	case o.slots <- struct{}{}:
	default:
		return false
	}
	if o.n.ctx.Err() != nil {
		o.leave()
		return false
	}
	return true
}

func (o *outward) leave() { <-o.slots }

// wait returns when no flow is left, and lets no new one in.
func (o *outward) wait() {
	for range cap(o.slots) {
		o.slots <- struct{}{}
	}
}

// tcp is called on a goroutine of its own for each connection that the guest opens.
func (o *outward) tcp(r *tcp.ForwarderRequest) {
	if o.atMetadata(r.ID()) {
		o.answer(r)
		return
	}
	to, ok := o.target("tcp", r.ID())
	if !ok || !o.enter() {
		r.Complete(true)
		return
	}
	defer o.leave()
	ctx, cancel := context.WithTimeout(o.n.ctx, dialTimeout)
	defer cancel()
	out, err := (&net.Dialer{}).DialContext(ctx, "tcp", to)
	if err != nil {
		r.Complete(true)
		return
	}
	var queue waiter.Queue
	end, terr := r.CreateEndpoint(&queue)
	if terr != nil {
		_ = out.Close()
		r.Complete(true)
		return
	}
	r.Complete(false)
	relay(o.n.ctx, out.(*net.TCPConn), gonet.NewTCPConn(&queue, end))
}

// udp is called for the first datagram of a flow, on the stack's own goroutine: it must not block.
func (o *outward) udp(r *udp.ForwarderRequest) {
	to, ok := o.target("udp", r.ID())
	if !ok || !o.enter() {
		return
	}
	var queue waiter.Queue
	end, terr := r.CreateEndpoint(&queue)
	if terr != nil {
		o.leave()
		return
	}
	answer := func([]byte) ([]byte, bool) { return nil, false }
	if atGateway(r.ID()) {
		answer = names{host: len(o.n.cfg.HostPorts) > 0, outside: o.n.cfg.Mode == NAT}.answer
	}
	go func() {
		defer o.leave()
		o.relayDatagrams(gonet.NewUDPConn(&queue, end), to, answer)
	}()
}

// relayDatagrams carries a flow, except for datagrams that answer takes for its own.
func (o *outward) relayDatagrams(inside *gonet.UDPConn, to string, answer func([]byte) ([]byte, bool)) {
	defer func() { _ = inside.Close() }()
	out, err := (&net.Dialer{}).DialContext(o.n.ctx, "udp", to)
	if err != nil {
		return
	}
	closeBoth := func() {
		_ = out.Close()
		_ = inside.Close()
	}
	defer closeBoth()
	stop := context.AfterFunc(o.n.ctx, closeBoth)
	defer stop()
	idle := time.Now().Add(flowIdle)
	_ = inside.SetReadDeadline(idle) // fails only on a closed connection, which Read then tells
	_ = out.SetReadDeadline(idle)
	var both sync.WaitGroup
	both.Go(func() {
		defer closeBoth()
		copyDatagrams(inside, func(b []byte) error {
			_ = out.SetReadDeadline(time.Now().Add(flowIdle))
			own, ours := answer(b)
			var err error
			switch {
			case !ours:
				_, err = out.Write(b)
			case own != nil:
				_, err = inside.Write(own)
			}
			return err
		})
	})
	both.Go(func() {
		defer closeBoth()
		copyDatagrams(out, func(b []byte) error {
			_ = inside.SetReadDeadline(time.Now().Add(flowIdle))
			_, err := inside.Write(b)
			return err
		})
	})
	both.Wait()
}

// hostResolver is the first name server of the host's configuration, or the local one.
func hostResolver() string {
	data, err := os.ReadFile("/etc/resolv.conf")
	if err != nil {
		return "127.0.0.1:53"
	}
	return resolverOf(string(data))
}

func resolverOf(config string) string {
	for line := range strings.Lines(config) {
		f := strings.Fields(line)
		if len(f) < 2 || f[0] != "nameserver" {
			continue
		}
		addr, err := netip.ParseAddr(f[1])
		if err == nil {
			return netip.AddrPortFrom(addr, 53).String()
		}
	}
	return "127.0.0.1:53"
}
