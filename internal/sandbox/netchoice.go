// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"

	"cofferdam.dev/internal/sandbox/network"
	"cofferdam.dev/internal/sandbox/qemu"
	"cofferdam.dev/internal/sandbox/tap"
)

// openNetwork makes the machine's network and binds its host ports. An emulator without the stream backend gets QEMU's
// own stack, which only leads in.
func (vm *VM) openNetwork() error {
	vm.cfg.Machine.UserNetwork = nil
	if vm.cfg.TAP != (tap.Network{}) {
		return vm.openTAP()
	}
	if vm.cfg.Network == "" {
		return nil
	}
	if vm.cfg.Metadata != nil && !vm.cfg.Emulator.StreamNetwork {
		return errors.New("this QEMU has no stream network backend, and its own network can not stand in for a metadata service")
	}
	if len(vm.cfg.HostPorts) > 0 && !vm.cfg.Emulator.StreamNetwork {
		return fmt.Errorf("host ports %v: this QEMU has no stream network backend, and its own network can not lead to them", vm.cfg.HostPorts)
	}
	n, err := network.Listen(network.Config{
		Mode: vm.cfg.Network, Forwards: vm.cfg.Forwards, HostPorts: vm.cfg.HostPorts, Metadata: vm.cfg.Metadata, Logger: vm.cfg.Logger,
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

// openTAP connects the machine to a network of the host's, under a hardware address of its own.
func (vm *VM) openTAP() error {
	if vm.cfg.Network != "" || len(vm.cfg.Forwards)+len(vm.cfg.HostPorts) > 0 {
		return fmt.Errorf("network %s excludes another, forwarded ports and host ports", vm.cfg.TAP)
	}
	var err error
	vm.tap, err = tap.Open(vm.cfg.TAP)
	if err != nil {
		return err
	}
	id, err := os.ReadFile("/etc/machine-id")
	if err != nil {
		id = nil // then machines of one name on several hosts have one address
	}
	vm.cfg.Machine.MAC = hardwareAddress(vm.cfg.Machine.Name, id)
	return nil
}

// hardwareAddress is the same for the same machine name on the same host, so that neighbours recognise a machine that is
// started again. It is a unicast address of local meaning.
func hardwareAddress(name string, host []byte) string {
	sum := sha256.Sum256(slices.Concat([]byte("cofferdam network device\x00"), []byte(name), []byte{0}, host))
	sum[0] = sum[0]&0xfc | 0x02
	return net.HardwareAddr(sum[:6]).String()
}
