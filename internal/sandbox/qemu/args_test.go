// SPDX-License-Identifier: Apache-2.0

package qemu

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write the golden files")

// machine is a small machine that is valid as it is.
func machine(accelerator, tee string) Config {
	c := Config{
		Name: "calm-weir-3f", Version: Version{10, 1, 0}, Accelerator: accelerator, TEE: tee, VCPUs: 2, MemoryMiB: 512,
		Kernel: "/guest/vmlinuz", Initrd: "/guest/initrd.cpio", Cmdline: "console=ttyS0 quiet cofferdam.tee=" + tee,
		HostData: sha256.Sum256([]byte("package policy\n")),
		Disks: []Disk{
			{Path: "/layers/a.img", Serial: "layer0", ReadOnly: true},
			{Path: "/layers/with,comma and \"quote\".img", Serial: "layer1", ReadOnly: true},
			{Path: "/groups/x/scratch0.img", Serial: "scratch0"},
		},
		FDs: FDs{Control: 3, Monitor: 4, Console: 5, Network: 6},
	}
	switch tee {
	case Simulated:
		c.FDs.Simulator = 7
	default:
		c.Firmware = "/firmware/OVMF.fd"
	}
	return c
}

func goldenCases() map[string]Config {
	old := machine(TCG, Simulated)
	old.Version = Version{7, 2, 22}
	slirp := machine(TCG, Simulated)
	slirp.FDs.Network = 0
	slirp.UserNetwork = &UserNetwork{Forwards: []Forward{
		{Protocol: "tcp", HostIP: "127.0.0.1", HostPort: 8080, GuestPort: 80},
		{Protocol: "udp", HostIP: "0.0.0.0", HostPort: 53, GuestPort: 5353},
	}}
	tap := machine(TCG, Simulated)
	tap.FDs.Network, tap.FDs.TAP, tap.MAC, tap.Disks = 0, 6, "5a:00:00:00:00:01", nil
	bare := machine(TCG, Simulated)
	bare.FDs.Network, bare.Disks = 0, nil
	id := machine(KVM, SNP)
	id.SNP = SNPConfig{
		CBitPosition: 47, GuestPolicy: 0x20000, CPU: "EPYC-Milan-v2",
		IDBlock: bytes.Repeat([]byte{1}, 96), IDAuth: bytes.Repeat([]byte{2}, 4096), AuthorKey: true,
	}
	quote := machine(KVM, TDX)
	quote.TDX = TDXConfig{QuoteCID: 2, QuotePort: 4050}
	return map[string]Config{
		"tcg-simulated":            machine(TCG, Simulated),
		"tcg-simulated-qemu7":      old,
		"tcg-simulated-slirp":      slirp,
		"tcg-simulated-no-network": bare,
		"tcg-simulated-tap":        tap,
		"kvm-simulated":            machine(KVM, Simulated),
		"kvm-snp":                  machine(KVM, SNP),
		"kvm-snp-id-block":         id,
		"kvm-tdx":                  machine(KVM, TDX),
		"kvm-tdx-quote":            quote,
	}
}

