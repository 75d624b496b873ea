// SPDX-License-Identifier: Apache-2.0

package network

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/containers/gvisor-tap-vsock/pkg/tap"
	"github.com/containers/gvisor-tap-vsock/pkg/types"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/network/arp"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/tcpip/transport/udp"

	"cofferdam.dev/internal/testcap"
)

func TestMain(m *testing.M) { os.Exit(testcap.NoLeaks(m)) }

// machine is a second stack that plays the guest behind QEMU's stream backend.
type machine struct{ stack *stack.Stack }

// start makes a network and a machine on it.
func start(t *testing.T, cfg Config) (*Network, *machine) {
	t.Helper()
	n, err := Listen(cfg)
	if err != nil {
		t.Fatal(err)
	}
	host, guestEnd := net.Pipe()
	done := make(chan struct{}, 2)
	go func() { _ = n.Serve(host); done <- struct{}{} }()
	link, err := tap.NewLinkEndpoint(false, mtu, "5a:94:ef:e4:0c:ee", GuestIP, nil)
	if err != nil {
		t.Fatal(err)
	}
	sw := tap.NewSwitch(false)
	link.Connect(sw)
	sw.Connect(link)
	s := stack.New(stack.Options{
		NetworkProtocols:   []stack.NetworkProtocolFactory{ipv4.NewProtocol, arp.NewProtocol},
		TransportProtocols: []stack.TransportProtocolFactory{tcp.NewProtocol, udp.NewProtocol},
	})
	if e := s.CreateNIC(nicID, link); e != nil {
		t.Fatal(e)
	}
	e := s.AddProtocolAddress(nicID, tcpip.ProtocolAddress{
		Protocol: ipv4.ProtocolNumber, AddressWithPrefix: at(GuestIP, 0).Addr.WithPrefix(),
	}, stack.AddressProperties{})
	if e != nil {
		t.Fatal(e)
	}
	s.SetRouteTable([]tcpip.Route{{Destination: header.IPv4EmptySubnet, Gateway: at(GatewayIP, 0).Addr, NIC: nicID}})
	go func() { _ = sw.Accept(context.Background(), guestEnd, types.QemuProtocol); done <- struct{}{} }()
	t.Cleanup(func() {
		err := n.Close()
		if err != nil {
			t.Error(err)
		}
		_ = guestEnd.Close()
		<-done
		<-done
		s.Destroy()
	})
	return n, &machine{stack: s}
}

func at(ip string, port uint16) tcpip.FullAddress {
	return tcpip.FullAddress{NIC: nicID, Addr: tcpip.AddrFromSlice(netip.MustParseAddr(ip).AsSlice()), Port: port}
}

func (m *machine) listen(t *testing.T, port uint16) *gonet.TCPListener {
	t.Helper()
	l, err := gonet.ListenTCP(m.stack, at(GuestIP, port), ipv4.ProtocolNumber)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l
}

func echo(t *testing.T, l net.Listener) {
	t.Helper()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer func() { _ = c.Close() }()
				data, err := io.ReadAll(c)
				if err == nil {
					_, _ = c.Write(append([]byte("echo: "), data...))
				}
			}()
		}
	}()
}

func TestForwardTCP(t *testing.T) {
	t.Parallel()
	n, m := start(t, Config{Mode: Ingress, Forwards: []Forward{{Protocol: "tcp", HostIP: "127.0.0.1", GuestPort: 80}}})
	echo(t, m.listen(t, 80))
	c := dialTCP(t, n.Forwards()[0])
	want := bytes.Repeat([]byte("0123456789abcdef"), 20000) // many segments
	_, err := c.Write(want)
	if err != nil {
		t.Fatal(err)
	}
	err = c.CloseWrite() // half-closed connections must still answer
	if err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(c)
	if err != nil || !bytes.Equal(got, append([]byte("echo: "), want...)) {
		t.Errorf("answer has %d bytes, %v; want %d", len(got), err, len(want)+6)
	}
}

