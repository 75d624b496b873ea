// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"fmt"

	"cofferdam.dev/internal/sandbox/network"
	"cofferdam.dev/internal/sandbox/qemu"
)

// openNetwork makes the machine's network and binds its host ports. An emulator without the stream backend gets QEMU's
// own stack, which only leads in.
func (vm *VM) openNetwork() error {
	vm.cfg.Machine.UserNetwork = nil
	if vm.cfg.Network == "" {
		return nil
	}
	if len(vm.cfg.HostPorts) > 0 && !vm.cfg.Emulator.StreamNetwork {
		return fmt.Errorf("host ports %v: this QEMU has no stream network backend, and its own network can not lead to them", vm.cfg.HostPorts)
	}
	n, err := network.Listen(network.Config{
		Mode: vm.cfg.Network, Forwards: vm.cfg.Forwards, HostPorts: vm.cfg.HostPorts, Logger: vm.cfg.Logger,
	})
	if err != nil {
		return err
	}
	vm.forwards = n.Forwards()
	if vm.cfg.Emulator.StreamNetwork {
		vm.net = n
		return nil
	}
	// The ports were bound to see that they are free, and to choose those that may be any.
	err = n.Close()
	if err != nil {
		return err
	}
	user := &qemu.UserNetwork{}
	for _, f := range vm.forwards {
		user.Forwards = append(user.Forwards, qemu.Forward(f))
	}
	vm.cfg.Machine.UserNetwork = user
	if vm.cfg.Network == network.NAT {
		vm.warnings = append(vm.warnings, "this QEMU has no stream network backend: containers can not connect outwards")
	}
	return nil
}
