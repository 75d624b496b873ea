// SPDX-License-Identifier: Apache-2.0

package replay

import (
	"fmt"
	"slices"
	"strings"

	"cofferdam.dev/policy"
	"cofferdam.dev/policy/engine"
)

// Mount returns the requests that bring a container's layers in place: it can be created then.
func Mount(c policy.Container, containerID string) []Step {
	var steps []Step
	paths := make([]any, len(c.Layers))
	seen := map[string]string{}
	for i, hash := range c.Layers {
		target, again := seen[hash]
		if !again {
			target = fmt.Sprintf("/run/mounts/scsi/m%d", i)
			seen[hash] = target
			steps = append(steps, Step{Name: engine.PointMountDevice, Input: map[string]any{"target": target, "deviceHash": hash}})
		}
		paths[len(paths)-1-i] = target // requests list the top layer first
	}
	return append(steps, Step{Name: engine.PointMountOverlay, Input: map[string]any{
		"containerID": containerID, "layerPaths": paths, "target": engine.GuestRoot + "/" + containerID + "/rootfs",
	}})
}

// Create returns the least request that a container's entry in a policy admits: only what is required.
func Create(c policy.Container, containerID string) Step {
	in := Process(c, containerID, c.Command)
	in["privileged"] = false
	in["seccompProfileSHA256"] = c.SeccompProfileSHA256
	return Step{Name: engine.PointCreateContainer, Input: in}.Complete()
}

// Exec returns the least request to start a further command in a container.
func Exec(c policy.Container, containerID string, command []string) Step {
	return Step{Name: engine.PointExecInContainer, Input: Process(c, containerID, command)}
}

// Signal returns a request to signal a process: a container's first one if there is no command.
func Signal(containerID string, signal int, command []string) Step {
	return Step{Name: engine.PointSignalContainerProcess, Input: map[string]any{
		"containerID": containerID, "signal": signal, "isInitProcess": command == nil, "argList": anys(command),
	}}
}

// Process is the part of a request that describes a process.
func Process(c policy.Container, containerID string, command []string) map[string]any {
	env := []any{}
	for _, r := range c.EnvRules {
		if s := Variable(r); r.Required && len(s) > 0 && !slices.Contains(env, any(s[0])) {
			env = append(env, s[0])
		}
	}
	caps := map[string]any{}
	for name, set := range map[string][]string{
		"ambient": c.Capabilities.Ambient, "bounding": c.Capabilities.Bounding, "effective": c.Capabilities.Effective,
		"inheritable": c.Capabilities.Inheritable, "permitted": c.Capabilities.Permitted,
	} {
		caps[name] = anys(set)
	}
	return map[string]any{
		"containerID": containerID, "argList": anys(command), "envList": env, "workingDir": c.WorkingDir,
		"user": Who(c.User.UserIDName), "groups": []any{}, "umask": c.User.Umask, "noNewPrivileges": true,
		"capabilities": caps,
	}
}

// Who is a user or group that a rule admits.
func Who(r policy.IDName) map[string]any {
	switch r.Strategy {
	case policy.StrategyID:
		return map[string]any{"id": r.Pattern, "name": ""}
	case policy.StrategyName:
		return map[string]any{"id": "", "name": r.Pattern}
	case policy.StrategyRegexp:
		if s := Samples(r.Pattern); len(s) > 0 {
			return map[string]any{"id": "", "name": s[0]}
		}
	}
	return map[string]any{"id": "4711", "name": "somebody"}
}

// Variable returns variables that a rule admits.
func Variable(r policy.EnvRule) []string {
	texts := func(s string, strategy policy.Strategy) []string {
		if strategy == policy.StrategyString {
			return []string{s}
		}
		return Samples(s)
	}
	if r.NameStrategy == "" {
		return texts(r.Pattern, r.Strategy)
	}
	var out []string
	for _, name := range texts(r.Name, r.NameStrategy) {
		for _, value := range texts(r.Value, r.ValueStrategy) {
			if !strings.Contains(name, "=") {
				out = append(out, name+"="+value)
			}
		}
	}
	return out
}

// MountOf returns bind mounts that a rule admits, with sources below the directories that a recording has by default.
func MountOf(m policy.Mount) []map[string]any {
	sources := []string{m.Source}
	for prefix, dir := range map[string]string{"sandbox://": SandboxDir, "hugepages://": HugePagesDir} {
		if rest, ok := strings.CutPrefix(m.Source, prefix); ok {
			sources = Samples(dir + rest)
		}
	}
	var out []map[string]any
	for _, s := range sources {
		out = append(out, map[string]any{
			"destination": m.Destination, "options": anys(m.Options), "source": s, "type": m.Type,
		})
	}
	return out
}

func anys(list []string) []any {
	out := make([]any, len(list))
	for i, s := range list {
		out[i] = s
	}
	return out
}
