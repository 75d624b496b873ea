// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"strings"
	"testing"

	"cofferdam.dev/policy"
)

// The model: two containers that share their base layer.
const (
	modelBase  = "ba5e"
	modelTopA  = "aaaa"
	modelTopB  = "bbbb"
	modelAlien = "0bad"
)

func modelPolicy() *policy.Policy {
	container := func(name, top string) policy.Container {
		return policy.Container{
			Name: name, Layers: []string{modelBase, top}, Command: []string{"/" + name}, WorkingDir: "/" + name,
			EnvRules: []policy.EnvRule{
				{Pattern: "PATH=/bin", Strategy: policy.StrategyString},
				{Pattern: "HOSTNAME=.+", Strategy: policy.StrategyRegexp},
			},
			Mounts: []policy.Mount{{
				Destination: "/data", Options: []string{"rbind", "ro"}, Source: "sandbox:///tmp/atlas/emptydir/.+", Type: "bind",
			}},
			ExecProcesses: []policy.ExecProcess{{Command: []string{"/probe"}}},
			Signals:       []int{15},
			User: policy.User{
				UserIDName:   policy.IDName{Pattern: "1000", Strategy: policy.StrategyID},
				GroupIDNames: []policy.IDName{{Strategy: policy.StrategyAny}}, Umask: "0022",
			},
			Capabilities: policy.Capabilities{Effective: []string{"CAP_KILL"}},
		}
	}
	return &policy.Policy{
		APIVersion: policy.DeployedAPI, FrameworkVersion: "0.4.1", AllowEnvironmentVariableDropping: true,
		Containers: []policy.Container{container("a", modelTopA), container("b", modelTopB)},
	}
}

func modelMount() policy.Mount {
	return policy.Mount{
		Destination: "/data", Options: []string{"rbind", "ro"}, Source: GuestRoot + "/sandbox/tmp/atlas/emptydir/x", Type: "bind",
	}
}

func modelProcess(name string) Process {
	return Process{
		Args: []string{"/" + name}, WorkingDir: "/" + name, Umask: "0022", User: ID{ID: "1000"},
		Env: []string{"PATH=/bin", "HOSTNAME=x"}, Capabilities: policy.Capabilities{Effective: []string{"CAP_KILL"}},
	}
}

func modelCreate(id, name string, change func(*CreateInput)) CreateInput {
	in := CreateInput{
		ContainerID: id, Process: modelProcess(name), SandboxDir: GuestRoot + "/sandbox", HugePagesDir: GuestRoot + "/huge",
		Mounts: []policy.Mount{modelMount()},
	}
	if change != nil {
		change(&in)
	}
	return in
}

// modelAlphabet are the requests: good ones, and one bad one for each thing that may be wrong.
func modelAlphabet() []ask {
	const m0, m1, m2 = "/run/mounts/scsi/m0", "/run/mounts/scsi/m1", "/run/mounts/scsi/m2"
	first, second := testID2(1), testID2(2)
	root := func(id string) string { return GuestRoot + "/" + id + "/rootfs" }
	probe := modelProcess("a")
	probe.Args = []string{"/probe"}
	shell, loaded := probe, probe
	shell.Args = []string{"/bin/sh"}
	loaded.Env = []string{"PATH=/bin", "LD_PRELOAD=/x"}
	return []ask{
		mountAsk(true, m0, modelBase), mountAsk(true, m1, modelTopA), mountAsk(true, m2, modelTopB),
		mountAsk(true, m1, modelTopB), mountAsk(false, m1, modelAlien), mountAsk(false, "/etc", modelBase),
		unmountAsk(m0), unmountAsk(m1),
		overlayAsk(true, first, root(first), m1, m0), overlayAsk(false, first, root(first), m0),
		overlayAsk(false, first, root(first), m2, m1, m0), overlayAsk(true, second, root(second), m2, m0),
		overlayAsk(true, second, root(first), m2, m0),
		unmountOverlayAsk(root(first)),
		createAsk(true, "a", modelCreate(first, "a", nil)),
		createAsk(true, "b", modelCreate(second, "b", nil)),
		createAsk(true, "a, other variable dropped", modelCreate(first, "a", func(in *CreateInput) { in.Env = append(in.Env, "LD_PRELOAD=/x") })),
		createAsk(false, "a, other command", modelCreate(first, "a", func(in *CreateInput) { in.Args = []string{"/bin/sh"} })),
		createAsk(false, "a, other mount", modelCreate(first, "a", func(in *CreateInput) { in.Mounts[0].Source = "/" })),
		createAsk(false, "a, other directory", modelCreate(first, "a", func(in *CreateInput) { in.WorkingDir = "/" })),
		createAsk(false, "a, other user", modelCreate(first, "a", func(in *CreateInput) { in.User.ID = "0" })),
		createAsk(false, "a, privileged", modelCreate(first, "a", func(in *CreateInput) { in.Privileged = true })),
		createAsk(false, "a, more capabilities", modelCreate(first, "a", func(in *CreateInput) {
			in.Capabilities.Effective = []string{"CAP_KILL", "CAP_SYS_ADMIN"}
		})),
		execAsk(true, first, probe), execAsk(false, first, shell), execAsk(true, first, loaded),
		signalAsk(true, first, 15), signalAsk(false, first, 10),
	}
}

