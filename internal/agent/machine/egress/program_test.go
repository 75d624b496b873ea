// SPDX-License-Identifier: Apache-2.0

package egress

import (
	"encoding/binary"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
	"pgregory.net/rapid"

	"cofferdam.dev/policy"
)

// TestAgainstTheModel draws lists and packets near their edges, and holds the kernel's verdict against what the policy
// package says that the list means.
func TestAgainstTheModel(t *testing.T) {
	flows := table(t)
	dev := device(t)
	rapid.Check(t, func(rt *rapid.T) {
		list := &policy.Egress{Rules: rapid.SliceOfN(rapid.Custom(drawRule), 0, 6).Draw(rt, "rules")}
		h := hooks(list, nil, flows)[1]
		code, err := h.program()
		if err != nil {
			rt.Fatal(err)
		}
		fd, err := load(h, code, nil)
		if err != nil {
			rt.Fatal(err)
		}
		defer func() { _ = unix.Close(fd) }()
		for range 20 {
			to, protocol, port := drawTarget(rt, list)
			p := packet{from: "10.0.0.2", to: to.String(), protocol: unix.IPPROTO_UDP, toPort: port}
			if !to.Is4() {
				p.from = "fd00::2"
			}
			switch protocol {
			case policy.ProtocolTCP:
				p.protocol, p.flags = unix.IPPROTO_TCP, syn
			case "icmp":
				p.protocol, port = unix.IPPROTO_ICMPV6, 0
			}
			want := list.Allows(to, protocol, port)
			if got := (loaded{fd, dev}).run(t, p.bytes(), dev); got != want {
				rt.Fatalf("%s to %s port %d under %+v: %v, want %v", protocol, to, port, list.Rules, got, want)
			}
		}
	})
}

func drawAddress(t *rapid.T) netip.Addr {
	if rapid.Bool().Draw(t, "IPv4") {
		return netip.AddrFrom4([4]byte(rapid.SliceOfN(rapid.Byte(), 4, 4).Draw(t, "address")))
	}
	a := [16]byte(rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "address"))
	a[0] |= 0x20 // no IPv4 address in another form
	return netip.AddrFrom16(a)
}

func drawRule(t *rapid.T) policy.EgressRule {
	a := drawAddress(t)
	p := netip.PrefixFrom(a, rapid.IntRange(0, a.BitLen()).Draw(t, "bits")).Masked()
	r := policy.EgressRule{Prefix: p.String(), Protocol: rapid.SampledFrom([]string{"any", "tcp", "udp"}).Draw(t, "protocol")}
	if r.Protocol != policy.ProtocolAny {
		r.Ports = rapid.SliceOfNDistinct(rapid.Uint16Range(1, 65535), 0, 4, rapid.ID).Draw(t, "ports")
		slices.Sort(r.Ports)
	}
	return r
}

// drawTarget draws an address that is inside of a rule, just outside, or anywhere.
func drawTarget(t *rapid.T, list *policy.Egress) (netip.Addr, string, uint16) {
	to := drawAddress(t)
	protocol := rapid.SampledFrom([]string{"tcp", "udp", "icmp"}).Draw(t, "protocol")
	port := rapid.Uint16Range(1, 65535).Draw(t, "port")
	if len(list.Rules) == 0 || rapid.IntRange(0, 9).Draw(t, "anywhere") == 0 {
		return to, protocol, port
	}
	r := rapid.SampledFrom(list.Rules).Draw(t, "rule")
	p := netip.MustParsePrefix(r.Prefix)
	b := p.Addr().AsSlice()
	for i := p.Bits(); i < len(b)*8; i++ { // any address of the prefix
		if rapid.Bool().Draw(t, "bit") {
			b[i/8] |= 0x80 >> (i % 8)
		}
	}
	if p.Bits() > 0 && rapid.Bool().Draw(t, "outside") {
		n := rapid.IntRange(0, p.Bits()-1).Draw(t, "flipped")
		b[n/8] ^= 0x80 >> (n % 8)
	}
	to, _ = netip.AddrFromSlice(b)
	if len(r.Ports) > 0 && rapid.Bool().Draw(t, "its port") {
		port = rapid.SampledFrom(r.Ports).Draw(t, "port")
	}
	return to, protocol, port
}

// TestEncoding holds the bytes of some instructions, as RFC 9669 and the kernel's own assembler have them.
func TestEncoding(t *testing.T) {
	t.Parallel()
	a := newAssembler()
	a.jump(opIfEqual, r1, 1, "end")
	a.emit(opLoadWord, r1, r6, skbInterface, 0)
	a.emit(opMap, r1, sourceMap, 0, 7)
	a.emit(0, 0, 0, 0, 0)
	a.emit(opStoreLong, stack, r0, -8, 0)
	a.label("end")
	a.emit(opExit, 0, 0, 0, 0)
	got, err := a.finish()
	want := []byte{
		0x16, 0x01, 4, 0, 1, 0, 0, 0,
		0x61, 0x61, 40, 0, 0, 0, 0, 0,
		0x18, 0x11, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
		0x7b, 0x0a, 0xf8, 0xff, 0, 0, 0, 0,
		0x95, 0, 0, 0, 0, 0, 0, 0,
	}
	if binary.NativeEndian.Uint16([]byte{1, 0}) == 1 && (err != nil || !slices.Equal(got, want)) {
		t.Errorf("code is %x, %v; want %x", got, err, want)
	}
}

func TestJumps(t *testing.T) {
	t.Parallel()
	for name, write := range map[string]func(*assembler){
		"nowhere":  func(a *assembler) { a.jump(opJump, 0, 0, "x") },
		"backward": func(a *assembler) { a.label("x"); a.jump(opJump, 0, 0, "x") },
		"too far": func(a *assembler) {
			a.jump(opJump, 0, 0, "x")
			for range 1 << 15 {
				a.emit(opExit, 0, 0, 0, 0)
			}
			a.label("x")
		},
	} {
		a := newAssembler()
		write(a)
		if _, err := a.finish(); err == nil {
			t.Errorf("%s: was resolved", name)
		}
	}
}

// TestLimitRefuses has lists and places that can not be applied, without touching the kernel's state.
func TestApplyRefuses(t *testing.T) {
	t.Parallel()
	bad := &policy.Egress{Rules: []policy.EgressRule{{Prefix: "example.org", Protocol: policy.ProtocolTCP}}}
	if err := (&Limiter{Group: t.TempDir()}).Limit(bad, nil); err == nil || !strings.Contains(err.Error(), "rule 0") {
		t.Errorf("a malformed rule: %v", err)
	}
}

func TestNoSuchGroup(t *testing.T) {
	t.Parallel()
	err := limit(filepath.Join(t.TempDir(), "none"), &policy.Egress{}, nil)
	if err == nil || !strings.Contains(err.Error(), "control group") {
		t.Errorf("error is %v", err)
	}
}
