// SPDX-License-Identifier: Apache-2.0

package diff

import (
	"fmt"
	"strconv"
	"strings"

	"cofferdam.dev/policy"
	"cofferdam.dev/policy/engine"
	"cofferdam.dev/policy/outline"
	"cofferdam.dev/policy/replay"
)

const (
	strangerPath = "/cofferdam/diff/probe"
	strangerID   = "00000000000000000000000000000000000000000000000000000000c0ffe0da"
)

// strangers are requests about what no policy lists, at every point where a policy could let them through.
func strangers() []replay.Step {
	process := func() map[string]any {
		in := replay.Process(policy.Container{WorkingDir: strangerPath}, strangerID, []string{strangerPath})
		in["privileged"], in["seccompProfileSHA256"] = true, strangerID
		return in
	}
	unmount := map[string]any{"unmountTarget": strangerPath}
	return []replay.Step{
		{Name: engine.PointMountDevice, Input: map[string]any{"target": "/run/mounts/scsi/m4242", "deviceHash": strangerID}},
		{Name: engine.PointMountOverlay, Input: map[string]any{"containerID": strangerID, "layerPaths": []any{strangerPath}, "target": strangerPath}},
		{Name: engine.PointCreateContainer, Input: process()},
		{Name: engine.PointExecInContainer, Input: process()},
		{Name: engine.PointExecExternal, Input: process()},
		{Name: engine.PointSignalContainerProcess, Input: replay.Signal(strangerID, 9, nil).Input},
		{Name: engine.PointShutdownContainer, Input: map[string]any{"containerID": strangerID}},
		{Name: engine.PointPlan9Mount, Input: map[string]any{"target": strangerPath}},
		{Name: engine.PointLoadFragment, Input: fragmentInput("did:x509:0:sha256:probe", "probe", 1<<30, nil)},
		{Name: engine.PointUnmountDevice, Input: unmount}, {Name: engine.PointRWUnmountDevice, Input: unmount},
		{Name: engine.PointUnmountOverlay, Input: unmount}, {Name: engine.PointPlan9Unmount, Input: unmount},
		{Name: engine.PointScratchUnmount, Input: unmount}, {Name: engine.PointMountBlockdev, Input: unmount},
		{Name: engine.PointUnmountBlockdev, Input: unmount},
		{Name: engine.PointRWMountDevice, Input: map[string]any{"target": strangerPath, "encrypted": false, "ensureFilesystem": false, "filesystem": "probe"}},
		{Name: engine.PointLoadTrustList, Input: map[string]any{"issuer": "probe", "subject": "probe", "svn": 1 << 30, "ledgers": []any{"probe"}}},
	}
}

// fragmentInput is a fragment with just the receipts that somebody requires.
func fragmentInput(issuer, feed string, svn int, required []string) map[string]any {
	receipts := []any{}
	for _, r := range required {
		subjects := []any{}
		if subject, ok := strings.CutPrefix(r, "TTL:"); ok {
			r, subjects = "probe", []any{subject}
		} else if r == "*" {
			r = "probe"
		}
		receipts = append(receipts, map[string]any{"issuer": r, "ttl_subjects": subjects})
	}
	return map[string]any{
		"issuer": issuer, "feed": feed, "namespace": "probe", "fragment_loaded": false, "has_header_svn": true,
		"header_svn": svn, "receipts": receipts,
	}
}

// switched are requests that a switch allows.
func switched() []switchProbe {
	disk := map[string]any{"target": engine.GuestRoot + "/" + strangerID, "encrypted": false, "ensureFilesystem": true, "filesystem": "ext4"}
	return []switchProbe{
		{"allow_properties_access", replay.Step{Name: engine.PointGetProperties, Input: map[string]any{}}},
		{"allow_dump_stacks", replay.Step{Name: engine.PointDumpStacks, Input: map[string]any{}}},
		{"allow_runtime_logging", replay.Step{Name: engine.PointRuntimeLogging, Input: map[string]any{}}},
		{"allow_host_network", replay.Step{Name: engine.PointHostNetwork, Input: map[string]any{}}},
		{"allow_unencrypted_scratch", replay.Step{Name: engine.PointRWMountDevice, Input: disk}},
	}
}

type switchProbe struct {
	name string
	step replay.Step
}

