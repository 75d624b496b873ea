// SPDX-License-Identifier: Apache-2.0

// Package assemble puts together what a group is launched with: from a description, an opened image and its converted
// layers it makes the policy, and the plan of the container that the host will ask the guest for.
//
// The two are made of the same parts and stay apart: the plan is only the host's wish, and the guest compares it with
// whatever policy was fixed at launch. The package trusts its caller to have verified image and layers. It opens no
// image, starts nothing and writes nothing.
package assemble

import (
	"encoding/hex"
	"fmt"
	"path"
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
	Terminal    bool
	Stdin       bool
	StopTimeout time.Duration
	ScratchMiB  int
}

// Parts are a group's policy and its one container.
type Parts struct {
	Policy    *policy.Policy
	Container group.ContainerPlan
}

// Container makes the policy and the plan of a group of one container. entries are the disks of img's layers.
func Container(g *spec.Group, img *image.Image, entries []layer.Entry, o Options) (*Parts, error) {
	if len(g.Containers) != 1 {
		return nil, fmt.Errorf("group has %d containers, want 1", len(g.Containers))
	}
	c, config := g.Containers[0], img.Config()
	facts := Facts(c.Image, img, entries)
	generated, err := policygen.Generate(*g, map[string]policygen.ImageFacts{c.Image: facts}, policygen.RunOptions())
	if err != nil {
		return nil, err
	}
	stop, err := parseSignal(config.StopSignal)
	if err != nil {
		return nil, fmt.Errorf("stop signal of image %s: %w", c.Image, err)
	}
	rule := generated.Containers[0]
	if len(rule.Command) == 0 {
		return nil, fmt.Errorf("image %s says no command to run, and none was given", c.Image)
	}
	plan := group.ContainerPlan{
		Name: c.Name, Image: c.Image, ImageDigest: img.Digest(), Command: rule.Command, Env: environment(rule, o.Terminal),
		WorkingDir: rule.WorkingDir, User: firstSet(c.User, config.User), Terminal: o.Terminal, Stdin: o.Stdin,
		NoStdio: !c.AllowStdio, NoNewPrivileges: rule.NoNewPrivileges, Privileged: c.Privileged,
		Capabilities: capabilities(rule.Capabilities),
		StopSignal:   stop, StopTimeout: o.StopTimeout, ScratchMiB: o.ScratchMiB, Hostname: g.Name,
	}
	if plan.Name == "" {
		plan.Name = defaultName
	}
	for _, e := range entries {
		plan.Layers = append(plan.Layers, group.Layer{Path: e.Path, RootHash: hex.EncodeToString(e.RootHash[:]), DataBlocks: e.DataBlocks})
	}
	for _, m := range rule.Mounts {
		plan.Mounts = append(plan.Mounts, request(m))
	}
	return &Parts{Policy: generated, Container: plan}, nil
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

// request is the mount that a rule allows: the rule's source ends in a pattern for a name, which is chosen here.
func request(m policy.Mount) group.Mount {
	name := "v" + strings.ReplaceAll(strings.Trim(path.Clean(m.Destination), "/"), "/", "-")
	return group.Mount{
		Destination: m.Destination, Source: strings.TrimSuffix(m.Source, ".+") + name, Type: m.Type, Options: m.Options,
	}
}

func firstSet(list ...string) string {
	for _, s := range list {
		if s != "" {
			return s
		}
	}
	return ""
}
