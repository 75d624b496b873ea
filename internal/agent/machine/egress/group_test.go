// SPDX-License-Identifier: Apache-2.0

package egress

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"cofferdam.dev/internal/testcap"
)

func TestMain(m *testing.M) { testcap.Main(m, child) }

// TestGroup has a process in a limited control group, with a network of its own, use real sockets.
func TestGroup(t *testing.T) {
	t.Parallel()
	table(t) // skips where BPF is closed
	testcap.Require(t, testcap.Root)
	root := ""
	for _, dir := range []string{"/sys/fs/cgroup", "/sys/fs/cgroup/unified"} {
		var s unix.Statfs_t
		if unix.Statfs(dir, &s) == nil && s.Type == unix.CGROUP2_SUPER_MAGIC {
			root = dir
		}
	}
	if root == "" {
		t.Skip("this machine has no control groups of version 2")
	}
	group := filepath.Join(root, "cofferdam-egress-"+strconv.Itoa(os.Getpid()))
	err := os.Mkdir(group, 0o755)
	if err != nil {
		t.Skipf("control groups can not be made here: %v", err)
	}
	inner := filepath.Join(group, "container")
	err = os.Mkdir(inner, 0o755)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(os.Remove(inner), os.Remove(group)); err != nil {
			t.Error(err)
		}
	})
	for range 2 { // it may be applied again
		err = limit(group, web(), []netip.Addr{netip.MustParseAddr(childAddress)})
		if err != nil {
			t.Fatal(err)
		}
	}
	dir, err := os.Open(inner)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = dir.Close() }()
	testcap.Child(t, &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET, UseCgroupFD: true, CgroupFD: int(dir.Fd())})
	code, err := hooks(web(), nil, 0)[3].program()
	if err != nil {
		t.Fatal(err)
	}
	fd, err := load(hooks(web(), nil, 0)[3], code, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Close(fd) }()
	if err = attach(int(dir.Fd()), fd, pointConnect6); !errors.Is(err, unix.EPERM) {
		t.Errorf("a program of the container's own: %v, want %v", err, unix.EPERM)
	}
}

// The network of the child.
const (
	childAddress = "10.9.8.2"
	peerAddress  = "10.9.8.1" // no rule allows it
	childPort    = 7000
)

func child() error {
	wire, err := openWire()
	if err != nil {
		return fmt.Errorf("making a network: %w", err)
	}
	var errs []error
	for _, tc := range []struct {
		doing string
		do    func() error
		want  error
	}{
		{"connecting by a rule", func() error { return connectTCP("192.0.2.1", 443) }, unix.EINPROGRESS},
		{"connecting to another port", func() error { return connectTCP("192.0.2.1", 22) }, unix.EPERM},
		{"connecting elsewhere", func() error { return connectTCP(peerAddress, 443) }, unix.EPERM},
		{"connecting elsewhere, from an IPv6 socket", func() error { return connectTCP("::ffff:"+peerAddress, 443) }, unix.EPERM},
		{"connecting by a rule, from an IPv6 socket", func() error { return connectTCP("::ffff:192.0.2.1", 443) }, unix.EINPROGRESS},
		{"connecting with the first data", func() error { return fastOpen(peerAddress, 443) }, unix.EPERM},
		{"connecting to nobody here", func() error { return connectHere(childAddress) }, unix.ECONNREFUSED},
		{"connecting to nobody on the loopback", func() error { return connectHere("127.0.0.1") }, unix.ECONNREFUSED},
		{"connecting to nobody on the IPv6 loopback", func() error { return connectHere("::1") }, unix.ECONNREFUSED},
		{"sending by a rule", func() error { return sendUDP("203.0.113.129", 9) }, nil},
		{"sending elsewhere", func() error { return sendUDP("203.0.113.1", 9) }, unix.EPERM},
		{"sending to itself", func() error { return sendUDP(childAddress, 9) }, nil},
		{"sending much elsewhere, in pieces", func() error { return sendLarge("203.0.113.1", 9) }, unix.EPERM},
		{"sending much by a rule, in pieces", func() error { return sendLarge("203.0.113.129", 9) }, nil},
		{"sending raw packets elsewhere", func() error { return sendRaw(peerAddress) }, unix.EPERM},
		{"tricks", wire.tryTricks, nil},
		{"answering a datagram", wire.answerDatagram, nil},
		{"answering a connection", wire.answerConnection, nil},
	} {
		err := tc.do()
		if !errors.Is(err, tc.want) {
			errs = append(errs, fmt.Errorf("%s: %w, want %w", tc.doing, orNil(err), orNil(tc.want)))
		}
	}
	return errors.Join(errs...)
}

var errNone = errors.New("no error")

func orNil(err error) error {
	if err == nil {
		return errNone
	}
	return err
}

// wire is the far end of the child's only network device.
type wire struct{ fd int }

// openWire makes a device through which this process itself sends and gets packets, with an address and a route.
func openWire() (*wire, error) {
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	r, err := unix.NewIfreq("egress0")
	if err != nil {
		return nil, err
	}
	r.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI)
	err = unix.IoctlIfreq(fd, unix.TUNSETIFF, r)
	if err != nil {
		return nil, fmt.Errorf("making a device: %w", err)
	}
	s, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM, 0)
	if err != nil {
		return nil, err
	}
	defer func() { _ = unix.Close(s) }()
	for _, name := range []string{"lo", "egress0"} {
		r, err = unix.NewIfreq(name)
		if err != nil {
			return nil, err
		}
		if name != "lo" {
			addr := netip.MustParseAddr(childAddress).As4()
			err = r.SetInet4Addr(addr[:])
			if err == nil {
				err = unix.IoctlIfreq(s, unix.SIOCSIFADDR, r)
			}
			if err != nil {
				return nil, fmt.Errorf("setting the address: %w", err)
			}
		}
		r.SetUint16(unix.IFF_UP)
		err = unix.IoctlIfreq(s, unix.SIOCSIFFLAGS, r)
		if err != nil {
			return nil, fmt.Errorf("bringing up %s: %w", name, err)
		}
	}
	return &wire{fd}, defaultRoute(s)
}

// defaultRoute sends everything to the device (struct rtentry of route(7)).
func defaultRoute(s int) error {
	var rt struct {
		pad1              uint64
		dst, gateway, net unix.RawSockaddrInet4
		flags             uint16
		pad2              int16
		pad3, pad4        uint64
		metric            int16
		dev               *byte
		mtu, window       uint64
		irtt              uint16
	}
	name, err := unix.BytePtrFromString("egress0")
	if err != nil {
		return err
	}
	rt.dst.Family, rt.gateway.Family, rt.net.Family = unix.AF_INET, unix.AF_INET, unix.AF_INET
	rt.flags, rt.dev = unix.RTF_UP, name
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(s), unix.SIOCADDRT, uintptr(unsafe.Pointer(&rt)))
	if errno != 0 {
		return fmt.Errorf("adding a route: %w", errno)
	}
	return nil
}
