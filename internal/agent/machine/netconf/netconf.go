// SPDX-License-Identifier: Apache-2.0

// Package netconf gives the guest's network interfaces their addresses.
//
// The network belongs to the host and is hostile; nothing is learnt from it, neither addresses nor routes nor name
// servers. The addresses are constants, because the usual network has exactly one guest; on another network the host
// says what they are. The package imports nothing but the system call package: two interfaces, a few addresses and
// routes do not justify a netlink library in the guest.
package netconf

import (
	"errors"
	"fmt"
	"net/netip"
	"os"

	"golang.org/x/sys/unix"
)

// Config is the guest's network.
type Config struct {
	Interface string
	Addresses []netip.Prefix // of the guest, with the network's length
	Gateways  []netip.Addr   // at most one of each family, each within the network of an address
	// Hardware is the IPv6 gateway's hardware address where it is known, so that nobody is asked for it; else zero.
	Hardware [6]byte
	DNS      netip.Addr
	MTU      int
}

// Default is the network that the host side makes for every guest.
func Default() Config {
	return Config{
		Interface: "eth0",
		Addresses: []netip.Prefix{netip.MustParsePrefix("192.168.127.2/24"), netip.MustParsePrefix("fdc0:ff3d:a400::2/64")},
		Gateways:  []netip.Addr{netip.MustParseAddr("192.168.127.1"), netip.MustParseAddr("fdc0:ff3d:a400::1")},
		Hardware:  [6]byte{0x5a, 0x94, 0xef, 0xe4, 0x0c, 0xdd},
		DNS:       netip.MustParseAddr("192.168.127.1"),
		MTU:       1500,
	}
}

// ResolvConf is the content of /etc/resolv.conf for the network.
func (c Config) ResolvConf() string { return fmt.Sprintf("nameserver %s\n", c.DNS) }

// IPs are the guest's addresses.
func (c Config) IPs() []netip.Addr {
	var list []netip.Addr
	for _, p := range c.Addresses {
		list = append(list, p.Addr())
	}
	return list
}

// Errors that a caller may tell apart.
var (
	// ErrNoInterface says that the machine has no such network interface.
	ErrNoInterface = errors.New("there is no such network interface")
	// ErrIncomplete says that an interface has been changed, and not to the end.
	ErrIncomplete = errors.New("the interface is not configured to the end")
)

// The limits of what an interface gets.
const (
	maxAddresses = 4
	maxGateways  = 2
)

// Up brings up the loopback interface, and gives the configured interface its addresses, its MTU and the default routes.
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
	err = c.check()
	if err == nil {
		err = c.raise(fd)
	}
	if errors.Is(err, unix.ENODEV) {
		err = ErrNoInterface
	}
	if err != nil {
		return fmt.Errorf("configuring %s: %w", c.Interface, err)
	}
	return nil
}

func (c Config) raise(fd int) error {
	r, err := unix.NewIfreq(c.Interface)
	if err != nil {
		return err
	}
	r.SetUint32(uint32(c.MTU))
	err = unix.IoctlIfreq(fd, unix.SIOCSIFMTU, r)
	if err != nil {
		return fmt.Errorf("setting the MTU: %w", err)
	}
	err = setUp(fd, c.Interface)
	if err != nil {
		return err
	}
	return c.change(Config{Interface: c.Interface})
}

// Device is the network interface of a running guest.
type Device struct {
	Config Config // what it is now
}

// Configure replaces addresses and gateways. An error that wraps ErrIncomplete leaves the interface in a state that nobody
// asked for; any other leaves it as it was.
func (d *Device) Configure(addresses []netip.Prefix, gateways []netip.Addr) error {
	next := d.Config
	next.Addresses, next.Gateways, next.Hardware = addresses, gateways, [6]byte{}
	err := next.check()
	if err != nil {
		return fmt.Errorf("configuring %s: %w", next.Interface, err)
	}
	err = next.change(d.Config)
	if err != nil {
		return fmt.Errorf("configuring %s: %w: %w", next.Interface, ErrIncomplete, err)
	}
	d.Config = next
	return nil
}

