// SPDX-License-Identifier: Apache-2.0

package boot

import (
	"fmt"
	"os"
	"path/filepath"
)

// sysctls are the kernel's run-time parameters that the guest sets, with the reason for each.
func sysctls() []struct{ name, value, why string } {
	return []struct{ name, value, why string }{
		{"kernel/kptr_restrict", "2", "no kernel addresses for containers"},
		{"kernel/dmesg_restrict", "1", "nor through the kernel's log"},
		{"kernel/kexec_load_disabled", "1", "no other kernel than the measured one"},
		{"kernel/sysrq", "0", "the console is the host's"},
		{"kernel/modprobe", "", "the kernel starts no program to load modules"},
		{"kernel/core_pattern", "", "nor one for core files"},
		{"kernel/unprivileged_bpf_disabled", "1", "until the end of the boot; it can not be undone"},
		{"net/core/bpf_jit_harden", "2", "constants in BPF programs are blinded"},
		{"kernel/unprivileged_userns_clone", "0", "a container without a seccomp filter gains no capabilities in a namespace of its own"},
		{"kernel/io_uring_disabled", "1", "nor does it reach a part of the kernel that seccomp filters usually close"},
		{"kernel/yama/ptrace_scope", "1", "a process is traced by its ancestors only"},
		{"kernel/panic_on_oops", "1", "a kernel that has made a mistake guards nothing"},
		{"fs/suid_dumpable", "0", "no dumps of setuid programs"},
		{"fs/protected_hardlinks", "1", "no links to what one can not write"},
		{"fs/protected_symlinks", "1", "no following of others' links in shared directories"},
		{"fs/protected_fifos", "1", "nor opening of others' pipes there"},
		{"fs/protected_regular", "1", "nor of their files"},
		{"net/ipv4/ip_unprivileged_port_start", "0", "containers share the network; non-root servers may use any port"},
		{"net/ipv4/ping_group_range", "0\t2147483647", "ping works without privilege, as container engines have it"},
		{"net/ipv4/conf/all/accept_redirects", "0", "routes are ours, not the network's"},
		{"net/ipv4/conf/default/accept_redirects", "0", "the same for interfaces to come"},
		{"net/ipv4/conf/all/accept_source_route", "0", "senders choose no routes"},
		{"net/ipv4/conf/default/accept_source_route", "0", "the same for interfaces to come"},
		{"net/ipv6/conf/default/disable_ipv6", "1", "the network device gets the addresses that it is given (netconf), and none that a router announces"},
	}
}

// setSysctls sets all of them under root. A parameter that does not exist is an error: the kernel is measured, so its
// absence is a mistake of the build.
func setSysctls(root string) error {
	for _, s := range sysctls() {
		err := os.WriteFile(filepath.Join(root, s.name), []byte(s.value+"\n"), 0)
		if err != nil {
			return fmt.Errorf("%s (%s): %w", s.name, s.why, err)
		}
	}
	return nil
}
