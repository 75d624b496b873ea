// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"errors"
	"net"
	"os"
	"runtime"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	guestv1 "cofferdam.dev/api/guest/v1"
	"cofferdam.dev/evidence/snp"
	"cofferdam.dev/internal/sandbox/qemu"
	"cofferdam.dev/internal/sandbox/tap"
	"cofferdam.dev/internal/simsp"
	"cofferdam.dev/internal/testcap"
	"cofferdam.dev/policy"
)

// TestRealBridge boots a real guest on a bridge, in a network namespace of the test's own, gives the guest an address, and
// has its neighbour, which is the bridge, connect to a closed port: the guest's kernel refuses.
func TestRealBridge(t *testing.T) {
	testcap.Require(t, testcap.Root)
	cfg := realConfig(t)
	if _, err := os.Stat("/dev/net/tun"); err != nil {
		t.Skipf("no devices can be made here: %v", err)
	}
	runtime.LockOSThread() // the thread stays in the namespace, and ends with the test
	namespace(t)
	if !bridge(t, "br0", [4]byte{10, 77, 0, 1}) {
		t.Skip("this kernel has no bridges")
	}
	text := (&policy.Policy{APIVersion: policy.DeployedAPI, FrameworkVersion: policy.DeployedFramework}).Text()
	cfg.Network, cfg.Forwards, cfg.TAP = "", nil, tap.Network{Kind: tap.Bridge, Name: "br0"}
	cfg.Machine.HostData = policy.Hash(text)
	processor, err := simsp.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	cfg.Simulator, err = processor.Launch(simsp.Launch{
		KernelPath: cfg.Machine.Kernel, InitrdPath: cfg.Machine.Initrd, Cmdline: cfg.Machine.Cmdline, VCPUs: 1,
		HostData: cfg.Machine.HostData, Policy: snp.GuestPolicy(qemu.DefaultSNPPolicy),
	})
	if err != nil {
		t.Fatal(err)
	}
	vm := boot(t, cfg)
	err = vm.Guest().SetPolicy(t.Context(), text)
	if err == nil {
		err = vm.Guest().ConfigureNetwork(t.Context(), &guestv1.ConfigureNetworkRequest{
			Addresses: []string{"10.77.0.2/24", "fd00:77::2/64"}, Gateways: []string{"10.77.0.1", "fd00:77::1"},
		})
	}
	if err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(2 * time.Minute); ; time.Sleep(time.Second) {
		c, err := net.DialTimeout("tcp", "10.77.0.2:9", 20*time.Second)
		if errors.Is(err, syscall.ECONNREFUSED) {
			break
		}
		if err == nil {
			_ = c.Close()
		}
		if time.Now().After(end) {
			t.Fatalf("connecting to the guest: %v, want %v", err, syscall.ECONNREFUSED)
		}
	}
	if exit := vm.PowerOff(t.Context(), 5*time.Minute); exit.Err() != nil {
		t.Errorf("exit is %q: %v", exit.Reason, exit.Err())
	}
	if i, err := net.InterfaceByName("cofferdam0"); err == nil {
		t.Errorf("device %s is left", i.Name)
	}
}

// namespace takes this thread into a network of its own. /sys shows the one in which it was mounted.
func namespace(t *testing.T) {
	t.Helper()
	err := unix.Unshare(unix.CLONE_NEWNET | unix.CLONE_NEWNS)
	if err == nil {
		err = unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, "")
	}
	if err == nil {
		err = unix.Mount("sysfs", "/sys", "sysfs", 0, "")
	}
	if err != nil {
		t.Fatal(err)
	}
}

// bridge makes a bridge with an address, unless the kernel has none.
func bridge(t *testing.T, name string, address [4]byte) bool {
	t.Helper()
	s, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Close(s) }()
	text, err := unix.BytePtrFromString(name)
	if err != nil {
		t.Fatal(err)
	}
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(s), unix.SIOCBRADDBR, uintptr(unsafe.Pointer(text)))
	if errno != 0 {
		return false
	}
	for _, set := range []struct {
		request uint
		value   func(*unix.Ifreq) error
	}{
		{unix.SIOCSIFADDR, func(r *unix.Ifreq) error { return r.SetInet4Addr(address[:]) }},
		{unix.SIOCSIFNETMASK, func(r *unix.Ifreq) error { return r.SetInet4Addr([]byte{255, 255, 255, 0}) }},
		{unix.SIOCSIFFLAGS, func(r *unix.Ifreq) error { r.SetUint16(unix.IFF_UP); return nil }},
	} {
		r, err := unix.NewIfreq(name)
		if err == nil {
			err = set.value(r)
		}
		if err == nil {
			err = unix.IoctlIfreq(s, set.request, r)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return true
}

func TestHardwareAddress(t *testing.T) {
	t.Parallel()
	a, b := hardwareAddress("web", []byte("host")), hardwareAddress("web", []byte("other"))
	if a == b || a != hardwareAddress("web", []byte("host")) || a == hardwareAddress("db", []byte("host")) {
		t.Errorf("addresses %s and %s", a, b)
	}
	mac, err := net.ParseMAC(a)
	if err != nil || len(mac) != 6 || mac[0]&3 != 2 {
		t.Errorf("address %s is not a unicast one of local meaning: %v", a, err)
	}
}

func TestTAPExcludesForwards(t *testing.T) {
	t.Parallel()
	vm := &VM{cfg: Config{TAP: tap.Network{Kind: tap.Existing, Name: "nosuchtap"}, HostPorts: []uint16{80}}}
	if err := vm.openNetwork(); err == nil {
		t.Error("host ports on a TAP device were accepted")
	}
}
