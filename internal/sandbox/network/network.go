// SPDX-License-Identifier: Apache-2.0

// Package network is the network of one machine: a TCP/IP stack in the supervisor process, at the other end of the
// machine's network device. It needs no privilege on the host.
//
// Forwarded ports of the host lead in. If the mode allows it, connections of the guest are made anew from the host,
// except to the host's own loopback, to link-local, multicast and unspecified addresses, and to the stack's own
// subnet; name queries to the gateway go to the host's resolver. Of the host's loopback the guest reaches the single
// ports that the configuration lists, at the gateway's address. Frames from the guest are hostile input: their size
// is checked before anything reads them, and connections and flows are counted. Nothing here protects the guest from
// the host, who owns the network.
package network

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"sync"

	"github.com/containers/gvisor-tap-vsock/pkg/tap"
	"github.com/containers/gvisor-tap-vsock/pkg/types"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/network/arp"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv6"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/icmp"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/tcpip/transport/udp"
)

// The addresses of every machine's network. The guest configures itself with them.
const (
	Subnet     = "192.168.127.0/24"
	GatewayIP  = "192.168.127.1"
	GuestIP    = "192.168.127.2"
	Subnet6    = "fdc0:ff3d:a400::/64"
	GatewayIP6 = "fdc0:ff3d:a400::1"
	GuestIP6   = "fdc0:ff3d:a400::2"
	gatewayMAC = "5a:94:ef:e4:0c:dd" // the guest knows it, and asks nobody where the IPv6 gateway is
	guestMAC   = "5a:94:ef:e4:0c:ee"
	mtu        = 1500
)

// Mode says what the guest may do.
type Mode string

// The modes. The zero Mode is refused.
const (
	NAT     Mode = "nat"     // connect outwards and be reached through forwarded ports
	Ingress Mode = "ingress" // be reached through forwarded ports only
)

// maxFlows bounds the connections and datagram flows of one machine, in each direction.
const maxFlows = 1024

const nicID = 1

// resolverPort is where the gateway answers name queries.
const resolverPort = 53

// Forward leads from a host port to a guest port. HostPort 0 takes a free one.
type Forward struct {
	Protocol  string // "tcp" or "udp"
	HostIP    string
	HostPort  uint16
	GuestPort uint16
}

// String returns f for a message, for example "127.0.0.1:80/tcp".
func (f Forward) String() string {
	return net.JoinHostPort(f.HostIP, fmt.Sprint(f.HostPort)) + "/" + f.Protocol
}

// Config describes a network.
type Config struct {
	Mode     Mode
	Forwards []Forward
	// HostPorts are TCP ports of 127.0.0.1 on the host that the guest may connect to, in either mode, at the gateway's
	// address and the same number. HostName resolves to that address if there are any.
	HostPorts []uint16
	// Metadata, if set, answers at the address of the cloud's metadata service, which the guest can not reach otherwise.
	Metadata http.Handler
	Logger   *slog.Logger
	// resolver overrides the host's resolver in tests.
	resolver func() string
}

// Network is one machine's network.
type Network struct {
	cfg      Config
	stack    *stack.Stack
	sw       *tap.Switch
	forwards []Forward
	inward   []inward
	out      *outward
	metadata *service // nil unless the configuration has one
	guest    [6]byte  // its hardware address

	ctx    context.Context // ends with Close; flows hang on it
	cancel context.CancelFunc
	flows  sync.WaitGroup
}

// inward is a bound host port.
type inward interface {
	serve(n *Network)
	close() error
}

