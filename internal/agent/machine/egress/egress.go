// SPDX-License-Identifier: Apache-2.0

// Package egress enforces what the group's containers may connect to.
//
// The list comes from the policy, which the launch fixed: the host can neither leave it out nor change it. It becomes
// BPF programs on the control group of all containers, so that it needs no module of the kernel and no process of its
// own. The programs are made here, instruction by instruction; the kernel's verifier checks them before they run. No
// program of a container's own group can stand in for them, because they are attached exclusively.
//
// What is let through: what stays on the loopback device, which is all traffic to the group's own addresses; new TCP
// connections, datagrams and anything else that a rule allows; packets of TCP connections once they have begun; and
// datagrams back to whoever has sent one in the last three minutes. So replies need no rule. Whoever brings packets in,
// the host among them, can therefore have answers; the list is about where containers turn by themselves. What the kernel says on
// its own account is not judged: neighbours hear which multicast groups a process has joined, a few bytes of its choice.
//
// It holds for containers that can not change the kernel. Withheld are the capabilities that would let one speak past
// the Internet protocols or attach programs; the caller must take them from every process. A privileged container, and
// one with CAP_SYS_ADMIN or CAP_SYS_MODULE, can get around it.
package egress

import (
	"errors"
	"fmt"
	"net/netip"
	"os"

	"golang.org/x/sys/unix"

	"cofferdam.dev/policy"
)

// Withheld are the capabilities that no container gets while there is a list: with the first one sends packets past the
// Internet protocols (packet and XDP sockets), the others change what the kernel does with packets.
func Withheld() []string { return []string{"CAP_NET_RAW", "CAP_NET_ADMIN", "CAP_BPF"} }

// multipath is the switch of multipath TCP, whose connections do not pass the hook for connections.
const multipath = "/proc/sys/net/mptcp/enabled"

// Limiter limits the processes of one control group. It is for one goroutine at a time.
type Limiter struct {
	Group string // its directory (control groups v2)
	done  bool
}

// Limit limits whoever is in the group or its descendants, or will ever be, to the list. own are the guest's addresses.
// Once it has succeeded, it does nothing. After an error it may be called again, and nothing is sure to be enforced.
func (l *Limiter) Limit(list *policy.Egress, own []netip.Addr) error {
	if l.done {
		return nil
	}
	err := list.Validate()
	if err == nil {
		err = withoutMultipath()
	}
	if err == nil {
		err = limit(l.Group, list, own)
	}
	if err != nil {
		return fmt.Errorf("limiting egress: %w", err)
	}
	l.done = true
	return nil
}

// withoutMultipath turns multipath TCP off. A kernel without it has nothing to turn off.
func withoutMultipath() error {
	err := os.WriteFile(multipath, []byte("0\n"), 0)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return err
}

func limit(group string, list *policy.Egress, own []netip.Addr) error {
	dir, err := unix.Open(group, unix.O_DIRECTORY|unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("opening control group %s: %w", group, err)
	}
	defer unix.Close(dir) //nolint:errcheck // it was read only
	return attachAll(dir, list, own)
}

// attachAll loads and attaches the programs. The kernel keeps what is attached, and the map with it.
func attachAll(dir int, list *policy.Egress, own []netip.Addr) error {
	flows, err := createFlows()
	if err != nil {
		return fmt.Errorf("making the table of flows: %w", err)
	}
	defer unix.Close(flows) //nolint:errcheck // the programs keep it
	for _, h := range hooks(list, own, flows) {
		code, err := h.program()
		if err != nil {
			return fmt.Errorf("making the program for %s: %w", h.name, err)
		}
		fd, err := load(h, code, nil)
		if err != nil {
			return fmt.Errorf("loading the program for %s: %w", h.name, err)
		}
		err = attach(dir, fd, h.point)
		_ = unix.Close(fd) // the control group keeps it
		if err != nil {
			return fmt.Errorf("attaching the program for %s: %w", h.name, err)
		}
	}
	return nil
}