// check refuses what no host needs, and gateways that can not be reached.
func (c Config) check() error {
	if len(c.Addresses) == 0 || len(c.Addresses) > maxAddresses || len(c.Gateways) > maxGateways {
		return fmt.Errorf("%d addresses and %d gateways, want 1 to %d and at most %d", len(c.Addresses), len(c.Gateways), maxAddresses, maxGateways)
	}
	for i, p := range c.Addresses {
		a := p.Addr()
		if !p.IsValid() || p.Bits() == 0 || !usable(a) {
			return fmt.Errorf("address %s is none that a device can have", p)
		}
		for _, q := range c.Addresses[:i] {
			if q.Addr() == a {
				return fmt.Errorf("address %s is given twice", a)
			}
		}
	}
	for i, g := range c.Gateways {
		if !usable(g) || !c.neighbour(g) {
			return fmt.Errorf("gateway %s is in none of the networks %v", g, c.Addresses)
		}
		if i > 0 && c.Gateways[0].Is4() == g.Is4() {
			return fmt.Errorf("gateways %s and %s are of one family", c.Gateways[0], g)
		}
	}
	return nil
}

// usable refuses what has another meaning: loopback and link-local addresses, groups, nobody, and mapped addresses.
func usable(a netip.Addr) bool {
	return a.IsValid() && a.Zone() == "" && !a.Is4In6() && !a.IsUnspecified() && !a.IsLoopback() && !a.IsMulticast() && !a.IsLinkLocalUnicast() &&
		a != netip.AddrFrom4([4]byte{255, 255, 255, 255})
}

// neighbour says whether a is in the network of one of the addresses, and none of them.
func (c Config) neighbour(a netip.Addr) bool {
	in := false
	for _, p := range c.Addresses {
		if p.Addr() == a {
			return false
		}
		in = in || p.Contains(a)
	}
	return in
}

// change takes the interface from what it is to c.
func (c Config) change(from Config) error {
	device, err := index(c.Interface)
	if err != nil {
		return err
	}
	err = ask(from.remove(device)...)
	if err != nil {
		return err
	}
	for _, p := range c.Addresses {
		if !p.Addr().Is4() {
			err = openIPv6(c.Interface)
			break
		}
	}
	if err != nil {
		return err
	}
	return ask(c.add(device)...)
}

func (c Config) remove(device uint32) []request {
	var list []request
	for _, g := range c.Gateways {
		list = append(list, request{"removing the route by " + g.String(), routeRequest(unix.RTM_DELROUTE, 0, g)})
		if c.fixed(g) {
			list = append(list, request{"forgetting " + g.String(), neighbourRequest(unix.RTM_DELNEIGH, 0, device, g, c.Hardware)})
		}
	}
	for _, p := range c.Addresses {
		list = append(list, request{"removing the address " + p.String(), addressRequest(unix.RTM_DELADDR, 0, device, p)})
	}
	return list
}

func (c Config) add(device uint32) []request {
	var list []request
	for _, p := range c.Addresses {
		list = append(list, request{"adding the address " + p.String(), addressRequest(unix.RTM_NEWADDR, create, device, p)})
	}
	for _, g := range c.Gateways {
		if c.fixed(g) {
			list = append(list, request{"naming the neighbour " + g.String(), neighbourRequest(unix.RTM_NEWNEIGH, create, device, g, c.Hardware)})
		}
		list = append(list, request{"adding the default route by " + g.String(), routeRequest(unix.RTM_NEWROUTE, create, g)})
	}
	return list
}

// fixed says that it is known where a gateway is. IPv4 always asks: QEMU's own network answers from another address.
func (c Config) fixed(gateway netip.Addr) bool { return !gateway.Is4() && c.Hardware != [6]byte{} }

// openIPv6 lets an interface have IPv6 addresses: those that it is given, and none that a router announces or that it
// makes up itself.
func openIPv6(name string) error {
	for _, s := range [][2]string{
		{"accept_ra", "0"}, {"autoconf", "0"}, {"accept_redirects", "0"}, {"addr_gen_mode", "1"}, {"dad_transmits", "0"}, {"disable_ipv6", "0"},
	} {
		err := os.WriteFile("/proc/sys/net/ipv6/conf/"+name+"/"+s[0], []byte(s[1]+"\n"), 0)
		if err != nil {
			return err
		}
	}
	return nil
}

func index(name string) (uint32, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, err
	}
	defer unix.Close(fd) //nolint:errcheck // the socket carries nothing
	r, err := unix.NewIfreq(name)
	if err != nil {
		return 0, err
	}
	err = unix.IoctlIfreq(fd, unix.SIOCGIFINDEX, r)
	if err != nil {
		return 0, err
	}
	return r.Uint32(), nil
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
