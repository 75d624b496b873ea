// SPDX-License-Identifier: Apache-2.0

package egress

import (
	"encoding/binary"
	"errors"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"
)

func sockaddr(ip string, port uint16) (int, unix.Sockaddr) {
	a := netip.MustParseAddr(ip)
	if a.Is4() {
		return unix.AF_INET, &unix.SockaddrInet4{Port: int(port), Addr: a.As4()}
	}
	return unix.AF_INET6, &unix.SockaddrInet6{Port: int(port), Addr: a.As16()}
}

func open(family, kind, protocol int) (int, error) {
	return unix.Socket(family, kind|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, protocol)
}

// connectTCP begins a connection and does not wait for it, unless it is refused at once.
func connectTCP(ip string, port uint16) error {
	family, to := sockaddr(ip, port)
	fd, err := open(family, unix.SOCK_STREAM, 0)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(fd) }()
	return unix.Connect(fd, to)
}

// connectHere connects to a port of this machine at which nobody listens.
func connectHere(ip string) error {
	family, to := sockaddr(ip, 1)
	fd, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(fd) }()
	return unix.Connect(fd, to)
}

func fastOpen(ip string, port uint16) error {
	family, to := sockaddr(ip, port)
	fd, err := open(family, unix.SOCK_STREAM, 0)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(fd) }()
	return unix.Sendto(fd, []byte("first"), unix.MSG_FASTOPEN, to)
}

func send(ip string, port uint16, kind, protocol, size int) error {
	family, to := sockaddr(ip, port)
	fd, err := open(family, kind, protocol)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(fd) }()
	return unix.Sendto(fd, make([]byte, size), 0, to)
}

func sendUDP(ip string, port uint16) error { return send(ip, port, unix.SOCK_DGRAM, 0, 5) }

func sendLarge(ip string, port uint16) error { return send(ip, port, unix.SOCK_DGRAM, 0, 8000) }

func sendRaw(ip string) error { return send(ip, 0, unix.SOCK_RAW, unix.IPPROTO_ICMP, 8) }

// answerDatagram has a datagram come from the peer, and answers it.
func (w *wire) answerDatagram() error {
	fd, err := open(unix.AF_INET, unix.SOCK_DGRAM, 0)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(fd) }()
	err = unix.Bind(fd, &unix.SockaddrInet4{Port: childPort})
	if err != nil {
		return err
	}
	err = w.write(packet{peerAddress, childAddress, unix.IPPROTO_UDP, 40000, childPort, 0})
	if err != nil {
		return err
	}
	var from unix.Sockaddr
	err = eventually(func() error {
		_, from, err = unix.Recvfrom(fd, make([]byte, 100), 0)
		return err
	})
	if err != nil {
		return err
	}
	err = unix.Sendto(fd, []byte("answer"), 0, from)
	if err != nil {
		return err
	}
	return w.expect(func(p []byte) bool { return p[9] == unix.IPPROTO_UDP && binary.BigEndian.Uint16(p[22:]) == 40000 })
}

// answerConnection has the peer connect, and waits for the kernel's answer.
func (w *wire) answerConnection() error {
	fd, err := open(unix.AF_INET, unix.SOCK_STREAM, 0)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(fd) }()
	err = unix.Bind(fd, &unix.SockaddrInet4{Port: childPort})
	if err == nil {
		err = unix.Listen(fd, 1)
	}
	if err == nil {
		err = w.write(packet{peerAddress, childAddress, unix.IPPROTO_TCP, 40000, childPort, syn})
	}
	if err != nil {
		return err
	}
	return w.expect(func(p []byte) bool {
		return p[9] == unix.IPPROTO_TCP && p[33] == syn|ack && binary.BigEndian.Uint16(p[22:]) == 40000
	})
}

// write sends a packet to the child with the checksums that it must have.
func (w *wire) write(p packet) error {
	b := p.bytes()
	body := b[ipv4Size:]
	pseudo := append(append([]byte(nil), b[12:20]...), 0, p.protocol, 0, byte(len(body)))
	sum := 6 // the place of the checksum
	if p.protocol == unix.IPPROTO_TCP {
		sum = 16
		body[12] = 5 << 4
	} else {
		binary.BigEndian.PutUint16(body[4:], uint16(len(body)))
	}
	binary.BigEndian.PutUint16(b[10:], checksum(b[:ipv4Size]))
	binary.BigEndian.PutUint16(body[sum:], checksum(append(pseudo, body...)))
	_, err := unix.Write(w.fd, b)
	return err
}

func checksum(b []byte) uint16 {
	var sum uint32
	for i := 0; i+1 < len(b); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(b[i:]))
	}
	for sum>>16 != 0 {
		sum = sum&0xffff + sum>>16
	}
	return ^uint16(sum)
}

// expect reads packets of the child until there is one that is right.
func (w *wire) expect(right func([]byte) bool) error {
	err := unix.SetNonblock(w.fd, true)
	if err != nil {
		return err
	}
	return eventually(func() error {
		b := make([]byte, 2000)
		n, err := unix.Read(w.fd, b)
		if err == nil && (n < 34 || b[0] != 0x45 || !right(b)) {
			return unix.EAGAIN
		}
		return err
	})
}

// eventually repeats what would block, for as long as a slow machine may need.
func eventually(do func() error) error {
	end := time.Now().Add(2 * time.Minute)
	for {
		err := do()
		if !errors.Is(err, unix.EAGAIN) || time.Now().After(end) {
			return err
		}
		time.Sleep(2 * time.Millisecond)
	}
}