// Listen makes a network and binds its host ports, so that a port in use is told before a machine is booted.
func Listen(cfg Config) (*Network, error) {
	if cfg.Mode != NAT && cfg.Mode != Ingress {
		return nil, fmt.Errorf("network mode is %q, want %q or %q", cfg.Mode, NAT, Ingress)
	}
	if slices.Contains(cfg.HostPorts, 0) || slices.Contains(cfg.HostPorts, resolverPort) {
		return nil, fmt.Errorf("host ports %v: 0 is none, and %d leads to the resolver", cfg.HostPorts, resolverPort)
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.resolver == nil {
		cfg.resolver = hostResolver
	}
	n := &Network{cfg: cfg}
	n.ctx, n.cancel = context.WithCancel(context.Background())
	for _, f := range cfg.Forwards {
		in, bound, err := bind(f)
		if err != nil {
			return nil, errors.Join(err, n.Close())
		}
		n.inward = append(n.inward, in)
		n.forwards = append(n.forwards, bound)
	}
	err := n.build()
	if err != nil {
		return nil, errors.Join(fmt.Errorf("building the network: %w", err), n.Close())
	}
	for _, in := range n.inward {
		n.flows.Go(func() { in.serve(n) })
	}
	return n, nil
}

// build makes the stack.
func (n *Network) build() error {
	link, err := tap.NewLinkEndpoint(false, mtu, gatewayMAC, GatewayIP, nil)
	if err != nil {
		return err
	}
	n.sw = tap.NewSwitch(false)
	link.Connect(n.sw)
	n.sw.Connect(link)
	s := stack.New(stack.Options{
		NetworkProtocols:   []stack.NetworkProtocolFactory{ipv4.NewProtocol, ipv6.NewProtocol, arp.NewProtocol},
		TransportProtocols: []stack.TransportProtocolFactory{tcp.NewProtocol, udp.NewProtocol, icmp.NewProtocol4, icmp.NewProtocol6},
	})
	n.stack = s
	if e := s.CreateNIC(nicID, link); e != nil {
		return errors.New(e.String())
	}
	mac, err := net.ParseMAC(guestMAC)
	if err != nil {
		return err
	}
	n.guest = [6]byte(mac)
	err = addAddresses(s, tcpip.LinkAddress(mac))
	if err != nil {
		return err
	}
	if n.cfg.Metadata != nil {
		n.serveMetadata()
	}
	if n.cfg.Mode == NAT || len(n.cfg.HostPorts) > 0 || n.metadata != nil {
		n.out = newOutward(n)
	}
	return nil
}

// addAddresses gives the stack its addresses of both families, and the routes to the guest.
func addAddresses(s *stack.Stack, hardware tcpip.LinkAddress) error {
	var routes []tcpip.Route
	for _, a := range []struct {
		protocol        tcpip.NetworkProtocolNumber
		gateway, subnet string
	}{{ipv4.ProtocolNumber, GatewayIP, Subnet}, {ipv6.ProtocolNumber, GatewayIP6, Subnet6}} {
		prefix := netip.MustParsePrefix(a.subnet)
		gateway := tcpip.AddrFromSlice(netip.MustParseAddr(a.gateway).AsSlice())
		e := s.AddProtocolAddress(nicID, tcpip.ProtocolAddress{
			Protocol: a.protocol, AddressWithPrefix: gateway.WithPrefix(),
		}, stack.AddressProperties{})
		if e != nil {
			return errors.New(e.String())
		}
		network := prefix.Addr().AsSlice()
		subnet, err := tcpip.NewSubnet(tcpip.AddrFromSlice(network), tcpip.MaskFromBytes(net.CIDRMask(prefix.Bits(), len(network)*8)))
		if err != nil {
			return err
		}
		routes = append(routes, tcpip.Route{Destination: subnet, NIC: nicID})
	}
	s.SetRouteTable(routes)
	guest := tcpip.AddrFromSlice(netip.MustParseAddr(GuestIP6).AsSlice())
	if e := s.AddStaticNeighbor(nicID, ipv6.ProtocolNumber, guest, hardware); e != nil {
		return errors.New(e.String())
	}
	return nil
}

// Forwards are the forwarded ports, with the host ports that were bound.
func (n *Network) Forwards() []Forward { return n.forwards }

// Serve carries the machine's frames, as QEMU's stream backend frames them, until conn ends. It owns conn. Serve may
// be called once.
func (n *Network) Serve(conn net.Conn) error {
	stop := context.AfterFunc(n.ctx, func() { _ = conn.Close() })
	defer stop()
	err := n.sw.Accept(n.ctx, &frameGuard{Conn: conn, sender: n.guest}, types.QemuProtocol)
	if n.ctx.Err() != nil || errors.Is(err, net.ErrClosed) || errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

// Close ends all connections, frees the host ports and waits until nothing of the network is left.
func (n *Network) Close() error {
	n.cancel()
	var errs []error
	for _, in := range n.inward {
		errs = append(errs, in.close())
	}
	n.flows.Wait()
	if n.out != nil {
		n.out.wait()
	}
	if n.stack != nil {
		n.stack.Destroy()
	}
	return errors.Join(errs...)
}

// bind takes a host port.
func bind(f Forward) (inward, Forward, error) {
	ip, err := netip.ParseAddr(f.HostIP)
	if err != nil {
		return nil, f, fmt.Errorf("forwarding %s: %w", f, err)
	}
	at := netip.AddrPortFrom(ip, f.HostPort)
	switch f.Protocol {
	case "tcp":
		l, err := net.ListenTCP("tcp", net.TCPAddrFromAddrPort(at))
		if err != nil {
			return nil, f, fmt.Errorf("forwarding %s to the group: %w", f, err)
		}
		f.HostPort = l.Addr().(*net.TCPAddr).AddrPort().Port()
		return &tcpInward{listener: l, port: f.GuestPort}, f, nil
	case "udp":
		c, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(at))
		if err != nil {
			return nil, f, fmt.Errorf("forwarding %s to the group: %w", f, err)
		}
		f.HostPort = c.LocalAddr().(*net.UDPAddr).AddrPort().Port()
		return &udpInward{conn: c, port: f.GuestPort, peers: map[netip.AddrPort]net.Conn{}}, f, nil
	}
	return nil, f, fmt.Errorf("forwarding %s: protocol is %q, want tcp or udp", f, f.Protocol)
}
