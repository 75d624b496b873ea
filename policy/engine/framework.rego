# SPDX-License-Identifier: Apache-2.0

# The rules that a policy refers to as data.framework.NAME, one per enforcement point.
#
# What a rule may read:
#   input          the request; input.rule is the enforcement point
#   data.policy    the policy's own text
#   data.facts     what `facts` below computed from policy and fragments (once per load, not once per request)
#   data.metadata  the state that earlier allowed requests left: devices, rw_devices, scratch_mounts, overlayTargets,
#                  matches, started, p9mounts, issuers
# An allowed answer lists its state changes in "metadata"; the engine applies them only together with the answer.
#
# A denial's reasons are `errors`. They ask the same predicates (…_ok) that the answers ask, never a second opinion.
package framework

version := "0.5.0"

# ---- devices ---------------------------------------------------------------------------------------------------------

mount_device := allow("devices", "add", input.target, input.deviceHash) if {
	device_known
	not target_used
	target_valid
}

device_known if data.facts.layers[input.deviceHash]

# A target in use must not be covered: the layer that a container was approved with would change under it.
target_used if data.metadata.devices[input.target]

target_used if data.metadata.rw_devices[input.target]

target_valid if regex.match(anchored(input.mountPathRegex), input.target)

unmount_device := allow("devices", "remove", input.unmountTarget, null) if data.metadata.devices[input.unmountTarget]

rw_mount_device := allow("rw_devices", "add", input.target, true) if {
	not target_used
	target_valid
	scratch_protected
	input.ensureFilesystem == true
	filesystem_ok
}

scratch_protected if input.encrypted == true

scratch_protected if data.policy.allow_unencrypted_scratch == true

filesystem_ok if input.filesystem in {"ext4", "xfs"}

rw_unmount_device := allow("rw_devices", "remove", input.unmountTarget, null) if {
	data.metadata.rw_devices[input.unmountTarget]
}

scratch_mount := allow("scratch_mounts", "add", input.target, {"encrypted": input.encrypted}) if {
	not data.metadata.scratch_mounts[input.target]
	scratch_protected
}

scratch_unmount := allow("scratch_mounts", "remove", input.unmountTarget, null) if {
	data.metadata.scratch_mounts[input.unmountTarget]
}

# Directories that the host serves. The target names the container that may use them.
plan9_mount := allow("p9mounts", "add", input.target, plan9_owner) if not data.metadata.p9mounts[input.target]

plan9_owner := id if {
	some id, _ in data.metadata.matches
	regex.match(anchored(concat("", [input.rootPrefix, "/", id, input.mountPathPrefix])), input.target)
}

plan9_unmount := allow("p9mounts", "remove", input.unmountTarget, null) if data.metadata.p9mounts[input.unmountTarget]

# ---- overlays --------------------------------------------------------------------------------------------------------

# From here on a container ID stands for the containers of the policy with exactly these layers: its candidates. Every
# later request narrows them, and an ID gets an overlay once.
mount_overlay := {"allowed": true, "metadata": [
	{"name": "matches", "action": "add", "key": input.containerID, "value": overlay_candidates},
	{"name": "overlayTargets", "action": "add", "key": input.target, "value": true},
]} if {
	not overlay_used
	count(overlay_candidates) > 0
}

overlay_used if data.metadata.matches[input.containerID]

overlay_used if data.metadata.overlayTargets[input.target]

# Requests list the top layer first, policies the base layer. A path that is no mounted device matches nothing.
overlay_hashes := hashes if {
	hashes := [hash | some path in array.reverse(input.layerPaths); hash := data.metadata.devices[path]]
	count(hashes) == count(input.layerPaths)
}

overlay_candidates := data.facts.by_layers[concat("/", overlay_hashes)]

unmount_overlay := allow("overlayTargets", "remove", input.unmountTarget, null) if {
	data.metadata.overlayTargets[input.unmountTarget]
}

# ---- containers ------------------------------------------------------------------------------------------------------

# `create_container`, `exec_in_container` and `exec_external` narrow in the same four steps:
#   considered  what may be meant at all
#   fits        … and agrees with the request in everything but environment and capabilities
#   by_env      … and admits the environment that is kept
#   by_caps     … and has exactly the capabilities that are kept
# Those left must agree on allow_stdio_access.

create_container := {
	"allowed": true,
	"env_list": env_list,
	"caps_list": caps_list,
	"allow_stdio_access": stdio,
	"metadata": [
		{"name": "matches", "action": "update", "key": input.containerID, "value": by_caps},
		{"name": "started", "action": "add", "key": input.containerID, "value": {"privileged": input.privileged}},
	],
} if {
	not container_started
	count(by_caps) > 0
}

exec_in_container := {
	"allowed": true,
	"env_list": env_list,
	"caps_list": caps_list,
	"allow_stdio_access": stdio,
	"metadata": [{"name": "matches", "action": "update", "key": input.containerID, "value": by_caps}],
} if {
	container_started
	count(by_caps) > 0
}

