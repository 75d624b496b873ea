// SPDX-License-Identifier: Apache-2.0

package doctor

import (
	"fmt"
	"strings"

	"cofferdam.dev/internal/sandbox/qemu"
)

func (m Machine) checkArchitecture() Check {
	c := Check{Code: "architecture", Title: "Architecture", Status: Pass, Detail: m.OS + "/" + m.Arch}
	if m.OS != "linux" || m.Arch != "amd64" {
		c.Status = Fail
		c.Fix = "use a Linux machine with an x86-64 processor; `cofferdam verify` works anywhere"
	}
	return c
}

// checkAccelerator insists, as the launch does, on the modules that drive the processor's own virtualization: a
// /dev/kvm without them is of a kernel that is itself a guest and can not run ours.
func (m Machine) checkAccelerator(kvm qemu.Fact) Check {
	c := Check{Code: "accelerator", Title: "Accelerator", Status: Pass, Detail: qemu.KVM + " (" + kvm.Why + ")"}
	if kvm.Present {
		return c
	}
	c.Status = Warn
	c.Detail = "tcg (emulation, some 15 to 40 times slower): " + kvm.Why
	c.Fix = "enable virtualization in the firmware set-up, and let your user open /dev/kvm (group kvm)"
	if m.has("sys/module/kvm_pvm") {
		c.Detail += "; kvm_pvm is, which can not run a measured guest"
	}
	return c
}

// teeDevices are the device nodes of trusted execution environments and what each is for.
var teeDevices = []struct{ path, purpose string }{
	{"dev/sev", "SEV-SNP host"},
	{"dev/sev-guest", "SEV-SNP guest"},
	{"dev/tdx_guest", "TDX guest"},
	{"dev/sgx_enclave", "SGX"},
}

func (m Machine) checkTEE(chosen string, host qemu.Host) Check {
	var found []string
	for _, d := range teeDevices {
		if m.has(d.path) {
			found = append(found, fmt.Sprintf("/%s (%s)", d.path, d.purpose))
		}
	}
	devices := "no device of SEV-SNP, TDX or SGX"
	if len(found) > 0 {
		devices = strings.Join(found, ", ")
	}
	c := Check{Code: "tee", Title: "TEE", Status: Pass, Detail: chosen + "; " + devices}
	if chosen == qemu.Simulated {
		c.Status = Warn
		c.Detail = fmt.Sprintf("simulated (no hardware protection): %s; %s; %s", whyNot("SEV-SNP", host.SNP), whyNot("TDX", host.TDX), devices)
		c.Fix = "for protection by hardware use a host with SEV-SNP (kvm_amd.sev_snp=1) or TDX (kvm_intel.tdx=1)"
	}
	return c
}

// whyNot says why a TEE that the host may have is not the one chosen.
func whyNot(name string, f qemu.Fact) string {
	if f.Present {
		return name + " is on, but QEMU or the guest image lacks it"
	}
	return f.Why
}

func (m Machine) checkFUSE() Check {
	c := Check{Code: "fuse", Title: "FUSE", Status: Pass, Detail: "/dev/fuse"}
	if !m.has("dev/fuse") {
		c.Status = Warn
		c.Detail = "there is no /dev/fuse; only encrypted volumes mounted on this machine need it"
		c.Fix = "modprobe fuse"
	}
	return c
}
