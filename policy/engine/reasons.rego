# SPDX-License-Identifier: Apache-2.0

# Why a request was denied. The texts are hcsshim's, so that what people know and search for stays true.
package framework

reason := {"errors": errors}

errors := named if count(named) > 0

# Each requirement is met by some candidate, but no candidate meets them all: say what the nearest ones lack.
errors := {sprintf("no single match; the nearest one has: %s", [concat(", ", sort(lacking))]) |
	some lacking in lacks
	count(lacking) == min([count(x) | some x in lacks])
} if {
	count(named) == 0
}

lacks := [{text | some text, ok in checks(c); ok == false} | some c in considered]

checks(c) := object.union({
	"invalid command": holds({1 | command_ok(c)}),
	"invalid working directory": holds({1 | working_dir_ok(c)}),
	"invalid env list": holds({1 | env_admitted(c)}),
}, container_checks(c))

container_checks(_) := {} if input.rule == "exec_external"

container_checks(c) := object.union({
	"invalid noNewPrivileges": holds({1 | no_new_privileges_ok(c)}),
	"invalid user": holds({1 | user_ok(c)}),
}, create_checks(c)) if {
	input.rule != "exec_external"
}

create_checks(_) := {} if input.rule != "create_container"

create_checks(c) := {
	"privileged escalation not allowed": holds({1 | privileged_ok(c)}),
	"invalid seccomp": holds({1 | seccomp_ok(c)}),
	"invalid mount list": holds({1 | every m in requested_mounts { mount_ok(c, m) }}),
} if {
	input.rule == "create_container"
}

holds(witnesses) := count(witnesses) > 0

env_admitted(_) if dropping_env

env_admitted(c) if {
	every e in input.envList { env_ok(c, e) }
}

# ---- any request -----------------------------------------------------------------------------------------------------

named contains sprintf("framework_version is missing. Current version: %s", [version]) if not policy_version

named contains sprintf("framework_version is no version: %v", [policy_version]) if not semver.is_valid(policy_version)

named contains text if {
	semver.is_valid(policy_version)
	not usable(policy_version)
	text := sprintf("framework_version is ahead of the current version: %s is greater than %s", [policy_version, version])
}

# ---- devices and overlays --------------------------------------------------------------------------------------------

named contains "deviceHash not found" if {
	input.rule == "mount_device"
	not device_known
}

named contains "device already mounted at path" if {
	input.rule in {"mount_device", "rw_mount_device"}
	target_used
}

named contains "mountpoint invalid" if {
	input.rule in {"mount_device", "rw_mount_device"}
	not target_valid
}

named contains text if {
	input.rule == "rw_mount_device"
	not scratch_protected
	text := "unencrypted scratch not allowed, non-readonly mount request for SCSI disk must request encryption"
}

named contains "ensureFilesystem must be set on rw device mounts" if {
	input.rule == "rw_mount_device"
	not input.ensureFilesystem == true
}

named contains "rw device mounts uses a filesystem that is not allowed" if {
	input.rule == "rw_mount_device"
	not filesystem_ok
}

named contains "no device at path to unmount" if {
	input.rule in {"unmount_device", "rw_unmount_device"}
	not data.metadata.devices[input.unmountTarget]
	not data.metadata.rw_devices[input.unmountTarget]
}

named contains "received read-only unmount request, but device provided is read-write" if {
	input.rule == "unmount_device"
	data.metadata.rw_devices[input.unmountTarget]
}

named contains "received read-write unmount request, but device provided is read-only" if {
	input.rule == "rw_unmount_device"
	data.metadata.devices[input.unmountTarget]
}

named contains "blockdev mounts are not supported" if input.rule in {"mount_blockdev", "unmount_blockdev"}

named contains "device already mounted at path" if {
	input.rule == "plan9_mount"
	data.metadata.p9mounts[input.target]
}

named contains "mountpoint invalid" if {
	input.rule == "plan9_mount"
	not plan9_owner
}

named contains "no device at path to unmount" if {
	input.rule == "plan9_unmount"
	not data.metadata.p9mounts[input.unmountTarget]
}

named contains "scratch already mounted at path" if {
	input.rule == "scratch_mount"
	data.metadata.scratch_mounts[input.target]
}

named contains "unencrypted scratch not allowed" if {
	input.rule == "scratch_mount"
	not scratch_protected
}

