// SPDX-License-Identifier: Apache-2.0

package network

import (
	"context"
	"encoding/hex"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
)

// loopbackServer listens on the host's loopback alone.
func loopbackServer(t *testing.T) uint16 {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	echo(t, l)
	return l.Addr().(*net.TCPAddr).AddrPort().Port()
}

func (m *machine) connect(to netip.AddrPort, patience time.Duration) (*gonet.TCPConn, error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	return gonet.DialContextTCP(ctx, m.stack, at(to.Addr().String(), to.Port()), ipv4.ProtocolNumber)
}

func TestHostPorts(t *testing.T) {
	t.Parallel()
	open, shut := loopbackServer(t), loopbackServer(t)
	for _, mode := range []Mode{NAT, Ingress} {
		t.Run(string(mode), func(t *testing.T) {
			t.Parallel()
			_, m := start(t, Config{Mode: mode, HostPorts: []uint16{open}})
			c, err := m.connect(netip.AddrPortFrom(netip.MustParseAddr(GatewayIP), open), loadPatience)
			if err != nil {
				t.Fatal(err)
			}
			greet(t, c)
			for _, to := range []netip.AddrPort{
				netip.AddrPortFrom(netip.MustParseAddr(GatewayIP), shut),           // not listed
				netip.AddrPortFrom(netip.MustParseAddr("192.168.127.254"), open),   // not the gateway
				netip.AddrPortFrom(netip.MustParseAddr("169.254.169.254"), open),   // nor elsewhere
				netip.AddrPortFrom(netip.MustParseAddr("255.255.255.255"), open),   //
				netip.AddrPortFrom(netip.MustParseAddr("0.0.0.1"), open),           //
				netip.AddrPortFrom(netip.MustParseAddr("192.168.127.3"), open),     //
				netip.AddrPortFrom(netip.MustParseAddr("240.0.0.1"), resolverPort), //
			} {
				c, err := m.connect(to, 3*time.Second)
				if err == nil {
					_ = c.Close()
					t.Errorf("guest reached %s", to)
				}
			}
		})
	}
}

func TestBadHostPorts(t *testing.T) {
	t.Parallel()
	for _, port := range []uint16{0, resolverPort} {
		n, err := Listen(Config{Mode: NAT, HostPorts: []uint16{80, port}})
		if err == nil {
			_ = n.Close()
			t.Errorf("host port %d was accepted", port)
		}
	}
}

// query is a question for a name, as a resolver library sends it.
func query(name string, kind byte) []byte {
	q := []byte{0xab, 0xcd, 0x01, 0x00, 0, 1, 0, 0, 0, 0, 0, 0}
	for label := range strings.SplitSeq(name, ".") {
		q = append(append(q, byte(len(label))), label...)
	}
	return append(q, 0, 0, kind, 0, 1)
}

func TestNames(t *testing.T) {
	t.Parallel()
	const aaaa = 28
	const head = "abcd8180" + "0001" + "0000" + "00000000"
	const nxdomain, refused = "abcd8183" + "0001" + "0000" + "00000000", "abcd8185" + "0001" + "0000" + "00000000"
	body := func(name string, kind byte) string { return hex.EncodeToString(query(name, kind)[dnsHeader:]) }
	pointer := append(query("x", 1)[:dnsHeader], 0xc0, 0x0c, 0, 1, 0, 1)
	answered := query(HostName, 1)
	answered[2] |= dnsResponse
	for name, tc := range map[string]struct {
		names names
		query []byte
		want  string
	}{
		"address":          {names{true, true}, query(HostName, 1), "abcd8180" + "0001" + "0001" + "00000000" + body(HostName, 1) + "c00c" + "0001" + "0001" + "0000003c" + "0004" + "c0a87f01"},
		"no IPv6 address":  {names{true, true}, query(HostName, aaaa), head + body(HostName, aaaa)},
		"any case":         {names{false, true}, query("HOST.Cofferdam.internal", 1), nxdomain + body("HOST.Cofferdam.internal", 1)},
		"no host ports":    {names{false, true}, query(HostName, 1), nxdomain + body(HostName, 1)},
		"another name":     {names{true, true}, query("example.org", 1), ""},
		"longer":           {names{true, true}, query("x."+HostName, 1), ""},
		"nothing outside":  {names{true, false}, query("example.org", 1), refused + body("example.org", 1)},
		"inside only":      {names{true, false}, query(HostName, aaaa), head + body(HostName, aaaa)},
		"empty":            {names{true, true}, nil, ""},
		"half":             {names{true, true}, query(HostName, 1)[:30], ""},
		"without type":     {names{true, true}, query(HostName, 1)[:dnsHeader+len(HostName)+2], ""},
		"a pointer":        {names{true, true}, pointer, ""},
		"a response":       {names{true, true}, answered, ""},
		"response, inside": {names{true, false}, answered, ""},
		"empty, inside":    {names{true, false}, nil, ""},
		"pointer, inside":  {names{true, false}, pointer, ""},
	} {
		answer, ours := tc.names.answer(tc.query)
		if !ours && !tc.names.outside {
			t.Errorf("%s: it goes to the resolver, where nothing may go", name)
		}
		if got := hex.EncodeToString(answer); got != tc.want {
			t.Errorf("%s: answer is\n%s, want\n%s", name, got, tc.want)
		}
	}
}

func FuzzNames(f *testing.F) {
	f.Add(query(HostName, 1))
	f.Add(query("example.org", 28))
	f.Fuzz(func(t *testing.T, q []byte) {
		r, ours := names{host: true}.answer(q)
		if !ours {
			t.Errorf("query %x goes to the resolver", q)
		}
		if r == nil {
			return
		}
		if len(r) < dnsHeader || r[0] != q[0] || r[1] != q[1] || r[2]&dnsResponse == 0 {
			t.Errorf("query %x has answer %x", q, r)
		}
	})
}

// TestHostNameInside asks through the stack, in the mode that lets no other question out.
func TestHostNameInside(t *testing.T) {
	t.Parallel()
	_, m := start(t, Config{Mode: Ingress, HostPorts: []uint16{80}, resolver: func() string { return "127.0.0.1:9" }})
	to := at(GatewayIP, resolverPort)
	c, err := gonet.DialUDP(m.stack, nil, &to, ipv4.ProtocolNumber)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	for name, code := range map[string]byte{HostName: 0, "example.org": dnsRefused} {
		got, err := asked(c, query(name, 1), query(name, 1)[dnsHeader:])
		if err != nil || len(got) < dnsHeader || got[3]&0x0f != code {
			t.Errorf("%s: answer is %x, %v; want code %d", name, got, err, code)
		}
	}
}
