// SPDX-License-Identifier: Apache-2.0

package egress

import (
	"bytes"
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"

	"cofferdam.dev/internal/testcap"
	"cofferdam.dev/policy"
)

// These tests have this machine's kernel as their oracle: its verifier takes the programs, and it runs them on packets.

const cmdTestRun = 10

// loaded is a program in the kernel.
type loaded struct {
	fd     int
	device uint32 // a network device that is not the loopback
}

// table makes a table of flows, or skips the test on a machine that gives its root no BPF.
func table(t *testing.T) int {
	t.Helper()
	testcap.Require(t, testcap.Root)
	fd, err := createFlows()
	if errors.Is(err, unix.EPERM) || errors.Is(err, unix.ENOSYS) {
		t.Skipf("bpf(2) is closed on this machine: %v", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Close(fd) })
	return fd
}

// loadAt loads the program of one place.
func loadAt(t *testing.T, point, flows int, list *policy.Egress, own ...netip.Addr) loaded {
	t.Helper()
	for _, h := range hooks(list, own, flows) {
		if h.point != point {
			continue
		}
		code, err := h.program()
		if err != nil {
			t.Fatal(err)
		}
		log := make([]byte, 1<<20)
		fd, err := load(h, code, log)
		if errors.Is(err, unix.ENOSPC) { // the log was too long; the program may be right
			fd, err = load(h, code, nil)
		}
		if err != nil {
			end := bytes.IndexByte(log, 0)
			t.Fatalf("program for %s: %v\n%s", h.name, err, log[max(0, end-4096):end])
		}
		t.Cleanup(func() { _ = unix.Close(fd) })
		return loaded{fd, device(t)}
	}
	t.Fatalf("no program for %d", point)
	return loaded{}
}

func device(t *testing.T) uint32 {
	t.Helper()
	list, err := net.Interfaces()
	if err != nil {
		t.Fatal(err)
	}
	for _, i := range list {
		if i.Index > loopbackInterface {
			return uint32(i.Index)
		}
	}
	t.Skip("this machine has no network device but loopback")
	return 0
}

// run has the kernel run the program on a packet as if it was at a device, and returns the verdict.
func (l loaded) run(t testing.TB, packet []byte, on uint32) bool {
	t.Helper()
	kind := uint16(0x0800)
	if packet[0]>>4 == 6 {
		kind = 0x86dd
	}
	frame := binary.BigEndian.AppendUint16(make([]byte, 12), kind)
	frame = append(frame, packet...)
	frame = append(frame, make([]byte, max(0, 64-len(frame)))...)
	ctx := make([]byte, 192)
	binary.NativeEndian.PutUint32(ctx[skbInterface:], on)
	var a attributes
	a.u32(uint32(l.fd), 0, uint32(len(frame)), 0)
	a.pointer(frame)
	a.b = append(a.b, make([]byte, 8)...)
	a.u32(1, 0, uint32(len(ctx)), 0)
	a.pointer(ctx)
	a.b = append(a.b, make([]byte, 8+12)...)
	_, err := a.call(cmdTestRun)
	if err != nil {
		t.Fatalf("running the program: %v", err)
	}
	return binary.NativeEndian.Uint32(a.b[4:]) == 1
}

// packet makes an IP packet with a TCP or UDP header, or another.
type packet struct {
	from, to         string
	protocol         byte
	fromPort, toPort uint16
	flags            byte // of TCP
}

const syn, ack = 0x02, 0x10

func (p packet) bytes() []byte {
	from, to := netip.MustParseAddr(p.from), netip.MustParseAddr(p.to)
	body := binary.BigEndian.AppendUint16(nil, p.fromPort)
	body = binary.BigEndian.AppendUint16(body, p.toPort)
	body = append(body, make([]byte, 16)...)
	body[13] = p.flags
	var head []byte
	if from.Is4() {
		head = append([]byte{0x45, 0, 0, byte(ipv4Size + len(body)), 0, 0, 0x40, 0, 64, p.protocol, 0, 0}, from.AsSlice()...)
	} else {
		head = append([]byte{0x60, 0, 0, 0, 0, byte(len(body)), p.protocol, 64}, from.AsSlice()...)
	}
	return append(append(head, to.AsSlice()...), body...)
}

