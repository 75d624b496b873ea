// SPDX-License-Identifier: Apache-2.0

package deploy

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"cofferdam.dev/internal/group"
)

// Change is one thing in which a group would differ from what it is now.
type Change struct {
	Container string `json:"container,omitempty"` // empty: the group itself
	Field     string `json:"field"`
	Was       string `json:"was,omitempty"`
	Becomes   string `json:"becomes,omitempty"`
}

// Changes compares the plan of a group that exists with one that would take its place. Values of environment variables are
// not shown: they may be what others must not see.
func Changes(was, becomes *group.Plan) []Change {
	var list []Change
	note := func(container, field, x, y string) {
		if x != y {
			list = append(list, Change{Container: container, Field: field, Was: x, Becomes: y})
		}
	}
	a, b := was.PolicyHash(), becomes.PolicyHash()
	note("", "policy", fmt.Sprintf("%x", a), fmt.Sprintf("%x", b))
	note("", "size", fmt.Sprintf("%d vCPU, %d MiB", was.VCPUs, was.MemoryMiB), fmt.Sprintf("%d vCPU, %d MiB", becomes.VCPUs, becomes.MemoryMiB))
	note("", "network", was.Network, becomes.Network)
	note("", "ports", ports(was), ports(becomes))
	note("", "restart", string(was.RestartPolicy), string(becomes.RestartPolicy))
	note("", "volumes", volumes(was), volumes(becomes))
	note("", "resolver", document(was.DNS)+document(was.HostAliases), document(becomes.DNS)+document(becomes.HostAliases))
	for i := range becomes.Containers {
		c := &becomes.Containers[i]
		old := find(was, c.Name)
		if old == nil {
			list = append(list, Change{Container: c.Name, Field: "container", Becomes: c.Image})
			continue
		}
		list = append(list, containerChanges(old, c)...)
	}
	for i := range was.Containers {
		if find(becomes, was.Containers[i].Name) == nil {
			list = append(list, Change{Container: was.Containers[i].Name, Field: "container", Was: was.Containers[i].Image})
		}
	}
	return list
}

func find(p *group.Plan, name string) *group.ContainerPlan {
	i := slices.IndexFunc(p.Containers, func(c group.ContainerPlan) bool { return c.Name == name })
	if i < 0 {
		return nil
	}
	return &p.Containers[i]
}

func containerChanges(was, becomes *group.ContainerPlan) []Change {
	var list []Change
	note := func(field, x, y string) {
		if x != y {
			list = append(list, Change{Container: becomes.Name, Field: field, Was: x, Becomes: y})
		}
	}
	note("image", was.Image+" "+was.ImageDigest, becomes.Image+" "+becomes.ImageDigest)
	note("command", document(was.Command), document(becomes.Command))
	note("working directory", was.WorkingDir, becomes.WorkingDir)
	note("user", was.User, becomes.User)
	for _, name := range variables(was.Env, becomes.Env) {
		x, y := variable(was.Env, name), variable(becomes.Env, name)
		if x != y {
			list = append(list, Change{Container: becomes.Name, Field: "environment " + name, Was: there(x), Becomes: there(y)})
		}
	}
	note("mounts", document(was.Mounts), document(becomes.Mounts))
	note("limits", fmt.Sprintf("%dm CPU, %d bytes", was.CPUMillis, was.MemoryLimitBytes), fmt.Sprintf("%dm CPU, %d bytes", becomes.CPUMillis, becomes.MemoryLimitBytes))
	note("privileges", privileges(was), privileges(becomes))
	note("life", document(was.Life), document(becomes.Life))
	return list
}

func privileges(c *group.ContainerPlan) string {
	return document(struct {
		Privileged, NoNewPrivileges, ReadOnlyRoot bool
		Capabilities                              *group.Capabilities
		Seccomp                                   json.RawMessage
	}{c.Privileged, c.NoNewPrivileges, c.ReadOnlyRoot, c.Capabilities, c.Seccomp})
}

// variables are the names of both lists, each once, in order.
func variables(a, b []string) []string {
	var names []string
	for _, kv := range slices.Concat(a, b) {
		name, _, _ := strings.Cut(kv, "=")
		names = append(names, name)
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// variable is NAME=VALUE, or empty.
func variable(env []string, name string) string {
	for _, kv := range env {
		if strings.HasPrefix(kv, name+"=") {
			return kv
		}
	}
	return ""
}

func there(kv string) string {
	if kv == "" {
		return ""
	}
	return "set"
}

func ports(p *group.Plan) string {
	var list []string
	for _, port := range p.Ports {
		list = append(list, port.String())
	}
	return strings.Join(list, ", ")
}

// volumes are a plan's, without what may be a secret of where they come from.
func volumes(p *group.Plan) string {
	list := slices.Clone(p.Volumes)
	for i := range list {
		if r := list[i].Repository; r != nil {
			shown := *r
			shown.URL = r.Shown()
			list[i].Repository = &shown
		}
	}
	return document(list)
}

// document is a value as JSON, to be compared and shown; null and empty lists are nothing.
func document(v any) string {
	data, err := json.Marshal(v)
	if err != nil || string(data) == "null" || string(data) == "{}" || string(data) == "[]" {
		return ""
	}
	return string(data)
}