exec_external := {"allowed": true, "env_list": env_list, "allow_stdio_access": stdio} if count(by_env) > 0

# Never unset: an ID cannot be created twice, also not after its container has ended.
container_started if data.metadata.started[input.containerID]

considered := data.metadata.matches[input.containerID] if input.rule in {"create_container", "exec_in_container"}

considered := data.facts.external_processes if input.rule == "exec_external"

fits := [c |
	count(input.devices) == 0
	some c in considered
	command_ok(c)
	working_dir_ok(c)
	privileged_ok(c)
	no_new_privileges_ok(c)
	user_ok(c)
	seccomp_ok(c)
	every m in requested_mounts { mount_ok(c, m) }
] if {
	input.rule == "create_container"
}

fits := [c |
	some c in considered
	command_ok(c)
	working_dir_ok(c)
	no_new_privileges_ok(c)
	user_ok(c)
] if {
	input.rule == "exec_in_container"
}

fits := [c |
	some c in considered
	command_ok(c)
	working_dir_ok(c)
] if {
	input.rule == "exec_external"
}

command_ok(c) if {
	input.rule != "exec_in_container"
	c.command == input.argList
}

command_ok(c) if {
	input.rule == "exec_in_container"
	some process in c.exec_processes
	process.command == input.argList
}

working_dir_ok(c) if c.working_dir == input.workingDir

privileged_ok(_) if input.privileged == false

privileged_ok(c) if c.allow_elevated == true

no_new_privileges_ok(c) if c.no_new_privileges == false

no_new_privileges_ok(_) if input.noNewPrivileges == true

seccomp_ok(c) if c.seccomp_profile_sha256 == input.seccompProfileSHA256

user_ok(c) if {
	c.user.umask == input.umask
	id_name_ok(c.user.user_idname, input.user)
	every group in input.groups {
		some rule in c.user.group_idnames
		id_name_ok(rule, group)
	}
}

id_name_ok(rule, _) if rule.strategy == "any"

id_name_ok(rule, who) if {
	rule.strategy == "id"
	rule.pattern == who.id
}

id_name_ok(rule, who) if {
	rule.strategy == "name"
	rule.pattern == who.name
}

id_name_ok(rule, who) if {
	rule.strategy == "re2"
	regex.match(anchored(rule.pattern), who.name)
}

# ---- environment -----------------------------------------------------------------------------------------------------

# What each fitting candidate would keep, if no required variable is missing.
env_choices := [{"of": c, "env": env} |
	some c in fits
	every rule in c.env.required {
		some e in input.envList
		env_rule_ok(rule, e)
	}
	env := {e | some e in input.envList; env_ok(c, e)}
]

# Without dropping, a candidate must admit every variable. With it, the largest choice wins, unless there are several.
env_kept := {e | some e in input.envList} if not dropping_env

env_kept := env if {
	dropping_env
	largest := max([count(choice.env) | some choice in env_choices])
	env := only({choice.env | some choice in env_choices; count(choice.env) == largest})
}

env_list := [e | some e in input.envList; e in env_kept]

by_env := [choice.of | some choice in env_choices; choice.env == env_kept]

dropping_env if data.policy.allow_environment_variable_dropping == true

# An environment rule has been brought into one of three forms by env_form.
env_ok(c, e) if e in c.env.exact

env_ok(c, e) if {
	some pattern in c.env.patterns
	regex.match(pattern, e)
}

env_ok(c, e) if {
	some rule in c.env.pairs
	env_rule_ok(rule, e)
}

env_rule_ok(rule, e) if rule.exact == e

env_rule_ok(rule, e) if regex.match(rule.pattern, e)

env_rule_ok(rule, e) if {
	i := indexof(e, "=")
	i >= 0
	text_ok(rule.name, substring(e, 0, i))
	text_ok(rule.value, substring(e, i + 1, -1))
}

text_ok(rule, s) if rule.exact == s

text_ok(rule, s) if regex.match(rule.pattern, s)

env_name(e) := split(e, "=")[0]

# ---- capabilities ----------------------------------------------------------------------------------------------------

caps_names := ["ambient", "bounding", "effective", "inheritable", "permitted"]

# A candidate's capabilities; a policy older than the field means the runtime's default.
caps_of(c) := c.capabilities if c.capabilities != null

caps_of(c) := default_caps(privileged_caps) if {
	c.capabilities == null
	runs_privileged
}

caps_of(c) := default_caps(unprivileged_caps) if {
	c.capabilities == null
	not runs_privileged
}

runs_privileged if input.privileged == true

runs_privileged if data.metadata.started[input.containerID].privileged == true

default_caps(d) := {
	"ambient": [],
	"bounding": d.caps,
	"effective": d.caps,
	"inheritable": d.inheritable,
	"permitted": d.caps,
}

