// SPDX-License-Identifier: Apache-2.0

package container

import (
	"math"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"

	"cofferdam.dev/internal/evidencewire"
)

// cgroupParent holds the cgroups of all containers; its limit is what the agent leaves them.
const cgroupParent = "/c"

// Group is the directory of the control group that all containers are in.
func (r *Runner) Group() string { return filepath.Join(r.Cgroups, cgroupParent) }

const (
	cpuPeriod     = 100_000 // microseconds
	microsPerMill = cpuPeriod / 1000
	openFilesSoft = 1 << 16
	openFilesHard = 1 << 19 // the agent's own
)

// What no container sees of /proc and /sys, and what it may only read: they speak of the whole guest, or change it.
var (
	maskedPaths = []string{
		"/proc/acpi", "/proc/asound", "/proc/interrupts", "/proc/kcore", "/proc/keys", "/proc/latency_stats",
		"/proc/sched_debug", "/proc/scsi", "/proc/timer_list", "/proc/timer_stats",
		"/sys/devices/virtual/powercap", "/sys/firmware", "/sys/kernel/config", "/sys/kernel/debug",
	}
	readonlyPaths = []string{"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"}
)

// config builds the OCI configuration of a container. extra are mounts of the agent's own.
func config(s *Spec, v *Volumes, extra []Mount, pidsLimit int64) *specs.Spec {
	c := &specs.Spec{
		Version:  specs.Version,
		Root:     &specs.Root{Path: s.Rootfs, Readonly: s.ReadOnlyRoot},
		Hostname: hostname(s),
		Process:  process(&s.Process),
		Mounts:   systemMounts(s.Privileged),
		Linux: &specs.Linux{
			CgroupsPath: cgroupParent + "/" + s.ID,
			Namespaces: []specs.LinuxNamespace{ // the network is the group's
				{Type: specs.PIDNamespace}, {Type: specs.MountNamespace}, {Type: specs.UTSNamespace},
				{Type: specs.IPCNamespace}, {Type: specs.CgroupNamespace},
			},
			Resources: resources(s, pidsLimit),
			Seccomp:   s.Seccomp,
		},
	}
	if !s.Privileged {
		c.Linux.MaskedPaths, c.Linux.ReadonlyPaths = maskedPaths, readonlyPaths
	}
	if s.Privileged && slices.ContainsFunc(s.Mounts, func(m Mount) bool { return slices.Contains(m.Options, "rshared") }) {
		// What it mounts below a shared directory is there for all who share it, as a filesystem sidecar's work is. Otherwise the
		// container would get what others mount, and they nothing of its own.
		c.Linux.RootfsPropagation = "rshared"
	}
	for _, m := range append(append([]Mount(nil), s.Mounts...), extra...) {
		c.Mounts = append(c.Mounts, specs.Mount{
			Destination: m.Destination, Type: "bind", Source: v.Path(m.Source), Options: confined(m),
		})
	}
	if s.Evidence != "" { // after all others, so that none of them lies over it
		for _, at := range []string{evidencewire.Directory, evidencewire.ContextDirectory(s.ID)} {
			c.Mounts = append(c.Mounts, specs.Mount{
				Destination: at, Type: "bind", Source: s.Evidence, Options: []string{"bind", "rprivate", "ro", "nosuid", "nodev", "noexec"},
			})
		}
		c.Process.Env = withContext(c.Process.Env, s.ID)
	}
	return c
}

// withContext adds the variable that names the container's security context, as Azure's platform does after the policy has
// decided about the others. One that the policy let through stays.
func withContext(env []string, id string) []string {
	name := evidencewire.ContextVariable + "="
	if slices.ContainsFunc(env, func(kv string) bool { return strings.HasPrefix(kv, name) }) {
		return env
	}
	return append(slices.Clone(env), name+evidencewire.ContextDirectory(id))
}

