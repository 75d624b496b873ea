// SPDX-License-Identifier: Apache-2.0

package assemble

import (
	"encoding/hex"
	"errors"
	"fmt"

	"cofferdam.dev/internal/group"
	"cofferdam.dev/internal/guestimage"
	"cofferdam.dev/internal/sandbox/qemu"
	"cofferdam.dev/internal/spec"
)

// Boot is what a TEE and an accelerator boot of a guest image, with the measurement that the launch will have.
// firmware is needed for hardware, and only there.
func Boot(img *guestimage.Image, tee, accelerator, firmware string, vcpus int) (group.Boot, error) {
	elf := tee == qemu.Simulated && accelerator == qemu.TCG
	b, err := img.Boot(tee, elf)
	if err != nil {
		return group.Boot{}, err
	}
	boot := group.Boot{Kernel: b.Kernel, Initrd: b.Initrd, Cmdline: b.Cmdline}
	o := guestimage.MeasureOptions{TEE: tee, VCPUs: vcpus}
	if tee == qemu.Simulated {
		o.Packed = !elf
	} else {
		boot.Firmware, o.Firmware = firmware, firmware
		o.CPUSignature, _ = guestimage.CPUSignature(qemu.DefaultSNPCPU) // the model is one of the table's
	}
	m, err := img.Measure(o)
	if errors.Is(err, guestimage.ErrNeedsFirmware) {
		return group.Boot{}, fmt.Errorf("TEE %s: %w", tee, err)
	}
	if err != nil {
		return group.Boot{}, err
	}
	boot.Measurement = m.Digest
	return boot, nil
}

// Group makes the plan of a group. choice settles its accelerator and TEE.
func Group(g *spec.Group, parts *Parts, text []byte, choice qemu.Choice, boot group.Boot, guestImage [32]byte) *group.Plan {
	p := &group.Plan{
		Schema: group.PlanSchema, Name: g.Name, Accelerator: choice.Accelerator, TEE: choice.TEE,
		Boot:       boot,
		GuestImage: hex.EncodeToString(guestImage[:]), VCPUs: g.CPUs, MemoryMiB: g.MemoryMiB, Network: group.NetworkNAT,
		Policy: text, Containers: parts.Containers, Volumes: parts.Volumes, RestartPolicy: g.Restart, DNS: g.DNS, HostAliases: g.HostAliases,
	}
	for _, f := range g.Ports {
		p.Ports = append(p.Ports, group.Port{
			Protocol: string(f.Protocol), HostIP: f.HostIP, HostPort: uint16(f.HostPort), GuestPort: uint16(f.GuestPort),
		})
	}
	return p
}