func dialTCP(t *testing.T, f Forward) *net.TCPConn {
	t.Helper()
	c, err := net.DialTimeout("tcp", strings.TrimSuffix(f.String(), "/tcp"), loadPatience)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	_ = c.SetDeadline(time.Now().Add(loadPatience))
	return c.(*net.TCPConn)
}

func TestForwardToClosedPort(t *testing.T) {
	t.Parallel()
	n, _ := start(t, Config{Mode: Ingress, Forwards: []Forward{{Protocol: "tcp", HostIP: "127.0.0.1", GuestPort: 81}}})
	c, err := net.DialTimeout("tcp", strings.TrimSuffix(n.Forwards()[0].String(), "/tcp"), loadPatience)
	if err == nil { // the reset may come before the connection is known to be made
		defer func() { _ = c.Close() }()
		_, err = c.Read(make([]byte, 1))
	}
	if !errors.Is(err, syscall.ECONNRESET) && !errors.Is(err, io.EOF) {
		t.Errorf("error is %v, want a reset", err)
	}
}

// answeringDatagrams starts a network with a guest that answers each datagram to a forwarded port.
func answeringDatagrams(t *testing.T) *Network {
	t.Helper()
	n, m := start(t, Config{Mode: Ingress, Forwards: []Forward{{Protocol: "udp", HostIP: "127.0.0.1", GuestPort: 53}}})
	local := at(GuestIP, 53)
	server, err := gonet.DialUDP(m.stack, &local, nil, ipv4.ProtocolNumber)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = server.Close() })
	go func() {
		buf := make([]byte, 2048)
		for {
			size, peer, err := server.ReadFrom(buf)
			if err != nil {
				return
			}
			_, _ = server.WriteTo(append([]byte("re: "), buf[:size]...), peer)
		}
	}()
	return n
}

func TestForwardUDP(t *testing.T) {
	t.Parallel()
	n := answeringDatagrams(t)
	for _, text := range []string{"one", "two"} { // two peers, two flows
		got, err := exchange(strings.TrimSuffix(n.Forwards()[0].String(), "/udp"), text)
		if err != nil || got != "re: "+text {
			t.Errorf("answer is %q, %v", got, err)
		}
	}
}

func TestPortInUse(t *testing.T) {
	t.Parallel()
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = taken.Close() }()
	port := taken.Addr().(*net.TCPAddr).AddrPort().Port()
	_, err = Listen(Config{Mode: NAT, Forwards: []Forward{
		{Protocol: "tcp", HostIP: "127.0.0.1", GuestPort: 1},
		{Protocol: "tcp", HostIP: "127.0.0.1", HostPort: port, GuestPort: 2},
	}})
	if !errors.Is(err, syscall.EADDRINUSE) || !strings.Contains(err.Error(), taken.Addr().String()) {
		t.Errorf("error is %v, want the address in use", err)
	}
}

func TestBadConfigs(t *testing.T) {
	t.Parallel()
	for name, cfg := range map[string]Config{
		"no mode":       {},
		"other mode":    {Mode: "host"},
		"bad address":   {Mode: NAT, Forwards: []Forward{{Protocol: "tcp", HostIP: "localhost", GuestPort: 1}}},
		"bad protocol":  {Mode: NAT, Forwards: []Forward{{Protocol: "sctp", HostIP: "127.0.0.1", GuestPort: 1}}},
		"not our own":   {Mode: NAT, Forwards: []Forward{{Protocol: "tcp", HostIP: "192.0.2.1", GuestPort: 1}}},
		"udp elsewhere": {Mode: NAT, Forwards: []Forward{{Protocol: "udp", HostIP: "192.0.2.1", GuestPort: 1}}},
	} {
		n, err := Listen(cfg)
		if err == nil {
			t.Errorf("%s: was accepted", name)
			_ = n.Close()
		}
	}
}

