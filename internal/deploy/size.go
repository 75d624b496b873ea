// SPDX-License-Identifier: Apache-2.0

package deploy

import (
	"cofferdam.dev/internal/spec"
)

const (
	// defaultMemory is what a container that asks for nothing is given room for.
	defaultMemory = 256 << 20
	// smallestMemory is the least that a whole group gets, in MiB: the guest itself needs a part of it.
	smallestMemory = 512
	// guestMemory is what the guest needs besides, in MiB.
	guestMemory = 192
	mib         = 1 << 20
)

// Size is the machine of a group: what its containers ask for, and what the guest itself needs. Init containers run before
// the others and need no room beside them, except those that keep running. What the group says itself wins.
func Size(g *spec.Group) (cpus, memoryMiB int) {
	var millis, first int
	var memory, firstMemory uint64
	for _, c := range g.Containers {
		m := c.Resources.RequestMemoryBytes
		if m == 0 {
			m = c.Resources.LimitMemoryBytes
		}
		if m == 0 {
			m = defaultMemory
		}
		p := c.Resources.RequestCPUMillis
		if p == 0 {
			p = c.Resources.LimitCPUMillis
		}
		if c.Init && c.Restart != spec.RestartAlways {
			first, firstMemory = max(first, p), max(firstMemory, m)
			continue
		}
		millis += p
		memory += m
	}
	cpus = min(max((max(millis, first)+999)/1000, 1), spec.MaxCPUs)
	needed := max(memory, firstMemory)/mib + guestMemory
	memoryMiB = max(int(min(needed, spec.MaxMemoryMiB)), smallestMemory)
	if g.CPUs > 0 {
		cpus = g.CPUs
	}
	if g.MemoryMiB > 0 {
		memoryMiB = g.MemoryMiB
	}
	return cpus, memoryMiB
}
