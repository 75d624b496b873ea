// SPDX-License-Identifier: Apache-2.0

// Package tap connects a machine to a network of the host by a TAP device, which carries Ethernet frames.
//
// A device that somebody has made is opened as it is. For a bridge, a device is made and added to it; it lasts as long
// as a process has it open, so that nothing is left of it however that process ends. On such a network the machine is a
// neighbour of whoever else is there: none of the limits of the user-mode network hold. The package trusts the caller
// to be allowed what it asks for; the kernel decides. It never gives the host an address.
package tap

import (
	"errors"
	"fmt"
	"os"
	"regexp"
	"strings"

	"golang.org/x/sys/unix"
)

// Kind is how the machine is connected.
type Kind string

// The kinds. The zero Kind is refused.
const (
	Existing Kind = "tap"    // a TAP device that is there
	Bridge   Kind = "bridge" // a new one on a bridge that is there
)

// Network names a device or a bridge.
type Network struct {
	Kind Kind
	Name string // of the device or the bridge
}

// String is the form that Parse reads: "tap:NAME" or "bridge:NAME".
func (n Network) String() string { return string(n.Kind) + ":" + n.Name }

// validName is what the kernel takes for a device (15 bytes), less what is special to somebody.
var validName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,14}$`)

// Parse reads "tap:NAME" or "bridge:NAME".
func Parse(s string) (Network, error) {
	kind, name, _ := strings.Cut(s, ":")
	n := Network{Kind(kind), name}
	if n.Kind != Existing && n.Kind != Bridge {
		return Network{}, fmt.Errorf("network %q is neither %s:NAME nor %s:NAME", s, Existing, Bridge)
	}
	if !validName.MatchString(name) {
		return Network{}, fmt.Errorf("network %q: %q is no name of a device", s, name)
	}
	return n, nil
}

// made is the name of a device that is made; the kernel puts a number in.
const made = "cofferdam%d"

// The places of the kernel.
const (
	control = "/dev/net/tun"
	devices = "/sys/class/net/"
)

// ErrNotPermitted says that making or opening the device needs root, CAP_NET_ADMIN or the device's ownership.
var ErrNotPermitted = errors.New("it needs root, CAP_NET_ADMIN, or a device that this user owns")

// Open opens the device, or makes it. The file carries frames; whoever has it open keeps a device that was made.
func Open(n Network) (*os.File, error) {
	f, err := open(n)
	if errors.Is(err, unix.EPERM) || errors.Is(err, unix.EACCES) {
		err = fmt.Errorf("%w: %w", err, ErrNotPermitted)
	}
	if err != nil {
		return nil, fmt.Errorf("connecting to %s: %w", n, err)
	}
	return f, nil
}

func open(n Network) (*os.File, error) {
	name := n.Name
	switch n.Kind {
	case Existing:
		// Without this look a name that does not exist would become a new device, connected to nothing.
		_, err := os.Stat(devices + name + "/tun_flags")
		if err != nil {
			return nil, fmt.Errorf("there is no TAP device of that name: %w", err)
		}
	case Bridge:
		_, err := os.Stat(devices + name + "/bridge")
		if err != nil {
			return nil, fmt.Errorf("there is no bridge of that name: %w", err)
		}
		name = made
	default:
		return nil, fmt.Errorf("its kind is %q", n.Kind)
	}
	fd, err := unix.Open(control, unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("opening %s: %w", control, err)
	}
	f := os.NewFile(uintptr(fd), control)
	name, err = take(fd, name)
	if err == nil && n.Kind == Bridge {
		err = join(name, n.Name)
	}
	if err != nil {
		_ = f.Close() // the first error is the telling one
		return nil, err
	}
	return f, nil
}

// take binds the file to a device and returns the device's name. Frames have a header for offloads, as QEMU wants it.
func take(fd int, name string) (string, error) {
	r, err := unix.NewIfreq(name)
	if err != nil {
		return "", err
	}
	r.SetUint16(unix.IFF_TAP | unix.IFF_NO_PI | unix.IFF_VNET_HDR)
	err = unix.IoctlIfreq(fd, unix.TUNSETIFF, r)
	if errors.Is(err, unix.EBUSY) {
		return "", fmt.Errorf("the device is in use: %w", err)
	}
	if err != nil {
		return "", fmt.Errorf("taking the device: %w", err)
	}
	return r.Name(), nil
}

// join adds a device to a bridge and brings it up. The host itself gets no address on it.
func join(name, bridge string) error {
	err := os.WriteFile("/proc/sys/net/ipv6/conf/"+name+"/disable_ipv6", []byte("1\n"), 0)
	if err != nil && !errors.Is(err, os.ErrNotExist) { // a host without IPv6 has nothing to turn off
		return fmt.Errorf("keeping IPv6 off %s: %w", name, err)
	}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd) //nolint:errcheck // the socket carries nothing
	port, err := unix.NewIfreq(name)
	if err != nil {
		return err
	}
	err = unix.IoctlIfreq(fd, unix.SIOCGIFINDEX, port)
	if err != nil {
		return fmt.Errorf("finding %s: %w", name, err)
	}
	r, err := unix.NewIfreq(bridge)
	if err != nil {
		return err
	}
	r.SetUint32(port.Uint32())
	err = unix.IoctlIfreq(fd, unix.SIOCBRADDIF, r)
	if err != nil {
		return fmt.Errorf("adding %s to bridge %s: %w", name, bridge, err)
	}
	err = unix.IoctlIfreq(fd, unix.SIOCGIFFLAGS, port)
	if err != nil {
		return fmt.Errorf("reading the flags of %s: %w", name, err)
	}
	port.SetUint16(port.Uint16() | unix.IFF_UP)
	err = unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, port)
	if err != nil {
		return fmt.Errorf("bringing up %s: %w", name, err)
	}
	return nil
}
