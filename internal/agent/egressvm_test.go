// SPDX-License-Identifier: Apache-2.0

package agent_test

import (
	"bufio"
	"context"
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"cofferdam.dev/internal/layer"
	"cofferdam.dev/internal/sandbox"
	"cofferdam.dev/internal/sandbox/network"
	"cofferdam.dev/internal/sandbox/qemu"
	"cofferdam.dev/internal/testcap"
	"cofferdam.dev/policy"
)

// TestRealEgress boots one machine under a policy with an egress list. Of two services of the host's, both within
// reach, a container gets to the one that the list allows. Who comes in from outside is answered.
func TestRealEgress(t *testing.T) {
	testcap.Require(t, testcap.QEMU, testcap.GuestImage, testcap.Images)
	if testing.Short() {
		t.Skip("boots a machine, which the race detector does not see into")
	}
	ctx, cancel := context.WithTimeout(t.Context(), vmTimeout)
	defer cancel()
	allowed, denied := greeter(t, "127.0.0.1"), greeter(t, "127.0.0.1")
	six := globalIPv6(t) // where this machine has none, that part is left out
	byIPv6 := greeter(t, "")
	disks, root, roots := egressRoot(vmLayers(ctx, t))
	c := vmContainer("out", roots, "/bin/sh", "-c", egressScript(allowed, denied, byIPv6, six))
	c.Capabilities.Bounding = append(c.Capabilities.Bounding, "CAP_NET_RAW")
	text := (&policy.Policy{
		APIVersion: policy.DeployedAPI, FrameworkVersion: policy.DeployedFramework, Containers: []policy.Container{c},
		Egress: &policy.Egress{Rules: []policy.EgressRule{
			{Prefix: network.GatewayIP + "/32", Protocol: policy.ProtocolTCP, Ports: []uint16{allowed}},
			{Prefix: six.String() + "/128", Protocol: policy.ProtocolTCP, Ports: []uint16{byIPv6}},
		}},
	}).Text()
	vm := bootVM(ctx, t, text, disks, func(cfg *sandbox.Config) {
		cfg.Network, cfg.HostPorts = network.NAT, []uint16{allowed, denied}
		cfg.Forwards = []network.Forward{{Protocol: "tcp", HostIP: "127.0.0.1", GuestPort: 8080}}
	})
	g := vm.Guest()
	must(t, g.SetPolicy(ctx, text))
	must(t, g.MountRoot(ctx, podID, root))
	p, err := g.CreateContainer(ctx, createRequest(podID, c))
	must(t, err)
	must(t, p.Start(ctx))
	go func() { _, _ = io.Copy(io.Discard, p.Stderr) }()
	var out []string
	for s := bufio.NewScanner(p.Stdout); s.Scan(); {
		out = append(out, s.Text())
		if s.Text() == "listening" {
			out = append(out, "inward: "+askGuest(t, vm.Forwards()[0]))
		}
	}
	want := []string{
		"CapBnd: 0000000000000" + "0e1", // CHOWN, KILL, SETGID, SETUID: no NET_RAW
		"allowed: welcome", "denied: Operation not permitted", "datagram: Operation not permitted",
		"own: mine", "listening", "inward: guest",
	}
	if !six.IsUnspecified() {
		want = slices.Insert(want, 4, "IPv6: welcome", "IPv6, denied: Operation not permitted")
	}
	if got := strings.Join(out, "\n"); got != strings.Join(want, "\n") {
		t.Errorf("the container says\n%s\nwant\n%s", got, strings.Join(want, "\n"))
	}
	exit := vm.PowerOff(ctx, 5*time.Minute)
	if exit.Err() != nil {
		t.Errorf("power-off: %v", exit.Err())
	}
}

// egressScript says what became of each attempt, in one line each.
func egressScript(allowed, denied, byIPv6 uint16, six netip.Addr) string {
	const last = `tail -n 1 | sed 's/.*: //'`
	ipv6 := ":"
	if !six.IsUnspecified() {
		ipv6 = fmt.Sprintf(`echo "IPv6: $(echo | nc -w 60 %[1]s %[2]d 2>&1 | %[3]s)"
echo "IPv6, denied: $(echo | nc -w 60 %[1]s 9 2>&1 | %[3]s)"`, six, byIPv6, last)
	}
	return fmt.Sprintf(`grep CapBnd /proc/self/status | tr '\t' ' '
echo "allowed: $(echo | nc -w 60 %[1]s %[2]d 2>&1 | %[4]s)"
echo "denied: $(echo | nc -w 60 %[1]s %[3]d 2>&1 | %[4]s)"
echo "datagram: $(nslookup -type=a example.org %[1]s 2>&1 | grep -o 'Operation not permitted' | head -n 1)"
%[6]s
(echo mine | nc -l -p 7777 >/dev/null) &
echo "own: $(until echo | nc -w 60 %[5]s 7777 2>/dev/null; do sleep 1; done)"
echo listening
echo guest | nc -l -p 8080 >/dev/null`, network.GatewayIP, allowed, denied, last, network.GuestIP, ipv6)
}

// egressRoot are the disks of an image and how to mount them.
func egressRoot(entries []layer.Entry) (disks []qemu.Disk, root sandbox.Root, roots []string) {
	for i, e := range entries {
		serial, target := fmt.Sprintf("layer%d", i), fmt.Sprintf("/run/mounts/scsi/m%d", i)
		roots = append(roots, hex.EncodeToString(e.RootHash[:]))
		disks = append(disks, qemu.Disk{Path: e.Path, Serial: serial, ReadOnly: true})
		root.Mount = append(root.Mount, sandbox.Layer{Serial: serial, Root: e.RootHash, DataBlocks: e.DataBlocks, Target: target})
		root.Targets = append(root.Targets, target)
	}
	return disks, root, roots
}

// globalIPv6 is an address of this machine that a guest may reach.
func globalIPv6(t *testing.T) netip.Addr {
	t.Helper()
	list, err := net.InterfaceAddrs()
	must(t, err)
	for _, a := range list {
		p, err := netip.ParsePrefix(a.String())
		if err == nil && !p.Addr().Is4() && network.Reachable(p.Addr()) {
			return p.Addr()
		}
	}
	return netip.IPv6Unspecified()
}

// greeter is a service of the host's that answers one byte.
func greeter(t *testing.T, address string) uint16 {
	t.Helper()
	l, err := net.Listen("tcp", net.JoinHostPort(address, "0"))
	must(t, err)
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = c.Read(make([]byte, 1)) // what is left unread would have the answer thrown away with the connection
			_, _ = c.Write([]byte("welcome\n"))
			_ = c.Close()
		}
	}()
	return l.Addr().(*net.TCPAddr).AddrPort().Port()
}

// askGuest connects to a forwarded port until somebody answers, and returns the first line.
func askGuest(t *testing.T, f network.Forward) string {
	t.Helper()
	answer := ""
	for end := time.Now().Add(2 * time.Minute); answer == "" && time.Now().Before(end); time.Sleep(time.Second) {
		answer = firstLine(f)
	}
	return answer
}

// firstLine is what the guest says first, empty if it does not.
func firstLine(f network.Forward) string {
	c, err := net.DialTimeout("tcp", strings.TrimSuffix(f.String(), "/tcp"), time.Minute)
	if err != nil {
		return ""
	}
	defer func() { _ = c.Close() }()
	_ = c.SetDeadline(time.Now().Add(time.Minute))
	line, _ := bufio.NewReader(c).ReadString('\n') // a connection that is reset has no line
	return strings.TrimSpace(line)
}