# What each candidate would keep: the requested ones that it lists, and whether those are all that it lists.
caps_choices := [choice |
	some c in by_env
	allowed := caps_of(c)
	caps := {name: {cap | some cap in input.capabilities[name]; cap in allowed[name]} | some name in caps_names}
	choice := {
		"of": c, "caps": caps,
		"size": sum([count(set) | some set in caps]),
		"whole": caps == {name: {cap | some cap in allowed[name]} | some name in caps_names},
	}
]

caps_kept := {name: {cap | some cap in input.capabilities[name]} | some name in caps_names} if not dropping_caps

caps_kept := caps if {
	dropping_caps
	caps := only(caps_largest)
}

caps_largest := {choice.caps | some choice in caps_choices; choice.size == max([x.size | some x in caps_choices])}

caps_list := {name: [cap | some cap in input.capabilities[name]; cap in caps_kept[name]] | some name in caps_names}

by_caps := [choice.of | some choice in caps_choices; choice.caps == caps_kept; choice.whole]

dropping_caps if data.policy.allow_capability_dropping == true

# ---- standard streams ------------------------------------------------------------------------------------------------

survivors := by_env if input.rule == "exec_external"

survivors := by_caps if input.rule != "exec_external"

stdio := only({c.allow_stdio_access | some c in survivors})

# ---- mounts ----------------------------------------------------------------------------------------------------------

requested_mounts := [object.union(m, {"options": {o | some o in m.options}}) | some m in input.mounts]

mount_ok(c, m) if {
	some rule in c.mounts
	mount_rule_ok(rule, m)
}

mount_ok(_, m) if {
	some rule in data.facts.default_mounts
	mount_rule_ok(rule, m)
}

mount_ok(c, m) if {
	c.allow_elevated == true
	some rule in data.facts.privileged_mounts
	mount_rule_ok(rule, m)
}

# The sandbox container, which only holds namespaces, may see /sys writable like a privileged one.
mount_ok(_, m) if {
	input.isSandboxContainer == true
	m.destination == "/sys"
	some rule in data.facts.privileged_mounts
	mount_rule_ok(rule, m)
}

mount_rule_ok(rule, m) if {
	rule.destination == m.destination
	rule.type == m.type
	rule.options == m.options
	source_ok(rule.source, m.source)
}

source_ok(rule, source) if {
	rule.kind == "literal"
	rule.rest == source
}

source_ok(rule, source) if {
	rule.kind == "sandbox"
	under(input.sandboxDir, rule, source)
}

source_ok(rule, source) if {
	rule.kind == "hugepages"
	under(input.hugePagesDir, rule, source)
}

source_ok(rule, source) if {
	rule.kind == "plan9"
	data.metadata.p9mounts[source] == input.containerID
}

# A rule such as DIR/.+ must not be led out of DIR. A guest that has no such directory has nothing under it.
under(dir, rule, source) if {
	dir != ""
	regex.match(anchored(concat("", [dir, rule.rest])), source)
	not ".." in split(source, "/")
}

# ---- running containers ----------------------------------------------------------------------------------------------

shutdown_container := allow("matches", "remove", input.containerID, null) if {
	container_started
	data.metadata.matches[input.containerID]
}

signal_container_process := allow("matches", "update", input.containerID, signal_targets) if {
	container_started
	count(signal_targets) > 0
}

signal_targets := [c |
	some c in data.metadata.matches[input.containerID]
	signal_ok(c)
]

signal_ok(c) if {
	input.isInitProcess == true
	input.signal in c.signals
}

signal_ok(c) if {
	input.isInitProcess == false
	some process in c.exec_processes
	process.command == input.argList
	input.signal in process.signals
}

# ---- switches --------------------------------------------------------------------------------------------------------

get_properties := {"allowed": true} if data.policy.allow_properties_access == true

dump_stacks := {"allowed": true} if data.policy.allow_dump_stacks == true

runtime_logging := {"allowed": true} if data.policy.allow_runtime_logging == true

host_network := {"allowed": true} if data.policy.allow_host_network == true

# Linux guests have none of these.
mount_blockdev := {"allowed": false}

unmount_blockdev := {"allowed": false}

mount_cims := {"allowed": false}

registry_changes := {"allowed": false}

log_provider := {"allowed": false}

# ---- helpers ---------------------------------------------------------------------------------------------------------

allow(name, action, key, value) := {
	"allowed": true,
	"metadata": [{"name": name, "action": action, "key": key, "value": value}],
}

# The one element of a set; undefined when there are none or several.
only(set) := x if {
	count(set) == 1
	some x in set
}

# As hcsshim does it, textually: ^a|b$ is what becomes of a|b.
anchored(pattern) := concat("", [anchor_head(pattern), pattern, anchor_tail(pattern)])

anchor_head(pattern) := "" if startswith(pattern, "^")

anchor_head(pattern) := "^" if not startswith(pattern, "^")

anchor_tail(pattern) := "" if endswith(pattern, "$")

anchor_tail(pattern) := "$" if not endswith(pattern, "$")
