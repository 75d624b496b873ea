// SPDX-License-Identifier: Apache-2.0

package tdx

import (
	"cofferdam.dev/evidence/internal/fixed"
)

// Attributes are the attributes of a TD. TDX module ABI, section "ATTRIBUTES". The lowest eight bits are the group TUD:
// while any is set, the TD is under debug or profiling and its secrets are not safe from the host.
type Attributes uint64

// Bits of Attributes.
const (
	// AttributeDebug lets the host read and write the TD's memory and state.
	AttributeDebug Attributes = 1 << 0
	// AttributeHGSPlusProfiling lets the host profile the TD's use of hardware threads.
	AttributeHGSPlusProfiling Attributes = 1 << 4
	// AttributePerformanceProfiling lets the host profile the TD with performance counters.
	AttributePerformanceProfiling Attributes = 1 << 5
	// AttributePMTProfiling lets the host profile the TD with platform monitoring technology.
	AttributePMTProfiling Attributes = 1 << 6
	// AttributeICSSD enables the defence against single-stepping that counts instructions.
	AttributeICSSD Attributes = 1 << 16
	// AttributeLASS enables linear address space separation.
	AttributeLASS Attributes = 1 << 27
	// AttributeSEPTVEDisable turns off exceptions for pages that the host took away; the TD stops instead.
	AttributeSEPTVEDisable Attributes = 1 << 28
	// AttributeMigratable allows a service TD to migrate the TD.
	AttributeMigratable Attributes = 1 << 29
	// AttributePKS enables supervisor protection keys.
	AttributePKS Attributes = 1 << 30
	// AttributeKL enables key locker.
	AttributeKL Attributes = 1 << 31
	// AttributeTPA marks a TD that is an agent for trusted devices.
	AttributeTPA Attributes = 1 << 62
	// AttributePERFMON lets the TD use performance counters.
	AttributePERFMON Attributes = 1 << 63

	// AttributesUnderDebug is the whole group TUD, known bits or not.
	AttributesUnderDebug Attributes = 0xff

	attributesKnown = AttributeDebug | AttributeHGSPlusProfiling | AttributePerformanceProfiling | AttributePMTProfiling |
		AttributeICSSD | AttributeLASS | AttributeSEPTVEDisable | AttributeMigratable | AttributePKS | AttributeKL |
		AttributeTPA | AttributePERFMON
)

var attributeNames = fixed.Bits{
	0: "debug", 4: "hgs-plus-profiling", 5: "performance-profiling", 6: "pmt-profiling", 16: "icssd",
	27: "lass", 28: "sept-ve-disable", 29: "migratable", 30: "pks", 31: "key-locker", 62: "tpa",
	63: "perfmon",
}

// Has reports whether all the given bits are set.
func (a Attributes) Has(bits Attributes) bool { return a&bits == bits }

// Unknown returns the bits that this package does not know.
func (a Attributes) Unknown() Attributes { return a &^ attributesKnown }

// String returns the word in hexadecimal and the names of the set bits.
func (a Attributes) String() string { return attributeNames.Word(uint64(a)) }

// XFAM are the extended processor states that a TD may use: the union of XCR0 and IA32_XSS. TDX module ABI, section
// "XFAM".
type XFAM uint64

// xfamKnown are the state components that have a name.
const xfamKnown XFAM = 0xfdbff

// XFAMFixedOne are the bits that the TDX module demands of every TD: x87 and SSE.
const XFAMFixedOne XFAM = 3

var xfamNames = fixed.Bits{
	0: "x87", 1: "sse", 2: "avx", 3: "mpx-bndregs", 4: "mpx-bndcsr", 5: "avx512-opmask",
	6: "avx512-zmm-hi256", 7: "avx512-hi16-zmm", 8: "pt", 9: "pku", 11: "cet-u", 12: "cet-s", 14: "uintr",
	15: "lbr", 16: "hwp", 17: "amx-tilecfg", 18: "amx-tiledata", 19: "apx",
}

// Has reports whether all the given bits are set.
func (x XFAM) Has(bits XFAM) bool { return x&bits == bits }

// Unknown returns the bits that this package does not know.
func (x XFAM) Unknown() XFAM { return x &^ xfamKnown }

// String returns the word in hexadecimal and the names of the set bits.
func (x XFAM) String() string { return xfamNames.Word(uint64(x)) }