// TestArgs compares whole command lines with golden files, one argument a line.
func TestArgs(t *testing.T) {
	t.Parallel()
	for name, c := range goldenCases() {
		args, err := c.Args()
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		got := strings.Join(args, "\n") + "\n"
		path := filepath.Join("testdata", name+".args")
		if *update {
			err = os.WriteFile(path, []byte(got), 0o600)
			if err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(string(want), got); diff != "" {
			t.Errorf("%s: command line differs (-want +got):\n%s", name, diff)
		}
	}
}

// TestHostData checks, apart from golden files, that the policy's hash is in the launch.
func TestHostData(t *testing.T) {
	t.Parallel()
	snp := machine(KVM, SNP)
	tdx := machine(KVM, TDX)
	for c, want := range map[*Config]string{
		&snp: `"host-data":"` + base64.StdEncoding.EncodeToString(snp.HostData[:]) + `"`,
		&tdx: `"mrconfigid":"` + base64.StdEncoding.EncodeToString(append(tdx.HostData[:], make([]byte, 16)...)) + `"`,
	} {
		args, err := c.Args()
		if err != nil || !strings.Contains(strings.Join(args, " "), want) {
			t.Errorf("%s: no %s in %q, %v", c.TEE, want, args, err)
		}
	}
}

func TestConfidentialDevices(t *testing.T) {
	t.Parallel()
	for _, tee := range []string{Simulated, SNP, TDX} {
		accelerator := KVM
		c := machine(accelerator, tee)
		args, err := c.Args()
		if err != nil {
			t.Fatal(err)
		}
		for _, a := range args {
			if !strings.HasPrefix(a, "virtio-") {
				continue
			}
			if got := strings.Contains(a, "iommu_platform=on"); got != (tee != Simulated) {
				t.Errorf("%s: device %s", tee, a)
			}
		}
	}
}

func TestValidate(t *testing.T) {
	t.Parallel()
	for want, change := range map[string]func(*Config){
		"machine name":                  func(c *Config) { c.Name = "a,b" },
		"0 vCPUs":                       func(c *Config) { c.VCPUs = 0 },
		"64 MiB of memory":              func(c *Config) { c.MemoryMiB = 64 },
		"kernel or initrd":              func(c *Config) { c.Initrd = "initrd" },
		"NUL or a newline":              func(c *Config) { c.Cmdline = "a\nb" },
		`accelerator is ""`:             func(c *Config) { c.Accelerator = "" },
		`TEE is ""`:                     func(c *Config) { c.TEE = "" },
		"needs the accelerator kvm":     func(c *Config) { c.TEE, c.Accelerator = SNP, TCG },
		"needs firmware":                func(c *Config) { c.TEE, c.Firmware = SNP, "" },
		"needs host data":               func(c *Config) { c.HostData = [32]byte{} },
		"needs QEMU 9.1.0":              func(c *Config) { c.Version = Version{9, 0, 9} },
		"needs QEMU 10.1.0":             func(c *Config) { c.TEE, c.Version = TDX, Version{10, 0, 2} },
		"position of the C-bit is 3":    func(c *Config) { c.SNP.CBitPosition = 3 },
		"come together":                 func(c *Config) { c.SNP.IDBlock = make([]byte, 96) },
		"ID block has 95 bytes":         func(c *Config) { c.SNP.IDBlock, c.SNP.IDAuth = make([]byte, 95), make([]byte, 4096) },
		"author key needs":              func(c *Config) { c.SNP.AuthorKey = true },
		"CPU model":                     func(c *Config) { c.SNP.CPU = "EPYC,+x" },
		"boots without firmware":        func(c *Config) { c.TEE, c.FDs.Simulator = Simulated, 7 },
		"is used twice":                 func(c *Config) { c.Disks[1].Serial = "layer0" },
		`serial "Layer"`:                func(c *Config) { c.Disks[1].Serial = "Layer" },
		`path "x" is not absolute`:      func(c *Config) { c.Disks[1].Path = "x" },
		"must be 3 or higher":           func(c *Config) { c.FDs.Monitor = 2 },
		"belongs to the simulated TEE":  func(c *Config) { c.FDs.Simulator = 7 },
		"two network backends":          func(c *Config) { c.UserNetwork = &UserNetwork{} },
		"machine has two network":       func(c *Config) { c.FDs.TAP = 9 },
		"hardware address":              func(c *Config) { c.MAC = "01:00:5e:00:00:01" },
		"can not forward ::1:1 to 1":    func(c *Config) { c.forward(Forward{"tcp", "::1", 1, 1}) },
		"can not forward 1.2.3.4:0":     func(c *Config) { c.forward(Forward{"tcp", "1.2.3.4", 0, 1}) },
		"to 1/sctp":                     func(c *Config) { c.forward(Forward{"sctp", "1.2.3.4", 1, 1}) },
		"machine has 256 disks":         func(c *Config) { c.Disks = make([]Disk, 256) },
		"memory, want 128 to 16777216":  func(c *Config) { c.MemoryMiB = 1 << 30 },
		"machine has 256 vCPUs, want 1": func(c *Config) { c.VCPUs = 256 },
	} {
		c := machine(KVM, SNP)
		change(&c)
		_, err := c.Args()
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error is %v, want %q", err, want)
		}
	}
	var zero Config
	if zero.Validate() == nil {
		t.Error("the zero machine is valid")
	}
}

func (c *Config) forward(f Forward) {
	c.FDs.Network, c.UserNetwork = 0, &UserNetwork{Forwards: []Forward{f}}
}
