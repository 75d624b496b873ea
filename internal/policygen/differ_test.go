// SPDX-License-Identifier: Apache-2.0

package policygen

import (
	"slices"
	"testing"

	"cofferdam.dev/policy"

	"github.com/google/go-cmp/cmp"
)

func TestDifferences(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		change func(*policy.Policy)
		want   []Difference
	}{
		"none": {func(*policy.Policy) {}, nil},
		"order that means nothing": {func(p *policy.Policy) {
			slices.Reverse(p.Containers[0].EnvRules)
			slices.Reverse(p.Containers[0].Mounts)
			slices.Reverse(p.Containers[0].Capabilities.Bounding)
			slices.Reverse(p.Containers[0].Signals)
		}, nil},
		"order that means something": {func(p *policy.Policy) { slices.Reverse(p.Containers[0].Command) },
			[]Difference{{"web", "command", `["-x","serve","/entry"]`, `["/entry","serve","-x"]`}}},
		"elements": {func(p *policy.Policy) { p.Containers[0].Signals = []int{9, 15, 30, 30} },
			[]Difference{{"web", "signals", "30", ""}, {"web", "signals", "30", ""}, {"web", "signals", "", "3"}}},
		"variable": {func(p *policy.Policy) { p.Containers[0].EnvRules[0].Pattern = "X=1" }, []Difference{
			{"web", "env_rules", `{"pattern":"X=1","required":false,"strategy":"string"}`, ""},
			{"web", "env_rules", "", `{"pattern":"PATH=/bin","required":false,"strategy":"string"}`},
		}},
		"switch":       {func(p *policy.Policy) { p.AllowDumpStacks = true }, []Difference{{"", "allow_dump_stacks", "true", "false"}}},
		"version":      {func(p *policy.Policy) { p.APIVersion = "0.10.0" }, []Difference{{"", "api_version", "0.10.0", "0.11.0"}}},
		"older form":   {func(p *policy.Policy) { p.OmitRWMountDevice = true }, []Difference{{"", "rw_mount_device", "false", "true"}}},
		"other image":  {func(p *policy.Policy) { p.Containers[0].ID = "other" }, []Difference{{"web", "id", `"other"`, `"web@sha256:0"`}}},
		"other name":   {func(p *policy.Policy) { p.Containers[0].Name = "db" }, []Difference{{"web", "name", `"db"`, `"web"`}}},
		"no container": {func(p *policy.Policy) { p.Containers = nil }, []Difference{{"web", "container", "", "web@sha256:0"}}},
		"another container": {func(p *policy.Policy) { p.Containers = append(p.Containers, policy.Container{Name: "x", ID: "y"}) },
			[]Difference{{"x", "container", "y", ""}}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, want := generate(t, nil)
			_, have := generate(t, nil)
			c.change(have)
			if diff := cmp.Diff(c.want, Differences(have, want)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestAdmits(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		change func(*policy.Container)
		want   []Difference
	}{
		"the same": {func(*policy.Container) {}, nil},
		"more": {func(c *policy.Container) {
			c.EnvRules = append(c.EnvRules, fixed("X=1"))
			c.Mounts = append(c.Mounts, policy.Mount{Destination: "/more"})
			c.Signals = append(c.Signals, 30)
		}, nil},
		"pattern": {func(c *policy.Container) {
			c.EnvRules[1] = policy.EnvRule{Pattern: "MODE=.+", Strategy: policy.StrategyRegexp}
		}, nil},
		"pattern that only looks alike": {func(c *policy.Container) {
			c.EnvRules[1] = policy.EnvRule{Pattern: "MODE=im|x", Strategy: policy.StrategyRegexp}
		}, []Difference{{"web", "env_rules", "", "MODE=image"}}},
		"command": {func(c *policy.Container) { c.Command = nil }, []Difference{{"web", "command", "null", `["/entry","serve","-x"]`}}},
		"signal":  {func(c *policy.Container) { c.Signals = []int{9, 15} }, []Difference{{"web", "signals", "", "3"}}},
		"mount": {func(c *policy.Container) { c.Mounts = c.Mounts[:2] }, []Difference{{
			"web", "mounts", "", `{"destination":"/etc/resolv.conf","options":["rbind","rshared","rw"],"source":"sandbox:///tmp/atlas/resolvconf/.+","type":"bind"}`,
		}}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			bare, _ := generate(t, nil)
			rule, _ := generate(t, nil)
			c.change(&rule)
			if diff := cmp.Diff(c.want, Admits(rule, bare)); diff != "" {
				t.Error(diff)
			}
		})
	}
}
