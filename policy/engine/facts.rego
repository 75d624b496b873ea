# SPDX-License-Identifier: Apache-2.0

# What the policy and its fragments say, brought into one form. The engine evaluates `facts` when a policy or fragment
# is loaded and puts the result at data.facts. It puts the lists and the version that the policy's text defines at
# data.given beforehand: read from data.policy, their types would be held against these rules by the compiler, and what
# a policy lacks would be an error in the framework.
package framework

facts := {
	"containers": containers,
	"layers": layers,
	"by_layers": by_layers,
	"external_processes": [normal_process(p) | some p in listed("external_processes")],
	"fragments": fragments,
	"trust_lists": trust_lists,
	"default_mounts": [normal_mount(m) | some m in data.defaultMounts],
	"privileged_mounts": [normal_mount(m) | some m in data.privilegedMounts],
}

# What could not be brought into the one form: then nothing of the policy is used.
malformed := array.concat([what | some what, list in policy_lists; not is_array(list)], malformed_elements)

malformed_elements := array.concat(
	[sprintf("container %d", [i + 1]) |
		usable(policy_version)
		some i, c in policy_lists.containers
		not normal(c, policy_version)
	],
	[sprintf("external process %d", [i + 1]) | some i, p in policy_lists.external_processes; not normal_process(p)],
)

# A layer may be mounted even if the policy is too new for its containers to be understood: nothing can use it.
layers[hash] := true if {
	some c in containers
	some hash in c.layers
}

layers[hash] := true if {
	some c in policy_lists.containers
	some hash in c.layers
}

# The containers with exactly these layers, in the order of the policy.
by_layers[key] := same if {
	some key in {concat("/", c.layers) | some c in containers}
	same := [c | some c in containers; concat("/", c.layers) == key]
}

# Each source has the framework version that it was written for and what it is allowed to contribute.
sources := array.concat(
	[{
		"version": policy_version, "policy": true,
		"includes": {"containers", "fragments", "external_processes", "platform_rules", "transparency_trust_lists"},
		"content": policy_lists,
	} |
		usable(policy_version)
	],
	[source |
		some _, issuer in data.metadata.issuers
		some _, loaded in issuer.feeds
		some source in loaded
	],
)

policy_version := data.given.framework_version

# The key's older name.
policy_version := data.given.framework_svn if not data.given.framework_version

policy_lists[what] := object.get(data.given, what, []) if {
	some what in ["containers", "fragments", "external_processes", "platform_rules", "transparency_trust_lists"]
}

# An older text may use the name for something else.
trust_lists := [l |
	some source in sources
	"transparency_trust_lists" in source.includes
	not older(source.version, "0.5.0")
	some l in object.get(source.content, "transparency_trust_lists", [])
]

usable(v) if semver.compare(v, version) <= 0

listed(what) := [x |
	some source in sources
	what in source.includes
	some x in object.get(source.content, what, [])
]

# An older text that names no parameters means those without values. A newer one means nothing of its own by that, as long
# as another listing of the fragment names some.
fragments := [f |
	some source in sources
	"fragments" in source.includes
	some x in object.get(source.content, "fragments", [])
	f := object.union(implied_parameters(source.version), x)
]

implied_parameters(v) := {"parameters": {}} if older(v, version)

implied_parameters(v) := {} if not older(v, version)

# ---- containers ------------------------------------------------------------------------------------------------------

containers := [c |
	some source in sources
	"containers" in source.includes
	some raw in source.content.containers
	some c in variants(normal(raw, source.version))
]

# One variant of each container per platform rule, with the rule's additions; without rules, the container as it is.
variants(c) := [c] if count(platform_rules) == 0

variants(c) := [widened |
	some rule in platform_rules
	widened := object.union(c, {
		"env": {
			"exact": c.env.exact | rule.env.exact,
			"patterns": array.concat(c.env.patterns, rule.env.patterns),
			"pairs": array.concat(c.env.pairs, rule.env.pairs),
			"required": array.concat(c.env.required, rule.env.required),
		},
		"mounts": array.concat(c.mounts, rule.mounts),
	})
] if {
	count(platform_rules) > 0
}

platform_rules := [rule |
	some source in sources
	"platform_rules" in source.includes
	not older(source.version, "0.5.0")
	some raw in source.content.platform_rules
	rule := {
		"env": env_form(object.get(raw, "env_rules", [])),
		"mounts": normal_mounts(object.get(raw, "mounts", [])),
	}
]

# A field that the policy's version does not know yet has a default. A field that is missing although the version
# knows it gets a value that no request matches.
normal(c, v) := {
	"name": object.get(c, "name", ""),
	"layers": object.get(c, "layers", null),
	"command": object.get(c, "command", null),
	"env": env_form(object.get(c, "env_rules", [])),
	"mounts": normal_mounts(object.get(c, "mounts", [])),
	"exec_processes": object.get(c, "exec_processes", []),
	"signals": signals(object.get(c, "signals", []), v),
	"working_dir": object.get(c, "working_dir", null),
	"allow_elevated": object.get(c, "allow_elevated", false),
	"allow_stdio_access": object.get(c, "allow_stdio_access", false),
	"no_new_privileges": since(v, "0.2.0", object.get(c, "no_new_privileges", true), false),
	"user": since(v, "0.2.1", object.get(c, "user", null), any_user),
	"capabilities": since(v, "0.2.2", object.get(c, "capabilities", {}), null),
	"seccomp_profile_sha256": since(v, "0.2.3", object.get(c, "seccomp_profile_sha256", null), ""),
}

