// SPDX-License-Identifier: Apache-2.0

package guestimage

import "strings"

// The kinds of TEE that an image can boot under.
const (
	Simulated = "simulated"
	SNP       = "snp"
	TDX       = "tdx"
)

// TEEs returns the kinds of TEE in a fixed order.
func TEEs() []string { return []string{Simulated, SNP, TDX} }

// commandLine returns the kernel command line for a kind of TEE. It is constant, because it is measured.
func commandLine(tee string) string {
	words := []string{
		"panic=-1",            // a kernel that panicked restarts, and QEMU turns a restart into its own end
		"quiet", "loglevel=4", // printing costs time, and the host can read what is printed
		"rootfstype=ramfs",            // unpacking into tmpfs, which counts each page, takes twice as long
		"cryptomgr.notests",           // self-tests of algorithms cost 0.7 s under emulation
		"random.trust_cpu=on",         // entropy counts if the processor gave it,
		"random.trust_bootloader=off", // and not if the host did
		"tsc=reliable",                // or the clock watchdog blames the TSC under emulation, and timers get coarse
		"no_timer_check",              // the check busy-waits, and fails on a loaded host
		"cofferdam.tee=" + tee,
	}
	if tee == Simulated {
		words = append(words,
			"mitigations=off",                  // nothing is secret from the host here, and emulated processors do not speculate
			"initcall_blacklist=jent_mod_init", // a source of entropy beside the processor's: 0.1 s of emulated timing loops
			"console=ttyS0",                    // so that a kernel that dies can say why
		)
	}
	return strings.Join(words, " ")
}
