// SPDX-License-Identifier: Apache-2.0

package tap

import (
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"cofferdam.dev/internal/testcap"
)

func TestParse(t *testing.T) {
	t.Parallel()
	for _, s := range []string{"tap:tap0", "bridge:br-1.2", "bridge:" + strings.Repeat("a", 15)} {
		n, err := Parse(s)
		if err != nil || n.String() != s {
			t.Errorf("%q is %v, %v", s, n, err)
		}
	}
	for _, s := range []string{
		"", "nat", "tap", "tap:", "tap:a b", "tap:a/b", "tap:..", "tap:%d", "bridge:" + strings.Repeat("a", 16), "vlan:x", "TAP:x", "tap:a:b", "tap:a\n",
	} {
		n, err := Parse(s)
		if err == nil {
			t.Errorf("%q is %v", s, n)
		}
	}
}

func TestOpenRefuses(t *testing.T) {
	t.Parallel()
	for _, n := range []Network{{}, {"macvtap", "x"}, {Existing, "nosuchtap"}, {Bridge, "nosuchbridge"}, {Existing, "lo"}, {Bridge, "lo"}} {
		f, err := Open(n)
		if err == nil {
			_ = f.Close()
			t.Errorf("%s was opened", n)
		}
	}
}

func TestMain(m *testing.M) { testcap.Main(m, child) }

// TestDevices makes devices and a bridge in a network namespace of its own.
func TestDevices(t *testing.T) {
	t.Parallel()
	testcap.Require(t, testcap.Root)
	if _, err := os.Stat(control); err != nil {
		t.Skipf("no devices can be made here: %v", err)
	}
	testcap.Child(t, &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWNS})
}

func child() error {
	// /sys shows the namespace in which it was mounted.
	err := errors.Join(
		unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""), unix.Mount("sysfs", "/sys", "sysfs", 0, ""))
	if err != nil {
		return err
	}
	return errors.Join(existing(), bridged())
}

// existing opens a device that lasts, and no second time while it is open.
func existing() error {
	fd, err := unix.Open(control, unix.O_RDWR, 0)
	if err != nil {
		return err
	}
	_, err = take(fd, "kept0")
	if err == nil {
		err = unix.IoctlSetInt(fd, unix.TUNSETPERSIST, 1)
	}
	if err != nil {
		return err
	}
	n := Network{Existing, "kept0"}
	if f, err := Open(n); !errors.Is(err, unix.EBUSY) {
		return fmt.Errorf("a device in use: %v, %w", f, err)
	}
	_ = unix.Close(fd)
	f, err := Open(n)
	if err != nil {
		return err
	}
	_ = f.Close()
	if _, err = net.InterfaceByName("kept0"); err != nil {
		return fmt.Errorf("the device is gone: %w", err)
	}
	return nil
}

// bridged makes a bridge and two devices on it, sends a frame from one to the other, and sees them go.
func bridged() error {
	s, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM, 0)
	if err != nil {
		return err
	}
	name, err := unix.BytePtrFromString("br0")
	if err != nil {
		return err
	}
	err = addBridge(s, name)
	if errors.Is(err, unix.ENOPKG) || errors.Is(err, unix.ENOTTY) || errors.Is(err, unix.EINVAL) {
		fmt.Println("this kernel has no bridges")
		return nil
	}
	if err != nil {
		return fmt.Errorf("making a bridge: %w", err)
	}
	r, err := unix.NewIfreq("br0")
	if err != nil {
		return err
	}
	r.SetUint16(unix.IFF_UP)
	err = unix.IoctlIfreq(s, unix.SIOCSIFFLAGS, r)
	if err != nil {
		return err
	}
	var ends []*os.File
	for range 2 {
		f, err := Open(Network{Bridge, "br0"})
		if err != nil {
			return err
		}
		ends = append(ends, f)
	}
	// A header for offloads of 10 bytes, then a frame to everybody of a kind that nobody knows.
	frame := append(make([]byte, 10), "\xff\xff\xff\xff\xff\xff\x02\x00\x00\x00\x00\x01\x88\xb5hello, neighbour, this is a frame of the least size.."...)
	err = carry(ends[0], ends[1], frame)
	for _, f := range ends {
		_ = f.Close()
	}
	if err != nil {
		return err
	}
	if i, err := net.InterfaceByName("cofferdam0"); err == nil {
		return fmt.Errorf("device %s is left", i.Name)
	}
	return nil
}

// carry sends a frame until it comes out at the other end: a bridge's port takes a moment to forward.
func carry(from, to *os.File, frame []byte) error {
	fd := int(to.Fd())
	err := unix.SetNonblock(fd, true)
	if err != nil {
		return err
	}
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		_, err = from.Write(frame)
		if err != nil {
			return err
		}
		for {
			b := make([]byte, 2000)
			n, err := unix.Read(fd, b)
			if err != nil {
				break
			}
			if strings.Contains(string(b[:n]), "hello, neighbour") {
				return nil
			}
		}
	}
	return errors.New("the frame did not arrive")
}