since(v, introduced, value, _) := value if not older(v, introduced)

since(v, introduced, _, fallback) := fallback if older(v, introduced)

older(v, than) if semver.compare(v, than) < 0

# Before 0.4.1 every container could be killed and terminated without its policy saying so.
signals(listed_signals, v) := array.concat(listed_signals, [9, 15]) if older(v, "0.4.1")

signals(listed_signals, v) := listed_signals if not older(v, "0.4.1")

any_user := {
	"user_idname": {"pattern": "", "strategy": "any"},
	"group_idnames": [{"pattern": "", "strategy": "any"}],
	"umask": "0022",
}

normal_process(p) := {
	"command": object.get(p, "command", null),
	"env": env_form(object.get(p, "env_rules", [])),
	"working_dir": object.get(p, "working_dir", null),
	"allow_stdio_access": object.get(p, "allow_stdio_access", false),
}

normal_mounts(list) := out if {
	out := [normal_mount(m) | some m in list]
	count(out) == count(list)
}

normal_mount(m) := {
	"destination": m.destination,
	"type": m.type,
	"options": {o | some o in m.options},
	"source": source_form(m.source),
}

source_form(s) := {"kind": kind, "rest": substring(s, count(prefix), -1)} if {
	some kind, prefix in source_prefixes
	startswith(s, prefix)
}

source_form(s) := {"kind": "literal", "rest": s} if {
	every prefix in source_prefixes { not startswith(s, prefix) }
}

source_prefixes := {"sandbox": "sandbox://", "hugepages": "hugepages://", "plan9": "plan9://"}

# Whole strings go into a set, patterns are anchored once, the rest stays in pairs of name and value.
env_form(rules) := {
	"exact": {f.exact | some f in forms},
	"patterns": [f.pattern | some f in forms],
	"pairs": [f | some f in forms; f.name],
	"required": [f | some i, f in forms; rules[i].required == true],
} if {
	forms := [env_rule_form(rule) | some rule in rules]
	count(forms) == count(rules)
}

env_rule_form(rule) := {"exact": rule.pattern} if rule.strategy == "string"

env_rule_form(rule) := {"pattern": anchored(rule.pattern)} if rule.strategy == "re2"

env_rule_form(rule) := {"name": text_form(rule.name, rule.name_strategy), "value": text_form(rule.value, rule.value_strategy)}

text_form(text, strategy) := {"exact": text} if strategy == "string"

text_form(text, strategy) := {"pattern": anchored(text)} if strategy == "re2"

# ---- default capabilities --------------------------------------------------------------------------------------------

unprivileged_caps := {"inheritable": [], "caps": [
	"CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FSETID", "CAP_FOWNER", "CAP_MKNOD", "CAP_NET_RAW", "CAP_SETGID", "CAP_SETUID",
	"CAP_SETFCAP", "CAP_SETPCAP", "CAP_NET_BIND_SERVICE", "CAP_SYS_CHROOT", "CAP_KILL", "CAP_AUDIT_WRITE",
]}

privileged_caps := {"inheritable": all_caps, "caps": all_caps}

all_caps := [
	"CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_DAC_READ_SEARCH", "CAP_FOWNER", "CAP_FSETID", "CAP_KILL", "CAP_SETGID",
	"CAP_SETUID", "CAP_SETPCAP", "CAP_LINUX_IMMUTABLE", "CAP_NET_BIND_SERVICE", "CAP_NET_BROADCAST", "CAP_NET_ADMIN",
	"CAP_NET_RAW", "CAP_IPC_LOCK", "CAP_IPC_OWNER", "CAP_SYS_MODULE", "CAP_SYS_RAWIO", "CAP_SYS_CHROOT",
	"CAP_SYS_PTRACE", "CAP_SYS_PACCT", "CAP_SYS_ADMIN", "CAP_SYS_BOOT", "CAP_SYS_NICE", "CAP_SYS_RESOURCE",
	"CAP_SYS_TIME", "CAP_SYS_TTY_CONFIG", "CAP_MKNOD", "CAP_LEASE", "CAP_AUDIT_WRITE", "CAP_AUDIT_CONTROL",
	"CAP_SETFCAP", "CAP_MAC_OVERRIDE", "CAP_MAC_ADMIN", "CAP_SYSLOG", "CAP_WAKE_ALARM", "CAP_BLOCK_SUSPEND",
	"CAP_AUDIT_READ", "CAP_PERFMON", "CAP_BPF", "CAP_CHECKPOINT_RESTORE",
]