func web() *policy.Egress {
	return &policy.Egress{Rules: []policy.EgressRule{
		{Prefix: "192.0.2.0/24", Protocol: policy.ProtocolTCP, Ports: []uint16{80, 443}},
		{Prefix: "198.51.100.7/32", Protocol: policy.ProtocolAny},
		{Prefix: "203.0.113.128/25", Protocol: policy.ProtocolUDP},
		{Prefix: "2001:db8:1::/48", Protocol: policy.ProtocolTCP, Ports: []uint16{443}},
		{Prefix: "2001:db8::8000:0/97", Protocol: policy.ProtocolUDP, Ports: []uint16{53}},
	}}
}

func TestPacketsOut(t *testing.T) {
	t.Parallel()
	l := loadAt(t, pointEgress, table(t), web())
	const me, me6 = "10.0.0.2", "2001:db8:ffff::2"
	for name, tc := range map[string]struct {
		p    packet
		want bool
	}{
		"a rule":             {packet{me, "192.0.2.1", unix.IPPROTO_TCP, 40000, 443, syn}, true},
		"the other port":     {packet{me, "192.0.2.1", unix.IPPROTO_TCP, 40000, 80, syn}, true},
		"another port":       {packet{me, "192.0.2.1", unix.IPPROTO_TCP, 40000, 22, syn}, false},
		"another protocol":   {packet{me, "192.0.2.1", unix.IPPROTO_UDP, 40000, 443, 0}, false},
		"a neighbour":        {packet{me, "192.0.3.1", unix.IPPROTO_TCP, 40000, 443, syn}, false},
		"odd flags":          {packet{me, "192.0.3.1", unix.IPPROTO_TCP, 40000, 443, syn | 0x29}, false},
		"an answer":          {packet{me, "192.0.3.1", unix.IPPROTO_TCP, 80, 40000, syn | ack}, true},
		"in a connection":    {packet{me, "192.0.3.1", unix.IPPROTO_TCP, 80, 40000, ack}, true},
		"any protocol, tcp":  {packet{me, "198.51.100.7", unix.IPPROTO_TCP, 1, 1, syn}, true},
		"any protocol, udp":  {packet{me, "198.51.100.7", unix.IPPROTO_UDP, 1, 1, 0}, true},
		"any protocol, icmp": {packet{me, "198.51.100.7", unix.IPPROTO_ICMP, 0, 0, 0}, true},
		"icmp elsewhere":     {packet{me, "192.0.2.1", unix.IPPROTO_ICMP, 0, 0, 0}, false},
		"udp":                {packet{me, "203.0.113.200", unix.IPPROTO_UDP, 9, 9, 0}, true},
		"udp, lower half":    {packet{me, "203.0.113.100", unix.IPPROTO_UDP, 9, 9, 0}, false},
		"IPv6":               {packet{me6, "2001:db8:1:2::3", unix.IPPROTO_TCP, 40000, 443, syn}, true},
		"IPv6, another port": {packet{me6, "2001:db8:1:2::3", unix.IPPROTO_TCP, 40000, 80, syn}, false},
		"IPv6, elsewhere":    {packet{me6, "2001:db8:2::3", unix.IPPROTO_TCP, 40000, 443, syn}, false},
		"IPv6, odd length":   {packet{me6, "2001:db8::ffff:1", unix.IPPROTO_UDP, 1, 53, 0}, true},
		"IPv6, lower half":   {packet{me6, "2001:db8::7fff:1", unix.IPPROTO_UDP, 1, 53, 0}, false},
		"IPv6, routing":      {packet{me6, "2001:db8:1:2::3", unix.IPPROTO_ROUTING, 0, 0, 0}, false},
	} {
		if got := l.run(t, tc.p.bytes(), l.device); got != tc.want {
			t.Errorf("%s: %v", name, got)
		}
		if !l.run(t, tc.p.bytes(), loopbackInterface) {
			t.Errorf("%s: refused on the loopback device", name)
		}
	}
}

// TestOddPackets has packets that the kernel itself would not make for a socket.
func TestOddPackets(t *testing.T) {
	t.Parallel()
	l := loadAt(t, pointEgress, table(t), web())
	good := packet{"10.0.0.2", "192.0.2.1", unix.IPPROTO_TCP, 40000, 443, syn}.bytes()
	for name, change := range map[string]func([]byte){
		"options":       func(b []byte) { b[0] = 0x46 },
		"first piece":   func(b []byte) { b[6] |= 0x20 },
		"second piece":  func(b []byte) { b[7] = 1 },
		"other version": func(b []byte) { b[0] = 0x55 },
	} {
		b := bytes.Clone(good)
		change(b)
		if l.run(t, b, l.device) {
			t.Errorf("%s: was let through", name)
		}
	}
	if !l.run(t, good, l.device) {
		t.Error("the packet that they are made of is refused")
	}
}

