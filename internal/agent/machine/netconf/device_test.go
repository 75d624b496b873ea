// SPDX-License-Identifier: Apache-2.0

package netconf

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"cofferdam.dev/internal/testcap"
)

func TestMain(m *testing.M) { testcap.Main(m, child) }

// TestDevice configures a device of this machine's kernel, in a network namespace of its own.
func TestDevice(t *testing.T) {
	t.Parallel()
	testcap.Require(t, testcap.Root)
	if _, err := os.Stat("/dev/net/tun"); err != nil {
		t.Skipf("no devices can be made here: %v", err)
	}
	testcap.Child(t, &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWNS})
}

func child() error {
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(fd) }()
	r, err := unix.NewIfreq("eth0")
	if err != nil {
		return err
	}
	r.SetUint16(unix.IFF_TAP | unix.IFF_NO_PI)
	err = unix.IoctlIfreq(fd, unix.TUNSETIFF, r)
	if err != nil {
		return err
	}
	// What the guest has set before its device came. The files are those of this namespace.
	err = errors.Join(os.WriteFile("/proc/sys/net/ipv6/conf/eth0/disable_ipv6", []byte("1"), 0), Up(Default()))
	if err != nil {
		return err
	}
	err = expect(Default())
	if err != nil {
		return err
	}
	d := &Device{Config: Default()}
	for _, n := range []Config{
		{Addresses: prefixes("10.1.2.3/24", "fd00::3/64"), Gateways: addrs("10.1.2.1", "fd00::1")},
		{Addresses: prefixes("10.1.2.3/16"), Gateways: addrs("10.1.2.1")}, // the same address in another network
		{Addresses: prefixes("fd01::3/64"), Gateways: addrs("fd01::1")},
		{Addresses: prefixes("10.1.2.3/24")},
	} {
		err = d.Configure(n.Addresses, n.Gateways)
		if err == nil {
			err = expect(n)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func prefixes(list ...string) []netip.Prefix {
	var out []netip.Prefix
	for _, s := range list {
		out = append(out, netip.MustParsePrefix(s))
	}
	return out
}

func addrs(list ...string) []netip.Addr {
	var out []netip.Addr
	for _, s := range list {
		out = append(out, netip.MustParseAddr(s))
	}
	return out
}

// expect compares what the kernel says with c: the addresses exactly, and whether there is a default route.
func expect(c Config) error {
	i, err := net.InterfaceByName("eth0")
	if err != nil {
		return err
	}
	list, err := i.Addrs()
	if err != nil {
		return err
	}
	var got, want []string
	for _, a := range list {
		got = append(got, a.String())
	}
	for _, p := range c.Addresses {
		want = append(want, p.String())
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		return fmt.Errorf("addresses are %v, want %v", got, want)
	}
	four, six := false, false
	for _, g := range c.Gateways {
		four, six = four || g.Is4(), six || !g.Is4()
	}
	for file, route := range map[string]struct {
		line string
		want bool
	}{
		"/proc/net/route":      {"eth0\t00000000\t", four},
		"/proc/net/ipv6_route": {strings.Repeat("0", 32) + " 00 " + strings.Repeat("0", 32) + " 00 fd", six},
	} {
		text, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		if has := strings.Contains(string(text), route.line); has != route.want {
			return fmt.Errorf("default route in %s is %v, want %v:\n%s", file, has, route.want, text)
		}
	}
	return nil
}