// TestCheckerNotices breaks one predicate after the other, in the only place that a policy can: a rule of its own that
// asks the framework with the predicate replaced. A checker that finds nothing in these could not find anything.
func TestCheckerNotices(t *testing.T) {
	t.Parallel()
	const (
		second = `create_container := object.union(x, {"metadata": [object.union(m, {"action": "update"}) | m := x.metadata[_]]}) {
	x := data.framework.create_container with data.framework.container_started as false
}`
		covered = `mount_device := {"allowed": true, "metadata": [object.union(m, {"action": "update"}) | m := x.metadata[_]]} {
	x := data.framework.mount_device with data.framework.target_used as false
}`
		again = `mount_overlay := {"allowed": true, "metadata": [object.union(m, {"action": "update"}) | m := x.metadata[_]]} {
	x := data.framework.mount_overlay with data.framework.overlay_used as false
}`
	)
	for name, m := range map[string]struct{ point, rule, want string }{
		"unlisted layer":      {"mount_device", "with data.framework.device_known as true", "unlisted layer"},
		"any mount point":     {"mount_device", "with data.framework.target_valid as true", "mounted at /etc"},
		"covered layer":       {"mount_device", covered, "was covered"},
		"any overlay":         {"mount_overlay", "with data.framework.overlay_candidates as data.policy.everything", "no container's"},
		"second overlay":      {"mount_overlay", again, "second overlay"},
		"second start":        {"create_container", second, "second time"},
		"any command":         {"create_container", "with data.framework.command_ok as data.policy.yes", "command"},
		"any directory":       {"create_container", "with data.framework.working_dir_ok as data.policy.yes", "working directory"},
		"any user":            {"create_container", "with data.framework.user_ok as data.policy.yes", "user"},
		"any mount":           {"create_container", "with data.framework.mount_ok as data.policy.yes_to_both", "mount /data"},
		"any variable":        {"create_container", "with data.framework.env_ok as data.policy.yes_to_both", "LD_PRELOAD"},
		"any privilege":       {"create_container", "with data.framework.privileged_ok as data.policy.yes", "privileges"},
		"any capability":      {"create_container", "with data.framework.by_caps as data.framework.by_env", "capabilities"},
		"any exec":            {"exec_in_container", "with data.framework.command_ok as data.policy.yes", "unlisted process"},
		"any exec's variable": {"exec_in_container", "with data.framework.env_ok as data.policy.yes_to_both", "unlisted process"},
		"any signal":          {"signal_container_process", "with data.framework.signal_ok as data.policy.yes", "signal 10"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			rule := m.rule
			if strings.HasPrefix(rule, "with ") {
				rule = m.point + " := x { x := data.framework." + m.point + " " + rule + " }"
			}
			text := string(modelPolicy().Text())
			line := m.point + " := data.framework." + m.point + "\n"
			if strings.Count(text, line) != 1 {
				t.Fatalf("the policy has no line %q", line)
			}
			text = strings.Replace(text, line, rule+"\n", 1) + `
yes(_) = true
yes_to_both(_, _) = true
everything := data.framework.containers
`
			c := check(t, text, 5)
			if c.found == nil {
				t.Fatalf("nothing was noticed in %d states", len(c.seen))
			}
			if !strings.Contains(c.found.Error(), m.want) {
				t.Errorf("noticed %q, expected %q", c.found, m.want)
			}
			t.Logf("%v, after: %s", c.found, strings.Join(c.trace, "; "))
		})
	}
}
