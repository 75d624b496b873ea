// SPDX-License-Identifier: Apache-2.0

package measure

import (
	"regexp"
	"slices"
)

// cpuModel is one of QEMU's models of AMD processors, as CPUID names it (target/i386/cpu.c, "EPYC" and its like).
type cpuModel struct {
	name                    string
	family, model, stepping uint32
}

// cpuModels are the models for SEV-SNP guests. QEMU's versions of a model (EPYC-v4) differ in features alone, which are
// not measured.
var cpuModels = []cpuModel{
	{"EPYC", 0x17, 0x01, 2},
	{"EPYC-Rome", 0x17, 0x31, 0},
	{"EPYC-Milan", 0x19, 0x01, 1},
	{"EPYC-Genoa", 0x19, 0x11, 0},
	{"EPYC-Turin", 0x1a, 0x00, 0},
}

var cpuVersion = regexp.MustCompile(`-v[1-9][0-9]?$`)

// CPUSignature returns EAX of CPUID leaf 1 for QEMU's models of AMD processors that can run SNP guests, such as EPYC-Milan
// or EPYC-v4 (AMD APM volume 3, CPUID Fn0000_0001_EAX).
func CPUSignature(model string) (uint32, bool) {
	name := cpuVersion.ReplaceAllString(model, "")
	i := slices.IndexFunc(cpuModels, func(m cpuModel) bool { return m.name == name })
	if i < 0 {
		return 0, false
	}
	m := cpuModels[i]
	return (m.family-0xf)<<20 | m.model>>4<<16 | 0xf<<8 | m.model&0xf<<4 | m.stepping, true
}

// CPUModels returns the names of the models, without versions.
func CPUModels() []string {
	names := make([]string, len(cpuModels))
	for i, m := range cpuModels {
		names[i] = m.name
	}
	return names
}

// VMMs returns the monitors whose guests can be measured.
func VMMs() []VMM { return []VMM{QEMU, EC2, GCE} }
