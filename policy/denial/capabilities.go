// SPDX-License-Identifier: Apache-2.0

package denial

import (
	"encoding/json"
	"slices"
)

// capabilitySets are the five sets of a process; unknown keys make them something else.
type capabilitySets struct {
	Ambient     []string `json:"ambient"`
	Bounding    []string `json:"bounding"`
	Effective   []string `json:"effective"`
	Inheritable []string `json:"inheritable"`
	Permitted   []string `json:"permitted"`
}

// placeholder names the default that the sets are equal to, in any order; empty when there is none.
func placeholder(v any) string {
	if v == nil {
		return ""
	}
	data, err := json.Marshal(v)
	if err != nil {
		return ""
	}
	var s capabilitySets
	if json.Unmarshal(data, &s) != nil || len(s.Ambient) > 0 {
		return ""
	}
	switch {
	case same(unprivileged, s.Bounding, s.Effective, s.Permitted) && len(s.Inheritable) == 0:
		return Unprivileged
	case same(privileged, s.Bounding, s.Effective, s.Permitted, s.Inheritable):
		return Privileged
	}
	return ""
}

// Capabilities returns the sets that a placeholder stands for; nil if it is none.
func Capabilities(placeholder string) map[string][]string {
	sets := func(all, inheritable []string) map[string][]string {
		return map[string][]string{
			"ambient": {}, "bounding": slices.Clone(all), "effective": slices.Clone(all),
			"inheritable": inheritable, "permitted": slices.Clone(all),
		}
	}
	switch placeholder {
	case Privileged:
		return sets(privileged, slices.Clone(privileged))
	case Unprivileged:
		return sets(unprivileged, []string{})
	}
	return nil
}

func same(want []string, lists ...[]string) bool {
	for _, l := range lists {
		sorted := slices.Sorted(slices.Values(l))
		if !slices.Equal(sorted, want) {
			return false
		}
	}
	return true
}

// unprivileged and privileged are what the runtime gives to containers that ask for nothing else, sorted.
var (
	unprivileged = []string{
		"CAP_AUDIT_WRITE", "CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_FSETID", "CAP_KILL", "CAP_MKNOD",
		"CAP_NET_BIND_SERVICE", "CAP_NET_RAW", "CAP_SETFCAP", "CAP_SETGID", "CAP_SETPCAP", "CAP_SETUID", "CAP_SYS_CHROOT",
	}
	privileged = []string{
		"CAP_AUDIT_CONTROL", "CAP_AUDIT_READ", "CAP_AUDIT_WRITE", "CAP_BLOCK_SUSPEND", "CAP_BPF",
		"CAP_CHECKPOINT_RESTORE", "CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_DAC_READ_SEARCH", "CAP_FOWNER", "CAP_FSETID",
		"CAP_IPC_LOCK", "CAP_IPC_OWNER", "CAP_KILL", "CAP_LEASE", "CAP_LINUX_IMMUTABLE", "CAP_MAC_ADMIN",
		"CAP_MAC_OVERRIDE", "CAP_MKNOD", "CAP_NET_ADMIN", "CAP_NET_BIND_SERVICE", "CAP_NET_BROADCAST", "CAP_NET_RAW",
		"CAP_PERFMON", "CAP_SETFCAP", "CAP_SETGID", "CAP_SETPCAP", "CAP_SETUID", "CAP_SYSLOG", "CAP_SYS_ADMIN",
		"CAP_SYS_BOOT", "CAP_SYS_CHROOT", "CAP_SYS_MODULE", "CAP_SYS_NICE", "CAP_SYS_PACCT", "CAP_SYS_PTRACE",
		"CAP_SYS_RAWIO", "CAP_SYS_RESOURCE", "CAP_SYS_TIME", "CAP_SYS_TTY_CONFIG", "CAP_WAKE_ALARM",
	}
)