// probes are what may tell the policy from another: first what concerns no container.
func (s *side) probes() []probe {
	var out []probe
	for _, x := range switched() {
		out = append(out, probe{what: fmt.Sprintf("%s (%s)", x.step.Name, x.name), steps: []replay.Step{x.step}})
	}
	for _, encrypted := range []bool{true, false} {
		out = append(out, probe{what: "scratch_mount", steps: []replay.Step{{Name: engine.PointScratchMount, Input: map[string]any{
			"target": strangerPath, "encrypted": encrypted,
		}}}})
	}
	out = append(out, probe{what: "rw_mount_device, encrypted", steps: []replay.Step{{Name: engine.PointRWMountDevice, Input: map[string]any{
		"target": engine.GuestRoot + "/" + witnessID, "encrypted": true, "ensureFilesystem": true, "filesystem": "ext4",
	}}}})
	for _, step := range strangers() {
		out = append(out, probe{what: string(step.Name) + " of what is not listed", steps: []replay.Step{step}})
	}
	for _, f := range s.outline.Fragments {
		n, err := strconv.Atoi(f.MinimumSVN)
		if err != nil {
			n = 1
		}
		out = append(out, probe{
			what:  fmt.Sprintf("fragment %s in version %d", f.Feed, n),
			steps: []replay.Step{{Name: engine.PointLoadFragment, Input: fragmentInput(f.Issuer, f.Feed, n, f.RequiredReceipts)}},
		})
	}
	for _, l := range s.outline.TrustLists {
		n, err := strconv.Atoi(l.MinimumSVN)
		if err != nil {
			n = 1
		}
		for _, ledger := range l.AllowedLedgers {
			if ledger == "*" {
				ledger = "probe"
			}
			out = append(out, probe{
				what: fmt.Sprintf("trust list %s in version %d, with keys of %s", l.Subject, n, ledger),
				steps: []replay.Step{{Name: engine.PointLoadTrustList, Input: map[string]any{
					"issuer": l.Issuer, "subject": l.Subject, "svn": n, "ledgers": []any{ledger},
				}}},
			})
		}
	}
	for i := range s.outline.Containers {
		out = append(out, containerProbes(&s.outline.Containers[i], i)...)
	}
	return out
}

// containerProbes are requests that a container's entry admits, each using one more thing than the least.
func containerProbes(c *outline.Container, i int) []probe {
	name := c.Name
	if name == "" {
		name = fmt.Sprintf("container %d", i+1)
	}
	var out []probe
	add := func(what string, streams bool, change func(map[string]any), after ...replay.Step) {
		create := replay.Create(c.Container, "")
		if change != nil {
			change(create.Input)
		}
		out = append(out, probe{name + ": " + what, &c.Container, append([]replay.Step{create}, after...), streams})
	}
	out = append(out, probe{what: name + ": mounted", container: &c.Container})
	add("created with the least", false, nil)
	for _, r := range c.EnvRules {
		for _, v := range replay.Variable(r) {
			add("variable "+v, false, func(in map[string]any) {
				env, _ := in["envList"].([]any)
				in["envList"] = append([]any{v}, env...)
			})
		}
	}
	for _, m := range c.Mounts {
		for _, x := range replay.MountOf(m) {
			add(fmt.Sprintf("mount of %v at %v", x["source"], x["destination"]), false, func(in map[string]any) { in["mounts"] = []any{x} })
		}
	}
	if c.AllowElevated {
		add("privileged", false, func(in map[string]any) { in["privileged"] = true })
	}
	if !c.NoNewPrivileges {
		add("with new privileges", false, func(in map[string]any) { in["noNewPrivileges"] = false })
	}
	if c.User.UserIDName.Strategy == policy.StrategyAny {
		add("as root", false, func(in map[string]any) { in["user"] = map[string]any{"id": "0", "name": "root"} })
	}
	for _, g := range c.User.GroupIDNames {
		add("in another group", false, func(in map[string]any) { in["groups"] = []any{replay.Who(g)} })
	}
	for _, n := range c.Signals {
		add(fmt.Sprintf("signal %d", n), false, nil, replay.Signal("", n, nil))
	}
	for _, e := range c.ExecProcesses {
		add(fmt.Sprintf("exec of %q", e.Command), false, nil, replay.Exec(c.Container, "", e.Command))
		for _, n := range e.Signals {
			add(fmt.Sprintf("signal %d to %q", n, e.Command), false, nil, replay.Signal("", n, e.Command))
		}
	}
	if c.AllowStdioAccess {
		add("with standard streams", true, nil)
	}
	return out
}
