// SPDX-License-Identifier: Apache-2.0

package netconf

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"
)

// attribute is one of an rtnetlink message.
type attribute struct {
	kind  uint16
	value []byte
}

// message is an rtnetlink request that asks for an acknowledgement: struct nlmsghdr, a body, attributes. Each part has
// a size that needs no padding but that of a hardware address.
func message(kind, flags uint16, body []byte, attributes ...attribute) []byte {
	ne := binary.NativeEndian
	b := ne.AppendUint32(nil, 0) // the length, below
	b = ne.AppendUint16(b, kind)
	b = ne.AppendUint16(b, unix.NLM_F_REQUEST|unix.NLM_F_ACK|flags)
	b = ne.AppendUint32(b, 1) // sequence number
	b = ne.AppendUint32(b, 0)
	b = append(b, body...)
	for _, a := range attributes {
		b = ne.AppendUint16(b, uint16(unix.SizeofRtAttr+len(a.value)))
		b = ne.AppendUint16(b, a.kind)
		b = append(b, a.value...)
		b = append(b, make([]byte, -len(b)&3)...)
	}
	ne.PutUint32(b, uint32(len(b)))
	return b
}

// create are the flags of a request that adds something which must not be there.
const create = unix.NLM_F_CREATE | unix.NLM_F_EXCL

func family(a netip.Addr) byte {
	if a.Is4() {
		return unix.AF_INET
	}
	return unix.AF_INET6
}

// routeRequest adds (RTM_NEWROUTE) or removes (RTM_DELROUTE) the default route (struct rtmsg).
func routeRequest(kind, flags uint16, gateway netip.Addr) []byte {
	body := []byte{
		family(gateway), 0, 0, 0, // destination and its length stay zero: everywhere
		unix.RT_TABLE_MAIN, unix.RTPROT_BOOT, unix.RT_SCOPE_UNIVERSE, unix.RTN_UNICAST, 0, 0, 0, 0,
	}
	return message(kind, flags, body, attribute{unix.RTA_GATEWAY, gateway.AsSlice()})
}

// addressRequest adds (RTM_NEWADDR) or removes (RTM_DELADDR) an address of a device (struct ifaddrmsg). It is not asked
// first whether somebody else has the address.
func addressRequest(kind, flags uint16, device uint32, p netip.Prefix) []byte {
	body := []byte{family(p.Addr()), byte(p.Bits()), unix.IFA_F_NODAD, unix.RT_SCOPE_UNIVERSE}
	if p.Addr().Is4() {
		body[2] = 0
	}
	body = binary.NativeEndian.AppendUint32(body, device)
	return message(kind, flags, body, attribute{unix.IFA_LOCAL, p.Addr().AsSlice()}, attribute{unix.IFA_ADDRESS, p.Addr().AsSlice()})
}

// neighbourRequest fixes (RTM_NEWNEIGH) or forgets (RTM_DELNEIGH) where a neighbour is (struct ndmsg).
func neighbourRequest(kind, flags uint16, device uint32, a netip.Addr, hardware [6]byte) []byte {
	body := binary.NativeEndian.AppendUint32([]byte{family(a), 0, 0, 0}, device)
	body = binary.NativeEndian.AppendUint16(body, unix.NUD_PERMANENT)
	body = append(body, 0, 0)
	return message(kind, flags, body, attribute{unix.NDA_DST, a.AsSlice()}, attribute{unix.NDA_LLADDR, hardware[:]})
}

// ask sends requests one after the other and stops at the first that is refused.
func ask(requests ...request) error {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_ROUTE)
	if err != nil {
		return err
	}
	defer unix.Close(fd) //nolint:errcheck // the answers were read
	for _, r := range requests {
		err = unix.Sendto(fd, r.message, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK})
		if err == nil {
			err = readAck(fd)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", r.doing, err)
		}
	}
	return nil
}

// request is a message with words for an error.
type request struct {
	doing   string
	message []byte
}

func readAck(fd int) error {
	answer := make([]byte, 4096)
	n, _, err := unix.Recvfrom(fd, answer, 0)
	if err != nil {
		return err
	}
	return parseAck(answer[:n])
}

var errAnswer = errors.New("the kernel's rtnetlink answer is malformed")

// parseAck reads the answer to a request that asked for an acknowledgement: an error message, whose number 0 means
// success.
func parseAck(b []byte) error {
	if len(b) < unix.SizeofNlMsghdr+4 {
		return fmt.Errorf("%w: %d bytes", errAnswer, len(b))
	}
	ne := binary.NativeEndian
	if kind := ne.Uint16(b[4:]); kind != unix.NLMSG_ERROR {
		return fmt.Errorf("%w: message type %d, want %d", errAnswer, kind, unix.NLMSG_ERROR)
	}
	code := int32(ne.Uint32(b[unix.SizeofNlMsghdr:]))
	if code > 0 {
		return fmt.Errorf("%w: error number %d is positive", errAnswer, code)
	}
	if code < 0 {
		return unix.Errno(-int64(code))
	}
	return nil
}