// confined are the options of a mount with those that keep what lies in the volume from being a device or, where the host put it
// there, a set-user-ID program. The volumes' own mounts have both; but a bind mount that is given "rw" or "ro" has no more than
// its options say.
func confined(m Mount) []string {
	options := slices.Clone(m.Options)
	if fromHost(m.Source) {
		return append(options, "nosuid", "nodev") // the last word counts
	}
	if !slices.Contains(options, "dev") {
		options = append(options, "nodev")
	}
	return options
}

// fromHost reports whether the content of a mount's source is the host's, by its class.
func fromHost(source string) bool {
	class := path.Base(path.Dir(source))
	return slices.Contains([]string{"azureFileVolume", "secretsVolume", "gitRepoVolume"}, class)
}

func process(p *Process) *specs.Process {
	umask := uint32(Umask)
	adjust := 0
	return &specs.Process{
		Terminal: p.Stdio.Terminal,
		User:     specs.User{UID: p.User.UID, GID: p.User.GID, AdditionalGids: p.User.Extra, Umask: &umask},
		Args:     p.Args,
		Env:      p.Env,
		Cwd:      p.WorkingDir,
		Capabilities: &specs.LinuxCapabilities{
			Bounding: p.Capabilities.Bounding, Effective: p.Capabilities.Effective, Permitted: p.Capabilities.Permitted,
			Inheritable: p.Capabilities.Inheritable, Ambient: p.Capabilities.Ambient,
		},
		Rlimits:         []specs.POSIXRlimit{{Type: "RLIMIT_NOFILE", Soft: openFilesSoft, Hard: openFilesHard}},
		NoNewPrivileges: p.NoNewPrivileges,
		OOMScoreAdj:     &adjust, // the agent's own is lower, and would be inherited
	}
}

func systemMounts(privileged bool) []specs.Mount {
	access := "ro"
	if privileged {
		access = "rw"
	}
	return []specs.Mount{
		{Destination: "/proc", Type: "proc", Source: "proc", Options: []string{"nosuid", "noexec", "nodev"}},
		{Destination: "/dev", Type: "tmpfs", Source: "tmpfs", Options: []string{"nosuid", "strictatime", "mode=755", "size=65536k"}},
		{Destination: "/dev/pts", Type: "devpts", Source: "devpts", Options: []string{
			"nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5",
		}},
		{Destination: "/dev/shm", Type: "tmpfs", Source: "shm", Options: []string{"nosuid", "noexec", "nodev", "mode=1777", "size=65536k"}},
		{Destination: "/dev/mqueue", Type: "mqueue", Source: "mqueue", Options: []string{"nosuid", "noexec", "nodev"}},
		{Destination: "/sys", Type: "sysfs", Source: "sysfs", Options: []string{"nosuid", "noexec", "nodev", access}},
		{Destination: "/sys/fs/cgroup", Type: "cgroup", Source: "cgroup", Options: []string{
			"nosuid", "noexec", "nodev", "relatime", access,
		}},
	}
}

// pidsKept is the part of the processes of all containers that one of them can not have, so that one that leaks processes
// leaves others room to start some.
const pidsKept = 4

func resources(s *Spec, pidsLimit int64) *specs.LinuxResources {
	own := pidsLimit - pidsLimit/pidsKept
	r := &specs.LinuxResources{
		// The runtime adds the usual devices (null, zero, full, random, urandom, tty, pts) to what is allowed.
		Devices: []specs.LinuxDeviceCgroup{{Allow: s.Privileged, Access: "rwm"}},
		Pids:    &specs.LinuxPids{Limit: &own},
	}
	if s.MemoryBytes > 0 {
		limit := int64(min(s.MemoryBytes, math.MaxInt64)) // bounded here
		r.Memory = &specs.LinuxMemory{Limit: &limit, Swap: &limit}
	}
	if s.CPUMillis > 0 {
		period := uint64(cpuPeriod)
		quota := int64(s.CPUMillis) * microsPerMill
		r.CPU = &specs.LinuxCPU{Period: &period, Quota: &quota}
	}
	return r
}
