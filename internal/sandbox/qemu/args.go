// SPDX-License-Identifier: Apache-2.0

package qemu

import (
	"cmp"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
)

// Args returns the arguments of the command line for c, without the program's name. The same c gives the same
// arguments.
func (c *Config) Args() ([]string, error) {
	err := c.Validate()
	if err != nil {
		return nil, fmt.Errorf("checking the machine: %w", err)
	}
	a := []string{
		"-name", "cofferdam-" + c.Name,
		"-nodefaults", "-no-user-config", "-display", "none", "-no-reboot",
		"-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny",
		"-machine", c.machine(),
		"-accel", c.Accelerator,
		"-cpu", c.cpu(),
		"-smp", strconv.Itoa(c.VCPUs),
		"-m", strconv.Itoa(c.MemoryMiB) + "M",
	}
	tee, err := c.teeArgs()
	if err != nil {
		return nil, err
	}
	a = append(a, tee...)
	if c.Firmware != "" {
		a = append(a, "-bios", c.Firmware)
	}
	a = append(a, "-kernel", c.Kernel, "-initrd", c.Initrd, "-append", c.Cmdline)
	a = append(a, c.portArgs()...)
	disks, err := c.diskArgs()
	if err != nil {
		return nil, err
	}
	a = append(a, disks...)
	return append(a, c.networkArgs()...), nil
}

// confidential reports whether the guest's memory is out of QEMU's reach, so that virtio must go through the guest's
// shared buffers.
func (c *Config) confidential() bool { return c.TEE == SNP || c.TEE == TDX }

func (c *Config) machine() string {
	const base = "q35,smm=off,usb=off,vmport=off,sata=off,smbus=off"
	switch c.TEE {
	case SNP:
		return base + ",confidential-guest-support=tee0,memory-backend=ram0"
	case TDX:
		return base + ",kernel-irqchip=split,confidential-guest-support=tee0,memory-backend=ram0"
	default:
		return base
	}
}

func (c *Config) cpu() string {
	switch {
	case c.TEE == SNP && c.SNP.CPU != "":
		return c.SNP.CPU
	case c.TEE == SNP:
		return DefaultSNPCPU
	case c.TEE == TDX:
		return "host"
	case c.Accelerator == TCG && c.Version.Less(Version{8, 0, 0}):
		// Before version 8 the emulation of cmpxchg16b crashes newer kernels at random.
		return "max,-cx16,-erms"
	case c.Accelerator == TCG:
		// A kernel that believes in fast string instructions copies byte by byte, and emulation takes a step for each.
		return "max,-erms"
	default:
		return "max"
	}
}

// teeArgs returns the memory and the launch object of a confidential guest.
func (c *Config) teeArgs() ([]string, error) {
	var object map[string]any
	switch c.TEE {
	case SNP:
		object = c.snpObject()
	case TDX:
		object = c.tdxObject()
	default:
		return nil, nil
	}
	text, err := json.Marshal(object)
	if err != nil {
		return nil, fmt.Errorf("describing the launch: %w", err)
	}
	return []string{
		"-object", fmt.Sprintf("memory-backend-memfd,id=ram0,size=%dM,share=on", c.MemoryMiB),
		"-object", string(text),
	}, nil
}

func (c *Config) snpObject() map[string]any {
	policy := c.SNP.GuestPolicy
	if policy == 0 {
		policy = DefaultSNPPolicy
	}
	cbit := c.SNP.CBitPosition
	if cbit == 0 {
		cbit = DefaultCBitPosition
	}
	o := map[string]any{
		"qom-type":          "sev-snp-guest",
		"id":                "tee0",
		"cbitpos":           cbit,
		"reduced-phys-bits": 1,
		"policy":            policy,
		"kernel-hashes":     true,
		"host-data":         base64.StdEncoding.EncodeToString(c.HostData[:]),
	}
	if len(c.SNP.IDBlock) > 0 {
		o["id-block"] = base64.StdEncoding.EncodeToString(c.SNP.IDBlock)
		o["id-auth"] = base64.StdEncoding.EncodeToString(c.SNP.IDAuth)
	}
	if c.SNP.AuthorKey {
		o["author-key-enabled"] = true
	}
	return o
}

