// SPDX-License-Identifier: Apache-2.0

// Package policygen writes the policy for a group, as Azure's confcom extension would.
//
// It works from the group's description and from facts about its images (configuration and layer roots), and reads
// nothing else: equal inputs give equal bytes on every machine. It trusts the facts; who computed them must have
// verified the layers. It never decides what may run beyond what the description and the images say, except for the
// fixed allowances that the service's own platform needs, which Options name.
package policygen

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"cofferdam.dev/internal/spec"
	"cofferdam.dev/policy"
)

// ImageFacts are what a policy needs to know about an image.
type ImageFacts struct {
	Reference  string
	Config     ImageConfig
	LayerRoots []string // dm-verity root hashes in hexadecimal, base layer first
}

// ImageConfig is the part of an image's configuration that shapes its containers.
type ImageConfig struct {
	Env        []string
	Entrypoint []string
	Cmd        []string
	User       string
	WorkingDir string
	StopSignal string
	Volumes    []string
}

// Options say what differs from what confcom writes by default today.
type Options struct {
	// APIVersion and FrameworkVersion default to what the deployed service understands.
	APIVersion       string
	FrameworkVersion string

	// Fragments are further fragments that may be loaded. Unless excluded, the service's own fragment comes first.
	Fragments              []policy.Fragment
	ExcludeDefaultFragment bool
	InfrastructureSVN      string // minimum_svn of the default fragment; empty means DefaultInfrastructureSVN

	// TrustLists are the lists of ledgers that may be loaded, which only the prerelease form can allow.
	TrustLists []policy.TrustList

	// ExcludePause leaves the service's pause container out.
	ExcludePause bool

	// OmitID leaves the image reference out of the text.
	OmitID bool

	// ConfcomJSON says that the description is confcom's own JSON. From that it puts the default fragment last, and on
	// the virtual node the workload identity's variables first and its mount last; a command that is missing is null.
	ConfcomJSON bool

	// NameByImage names each container by its image's reference, as confcom does with images that are given bare.
	NameByImage bool

	// WithoutStdio keeps every container's standard streams from the host, the pause container's too.
	WithoutStdio bool

	// AllowHostNetwork fills the line that only the prerelease form has.
	AllowHostNetwork bool

	// MountVolumes gives each volume that an image declares an empty directory. The service does not do that.
	MountVolumes bool

	// Texts of earlier versions of confcom: without signals, without the rw_mount_device line, with environment rules
	// sorted by pattern.
	OmitSignals, OmitRWMountDevice, SortEnv bool
}

// RunOptions are those for groups on our own machines: there is no platform that would load a fragment or run a pause
// container, so neither is allowed.
func RunOptions() Options {
	return Options{ExcludeDefaultFragment: true, ExcludePause: true, MountVolumes: true}
}

// Generate makes the policy of a group. Facts are looked up by the containers' image references.
func Generate(g spec.Group, facts map[string]ImageFacts, o Options) (*policy.Policy, error) {
	if err := g.Validate(); err != nil {
		return nil, fmt.Errorf("generating policy: %w", err)
	}
	p := &policy.Policy{
		APIVersion: o.APIVersion, FrameworkVersion: o.FrameworkVersion, OmitRWMountDevice: o.OmitRWMountDevice,
		AllowPropertiesAccess: true, AllowEnvironmentVariableDropping: true, AllowCapabilityDropping: true,
		AllowDumpStacks: g.Debug, AllowRuntimeLogging: g.Debug, AllowHostNetwork: o.AllowHostNetwork,
	}
	if p.APIVersion == "" {
		p.APIVersion = policy.DeployedAPI
	}
	if p.FrameworkVersion == "" {
		p.FrameworkVersion = policy.DeployedFramework
	}
	if o.AllowHostNetwork && p.APIVersion != policy.PrereleaseAPI {
		return nil, fmt.Errorf("generating policy: the host's network needs api_version %s, got %s", policy.PrereleaseAPI, p.APIVersion)
	}
	if len(o.TrustLists) > 0 && p.APIVersion != policy.PrereleaseAPI {
		return nil, fmt.Errorf("generating policy: trust lists need api_version %s, got %s", policy.PrereleaseAPI, p.APIVersion)
	}
	p.Fragments, p.TrustLists = imports(&g, o), o.TrustLists
	var err error
	p.Egress, err = egress(&g)
	if err != nil {
		return nil, fmt.Errorf("generating policy: %w", err)
	}
	for i, c := range g.Containers {
		f, ok := facts[c.Image]
		if !ok {
			return nil, fmt.Errorf("generating policy: container %d (%q): facts about image %q are missing", i+1, c.Name, c.Image)
		}
		pc, err := container(&g, c, f, o)
		if err != nil {
			return nil, fmt.Errorf("generating policy: container %d (%q): %w", i+1, c.Name, err)
		}
		p.Containers = append(p.Containers, pc)
	}
	for i, d := range g.Definitions {
		pc, err := definition(d, g.Debug, o)
		if err != nil {
			return nil, fmt.Errorf("generating policy: container definition %d (%q) at %s: %w", i+1, d.Name, d.Path, err)
		}
		p.Containers = append(p.Containers, pc)
	}
	if !o.ExcludePause {
		p.Containers = append(p.Containers, pause(o))
	}
	return p, nil
}

