// SPDX-License-Identifier: Apache-2.0

package snp

import (
	"encoding/hex"
	"fmt"
	"strings"
)

// ProductLine is a family of processors that shares a root key and a TCB layout.
type ProductLine string

// The product lines. Bergamo and Siena belong to Genoa: their chips are endorsed by Genoa's roots.
const (
	Milan ProductLine = "Milan"
	Genoa ProductLine = "Genoa"
	Turin ProductLine = "Turin"
)

// ParseProductLine returns the product line of a product name as chip certificates spell it, such as "Milan-B0" or
// "Turin".
func ParseProductLine(name string) (ProductLine, error) {
	base, stepping, found := strings.Cut(name, "-")
	if found && stepping == "" {
		return "", fmt.Errorf("product name %q has an empty stepping", name)
	}
	switch line := ProductLine(base); line {
	case Milan, Genoa, Turin:
		return line, nil
	}
	return "", fmt.Errorf("product name %q is not of Milan, Genoa or Turin", name)
}

// CPUID is the processor's combined family, combined model and stepping.
type CPUID struct {
	Family, Model, Stepping uint8
}

// ParseCPUSignature splits EAX of CPUID leaf 1.
func ParseCPUSignature(eax uint32) CPUID {
	return CPUID{
		Family:   uint8(eax>>8&0xf + eax>>20&0xff),
		Model:    uint8(eax>>4&0xf | eax>>12&0xf0),
		Stepping: uint8(eax & 0xf),
	}
}

// Signature returns EAX of CPUID leaf 1 for a processor of family 0Fh or later.
func (c CPUID) Signature() uint32 {
	return uint32(c.Family-0xf)<<20 | uint32(c.Model>>4)<<16 | 0xf<<8 | uint32(c.Model&0xf)<<4 | uint32(c.Stepping&0xf)
}

// ProductLine returns the product line of the processor.
func (c CPUID) ProductLine() (ProductLine, error) {
	switch {
	case c.Family == 0x19 && c.Model <= 0x01:
		return Milan, nil
	case c.Family == 0x19 && c.Model >= 0x10 && c.Model <= 0x1f: // Genoa
		return Genoa, nil
	case c.Family == 0x19 && c.Model >= 0xa0 && c.Model <= 0xaf: // Bergamo, Siena
		return Genoa, nil
	case c.Family == 0x1a && c.Model <= 0x11:
		return Turin, nil
	}
	return "", fmt.Errorf("processor %s is of no known product line", c)
}

// String returns the three numbers in hexadecimal.
func (c CPUID) String() string {
	return fmt.Sprintf("family %02x model %02x stepping %x", c.Family, c.Model, c.Stepping)
}

// TCB is a TCB version as it lies in a report. What its bytes mean depends on the product line; see Parts.
type TCB [8]byte

// String returns the eight bytes in hexadecimal, first byte first.
func (t TCB) String() string { return hex.EncodeToString(t[:]) }

// TCBParts are the security versions that make up a TCB version.
type TCBParts struct {
	// FMC is the version of the first mutable code; only Turin has it.
	FMC uint8 `json:"fmc,omitempty"`
	// Bootloader is the version of the secure processor's boot loader.
	Bootloader uint8 `json:"bootloader"`
	// TEE is the version of the secure processor's operating system.
	TEE uint8 `json:"tee"`
	// SNP is the version of the SNP firmware.
	SNP uint8 `json:"snp"`
	// Microcode is the lowest microcode patch level of all cores.
	Microcode uint8 `json:"microcode"`
}

// Parts decodes the TCB version as the product line lays it out. Reserved bytes must be zero.
func (t TCB) Parts(line ProductLine) (TCBParts, error) {
	var p TCBParts
	switch line {
	case Milan, Genoa:
		p = TCBParts{Bootloader: t[0], TEE: t[1], SNP: t[6], Microcode: t[7]}
	case Turin:
		p = TCBParts{FMC: t[0], Bootloader: t[1], TEE: t[2], SNP: t[3], Microcode: t[7]}
	default:
		return TCBParts{}, fmt.Errorf("decoding TCB version %s: product line %q is unknown", t, line)
	}
	if back, err := p.TCB(line); err != nil || back != t {
		return TCBParts{}, fmt.Errorf("decoding TCB version %s for %s: a reserved byte is not 0", t, line)
	}
	return p, nil
}

// TCB encodes the parts as the product line lays them out.
func (p TCBParts) TCB(line ProductLine) (TCB, error) {
	switch line {
	case Milan, Genoa:
		if p.FMC != 0 {
			return TCB{}, fmt.Errorf("encoding TCB version for %s: FMC is %d, but the line has none", line, p.FMC)
		}
		return TCB{0: p.Bootloader, 1: p.TEE, 6: p.SNP, 7: p.Microcode}, nil
	case Turin:
		return TCB{0: p.FMC, 1: p.Bootloader, 2: p.TEE, 3: p.SNP, 7: p.Microcode}, nil
	}
	return TCB{}, fmt.Errorf("encoding TCB version: product line %q is unknown", line)
}

// AtLeast reports whether every part is at least that of the floor.
func (p TCBParts) AtLeast(floor TCBParts) bool {
	return p.FMC >= floor.FMC && p.Bootloader >= floor.Bootloader && p.TEE >= floor.TEE && p.SNP >= floor.SNP &&
		p.Microcode >= floor.Microcode
}

// String returns the parts by name, in hexadecimal.
func (p TCBParts) String() string {
	s := fmt.Sprintf("bootloader %02x, tee %02x, snp %02x, microcode %02x", p.Bootloader, p.TEE, p.SNP, p.Microcode)
	if p.FMC != 0 {
		s = fmt.Sprintf("fmc %02x, ", p.FMC) + s
	}
	return s
}