func (c *Config) tdxObject() map[string]any {
	var id [48]byte // MRCONFIGID has the size of a SHA-384; a shorter hash is padded with zeros
	copy(id[:], c.HostData[:])
	o := map[string]any{
		"qom-type":        "tdx-guest",
		"id":              "tee0",
		"mrconfigid":      base64.StdEncoding.EncodeToString(id[:]),
		"sept-ve-disable": true,
	}
	if c.TDX.QuotePort != 0 {
		o["quote-generation-socket"] = map[string]any{
			"type": "vsock",
			"cid":  strconv.FormatUint(uint64(c.TDX.QuoteCID), 10),
			"port": strconv.FormatUint(uint64(c.TDX.QuotePort), 10),
		}
	}
	return o
}

// pci returns a virtio PCI device with its properties.
func (c *Config) pci(device string, properties ...string) string {
	if c.confidential() {
		properties = append(properties, "iommu_platform=on", "disable-legacy=on")
	}
	return strings.Join(append([]string{device}, properties...), ",")
}

// portArgs returns the monitor, the console and the guest's ports, all on inherited descriptors.
func (c *Config) portArgs() []string {
	a := []string{
		"-chardev", fmt.Sprintf("socket,id=qmp,fd=%d", c.FDs.Monitor),
		"-mon", "chardev=qmp,mode=control",
		"-chardev", fmt.Sprintf("socket,id=console,fd=%d", c.FDs.Console),
		"-serial", "chardev:console",
		"-device", "pvpanic-pci",
		"-device", c.pci("virtio-serial-pci", "id=ports"),
		"-chardev", fmt.Sprintf("socket,id=ctl,fd=%d", c.FDs.Control),
		"-device", "virtserialport,bus=ports.0,chardev=ctl,name=" + ControlPort,
	}
	if c.FDs.Simulator != 0 {
		a = append(a,
			"-chardev", fmt.Sprintf("socket,id=sp,fd=%d", c.FDs.Simulator),
			"-device", "virtserialport,bus=ports.0,chardev=sp,name="+SimulatorPort)
	}
	return a
}

// diskArgs returns one SCSI controller with one unit for each disk. Errors of the host's storage, a full disk among
// them, are reported to the guest: QEMU's default is to stop the machine, which would look like a hang.
func (c *Config) diskArgs() ([]string, error) {
	if len(c.Disks) == 0 {
		return nil, nil
	}
	a := []string{"-device", c.pci("virtio-scsi-pci", "id=scsi0")}
	for i, d := range c.Disks {
		node := fmt.Sprintf("disk%d", i)
		// JSON, because a path may hold commas.
		block, err := json.Marshal(map[string]any{
			"driver": "raw", "node-name": node, "read-only": d.ReadOnly, "discard": "unmap",
			"file": map[string]any{"driver": "file", "filename": d.Path},
		})
		if err != nil {
			return nil, fmt.Errorf("describing disk %s: %w", d.Serial, err)
		}
		a = append(a, "-blockdev", string(block), "-device",
			fmt.Sprintf("scsi-hd,bus=scsi0.0,channel=0,scsi-id=0,lun=%d,drive=%s,serial=%s,werror=report,rerror=report", i, node, d.Serial))
	}
	return a, nil
}

func (c *Config) networkArgs() []string {
	var backend string
	switch {
	case c.FDs.Network != 0:
		backend = fmt.Sprintf("stream,id=net0,addr.type=fd,addr.str=%d", c.FDs.Network)
	case c.FDs.TAP != 0:
		backend = fmt.Sprintf("tap,id=net0,fd=%d", c.FDs.TAP) // without the host's vhost, which none of the TEEs need
	case c.UserNetwork != nil:
		backend = c.UserNetwork.netdev()
	default:
		return nil
	}
	return []string{"-netdev", backend, "-device", c.pci("virtio-net-pci", "netdev=net0", "mac="+cmp.Or(c.MAC, MAC), "romfile=")}
}

// netdev describes QEMU's own network with the same addresses as the usual one.
func (n *UserNetwork) netdev() string {
	var b strings.Builder
	b.WriteString("user,id=net0,restrict=on,ipv6=off,net=192.168.127.0/24,host=192.168.127.254,dns=192.168.127.1,dhcpstart=192.168.127.2")
	for _, f := range n.Forwards {
		fmt.Fprintf(&b, ",hostfwd=%s:%s:%d-192.168.127.2:%d", f.Protocol, f.HostIP, f.HostPort, f.GuestPort)
	}
	return b.String()
}