// hostServer listens on an address of this machine that is not loopback, if it has one.
func hostServer(t *testing.T) string {
	t.Helper()
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range addrs {
		p, err := netip.ParsePrefix(a.String())
		if err != nil || !Reachable(p.Addr()) {
			continue
		}
		l, err := net.Listen("tcp", netip.AddrPortFrom(p.Addr(), 0).String())
		if err != nil {
			continue
		}
		t.Cleanup(func() { _ = l.Close() })
		echo(t, l)
		return l.Addr().String()
	}
	t.Skip("this machine has no address but loopback")
	return ""
}

// dial connects the guest outwards. An attempt that nobody answers takes all of the patience.
func (m *machine) dial(to string, patience time.Duration) (*gonet.TCPConn, error) {
	ap := netip.MustParseAddrPort(to)
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	return gonet.DialContextTCP(ctx, m.stack, at(ap.Addr().String(), ap.Port()), ipv4.ProtocolNumber)
}

// greet sends what the host's server answers to, and closes the connection.
func greet(t *testing.T, c *gonet.TCPConn) {
	t.Helper()
	defer func() { _ = c.Close() }()
	_, _ = c.Write([]byte("hello"))
	_ = c.CloseWrite()
	_ = c.SetDeadline(time.Now().Add(loadPatience))
	got, err := io.ReadAll(c)
	if err != nil || string(got) != "echo: hello" {
		t.Errorf("answer is %q, %v", got, err)
	}
}

func TestOutward(t *testing.T) {
	t.Parallel()
	server := hostServer(t)
	_, m := start(t, Config{Mode: NAT})
	c, err := m.dial(server, loadPatience)
	if err != nil {
		t.Fatal(err)
	}
	greet(t, c)
}

func TestOutwardIsClosedByDefault(t *testing.T) {
	t.Parallel()
	server := hostServer(t)
	_, m := start(t, Config{Mode: Ingress})
	c, err := m.dial(server, 3*time.Second)
	if err == nil {
		_ = c.Close()
		t.Error("a guest of mode ingress connected outwards")
	}
}

// TestHostLoopbackIsOutOfReach tries the addresses by which a guest could reach a service bound to the host's loopback
// (or to every address), through the very stack that forwards.
func TestHostLoopbackIsOutOfReach(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "0.0.0.0:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	reached := make(chan string, 8)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			reached <- c.LocalAddr().String()
			_ = c.Close()
		}
	}()
	_, port, _ := net.SplitHostPort(l.Addr().String())
	_, m := start(t, Config{Mode: NAT})
	for _, ip := range []string{GatewayIP, "192.168.127.254", "0.0.0.1", "169.254.169.254", "240.0.0.1"} {
		c, err := m.dial(net.JoinHostPort(ip, port), 3*time.Second)
		if err == nil {
			_ = c.Close()
			t.Errorf("guest reached %s", ip)
		}
	}
	select {
	case where := <-reached:
		t.Errorf("the host's service was reached at %s", where)
	default:
	}
}

func TestReachable(t *testing.T) {
	t.Parallel()
	for addr, want := range map[string]bool{
		"1.1.1.1": true, "10.0.0.1": true, "172.16.3.4": true, "192.168.1.1": true,
		"127.0.0.1": false, "127.9.9.9": false, "0.0.0.0": false, "0.1.2.3": false, "169.254.169.254": false,
		"224.0.0.1": false, "255.255.255.255": false, "240.0.0.1": false, GatewayIP: false, GuestIP: false,
		"::1": false, "::": false, "::ffff:127.0.0.1": false, "::127.0.0.1": false, "fe80::1": false, "ff02::1": false,
		GatewayIP6: false, GuestIP6: false, "fd00:ec2::254": false, "fd20:ce::254": false, "64:ff9b::7f00:1": false,
		"64:ff9b::a9fe:a9fe": false, "fec0::1": false, "64:ff9b::101:101": true, "2001:db8::1": true, "fd00::1": true,
	} {
		if got := Reachable(netip.MustParseAddr(addr)); got != want {
			t.Errorf("Reachable(%s) is %v", addr, got)
		}
	}
	if Reachable(netip.Addr{}) {
		t.Error("the zero address is reachable")
	}
}

