// SPDX-License-Identifier: Apache-2.0

// Package qemu turns the description of a machine into a QEMU command line, and finds out what this host can run.
//
// The command line is a pure function of Config, so that it can be read, compared and tested without QEMU. QEMU and
// everything that it is told are untrusted for the guest: what protects the guest is the launch measurement, and
// nothing here. Towards the host, QEMU itself is confined: it runs under its seccomp sandbox, without default devices,
// without a monitor or a socket that has a name, and reaches its peers through inherited descriptors only.
package qemu

import (
	"errors"
	"fmt"
	"path/filepath"
	"regexp"
	"strings"
)

// The accelerators.
const (
	KVM = "kvm"
	TCG = "tcg" // emulation
)

// The TEEs.
const (
	Simulated = "simulated"
	SNP       = "snp"
	TDX       = "tdx"
)

// Auto asks Choose for the strongest accelerator or TEE that the host has.
const Auto = "auto"

// The limits of a machine.
const (
	MinMemoryMiB = 128
	MaxMemoryMiB = 16 << 20
	MaxVCPUs     = 255
	MaxDisks     = 255
)

// The names of the guest's virtio ports.
const (
	ControlPort   = "cofferdam.ctl"
	SimulatorPort = "cofferdam.sp"
)

// MAC is the address of the guest's only network device, unless Config has another.
const MAC = "5a:94:ef:e4:0c:ee"

// DefaultSNPPolicy is the guest policy of an SNP launch: bit 17 is reserved and must be one, bit 16 allows
// simultaneous multithreading; debugging and migration are not allowed (SNP ABI, table 9).
const DefaultSNPPolicy = 0x30000

// DefaultSNPCPU is the CPU model of an SNP launch. The model is part of the launch measurement.
const DefaultSNPCPU = "EPYC-v4"

// DefaultCBitPosition is the C-bit's position on all processors with SNP so far.
const DefaultCBitPosition = 51

// DefaultQuoteCID and DefaultQuotePort are the vsock address at which Intel's quote generation service listens on a host
// that is set up by Intel's guide: CID 2 is the host itself.
const (
	DefaultQuoteCID  = 2
	DefaultQuotePort = 4050
)

// Config describes a machine. Zero values deny: what is not set is not there.
type Config struct {
	// Name appears in the process list: lower-case letters, digits and hyphens.
	Name string
	// Version is the emulator's (Probe).
	Version     Version
	Accelerator string
	TEE         string
	VCPUs       int
	MemoryMiB   int
	// Kernel is an ELF image with a PVH entry or a bzImage; Initrd and Cmdline belong to it. Cmdline is measured.
	Kernel, Initrd, Cmdline string
	// Firmware is the TEE's own; it is required for snp and tdx.
	Firmware string
	// HostData is the SHA-256 of the policy text, which the launch binds: HOST_DATA of SNP, the first 32 of the 48
	// bytes of MRCONFIGID of TDX (the other 16 are zero).
	HostData [32]byte
	SNP      SNPConfig
	TDX      TDXConfig
	Disks    []Disk
	FDs      FDs
	// MAC is the address of the guest's network device; empty is the constant of that name. Where there are neighbours,
	// each needs its own.
	MAC string
	// UserNetwork uses QEMU's own network stack instead of FDs.Network: a fallback for an emulator without the
	// "stream" backend.
	UserNetwork *UserNetwork
}

// SNPConfig is what only an SNP launch has.
type SNPConfig struct {
	// CBitPosition is the position of the C-bit (CPUID 8000001F EBX[5:0]); 0 means DefaultCBitPosition. QEMU compares
	// it with the processor and refuses another.
	CBitPosition uint
	// GuestPolicy 0 means DefaultSNPPolicy; CPU empty means DefaultSNPCPU.
	GuestPolicy uint64
	CPU         string
	// IDBlock (96 bytes) and IDAuth (4096 bytes) are optional and come together; AuthorKey says that IDAuth holds an
	// author key.
	IDBlock, IDAuth []byte
	AuthorKey       bool
}

// TDXConfig is what only a TDX launch has.
type TDXConfig struct {
	// QuoteCID and QuotePort are the vsock address of the quote generation service; 0 leaves it out.
	QuoteCID, QuotePort uint32
}

// Disk is a SCSI disk. The guest finds it by its serial number.
type Disk struct {
	Path     string
	Serial   string
	ReadOnly bool
}

// FDs are the inherited descriptors, 3 or higher; 0 leaves the device out.
type FDs struct {
	Control   int // required
	Monitor   int // required
	Console   int // required
	Simulator int // required for the simulated TEE, refused otherwise
	Network   int // a stream of Ethernet frames with 32-bit big-endian lengths
	TAP       int // a TAP device of the host, in place of Network
}

// UserNetwork configures QEMU's own network stack. It only leads in: the stack has an address that leads to the host's
// loopback, so the guest may not connect outwards through it.
type UserNetwork struct {
	Forwards []Forward
}

// Forward leads from a host port to a guest port.
type Forward struct {
	Protocol  string
	HostIP    string
	HostPort  uint16
	GuestPort uint16
}

