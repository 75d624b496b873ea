// SPDX-License-Identifier: Apache-2.0

package deploy

import (
	"cmp"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"runtime"
	"slices"

	"cofferdam.dev/internal/assemble"
	"cofferdam.dev/internal/group"
	"cofferdam.dev/internal/guestimage"
	"cofferdam.dev/internal/sandbox/qemu"
	"cofferdam.dev/internal/spec"
)

// DefaultHostIP is where published ports listen unless an address is given: only this machine reaches them.
const DefaultHostIP = "127.0.0.1"

// Machine says what a group is launched on.
type Machine struct {
	Guest *guestimage.Image
	// Accelerator and TEE are as qemu.Choose takes them: "auto", or one by name.
	Accelerator, TEE string
	Firmware         string
	// Network is one of the modes of a plan; empty is NAT.
	Network string
	// HostIP is where ports listen that the description gives no address for.
	HostIP string
	// CPUs and MemoryMiB replace what the containers ask for; 0 does not.
	CPUs, MemoryMiB int
	// ScratchMiB is the size of the scratch disk of the group's volumes; 0 keeps them in memory.
	ScratchMiB int
	// Name names the group if the description does not, or another name is wanted.
	Name string
	// Emulator is the path of QEMU; empty searches the command path.
	Emulator string
}

// ErrFirmwareUnused says that firmware is given for a TEE that boots without.
var ErrFirmwareUnused = errors.New("a simulated TEE boots without firmware; it is for snp and tdx")

// Choose settles accelerator and TEE, and finds the emulator.
func (m *Machine) Choose(ctx context.Context) (qemu.Choice, *qemu.Emulator, error) {
	emulator, err := qemu.Probe(ctx, m.Emulator)
	if err != nil {
		return qemu.Choice{}, nil, err
	}
	choice, err := qemu.Choose(m.Accelerator, m.TEE, qemu.DetectHost("/"), emulator, func(string) bool { return m.Firmware != "" })
	if err != nil {
		return qemu.Choice{}, nil, err
	}
	if choice.TEE == qemu.Simulated && m.Firmware != "" {
		return qemu.Choice{}, nil, ErrFirmwareUnused
	}
	return choice, emulator, nil
}

// Draft is the plan of the group as far as it does not depend on how the machine is booted.
func (p *Prepared) Draft(m Machine) *group.Plan {
	g := p.sized(m)
	plan := assemble.Group(&g, p.Parts, p.Text, qemu.Choice{}, group.Boot{}, [32]byte{})
	plan.ScratchMiB = m.ScratchMiB
	if plan.RestartPolicy == "" {
		plan.RestartPolicy = spec.RestartAlways
	}
	if m.Network != "" {
		plan.Network = m.Network
	}
	return plan
}

// Plan makes the plan of the group on a machine that was chosen.
func (p *Prepared) Plan(m Machine, choice qemu.Choice, emulator *qemu.Emulator) (*group.Plan, error) {
	plan := p.Draft(m)
	boot, err := assemble.Boot(m.Guest, choice.TEE, choice.Accelerator, m.Firmware, plan.VCPUs)
	if err != nil {
		return nil, err
	}
	image := m.Guest.Digest()
	plan.Boot, plan.GuestImage = boot, hex.EncodeToString(image[:])
	plan.Accelerator, plan.TEE, plan.QEMU = choice.Accelerator, choice.TEE, emulator.Path
	return plan, nil
}

// sized is the group with its name, its size and the addresses of its ports settled.
func (p *Prepared) sized(m Machine) spec.Group {
	g := p.Group
	if m.Name != "" {
		g.Name = m.Name
	}
	if m.CPUs != 0 {
		g.CPUs = m.CPUs
	}
	if m.MemoryMiB != 0 {
		g.MemoryMiB = m.MemoryMiB
	}
	g.CPUs, g.MemoryMiB = Size(&g)
	g.Ports = slices.Clone(g.Ports)
	for i := range g.Ports {
		if g.Ports[i].HostIP == "" {
			g.Ports[i].HostIP = cmp.Or(m.HostIP, DefaultHostIP)
		}
	}
	return g
}

// Warnings are what a person should know about a plan before it is started.
func Warnings(p *group.Plan) []string {
	var list []string
	if n := runtime.NumCPU(); p.VCPUs > n {
		list = append(list, fmt.Sprintf("the containers ask for %d processors and this machine has %d: they share them", p.VCPUs, n))
	}
	for _, v := range p.Volumes {
		if v.HostDir != "" {
			list = append(list, fmt.Sprintf("volume %s is %s of this machine: not measured, not encrypted, and whoever controls the machine reads and changes it", v.Name, v.HostDir))
		}
		if v.Memory && p.ScratchMiB > 0 {
			list = append(list, fmt.Sprintf("volume %s is to be in memory, and lies on the encrypted disk with the other empty directories", v.Name))
		}
		if v.Repository != nil && v.Repository.Revision == "" {
			list = append(list, fmt.Sprintf("volume %s is the newest revision of %s: name one, or others decide what it holds", v.Name, v.Repository.Shown()))
		}
	}
	return list
}
