// SPDX-License-Identifier: Apache-2.0

package egress

import (
	"encoding/binary"
	"net/netip"

	"golang.org/x/sys/unix"

	"cofferdam.dev/policy"
)

// The functions of the kernel that are called.
const (
	funcLookup    = 1
	funcUpdate    = 2
	funcTime      = 5
	funcLoadBytes = 26
)

// Where a program finds things: in its context (struct __sk_buff, struct bpf_sock_addr), in headers, and on its stack.
const (
	skbInterface = 40 // ifindex
	addrIPv4     = 4
	addrIPv6     = 8
	addrPort     = 24
	addrProtocol = 36

	loopbackInterface = 1 // its index in every network namespace

	ipv4Size, ipv6Size, tcpSize, udpSize = 20, 40, 14, 4 // what is read of each

	ipHeader  = -40 // on the stack: 40 bytes
	transport = -56 // 14 bytes
	flowTime  = -64 // 8 bytes
	flowKey   = -88 // 20 bytes
)

// freshUnits is how long a datagram flow may be answered, in units of 2^30 nanoseconds.
const freshUnits = 180

// hook is a place in the kernel and what to do there.
type hook struct {
	name    string
	kind    int
	point   int
	program func() ([]byte, error)
}

// builder makes the programs of one list.
type builder struct {
	*assembler
	list  *policy.Egress
	own   []netip.Addr
	flows int // the descriptor of the table
}

// hooks are all places that a list needs. Whatever may answer is known before anything can ask.
func hooks(list *policy.Egress, own []netip.Addr, flows int) []hook {
	with := func(write func(*builder), refuses bool) func() ([]byte, error) {
		return func() ([]byte, error) {
			b := &builder{assembler: newAssembler(), list: list, own: own, flows: flows}
			b.emit(opMove, r6, r1, 0, 0)
			write(b)
			if refuses { // the kernel takes no code that is never reached
				b.label("refuse")
				b.emit(opMoveImm, r0, 0, 0, 0)
				b.emit(opExit, 0, 0, 0, 0)
			}
			b.label("accept")
			b.emit(opMoveImm, r0, 0, 0, 1)
			b.emit(opExit, 0, 0, 0, 0)
			return b.finish()
		}
	}
	return []hook{
		{"packets in", kindSKB, pointIngress, with((*builder).ingress, false)},
		{"packets out", kindSKB, pointEgress, with((*builder).egress, true)},
		{"IPv4 connections", kindAddress, pointConnect4, with((*builder).connect4, true)},
		{"IPv6 connections", kindAddress, pointConnect6, with((*builder).connect6, true)},
	}
}

// call calls a function of the kernel.
func (b *builder) call(function uint32) { b.emit(opCall, 0, 0, 0, function) }

// pointer sets a register to a place on the stack.
func (b *builder) pointer(register int, place int32) {
	b.emit(opMove, register, stack, 0, 0)
	b.emit(opAddImm, register, 0, 0, uint32(place))
}

// read copies a part of the packet to the stack; a packet that is shorter goes to label.
func (b *builder) read(offset uint32, place int32, size uint32, label string) {
	b.emit(opMove, r1, r6, 0, 0)
	b.emit(opMoveImm, r2, 0, 0, offset)
	b.pointer(r3, place)
	b.emit(opMoveImm, r4, 0, 0, size)
	b.call(funcLoadBytes)
	b.jump(opIfNot, r0, 0, label)
}

// header leaves alone what is on the loopback device, reads the IP header, and goes to "v6" or on with IPv4. A header of
// another kind goes to other: among them one with IPv4 options, which may name further hops.
func (b *builder) header(other string) {
	b.emit(opLoadWord, r1, r6, skbInterface, 0)
	b.jump(opIfEqual, r1, loopbackInterface, "accept")
	b.read(0, ipHeader, ipv4Size, other)
	b.emit(opLoadByte, r1, stack, ipHeader, 0)
	v4 := b.unique()
	b.jump(opIfEqual, r1, 0x45, v4)
	b.emit(opAndImm, r1, 0, 0, 0xf0)
	b.jump(opIfEqual, r1, 0x60, "v6")
	b.jump(opJump, 0, 0, other)
	b.label(v4)
}

// key writes the key of a flow whose other end has its address at the given place of the IP header, and its ports at the
// two places of the transport header.
func (b *builder) key(ipv6 bool, address, theirPort, ourPort int16) {
	if ipv6 {
		for i := int16(0); i < 16; i += 4 {
			b.emit(opLoadWord, r1, stack, ipHeader+address+i, 0)
			b.emit(opStoreWord, stack, r1, flowKey+i, 0)
		}
	} else {
		b.emit(opSetLong, stack, 0, flowKey, 0)
		b.emit(opSetWord, stack, 0, flowKey+8, binary.NativeEndian.Uint32([]byte{0, 0, 0xff, 0xff}))
		b.emit(opLoadWord, r1, stack, ipHeader+address, 0)
		b.emit(opStoreWord, stack, r1, flowKey+12, 0)
	}
	b.emit(opLoadHalf, r1, stack, transport+theirPort, 0)
	b.emit(opStoreHalf, stack, r1, flowKey+16, 0)
	b.emit(opLoadHalf, r1, stack, transport+ourPort, 0)
	b.emit(opStoreHalf, stack, r1, flowKey+18, 0)
}

