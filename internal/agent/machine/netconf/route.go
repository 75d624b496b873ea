// SPDX-License-Identifier: Apache-2.0

package netconf

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"
)

// routeRequest is the rtnetlink message that adds a default route: struct nlmsghdr, struct rtmsg, one attribute.
func routeRequest(gateway netip.Addr) []byte {
	const size = unix.SizeofNlMsghdr + unix.SizeofRtMsg + unix.SizeofRtAttr + 4
	b := make([]byte, size)
	ne := binary.NativeEndian
	ne.PutUint32(b[0:], size)
	ne.PutUint16(b[4:], unix.RTM_NEWROUTE)
	ne.PutUint16(b[6:], unix.NLM_F_REQUEST|unix.NLM_F_ACK|unix.NLM_F_CREATE|unix.NLM_F_EXCL)
	ne.PutUint32(b[8:], 1) // sequence number
	rt := b[unix.SizeofNlMsghdr:]
	rt[0] = unix.AF_INET // destination and its length stay zero: everywhere
	rt[4] = unix.RT_TABLE_MAIN
	rt[5] = unix.RTPROT_BOOT
	rt[6] = unix.RT_SCOPE_UNIVERSE
	rt[7] = unix.RTN_UNICAST
	attr := rt[unix.SizeofRtMsg:]
	ne.PutUint16(attr[0:], unix.SizeofRtAttr+4)
	ne.PutUint16(attr[2:], unix.RTA_GATEWAY)
	address := gateway.As4()
	copy(attr[4:], address[:])
	return b
}

func addDefaultRoute(gateway netip.Addr) error {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_ROUTE)
	if err != nil {
		return err
	}
	defer unix.Close(fd) //nolint:errcheck // the answer was read
	kernel := &unix.SockaddrNetlink{Family: unix.AF_NETLINK}
	err = unix.Sendto(fd, routeRequest(gateway), 0, kernel)
	if err != nil {
		return err
	}
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
