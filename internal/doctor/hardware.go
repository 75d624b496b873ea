// SPDX-License-Identifier: Apache-2.0

package doctor

import (
	"fmt"
	"strings"
)

func (m Machine) checkArchitecture() Check {
	c := Check{Code: "architecture", Title: "Architecture", Status: Pass, Detail: m.OS + "/" + m.Arch}
	if m.OS != "linux" || m.Arch != "amd64" {
		c.Status = Fail
		c.Fix = "use a Linux machine with an x86-64 processor; `cofferdam verify` works anywhere"
	}
	return c
}

// kvmState says whether the kernel's virtual machine monitor can run the guest, and why not.
type kvmState struct {
	usable bool
	detail string
	fix    string
}

// kvm insists on the modules that drive the processor's own virtualization: a /dev/kvm without them is of a kernel
// that is itself a guest and can not run ours.
func (m Machine) kvm() kvmState {
	if !m.has("dev/kvm") {
		return kvmState{detail: "there is no /dev/kvm",
			fix: "enable virtualization in the firmware set-up and load kvm_intel or kvm_amd; emulation works without"}
	}
	err := m.OpenDevice("/dev/kvm")
	if err != nil {
		return kvmState{detail: err.Error(), fix: "add your user to the group kvm, then log in again"}
	}
	if !m.has("sys/module/kvm_intel") && !m.has("sys/module/kvm_amd") {
		return kvmState{detail: "/dev/kvm opens, but neither kvm_intel nor kvm_amd is loaded" + m.otherKVM(),
			fix: "use a machine with hardware virtualization; emulation works without"}
	}
	return kvmState{usable: true, detail: "kvm"}
}

func (m Machine) otherKVM() string {
	if m.has("sys/module/kvm_pvm") {
		return " (kvm_pvm can not run a measured guest)"
	}
	return ""
}

func (m Machine) checkAccelerator(k kvmState) Check {
	c := Check{Code: "accelerator", Title: "Accelerator", Status: Pass, Detail: k.detail}
	if !k.usable {
		c.Status = Warn
		c.Detail = "tcg (emulation, some 15 to 40 times slower): " + k.detail
		c.Fix = k.fix
	}
	return c
}

// tee is what the host's kernel offers to virtual machines.
func (m Machine) tee() string {
	switch {
	case m.says("sys/module/kvm_amd/parameters/sev_snp") && m.has("dev/sev"):
		return "snp"
	case m.says("sys/module/kvm_intel/parameters/tdx"):
		return "tdx"
	}
	return "simulated"
}

// teeDevices are the device nodes of trusted execution environments and what each is for.
var teeDevices = []struct{ path, purpose string }{
	{"dev/sev", "SEV-SNP host"},
	{"dev/sev-guest", "SEV-SNP guest"},
	{"dev/tdx_guest", "TDX guest"},
	{"dev/sgx_enclave", "SGX"},
}

func (m Machine) checkTEE(chosen string) Check {
	var found []string
	for _, d := range teeDevices {
		if m.has(d.path) {
			found = append(found, fmt.Sprintf("/%s (%s)", d.path, d.purpose))
		}
	}
	devices := "no device of SEV-SNP, TDX or SGX found"
	if len(found) > 0 {
		devices = strings.Join(found, ", ")
	}
	c := Check{Code: "tee", Title: "TEE", Status: Pass, Detail: chosen + ": " + devices}
	if chosen == "simulated" {
		c.Status = Warn
		c.Detail = "simulated (no hardware protection): " + devices
		c.Fix = "for protection by hardware use a host with SEV-SNP (kvm_amd.sev_snp=1) or TDX (kvm_intel.tdx=1)"
	}
	return c
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
