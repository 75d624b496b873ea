// SPDX-License-Identifier: Apache-2.0

package policygen

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"cofferdam.dev/internal/spec"
	"cofferdam.dev/policy"
)

// defaultCapabilities are those of an unprivileged container, in the order in which the pause container lists them.
var defaultCapabilities = []string{
	"CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FSETID", "CAP_FOWNER", "CAP_MKNOD", "CAP_NET_RAW", "CAP_SETGID", "CAP_SETUID",
	"CAP_SETFCAP", "CAP_SETPCAP", "CAP_NET_BIND_SERVICE", "CAP_SYS_CHROOT", "CAP_KILL", "CAP_AUDIT_WRITE",
}

// allCapabilities are those that Linux has (capability.h up to CAP_CHECKPOINT_RESTORE).
var allCapabilities = []string{
	"CAP_AUDIT_CONTROL", "CAP_AUDIT_READ", "CAP_AUDIT_WRITE", "CAP_BLOCK_SUSPEND", "CAP_BPF", "CAP_CHECKPOINT_RESTORE",
	"CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_DAC_READ_SEARCH", "CAP_FOWNER", "CAP_FSETID", "CAP_IPC_LOCK", "CAP_IPC_OWNER",
	"CAP_KILL", "CAP_LEASE", "CAP_LINUX_IMMUTABLE", "CAP_MAC_ADMIN", "CAP_MAC_OVERRIDE", "CAP_MKNOD", "CAP_NET_ADMIN",
	"CAP_NET_BIND_SERVICE", "CAP_NET_BROADCAST", "CAP_NET_RAW", "CAP_PERFMON", "CAP_SETFCAP", "CAP_SETGID",
	"CAP_SETPCAP", "CAP_SETUID", "CAP_SYSLOG", "CAP_SYS_ADMIN", "CAP_SYS_BOOT", "CAP_SYS_CHROOT", "CAP_SYS_MODULE",
	"CAP_SYS_NICE", "CAP_SYS_PACCT", "CAP_SYS_PTRACE", "CAP_SYS_RAWIO", "CAP_SYS_RESOURCE", "CAP_SYS_TIME",
	"CAP_SYS_TTY_CONFIG", "CAP_WAKE_ALARM",
}

// capabilities are the default or all ones, with those added and dropped, in sorted lists. To drop ALL clears the list
// first; a single one is dropped even if it is added.
func capabilities(c spec.Container) (policy.Capabilities, error) {
	list := defaultCapabilities
	if c.Privileged {
		list = allCapabilities
	}
	added, err := capabilityNames(c.AddCapabilities)
	if err != nil {
		return policy.Capabilities{}, err
	}
	all := func(s string) bool { return strings.EqualFold(s, "ALL") }
	if slices.ContainsFunc(c.DropCapabilities, all) {
		list = nil
	}
	dropped, err := capabilityNames(slices.DeleteFunc(slices.Clone(c.DropCapabilities), all))
	if err != nil {
		return policy.Capabilities{}, err
	}
	list = slices.Concat(list, added)
	list = slices.DeleteFunc(list, func(s string) bool { return slices.Contains(dropped, s) })
	slices.Sort(list)
	list = slices.Compact(list)
	out := policy.Capabilities{Bounding: list, Effective: list, Permitted: list}
	if c.Privileged {
		out.Inheritable = list
	}
	return out, nil
}

// capabilityNames expands ALL, and names with or without CAP_.
func capabilityNames(list []string) ([]string, error) {
	var out []string
	for _, s := range list {
		name := strings.ToUpper(s)
		if name == "ALL" {
			out = append(out, allCapabilities...)
			continue
		}
		if !strings.HasPrefix(name, "CAP_") {
			name = "CAP_" + name
		}
		if !slices.Contains(allCapabilities, name) {
			return nil, fmt.Errorf("capability %q does not exist", s)
		}
		out = append(out, name)
	}
	return out, nil
}

// signalNumbers are those of x86-64 and arm64 (signal(7)).
var signalNumbers = map[string]int{
	"HUP": 1, "INT": 2, "QUIT": 3, "ILL": 4, "TRAP": 5, "ABRT": 6, "IOT": 6, "BUS": 7, "FPE": 8, "KILL": 9, "USR1": 10,
	"SEGV": 11, "USR2": 12, "PIPE": 13, "ALRM": 14, "TERM": 15, "STKFLT": 16, "CHLD": 17, "CLD": 17, "CONT": 18,
	"STOP": 19, "TSTP": 20, "TTIN": 21, "TTOU": 22, "URG": 23, "XCPU": 24, "XFSZ": 25, "VTALRM": 26, "PROF": 27,
	"WINCH": 28, "IO": 29, "POLL": 29, "PWR": 30, "SYS": 31, "RTMIN": 34, "RTMAX": 64,
}

// signals are KILL, TERM and the image's stop signal.
func signals(stop string, o Options) ([]int, error) {
	var list []int
	if !o.OmitSignals {
		list = []int{9, 15}
	}
	if stop == "" {
		return list, nil
	}
	n, err := signalNumber(stop)
	if err != nil {
		return nil, err
	}
	if !slices.Contains(list, n) {
		list = append(list, n)
	}
	return list, nil
}

// signalNumber reads SIGTERM, TERM, 15 and SIGRTMIN+3.
func signalNumber(s string) (int, error) {
	const last = 64
	name := strings.TrimPrefix(strings.ToUpper(s), "SIG")
	if n, err := strconv.Atoi(name); err == nil && n >= 1 && n <= last {
		return n, nil
	}
	base, offset, shifted := name, 0, false
	if i := strings.IndexAny(name, "+-"); i > 0 {
		n, err := strconv.Atoi(name[i:])
		if err != nil {
			return 0, fmt.Errorf("stop signal %q is unknown", s)
		}
		base, offset, shifted = name[:i], n, true
	}
	n, ok := signalNumbers[base]
	if !ok || shifted && !strings.HasPrefix(base, "RT") || n+offset < 1 || n+offset > last {
		return 0, fmt.Errorf("stop signal %q is unknown", s)
	}
	return n + offset, nil
}