// table sets the first two arguments of a function on the table.
func (b *builder) table() {
	b.emit(opMap, r1, sourceMap, 0, uint32(b.flows))
	b.emit(0, 0, 0, 0, 0)
	b.pointer(r2, flowKey)
}

// ingress notes who has sent a datagram. It refuses nothing.
func (b *builder) ingress() {
	note := func(ipv6 bool, protocol, address int16, size uint32) {
		b.emit(opLoadByte, r1, stack, ipHeader+protocol, 0)
		b.jump(opIfNot, r1, unix.IPPROTO_UDP, "accept")
		b.read(size, transport, udpSize, "accept")
		b.key(ipv6, address, 0, 2)
		b.call(funcTime)
		b.emit(opStoreLong, stack, r0, flowTime, 0)
		b.table()
		b.pointer(r3, flowTime)
		b.emit(opMoveImm, r4, 0, 0, 0)
		b.call(funcUpdate) // fails only when there is no memory
		b.jump(opJump, 0, 0, "accept")
	}
	b.header("accept")
	note(false, 9, 12, ipv4Size)
	b.label("v6")
	b.read(0, ipHeader, ipv6Size, "accept")
	note(true, 6, 8, ipv6Size)
}

// egress judges a packet that leaves.
func (b *builder) egress() {
	b.header("refuse")
	b.emit(opLoadHalf, r1, stack, ipHeader+6, 0)
	fragment := uint32(binary.NativeEndian.Uint16([]byte{0x3f, 0xff})) // more to come, or not the first
	b.jump(opIfBits, r1, fragment, "refuse")                           // the kernel cuts packets later: it is none of its own
	b.emit(opLoadWord, r7, stack, ipHeader+16, 0)
	b.emit(opLoadByte, r8, stack, ipHeader+9, 0)
	b.transport(false, ipv4Size)
	b.rulesIPv4()
	b.jump(opJump, 0, 0, "refuse")

	b.label("v6")
	b.read(0, ipHeader, ipv6Size, "refuse")
	b.emit(opLoadByte, r8, stack, ipHeader+6, 0)
	for _, extension := range []uint32{
		unix.IPPROTO_HOPOPTS, unix.IPPROTO_ROUTING, unix.IPPROTO_FRAGMENT, unix.IPPROTO_AH, unix.IPPROTO_DSTOPTS, unix.IPPROTO_MH,
	} {
		b.jump(opIfEqual, r8, extension, "refuse") // they hide the protocol, and may name further hops
	}
	b.transport(true, ipv6Size)
	b.rulesIPv6()
}

// transport leaves the port of the destination in r9, 0 where there is none, and accepts what is a reply.
func (b *builder) transport(ipv6 bool, offset uint32) {
	datagram, judge, stale := b.unique(), b.unique(), b.unique()
	b.emit(opMoveImm, r9, 0, 0, 0)
	b.jump(opIfEqual, r8, unix.IPPROTO_UDP, datagram)
	b.jump(opIfNot, r8, unix.IPPROTO_TCP, judge)
	b.read(offset, transport, tcpSize, "refuse")
	b.emit(opLoadByte, r1, stack, transport+13, 0)
	b.emit(opAndImm, r1, 0, 0, 0x12) // SYN and ACK
	b.jump(opIfNot, r1, 0x02, "accept")
	b.emit(opLoadHalf, r9, stack, transport+2, 0)
	b.jump(opJump, 0, 0, judge)

	b.label(datagram)
	b.read(offset, transport, udpSize, "refuse")
	address := int16(16)
	if ipv6 {
		address = 24
	}
	b.key(ipv6, address, 2, 0)
	b.table()
	b.call(funcLookup)
	b.jump(opIfEqual64, r0, 0, stale)
	b.emit(opLoadLong, r1, r0, 0, 0)
	b.emit(opStoreLong, stack, r1, flowTime, 0)
	b.call(funcTime)
	b.emit(opLoadLong, r1, stack, flowTime, 0)
	b.emit(opSubtract, r0, r1, 0, 0)
	b.emit(opShiftImm, r0, 0, 0, 30)
	b.jump(opIfGreater, r0, freshUnits, stale)
	b.jump(opJump, 0, 0, "accept")
	b.label(stale)
	b.emit(opLoadHalf, r9, stack, transport+2, 0)
	b.label(judge)
}