func TestNameQueriesGoToTheResolver(t *testing.T) {
	t.Parallel()
	server, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = server.Close() }()
	go func() {
		buf := make([]byte, 512)
		for {
			n, peer, err := server.ReadFrom(buf)
			if err != nil {
				return
			}
			_, _ = server.WriteTo(append([]byte("answer to "), buf[:n]...), peer)
		}
	}()
	_, m := start(t, Config{Mode: NAT, resolver: func() string { return server.LocalAddr().String() }})
	to := at(GatewayIP, 53)
	c, err := gonet.DialUDP(m.stack, nil, &to, ipv4.ProtocolNumber)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	for _, q := range []string{"q1", "q2"} {
		got, err := asked(c, []byte(q), []byte(q))
		if err != nil || string(got) != "answer to "+q {
			t.Errorf("answer is %q, %v", got, err)
		}
	}
}

func TestResolverOf(t *testing.T) {
	t.Parallel()
	for config, want := range map[string]string{
		"": "127.0.0.1:53", "# nameserver 1.1.1.1\nsearch x\nnameserver 9.9.9.9\nnameserver 8.8.8.8\n": "9.9.9.9:53",
		"nameserver\nnameserver bad\nnameserver fd00::1": "[fd00::1]:53",
	} {
		if got := resolverOf(config); got != want {
			t.Errorf("resolver of %q is %s, want %s", config, got, want)
		}
	}
}

func frame(size uint32, data []byte) []byte {
	return append(binary.BigEndian.AppendUint32(nil, size), data...)
}

type readerConn struct {
	net.Conn
	r io.Reader
}

func (c readerConn) Read(p []byte) (int, error) { return c.r.Read(p) }

func TestFrameGuard(t *testing.T) {
	t.Parallel()
	guest := [6]byte{2, 0, 0, 0, 0, 1}
	guard := func(stream []byte) ([]byte, error) {
		return io.ReadAll(&frameGuard{Conn: readerConn{r: bytes.NewReader(stream)}, sender: guest})
	}
	body := make([]byte, 60)
	good := frame(60, append(append(body[:6:6], guest[:]...), body[12:]...))
	other := frame(60, make([]byte, 60))
	stream := bytes.Join([][]byte{frame(0, nil), frame(13, make([]byte, 13)), good, other, frame(1, []byte{1}), good}, nil)
	got, err := guard(stream)
	if err != nil || !bytes.Equal(got, append(bytes.Clone(good), good...)) {
		t.Errorf("got %d bytes, %v; want the two good frames of %d", len(got), err, len(good))
	}
	_, err = guard(frame(maxFrame+1, nil))
	if err == nil {
		t.Error("a frame of too many bytes was accepted")
	}
	_, err = guard(frame(100, make([]byte, 50)))
	if !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("half a frame: %v", err)
	}
}

// FuzzFrames feeds hostile frames to a real network: nothing may panic, and the network must end in order.
func FuzzFrames(f *testing.F) {
	f.Add(frame(60, make([]byte, 60)))
	f.Add(frame(2, []byte{1, 2}))
	f.Add(frame(1<<31, nil))
	arpRequest := append(bytes.Repeat([]byte{0xff}, 6), 0x5a, 0x94, 0xef, 0xe4, 0x0c, 0xee, 8, 6, 0, 1, 8, 0, 6, 4, 0, 1)
	f.Add(frame(uint32(len(arpRequest)), arpRequest))
	f.Fuzz(func(t *testing.T, data []byte) {
		n, err := Listen(Config{Mode: Ingress})
		if err != nil {
			t.Fatal(err)
		}
		host, guestEnd := net.Pipe()
		done := make(chan struct{})
		go func() { _ = n.Serve(host); close(done) }()
		go func() { _, _ = io.Copy(io.Discard, guestEnd) }()
		_ = guestEnd.SetWriteDeadline(time.Now().Add(2 * time.Second))
		_, _ = guestEnd.Write(data)
		_ = guestEnd.Close()
		<-done
		err = n.Close()
		if err != nil {
			t.Error(err)
		}
	})
}
