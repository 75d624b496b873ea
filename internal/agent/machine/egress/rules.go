// SPDX-License-Identifier: Apache-2.0

package egress

import (
	"encoding/binary"
	"net/netip"

	"golang.org/x/sys/unix"

	"cofferdam.dev/policy"
)

// The places of a destination that rules are held against: an IPv4 address in r7, an IPv6 address at its place in the
// header, the protocol in r8, the port in r9. Addresses and ports are as they are on the wire.
const ipv6Destination = ipHeader + 24

// connect4 judges a TCP connection that is about to be made, so that a program hears at once that it may not. Other
// sockets are judged by their packets.
func (b *builder) connect4() {
	b.connection()
	b.emit(opLoadWord, r7, r6, addrIPv4, 0)
	b.ownIPv4()
	b.rulesIPv4()
}

// connect6 is connect4 for IPv6 sockets, which may be connected to IPv4 addresses too.
func (b *builder) connect6() {
	b.connection()
	for i := int16(0); i < 16; i += 4 {
		b.emit(opLoadWord, r1, r6, addrIPv6+i, 0)
		b.emit(opStoreWord, stack, r1, ipv6Destination+i, 0)
	}
	b.emit(opLoadWord, r7, stack, ipv6Destination+12, 0)
	plain := b.unique()
	mapped := binary.NativeEndian.Uint32([]byte{0, 0, 0xff, 0xff})
	for i, word := range []uint32{0, 0, mapped} {
		b.emit(opLoadWord, r1, stack, ipv6Destination+int16(i)*4, 0)
		b.jump(opIfNot, r1, word, plain)
	}
	b.ownIPv4()
	b.rulesIPv4()
	b.jump(opJump, 0, 0, "refuse")
	b.label(plain)
	for _, a := range append([]netip.Addr{netip.IPv6Unspecified(), netip.IPv6Loopback()}, b.own...) {
		if !a.Is4() {
			b.accept(netip.PrefixFrom(a, 128))
		}
	}
	b.rulesIPv6()
}

// connection lets through what is no TCP connection, and reads the port.
func (b *builder) connection() {
	b.emit(opLoadWord, r8, r6, addrProtocol, 0)
	b.jump(opIfNot, r8, unix.IPPROTO_TCP, "accept")
	b.emit(opLoadWord, r9, r6, addrPort, 0)
}

// ownIPv4 accepts what stays within the guest. The address 0.0.0.0 means the guest itself.
func (b *builder) ownIPv4() {
	b.accept(netip.MustParsePrefix("127.0.0.0/8"))
	b.accept(netip.MustParsePrefix("0.0.0.0/32"))
	for _, a := range b.own {
		if a.Is4() {
			b.accept(netip.PrefixFrom(a, 32))
		}
	}
}

// accept lets through what goes to a destination within p.
func (b *builder) accept(p netip.Prefix) {
	past := b.unique()
	b.outside(p, past)
	b.jump(opJump, 0, 0, "accept")
	b.label(past)
}

// outside goes to label unless the destination is within p.
func (b *builder) outside(p netip.Prefix, label string) {
	address := p.Addr().AsSlice()
	for at := 0; at < len(address) && at*8 < p.Bits(); at += 4 {
		if p.Addr().Is4() {
			b.emit(opMove, r1, r7, 0, 0)
		} else {
			b.emit(opLoadWord, r1, stack, ipv6Destination+int16(at), 0)
		}
		mask := binary.BigEndian.AppendUint32(nil, ^uint32(0)<<max(0, at*8+32-p.Bits()))
		b.emit(opAndImm, r1, 0, 0, binary.NativeEndian.Uint32(mask))
		b.jump(opIfNot, r1, binary.NativeEndian.Uint32(address[at:]), label)
	}
}

func (b *builder) rulesIPv4() { b.rules(true) }
func (b *builder) rulesIPv6() { b.rules(false) }

// rules accepts what a rule allows, and goes on with the next instruction otherwise.
func (b *builder) rules(ipv4 bool) {
	for _, r := range b.list.Rules {
		p, err := netip.ParsePrefix(r.Prefix)
		if err != nil || p.Addr().Is4() != ipv4 {
			continue // an error was refused before; here it allows nothing
		}
		past := b.unique()
		switch r.Protocol {
		case policy.ProtocolTCP:
			b.jump(opIfNot, r8, unix.IPPROTO_TCP, past)
		case policy.ProtocolUDP:
			b.jump(opIfNot, r8, unix.IPPROTO_UDP, past)
		}
		b.outside(p.Masked(), past)
		for _, port := range r.Ports {
			b.jump(opIfEqual, r9, uint32(binary.NativeEndian.Uint16(binary.BigEndian.AppendUint16(nil, port))), "accept")
		}
		if len(r.Ports) == 0 {
			// A condition that always holds: the rule may be one for everything, and then the kernel would find what
			// follows to be code that is never reached.
			b.emit(opMoveImm, r1, 0, 0, 0)
			b.jump(opIfEqual, r1, 0, "accept")
		}
		b.label(past)
	}
}