// TestDatagramReplies has a datagram come in, and answers go out to its sender and nobody else.
func TestDatagramReplies(t *testing.T) {
	t.Parallel()
	flows := table(t)
	in, out := loadAt(t, pointIngress, flows, &policy.Egress{}), loadAt(t, pointEgress, flows, &policy.Egress{})
	for _, tc := range []struct{ me, peer, other string }{
		{"10.0.0.2", "192.0.2.1", "192.0.2.2"}, {"2001:db8::2", "2001:db8::1", "2001:db8::3"},
	} {
		answer := packet{tc.me, tc.peer, unix.IPPROTO_UDP, 53, 40000, 0}
		if out.run(t, answer.bytes(), out.device) {
			t.Errorf("%s: an answer to nothing was let through", tc.peer)
		}
		for _, p := range []packet{
			{tc.peer, tc.me, unix.IPPROTO_TCP, 40000, 53, syn},
			{tc.peer, tc.me, unix.IPPROTO_UDP, 40001, 53, 0},
			{tc.peer, tc.me, unix.IPPROTO_UDP, 40000, 54, 0},
		} {
			if !in.run(t, p.bytes(), in.device) {
				t.Errorf("%s: a packet was kept out", tc.peer)
			}
		}
		if out.run(t, answer.bytes(), out.device) {
			t.Errorf("%s: an answer to another packet was let through", tc.peer)
		}
		in.run(t, packet{tc.peer, tc.me, unix.IPPROTO_UDP, 40000, 53, 0}.bytes(), in.device)
		if !out.run(t, answer.bytes(), out.device) {
			t.Errorf("%s: the answer was refused", tc.peer)
		}
		answer.to = tc.other
		if out.run(t, answer.bytes(), out.device) {
			t.Errorf("%s: an answer to somebody else was let through", tc.peer)
		}
	}
}

// TestTableIsClosed tries to write to the table of flows as a process with all privileges.
func TestTableIsClosed(t *testing.T) {
	t.Parallel()
	fd := table(t)
	var a attributes
	a.u32(uint32(fd), 0)
	a.pointer(make([]byte, flowKeySize))
	a.pointer(make([]byte, flowValueSize))
	a.b = append(a.b, make([]byte, 8)...)
	_, err := a.call(2) // BPF_MAP_UPDATE_ELEM
	if !errors.Is(err, unix.EPERM) {
		t.Errorf("writing to the table: %v, want %v", err, unix.EPERM)
	}
}

// TestVerifierTakesAll has lists at the limits, and such that make parts of a program unreachable.
func TestVerifierTakesAll(t *testing.T) {
	t.Parallel()
	flows := table(t)
	many := &policy.Egress{}
	for i := range policy.MaxEgressRules {
		r := policy.EgressRule{Prefix: netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 0, byte(i), 0}), 24).String(), Protocol: policy.ProtocolTCP}
		if i%2 == 1 {
			r.Prefix = netip.PrefixFrom(netip.AddrFrom16([16]byte{0xfd, 15: byte(i)}), 128).String()
		}
		for port := range uint16(policy.MaxEgressPorts / policy.MaxEgressRules) {
			r.Ports = append(r.Ports, port+1)
		}
		many.Rules = append(many.Rules, r)
	}
	for name, list := range map[string]*policy.Egress{
		"nothing": {}, "some": web(), "many": many,
		"everything": {Rules: []policy.EgressRule{{Prefix: "0.0.0.0/0", Protocol: policy.ProtocolAny}, {Prefix: "::/0", Protocol: policy.ProtocolAny}}},
		"and more":   {Rules: append([]policy.EgressRule{{Prefix: "0.0.0.0/0", Protocol: policy.ProtocolAny}}, web().Rules...)},
		"twice":      {Rules: append(web().Rules, web().Rules...)},
	} {
		if err := list.Validate(); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		for _, point := range []int{pointIngress, pointEgress, pointConnect4, pointConnect6} {
			loadAt(t, point, flows, list, netip.MustParseAddr("10.0.0.2"), netip.MustParseAddr("fd00::2"))
		}
	}
}
