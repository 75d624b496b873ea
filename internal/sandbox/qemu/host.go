// SPDX-License-Identifier: Apache-2.0

package qemu

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// Fact is whether the host has something, and why not.
type Fact struct {
	Present bool
	// Why says in a few words what is missing, or what was found.
	Why string
}

// Host is what the host's kernel offers.
type Host struct {
	KVM, SNP, TDX Fact
}

// DetectHost looks at the file system under root, "/" on a real host.
func DetectHost(root string) Host {
	var h Host
	h.KVM = detectKVM(root)
	h.SNP = detectTEE(root, "SEV-SNP", "sys/module/kvm_amd/parameters/sev_snp", "dev/sev")
	h.TDX = detectTEE(root, "TDX", "sys/module/kvm_intel/parameters/tdx", "")
	return h
}

// detectKVM asks for a processor's own KVM module, because there are drivers behind /dev/kvm that can not run an
// ordinary guest, and for a device that can be opened.
func detectKVM(root string) Fact {
	module := ""
	for _, m := range []string{"kvm_intel", "kvm_amd"} {
		if isDir(filepath.Join(root, "sys/module", m)) {
			module = m
		}
	}
	if module == "" {
		return Fact{Why: "neither kvm_intel nor kvm_amd is loaded"}
	}
	f, err := os.OpenFile(filepath.Join(root, "dev/kvm"), os.O_RDWR, 0)
	if err != nil {
		return Fact{Why: fmt.Sprintf("%s is loaded, but: %v", module, err)}
	}
	_ = f.Close() // nothing was done with it
	return Fact{Present: true, Why: module}
}

// detectTEE asks for a KVM module's parameter to be on, and for a device if one is named.
func detectTEE(root, name, parameter, device string) Fact {
	v, err := os.ReadFile(filepath.Join(root, parameter))
	if err != nil {
		return Fact{Why: "the host's KVM knows no " + name}
	}
	if s := strings.TrimSpace(string(v)); s != "Y" && s != "1" {
		return Fact{Why: fmt.Sprintf("%s is off: /%s is %q", name, parameter, s)}
	}
	if device != "" {
		_, err = os.Stat(filepath.Join(root, device))
		if err != nil {
			return Fact{Why: fmt.Sprintf("%s is on, but: %v", name, err)}
		}
	}
	return Fact{Present: true, Why: "/" + parameter}
}

func isDir(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.IsDir()
}

// Choice is what a machine will use, and why nothing stronger.
type Choice struct {
	Accelerator, TEE string
	// Notes are sentences about what was passed over.
	Notes []string
}

// Choose settles the accelerator and the TEE. A wish that is not Auto is taken as it is, or refused. firmware says for
// which hardware TEEs the guest image has firmware; Auto passes over a TEE without it.
func Choose(accelerator, tee string, host Host, emulator *Emulator, firmware func(tee string) bool) (Choice, error) {
	c := Choice{Accelerator: accelerator, TEE: tee}
	facts := map[string]Fact{
		SNP: teeFact(SNP, host.KVM, host.SNP, emulator.SNP, emulator.Version, firmware),
		TDX: teeFact(TDX, host.KVM, host.TDX, emulator.TDX, emulator.Version, firmware),
	}
	err := c.chooseTEE(facts)
	if err != nil {
		return Choice{}, err
	}
	switch {
	case c.Accelerator == Auto && host.KVM.Present:
		c.Accelerator = KVM
	case c.Accelerator == Auto:
		c.Accelerator = TCG
		c.Notes = append(c.Notes, "no kvm: "+host.KVM.Why)
	case c.Accelerator == KVM && !host.KVM.Present:
		return Choice{}, fmt.Errorf("accelerator kvm is not available: %s", host.KVM.Why)
	case c.Accelerator != KVM && c.Accelerator != TCG:
		return Choice{}, fmt.Errorf("accelerator is %q, want auto, kvm or tcg", c.Accelerator)
	}
	if c.TEE != Simulated && c.Accelerator != KVM {
		return Choice{}, fmt.Errorf("TEE %s needs the accelerator kvm, not %s", c.TEE, c.Accelerator)
	}
	return c, nil
}

func (c *Choice) chooseTEE(facts map[string]Fact) error {
	switch c.TEE {
	case Simulated:
		return nil
	case SNP, TDX:
		if f := facts[c.TEE]; !f.Present {
			return fmt.Errorf("TEE %s is not available: %s", c.TEE, f.Why)
		}
		return nil
	case Auto:
	default:
		return fmt.Errorf("TEE is %q, want auto, simulated, snp or tdx", c.TEE)
	}
	for _, tee := range []string{SNP, TDX} {
		if c.Accelerator == TCG {
			c.Notes = append(c.Notes, fmt.Sprintf("no %s: it needs kvm, and tcg was asked for", tee))
			continue
		}
		if facts[tee].Present {
			c.TEE = tee
			return nil
		}
		c.Notes = append(c.Notes, fmt.Sprintf("no %s: %s", tee, facts[tee].Why))
	}
	c.TEE = Simulated
	return nil
}

// teeFact joins what host, emulator and guest image have to say about a TEE.
func teeFact(tee string, kvm, host Fact, emulator bool, v Version, firmware func(string) bool) Fact {
	switch {
	case !kvm.Present:
		return Fact{Why: "it needs kvm: " + kvm.Why}
	case !host.Present:
		return host
	case !emulator:
		return Fact{Why: fmt.Sprintf("QEMU %s was built without it", v)}
	case firmware == nil || !firmware(tee):
		return Fact{Why: "the guest image has no firmware for it"}
	}
	return Fact{Present: true, Why: host.Why}
}
