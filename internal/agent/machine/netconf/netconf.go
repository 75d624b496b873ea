// SPDX-License-Identifier: Apache-2.0

// Package netconf gives the guest's network interfaces their fixed addresses.
//
// The network belongs to the host and is hostile; nothing is learnt from it, neither addresses nor routes nor name
// servers. The addresses are constants, because the network has exactly one guest. The package imports nothing but the
// system call package: two interfaces, one address and one route do not justify a netlink library in the guest.
package netconf

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"
)

// Config is the guest's network.
type Config struct {
	Interface string
	Address   netip.Prefix // of the guest, with the network's length
	Gateway   netip.Addr
	DNS       netip.Addr
	MTU       int
}

// Default is the network that the host side makes for every guest.
func Default() Config {
	return Config{
		Interface: "eth0",
		Address:   netip.MustParsePrefix("192.168.127.2/24"),
		Gateway:   netip.MustParseAddr("192.168.127.1"),
		DNS:       netip.MustParseAddr("192.168.127.1"),
		MTU:       1500,
	}
}

// ResolvConf is the content of /etc/resolv.conf for the network.
func (c Config) ResolvConf() string { return fmt.Sprintf("nameserver %s\n", c.DNS) }

// ErrNoInterface says that the machine has no such network interface.
var ErrNoInterface = errors.New("there is no such network interface")

// Up brings up the loopback interface, and gives the configured interface its address, its MTU and the default route.
// It does not wait for the interface: the driver's module is loaded by then, and has looked for its device while it
// was loading.
func Up(c Config) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("configuring the network: %w", err)
	}
	defer unix.Close(fd) //nolint:errcheck // the socket carries nothing
	err = setUp(fd, "lo")
	if err != nil {
		return fmt.Errorf("configuring lo: %w", err)
	}
	err = c.configure(fd)
	if errors.Is(err, unix.ENODEV) {
		err = ErrNoInterface
	}
	if err != nil {
		return fmt.Errorf("configuring %s: %w", c.Interface, err)
	}
	return nil
}

func (c Config) configure(fd int) error {
	if !c.Address.Addr().Is4() || !c.Gateway.Is4() || !c.Address.Contains(c.Gateway) {
		return fmt.Errorf("gateway %s is not in the IPv4 network %s", c.Gateway, c.Address)
	}
	address, mask := c.Address.Addr().As4(), mask(c.Address.Bits())
	steps := []struct {
		doing   string
		request uint
		set     func(*unix.Ifreq) error
	}{
		{"setting the address", unix.SIOCSIFADDR, func(r *unix.Ifreq) error { return r.SetInet4Addr(address[:]) }},
		{"setting the network mask", unix.SIOCSIFNETMASK, func(r *unix.Ifreq) error { return r.SetInet4Addr(mask[:]) }},
		{"setting the MTU", unix.SIOCSIFMTU, func(r *unix.Ifreq) error { r.SetUint32(uint32(c.MTU)); return nil }},
	}
	for _, s := range steps {
		r, err := unix.NewIfreq(c.Interface)
		if err == nil {
			err = s.set(r)
		}
		if err == nil {
			err = unix.IoctlIfreq(fd, s.request, r)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", s.doing, err)
		}
	}
	err := setUp(fd, c.Interface)
	if err != nil {
		return err
	}
	err = addDefaultRoute(c.Gateway)
	if err != nil {
		return fmt.Errorf("adding the default route by %s: %w", c.Gateway, err)
	}
	return nil
}

func mask(bits int) [4]byte {
	var m [4]byte
	binary.BigEndian.PutUint32(m[:], ^uint32(0)<<(32-bits))
	return m
}

func setUp(fd int, name string) error {
	r, err := unix.NewIfreq(name)
	if err != nil {
		return err
	}
	err = unix.IoctlIfreq(fd, unix.SIOCGIFFLAGS, r)
	if err != nil {
		return fmt.Errorf("reading the flags: %w", err)
	}
	r.SetUint16(r.Uint16() | unix.IFF_UP)
	err = unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, r)
	if err != nil {
		return fmt.Errorf("bringing it up: %w", err)
	}
	return nil
}