var (
	validName   = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,62}$`)
	validSerial = regexp.MustCompile(`^[a-z0-9-]{1,20}$`)
	validCPU    = regexp.MustCompile(`^[A-Za-z0-9._-]+$`)
	validMAC    = regexp.MustCompile(`^[0-9a-f][02468ace](:[0-9a-f]{2}){5}$`)
	validIPv4   = regexp.MustCompile(`^[0-9.]{7,15}$`)
)

// Validate checks c without looking at the host.
func (c *Config) Validate() error {
	if !validName.MatchString(c.Name) {
		return fmt.Errorf("machine name %q is not 1 to 63 of a-z, 0-9 and hyphens", c.Name)
	}
	if c.VCPUs < 1 || c.VCPUs > MaxVCPUs {
		return fmt.Errorf("machine has %d vCPUs, want 1 to %d", c.VCPUs, MaxVCPUs)
	}
	if c.MemoryMiB < MinMemoryMiB || c.MemoryMiB > MaxMemoryMiB {
		return fmt.Errorf("machine has %d MiB of memory, want %d to %d", c.MemoryMiB, MinMemoryMiB, MaxMemoryMiB)
	}
	for _, p := range []string{c.Kernel, c.Initrd} {
		if !filepath.IsAbs(p) {
			return fmt.Errorf("path %q of the kernel or initrd is not absolute", p)
		}
	}
	if strings.ContainsAny(c.Cmdline, "\x00\n") {
		return errors.New("kernel command line has a NUL or a newline")
	}
	err := c.validateTEE()
	if err != nil {
		return err
	}
	err = c.validateDisks()
	if err != nil {
		return err
	}
	return c.validateFDs()
}

func (c *Config) validateTEE() error {
	if c.Accelerator != KVM && c.Accelerator != TCG {
		return fmt.Errorf("accelerator is %q, want %q or %q", c.Accelerator, KVM, TCG)
	}
	switch c.TEE {
	case Simulated:
		if c.Firmware != "" {
			return errors.New("the simulated TEE boots without firmware")
		}
		return nil
	case SNP, TDX:
	default:
		return fmt.Errorf("TEE is %q, want %q, %q or %q", c.TEE, Simulated, SNP, TDX)
	}
	if c.Accelerator != KVM {
		return fmt.Errorf("TEE %s needs the accelerator %s, not %s", c.TEE, KVM, c.Accelerator)
	}
	if !filepath.IsAbs(c.Firmware) {
		return fmt.Errorf("TEE %s needs firmware; its path is %q", c.TEE, c.Firmware)
	}
	if c.HostData == [32]byte{} {
		return fmt.Errorf("TEE %s needs host data: the hash of a policy", c.TEE)
	}
	if c.TEE == TDX {
		return c.needVersion(Version{10, 1, 0})
	}
	return c.validateSNP()
}

func (c *Config) validateSNP() error {
	s := c.SNP
	if s.CBitPosition != 0 && (s.CBitPosition < 32 || s.CBitPosition > 63) {
		return fmt.Errorf("position of the C-bit is %d, want 32 to 63", s.CBitPosition)
	}
	if (len(s.IDBlock) == 0) != (len(s.IDAuth) == 0) {
		return errors.New("ID block and ID authentication come together or not at all")
	}
	if len(s.IDBlock) != 0 && (len(s.IDBlock) != 96 || len(s.IDAuth) != 4096) {
		return fmt.Errorf("ID block has %d bytes, want 96; ID authentication has %d, want 4096", len(s.IDBlock), len(s.IDAuth))
	}
	if s.AuthorKey && len(s.IDAuth) == 0 {
		return errors.New("an author key needs ID authentication")
	}
	if s.CPU != "" && !validCPU.MatchString(s.CPU) {
		return fmt.Errorf("CPU model %q is not a plain model name", s.CPU)
	}
	return c.needVersion(Version{9, 1, 0})
}

func (c *Config) needVersion(least Version) error {
	if c.Version.Less(least) {
		return fmt.Errorf("TEE %s needs QEMU %s or newer; this one is %s", c.TEE, least, c.Version)
	}
	return nil
}

func (c *Config) validateDisks() error {
	if len(c.Disks) > MaxDisks {
		return fmt.Errorf("machine has %d disks, limit is %d", len(c.Disks), MaxDisks)
	}
	seen := map[string]bool{}
	for _, d := range c.Disks {
		if !validSerial.MatchString(d.Serial) {
			return fmt.Errorf("disk %s: serial %q is not 1 to 20 of a-z, 0-9 and hyphens", d.Path, d.Serial)
		}
		if seen[d.Serial] {
			return fmt.Errorf("disk %s: serial %q is used twice", d.Path, d.Serial)
		}
		seen[d.Serial] = true
		if !filepath.IsAbs(d.Path) {
			return fmt.Errorf("disk %s: path %q is not absolute", d.Serial, d.Path)
		}
	}
	return nil
}

func (c *Config) validateFDs() error {
	f := c.FDs
	if f.Control < 3 || f.Monitor < 3 || f.Console < 3 {
		return fmt.Errorf("descriptors of control %d, monitor %d and console %d must be 3 or higher", f.Control, f.Monitor, f.Console)
	}
	if (f.Simulator != 0) != (c.TEE == Simulated) {
		return fmt.Errorf("the simulator's port (descriptor %d) belongs to the simulated TEE alone; TEE is %s", f.Simulator, c.TEE)
	}
	if c.MAC != "" && !validMAC.MatchString(c.MAC) {
		return fmt.Errorf("hardware address %q is not a unicast one of six lower-case hexadecimal bytes", c.MAC)
	}
	backends := 0
	for _, has := range []bool{f.Network != 0, f.TAP != 0, c.UserNetwork != nil} {
		if has {
			backends++
		}
	}
	if backends > 1 {
		return errors.New("machine has two network backends")
	}
	if c.UserNetwork == nil {
		return nil
	}
	for _, p := range c.UserNetwork.Forwards {
		if (p.Protocol != "tcp" && p.Protocol != "udp") || !validIPv4.MatchString(p.HostIP) || p.GuestPort == 0 || p.HostPort == 0 {
			return fmt.Errorf("QEMU's own network can not forward %s:%d to %d/%s", p.HostIP, p.HostPort, p.GuestPort, p.Protocol)
		}
	}
	return nil
}
