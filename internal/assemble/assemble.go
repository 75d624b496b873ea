// SPDX-License-Identifier: Apache-2.0

// Package assemble puts together what a group is launched with: from a description, an opened image and its converted
// layers it makes the policy, and the plan of the container that the host will ask the guest for.
//
// The two are made of the same parts and stay apart: the plan is only the host's wish, and the guest compares it with
// whatever policy was fixed at launch. The package trusts its caller to have verified image and layers. It opens no
// image, starts nothing and writes nothing.
package assemble

import (
	"cmp"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"time"

	"cofferdam.dev/internal/group"
	"cofferdam.dev/internal/image"
	"cofferdam.dev/internal/layer"
	"cofferdam.dev/internal/policygen"
	"cofferdam.dev/internal/spec"
	"cofferdam.dev/policy"
)

const (
	// terminalVariable is what a process with a terminal expects. Generated policies allow it.
	terminalVariable = "TERM=xterm"
	// defaultName is the container's name in a group whose name is made up later.
	defaultName = "main"
)

// Options are what a description does not say.
type Options struct {
	// Policy says what the policy has besides what the description asks for.
	Policy policygen.Options
	// Terminal and Stdin are for the only container of a group.
	Terminal    bool
	Stdin       bool
	StopTimeout time.Duration
	// ScratchMiB is the size of the scratch disk that each container's writable layer gets; 0 is none.
	ScratchMiB int
}

// Image is an opened image with the disks of its layers, base first.
type Image struct {
	*image.Image
	Entries []layer.Entry
}

// Parts are a group's policy, and the plans of its containers in the description's order.
type Parts struct {
	Policy     *policy.Policy
	Containers []group.ContainerPlan
	Volumes    []group.Volume
	// Contents are the files of the volumes, which no plan stores.
	Contents group.Contents
}

// Container makes the policy and the plan of a group of one container. entries are the disks of img's layers.
func Container(g *spec.Group, img *image.Image, entries []layer.Entry, o Options) (*Parts, error) {
	if len(g.Containers) != 1 {
		return nil, fmt.Errorf("group has %d containers, want 1", len(g.Containers))
	}
	o.Policy = policygen.RunOptions()
	return Containers(g, map[string]Image{g.Containers[0].Image: {Image: img, Entries: entries}}, o)
}

// Containers makes the policy of a group and the plans of its containers. images are looked up by the references that the
// description has.
func Containers(g *spec.Group, images map[string]Image, o Options) (*Parts, error) {
	facts := map[string]policygen.ImageFacts{}
	for ref, img := range images {
		facts[ref] = Facts(ref, img.Image, img.Entries)
	}
	generated, err := policygen.Generate(*g, facts, o.Policy)
	if err != nil {
		return nil, err
	}
	parts := &Parts{Policy: generated}
	for i := range g.Containers {
		plan, err := containerPlan(g, i, images[g.Containers[i].Image], generated.Containers[i], o)
		if err != nil {
			return nil, err
		}
		parts.Containers = append(parts.Containers, *plan)
	}
	parts.Volumes, parts.Contents = Volumes(g)
	return parts, nil
}

// containerPlan is the plan of the container number i, which the policy allows by rule.
func containerPlan(g *spec.Group, i int, img Image, rule policy.Container, o Options) (*group.ContainerPlan, error) {
	c, config := &g.Containers[i], img.Config()
	stop, err := parseSignal(config.StopSignal)
	if err != nil {
		return nil, fmt.Errorf("stop signal of image %s: %w", c.Image, err)
	}
	if len(rule.Command) == 0 {
		return nil, fmt.Errorf("image %s says no command to run, and none was given", c.Image)
	}
	user, err := userOf(c, config.User)
	if err != nil {
		return nil, err
	}
	terminal := o.Terminal || c.Terminal
	plan := &group.ContainerPlan{
		Name: cmp.Or(c.Name, defaultName), Image: c.Image, ImageDigest: img.Digest(), Command: rule.Command,
		Env: environment(rule, terminal), WorkingDir: rule.WorkingDir, User: user, Terminal: terminal, Stdin: o.Stdin || c.Stdin,
		NoStdio: !rule.AllowStdioAccess, NoNewPrivileges: rule.NoNewPrivileges, Privileged: c.Privileged,
		Capabilities: capabilities(rule.Capabilities), Seccomp: c.SeccompProfile,
		StopSignal: stop, StopTimeout: stopTimeout(g, c, o), ScratchMiB: o.ScratchMiB, Hostname: cmp.Or(g.Hostname, g.Name),
		CPUMillis: uint32(max(0, c.Resources.LimitCPUMillis)), MemoryLimitBytes: c.Resources.LimitMemoryBytes,
		ReadOnlyRoot: c.ReadOnlyRoot, Life: c.Life,
	}
	for _, e := range img.Entries {
		plan.Layers = append(plan.Layers, group.Layer{Path: e.Path, RootHash: hex.EncodeToString(e.RootHash[:]), DataBlocks: e.DataBlocks})
	}
	for _, m := range rule.Mounts {
		plan.Mounts = append(plan.Mounts, request(m, sourceName(g, i, m.Destination)))
	}
	return plan, nil
}

// stopTimeout is how long a container may take to stop: what is asked for on launch, its own, the group's.
func stopTimeout(g *spec.Group, c *spec.Container, o Options) time.Duration {
	for _, t := range []*time.Duration{c.StopTimeout, g.StopTimeout} {
		if t != nil && o.StopTimeout == 0 {
			return max(*t, time.Millisecond) // 0 would be the usual time
		}
	}
	return o.StopTimeout
}

// Facts are what a policy needs to know about an opened image with its converted layers.
func Facts(ref string, img *image.Image, entries []layer.Entry) policygen.ImageFacts {
	config := img.Config()
	facts := policygen.ImageFacts{Reference: Identity(ref, img.Digest()), Config: policygen.ImageConfig{
		Env: config.Env, Entrypoint: config.Entrypoint, Cmd: config.Cmd, User: config.User,
		WorkingDir: config.WorkingDir, StopSignal: config.StopSignal, Volumes: config.Volumes,
	}}
	for _, e := range entries {
		facts.LayerRoots = append(facts.LayerRoots, hex.EncodeToString(e.RootHash[:]))
	}
	return facts
}

// Identity is the image's name in the policy. Where a file lies on this machine is nobody's business, and others would
// get another hash; there the digest stands in.
func Identity(ref, digest string) string {
	for _, scheme := range []string{"oci:", "oci-archive:", "docker-archive:"} {
		if strings.HasPrefix(ref, scheme) {
			return digest
		}
	}
	return ref
}

func capabilities(c policy.Capabilities) *group.Capabilities {
	return &group.Capabilities{
		Bounding: c.Bounding, Effective: c.Effective, Inheritable: c.Inheritable, Permitted: c.Permitted, Ambient: c.Ambient,
	}
}

// environment is what the policy fixes; what it only allows is not asked for.
func environment(c policy.Container, terminal bool) []string {
	var env []string
	for _, r := range c.EnvRules {
		if r.Strategy == policy.StrategyString && (terminal || r.Pattern != terminalVariable) {
			env = append(env, r.Pattern)
		}
	}
	return slices.Compact(env)
}
