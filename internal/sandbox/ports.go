// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"net"
	"os"
)

// ports are the machine's channels: our ends, and the files that QEMU inherits.
type ports struct {
	control, monitor, console, simulator, network net.Conn
	theirs                                        []*os.File
}

func (p *ports) closeTheirs() {
	for _, f := range p.theirs {
		_ = f.Close() // our copy of the child's end; a second Close is harmless
	}
}

func (p *ports) closeOurs() {
	for _, c := range []net.Conn{p.control, p.monitor, p.console, p.simulator, p.network} {
		if c != nil {
			_ = c.Close() // likewise
		}
	}
}

// openPorts makes the channels and enters their descriptors into the machine.
func (vm *VM) openPorts() (*ports, error) {
	p := &ports{}
	fds := &vm.cfg.Machine.FDs
	for _, o := range []struct {
		name   string
		wanted bool
		conn   *net.Conn
		fd     *int
	}{
		{"control", true, &p.control, &fds.Control},
		{"monitor", true, &p.monitor, &fds.Monitor},
		{"console", true, &p.console, &fds.Console},
		{"simulator", vm.cfg.Simulator != nil, &p.simulator, &fds.Simulator},
		{"network", vm.net != nil, &p.network, &fds.Network},
	} {
		*o.fd = 0
		if !o.wanted {
			continue
		}
		conn, file, err := endpoint(o.name)
		if err != nil {
			return p, err
		}
		*o.conn = conn
		*o.fd = 3 + len(p.theirs)
		p.theirs = append(p.theirs, file)
	}
	fds.TAP = 0
	if vm.tap != nil {
		fds.TAP = 3 + len(p.theirs)
		p.theirs = append(p.theirs, vm.tap)
	}
	return p, nil
}