named contains "no scratch at path to unmount" if {
	input.rule == "scratch_unmount"
	not data.metadata.scratch_mounts[input.unmountTarget]
}

named contains "overlay has already been mounted" if {
	input.rule == "mount_overlay"
	overlay_used
}

named contains "no matching containers for overlay" if {
	input.rule == "mount_overlay"
	not overlay_candidates
}

named contains "no overlay at path to unmount" if {
	input.rule == "unmount_overlay"
	not data.metadata.overlayTargets[input.unmountTarget]
}

# ---- containers ------------------------------------------------------------------------------------------------------

starting if input.rule in {"create_container", "exec_in_container"}

starting if input.rule == "exec_external"

in_container if input.rule in {"create_container", "exec_in_container"}

named contains "container already started" if {
	input.rule == "create_container"
	container_started
}

named contains "container not started" if {
	input.rule in {"exec_in_container", "shutdown_container", "signal_container_process"}
	not container_running
}

container_running if {
	container_started
	data.metadata.matches[input.containerID]
}

named contains "invalid command" if {
	starting
	not some_command
}

some_command if {
	some c in considered
	command_ok(c)
}

named contains "invalid working directory" if {
	starting
	not some_working_dir
}

some_working_dir if {
	some c in considered
	working_dir_ok(c)
}

named contains "privileged escalation not allowed" if {
	input.rule == "create_container"
	not some_privileged
}

some_privileged if {
	some c in considered
	privileged_ok(c)
}

named contains "invalid noNewPrivileges" if {
	in_container
	not some_no_new_privileges
}

some_no_new_privileges if {
	some c in considered
	no_new_privileges_ok(c)
}

named contains "invalid user" if {
	in_container
	not some_user
}

some_user if {
	some c in considered
	user_ok(c)
}

named contains "invalid seccomp" if {
	input.rule == "create_container"
	not some_seccomp
}

some_seccomp if {
	some c in considered
	seccomp_ok(c)
}

named contains "devices not supported" if {
	input.rule == "create_container"
	count(input.devices) > 0
}

named contains sprintf("invalid mount list: %s", [concat(",", bad)]) if {
	input.rule == "create_container"
	all := [m.destination | some m in requested_mounts; not some_mount(m)]
	bad := [d | some i, d in all; not d in array.slice(all, 0, i)]
	count(bad) > 0
}

some_mount(m) if {
	some c in considered
	mount_ok(c, m)
}

named contains sprintf("invalid env list: %s", [concat(",", bad)]) if {
	starting
	not dropping_env
	bad := [env_name(e) | some e in input.envList; not some_env(e)]
	count(bad) > 0
}

some_env(e) if {
	some c in considered
	env_ok(c, e)
}

named contains "missing required environment variable" if {
	starting
	count(fits) > 0
	count(env_choices) == 0
}

# Candidates are left, but there is no single environment to keep.
named contains "invalid env list" if {
	in_container
	count(env_choices) > 0
	not some_by_env
}

some_by_env if count(by_env) > 0

named contains "capabilities don't match" if {
	in_container
	some_by_env
	not caps_ambiguous
	count(by_caps) == 0
}

named contains "containers only distinguishable by capabilties" if caps_ambiguous

caps_ambiguous if {
	in_container
	dropping_caps
	count(caps_largest) > 1
}

named contains "containers only distinguishable by allow_stdio_access" if {
	in_container
	stdio_ambiguous
}

named contains "external processes only distinguishable by allow_stdio_access" if {
	input.rule == "exec_external"
	stdio_ambiguous
}

stdio_ambiguous if count({c.allow_stdio_access | some c in survivors}) > 1

named contains "target isn't allowed to receive the signal" if {
	input.rule == "signal_container_process"
	count(signal_targets) == 0
}

# ---- switches --------------------------------------------------------------------------------------------------------

# hcsshim gives none here; a denial without a reason helps nobody.
named contains sprintf("%s is not allowed: allow_%s is false", [input.rule, switches[input.rule]]) if switches[input.rule]

switches := {
	"get_properties": "properties_access",
	"dump_stacks": "dump_stacks",
	"runtime_logging": "runtime_logging",
	"host_network": "host_network",
}

named contains sprintf("%s does not exist on Linux", [input.rule]) if {
	input.rule in {"mount_cims", "registry_changes", "log_provider"}
}
