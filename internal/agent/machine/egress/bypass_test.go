// SPDX-License-Identifier: Apache-2.0

package egress

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// forbidden is where no rule leads; what is sent there by a trick must not be on the wire.
var forbidden = netip.MustParseAddr(peerAddress).As4()

// allowedUDP and allowedTCP are where rules lead.
var (
	allowedUDP = &unix.SockaddrInet4{Port: 9, Addr: [4]byte{203, 0, 113, 129}}
	allowedTCP = &unix.SockaddrInet4{Port: 443, Addr: [4]byte{192, 0, 2, 1}}
	elsewhere  = &unix.SockaddrInet4{Port: 9, Addr: forbidden}
)

// tricks are ways past a list that looks at destinations. Each may fail in any way, so long as nothing leaves.
func tricks() map[string]func() error {
	sourceRoute := string([]byte{1, 131, 7, 4, forbidden[0], forbidden[1], forbidden[2], forbidden[3]}) // loose, by that hop
	return map[string]func() error{
		"a source route, by datagram": func() error {
			return with(unix.SOCK_DGRAM, 0, func(fd int) error {
				return errors.Join(unix.SetsockoptString(fd, unix.IPPROTO_IP, unix.IP_OPTIONS, sourceRoute), unix.Sendto(fd, []byte("x"), 0, allowedUDP))
			})
		},
		"a source route, by connection": func() error {
			return with(unix.SOCK_STREAM, 0, func(fd int) error {
				return errors.Join(unix.SetsockoptString(fd, unix.IPPROTO_IP, unix.IP_OPTIONS, sourceRoute), unix.Connect(fd, allowedTCP))
			})
		},
		"the loopback device": func() error {
			return with(unix.SOCK_DGRAM, 0, func(fd int) error {
				return errors.Join(unix.SetsockoptString(fd, unix.SOL_SOCKET, unix.SO_BINDTODEVICE, "lo"), unix.Sendto(fd, []byte("x"), 0, elsewhere))
			})
		},
		"a held datagram": func() error {
			return with(unix.SOCK_DGRAM, 0, func(fd int) error {
				return errors.Join(unix.Sendto(fd, []byte("x"), unix.MSG_MORE, elsewhere), unix.Sendto(fd, []byte("y"), 0, allowedUDP))
			})
		},
		"another destination than the socket's": func() error {
			return with(unix.SOCK_DGRAM, 0, func(fd int) error {
				return errors.Join(unix.Connect(fd, allowedUDP), unix.Sendto(fd, []byte("x"), 0, elsewhere))
			})
		},
		"a socket that was for the loopback": func() error {
			return with(unix.SOCK_DGRAM, 0, func(fd int) error {
				return errors.Join(unix.Connect(fd, &unix.SockaddrInet4{Port: 9, Addr: [4]byte{127, 0, 0, 1}}), unix.Connect(fd, elsewhere), unix.Send(fd, []byte("x"), 0))
			})
		},
		"light datagrams": func() error {
			return with(unix.SOCK_DGRAM, unix.IPPROTO_UDPLITE, func(fd int) error { return unix.Sendto(fd, []byte("x"), 0, elsewhere) })
		},
		"an echo request": func() error {
			return with(unix.SOCK_DGRAM, unix.IPPROTO_ICMP, func(fd int) error {
				return unix.Sendto(fd, []byte{8, 0, 0, 0, 0, 0, 0, 1}, 0, &unix.SockaddrInet4{Addr: forbidden})
			})
		},
		"multipath TCP": func() error {
			return with(unix.SOCK_STREAM, unix.IPPROTO_MPTCP, func(fd int) error { return unix.Connect(fd, elsewhere) })
		},
		"stream control": func() error {
			return with(unix.SOCK_STREAM, unix.IPPROTO_SCTP, func(fd int) error { return unix.Connect(fd, elsewhere) })
		},
	}
}

// with does something with an IPv4 socket that does not block.
func with(kind, protocol int, do func(fd int) error) error {
	fd, err := open(unix.AF_INET, kind, protocol)
	if err != nil {
		return err
	}
	return errors.Join(do(fd), unix.Close(fd))
}

// tryTricks plays all of them, and looks at what is on the wire after each.
func (w *wire) tryTricks() error {
	err := os.WriteFile("/proc/sys/net/ipv4/ping_group_range", []byte("0 2147483647\n"), 0) // as in the guest
	if err == nil {
		err = unix.SetNonblock(w.fd, true)
	}
	if err != nil {
		return err
	}
	var errs []error
	for name, play := range tricks() {
		played := play()
		time.Sleep(10 * time.Millisecond) // what is sent late is found after another trick, under its name
		b := make([]byte, 2000)
		for {
			n, err := unix.Read(w.fd, b)
			if err != nil {
				break // nothing is left
			}
			header := int(b[0]&0xf) * 4
			if n < ipv4Size || b[0]>>4 != 4 || b[9] == unix.IPPROTO_IGMP {
				continue // the kernel's own
			}
			if [4]byte(b[16:20]) == forbidden || header > ipv4Size {
				errs = append(errs, fmt.Errorf("%s (%w): a packet is on the wire: % x", name, orNil(played), b[:n]))
			}
		}
	}
	return errors.Join(errs...)
}
