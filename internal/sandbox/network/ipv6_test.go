// SPDX-License-Identifier: Apache-2.0

package network

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/containers/gvisor-tap-vsock/pkg/tap"
	"github.com/containers/gvisor-tap-vsock/pkg/types"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/network/arp"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv6"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
)

// start6 makes a network and a machine on it that knows where the IPv6 gateway is, as the guest does. The machine's
// switch does not, until it has heard of it: for that it has IPv4 too.
func start6(t *testing.T, cfg Config) *stack.Stack {
	t.Helper()
	n, err := Listen(cfg)
	if err != nil {
		t.Fatal(err)
	}
	host, guestEnd := net.Pipe()
	done := make(chan struct{}, 2)
	go func() { _ = n.Serve(host); done <- struct{}{} }()
	link, err := tap.NewLinkEndpoint(false, mtu, guestMAC, GuestIP6, nil)
	if err != nil {
		t.Fatal(err)
	}
	sw := tap.NewSwitch(false)
	link.Connect(sw)
	sw.Connect(link)
	s := stack.New(stack.Options{
		NetworkProtocols:   []stack.NetworkProtocolFactory{ipv4.NewProtocol, arp.NewProtocol, ipv6.NewProtocol},
		TransportProtocols: []stack.TransportProtocolFactory{tcp.NewProtocol},
	})
	gateway := at(GatewayIP6, 0).Addr
	mac, err := net.ParseMAC(gatewayMAC)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range []tcpip.Error{
		s.CreateNIC(nicID, link),
		s.AddProtocolAddress(nicID, tcpip.ProtocolAddress{
			Protocol: ipv6.ProtocolNumber, AddressWithPrefix: at(GuestIP6, 0).Addr.WithPrefix(),
		}, stack.AddressProperties{}),
		s.AddProtocolAddress(nicID, tcpip.ProtocolAddress{
			Protocol: ipv4.ProtocolNumber, AddressWithPrefix: at(GuestIP, 0).Addr.WithPrefix(),
		}, stack.AddressProperties{}),
		s.AddStaticNeighbor(nicID, ipv6.ProtocolNumber, gateway, tcpip.LinkAddress(mac)),
	} {
		if e != nil {
			t.Fatal(e)
		}
	}
	s.SetRouteTable([]tcpip.Route{
		{Destination: header.IPv6EmptySubnet, Gateway: gateway, NIC: nicID},
		{Destination: header.IPv4EmptySubnet, NIC: nicID},
	})
	go func() { _ = sw.Accept(context.Background(), guestEnd, types.QemuProtocol); done <- struct{}{} }()
	t.Cleanup(func() {
		if err := n.Close(); err != nil {
			t.Error(err)
		}
		_ = guestEnd.Close()
		<-done
		<-done
		s.Destroy()
	})
	_, err = (&machine{stack: s}).connect(netip.AddrPortFrom(netip.MustParseAddr(GatewayIP), 1), loadPatience)
	if err == nil {
		t.Fatal("somebody answers at the gateway")
	}
	return s
}

func dial6(s *stack.Stack, to netip.AddrPort) (*gonet.TCPConn, error) {
	ctx, cancel := context.WithTimeout(context.Background(), loadPatience)
	defer cancel()
	return gonet.DialContextTCP(ctx, s, at(to.Addr().String(), to.Port()), ipv6.ProtocolNumber)
}

// TestIPv6IsRefusedAtOnce has a guest connect to where nothing is to be reached, the host's own loopback and gateway
// among it: it hears so, and does not wait.
func TestIPv6IsRefusedAtOnce(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "[::]:0")
	if err != nil {
		t.Skipf("this machine has no IPv6: %v", err)
	}
	defer func() { _ = l.Close() }()
	port := l.Addr().(*net.TCPAddr).AddrPort().Port()
	s := start6(t, Config{Mode: NAT, HostPorts: []uint16{port}})
	for _, to := range []string{GatewayIP6, "fdc0:ff3d:a400::99", "64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe", "fd00:ec2::254"} {
		c, err := dial6(s, netip.AddrPortFrom(netip.MustParseAddr(to), port))
		if err == nil {
			_ = c.Close()
			t.Errorf("guest reached %s", to)
		}
		if errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%s: the guest waited, and heard nothing", to)
		}
	}
}

// TestIPv6Outward connects to an address of this machine that is not loopback, if it has one.
func TestIPv6Outward(t *testing.T) {
	t.Parallel()
	list, err := net.InterfaceAddrs()
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range list {
		p, err := netip.ParsePrefix(a.String())
		if err != nil || p.Addr().Is4() || !Reachable(p.Addr()) {
			continue
		}
		l, err := net.Listen("tcp", netip.AddrPortFrom(p.Addr(), 0).String())
		if err != nil {
			continue
		}
		t.Cleanup(func() { _ = l.Close() })
		echo(t, l)
		c, err := dial6(start6(t, Config{Mode: NAT}), l.Addr().(*net.TCPAddr).AddrPort())
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = c.Close() }()
		_, _ = c.Write([]byte("hello"))
		_ = c.CloseWrite()
		_ = c.SetDeadline(time.Now().Add(loadPatience))
		got, err := io.ReadAll(c)
		if err != nil || string(got) != "echo: hello" {
			t.Errorf("answer is %q, %v", got, err)
		}
		return
	}
	t.Skip("this machine has no IPv6 address but loopback and link-local ones")
}

// TestForwardFromIPv6 leads from the IPv6 loopback of the host to the guest, which listens by IPv4.
func TestForwardFromIPv6(t *testing.T) {
	t.Parallel()
	if l, err := net.Listen("tcp", "[::1]:0"); err != nil {
		t.Skipf("this machine has no IPv6: %v", err)
	} else {
		_ = l.Close()
	}
	n, m := start(t, Config{Mode: Ingress, Forwards: []Forward{{Protocol: "tcp", HostIP: "::1", GuestPort: 80}}})
	echo(t, m.listen(t, 80))
	c := dialTCP(t, n.Forwards()[0])
	_, _ = c.Write([]byte("hello"))
	_ = c.CloseWrite()
	got, err := io.ReadAll(c)
	if err != nil || string(got) != "echo: hello" {
		t.Errorf("answer is %q, %v", got, err)
	}
}