// imports lists the fragments that may be loaded.
func imports(g *spec.Group, o Options) []policy.Fragment {
	list := slices.Concat(fragments(g.Fragments), o.Fragments)
	switch standard := infrastructure(o.InfrastructureSVN); {
	case o.ExcludeDefaultFragment || g.ExcludeDefaultFragment:
		return list
	case o.ConfcomJSON:
		return append(list, standard)
	default:
		return append([]policy.Fragment{standard}, list...)
	}
}

func container(g *spec.Group, c spec.Container, f ImageFacts, o Options) (policy.Container, error) {
	var pc policy.Container
	if err := checkRoots(f.LayerRoots); err != nil {
		return pc, fmt.Errorf("image %q: %w", c.Image, err)
	}
	signals, err := signals(f.Config.StopSignal, o)
	if err != nil {
		return pc, fmt.Errorf("image %q: %w", c.Image, err)
	}
	caps, err := capabilities(c)
	if err != nil {
		return pc, err
	}
	env, err := envRules(g, c.Env, f.Config.Env, o)
	if err != nil {
		return pc, fmt.Errorf("image %q: %w", c.Image, err)
	}
	pc = policy.Container{
		AllowElevated: c.Privileged, AllowStdioAccess: c.AllowStdio && !o.WithoutStdio, Capabilities: caps, Command: command(g, c, f.Config, o),
		EnvRules: env, ExecProcesses: execProcesses(c.AllowExec, g.Debug), Layers: slices.Clone(f.LayerRoots),
		Mounts: mounts(g, c, volumes(f.Config, o), o), Name: c.Name, NoNewPrivileges: !c.AllowPrivilegeEscalation,
		SeccompProfileSHA256: c.SeccompProfileSHA256, Signals: signals, User: user(c, f.Config.User),
		WorkingDir: cmp.Or(c.WorkingDir, f.Config.WorkingDir, "/"),
	}
	pc.ID = cmp.Or(f.Reference, c.Image)
	if o.NameByImage {
		pc.Name = pc.ID
	}
	if o.OmitID {
		if pc.Name == pc.ID {
			pc.Name = ""
		}
		pc.ID = ""
	}
	return pc, nil
}

func volumes(image ImageConfig, o Options) []string {
	if o.MountVolumes {
		return image.Volumes
	}
	return nil
}

// command is what the container starts with. Replacing the entrypoint drops the image's arguments too. Nil means that
// there is nothing to start, which the tool for the virtual node writes as an empty list.
func command(g *spec.Group, c spec.Container, image ImageConfig, o Options) []string {
	if len(c.Command) > 0 {
		return slices.Concat(c.Command, c.Args)
	}
	args := image.Cmd
	if len(c.Args) > 0 {
		args = c.Args
	}
	if all := slices.Concat(image.Entrypoint, args); len(all) > 0 {
		return all
	}
	if g.Platform == spec.PlatformVirtualNode && !o.ConfcomJSON {
		return []string{}
	}
	return nil
}

func execProcesses(allowed [][]string, debug bool) []policy.ExecProcess {
	if debug {
		allowed = slices.Concat(allowed, debugCommands)
	}
	var out []policy.ExecProcess
	for _, command := range allowed {
		known := func(p policy.ExecProcess) bool { return slices.Equal(p.Command, command) }
		if !slices.ContainsFunc(out, known) {
			out = append(out, policy.ExecProcess{Command: command})
		}
	}
	return out
}

// user follows the description, then the image. Numbers are compared as numbers, everything else as names. A security
// context that names user or group replaces the image's user whole.
func user(c spec.Container, image string) policy.User {
	u := anyUser()
	if c.RunAsUser != nil || c.RunAsGroup != nil {
		image = ""
	}
	name, group, _ := strings.Cut(cmp.Or(c.User, image), ":")
	u.UserIDName = idName(name)
	u.GroupIDNames = []policy.IDName{idName(group)}
	if c.RunAsUser != nil {
		u.UserIDName = policy.IDName{Pattern: strconv.FormatInt(*c.RunAsUser, 10), Strategy: policy.StrategyID}
	}
	if c.RunAsGroup != nil {
		u.GroupIDNames[0] = policy.IDName{Pattern: strconv.FormatInt(*c.RunAsGroup, 10), Strategy: policy.StrategyID}
	}
	return u
}

func idName(s string) policy.IDName {
	switch {
	case s == "":
		return policy.IDName{Strategy: policy.StrategyAny}
	case strings.Trim(s, "0123456789") == "":
		return policy.IDName{Pattern: s, Strategy: policy.StrategyID}
	}
	return policy.IDName{Pattern: s, Strategy: policy.StrategyName}
}
