// SPDX-License-Identifier: Apache-2.0

package groupcmd

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"cofferdam.dev/internal/cli/console"
	"cofferdam.dev/internal/deploy"
	"cofferdam.dev/internal/group"
	"cofferdam.dev/internal/plain"
)

// plannedContainer is one container in the document of `group plan`.
type plannedContainer struct {
	Name      string        `json:"name"`
	Init      bool          `json:"init,omitempty"`
	Image     string        `json:"image"`
	Digest    string        `json:"digest,omitempty"`
	Command   []string      `json:"command"`
	User      string        `json:"user,omitempty"`
	Variables []string      `json:"variables,omitempty"` // names
	Mounts    []group.Mount `json:"mounts,omitempty"`
}

// groupPlan is the document behind `group plan`.
type groupPlan struct {
	Schema string `json:"schema"`
	Name   string `json:"name,omitempty"`
	// Exists is true when a group of this name is there already; Changes say how the planned one would differ.
	Exists     bool                 `json:"exists"`
	Changes    []deploy.Change      `json:"changes"`
	PolicyHash string               `json:"policy_hash"`
	PolicyFrom string               `json:"policy_from"`
	Admitted   bool                 `json:"admitted"`
	Findings   []deploy.Finding     `json:"findings"`
	Replaced   []deploy.Replacement `json:"replaced"`
	VCPUs      int                  `json:"vcpus"`
	MemoryMiB  int                  `json:"memory_mib"`
	Network    string               `json:"network"`
	Ports      []group.Port         `json:"ports"`
	Containers []plannedContainer   `json:"containers"`
	Warnings   []string             `json:"warnings"`
}

func (a *App) planCommand() *cobra.Command {
	var o GroupOptions
	c := &cobra.Command{
		Use:   "plan [flags] FILE...",
		Short: "Show what `group up` would start, and what would change",
		Long: `Show what ` + "`group up`" + ` with the same flags would start: containers, images, the size of the
machine, the policy it is launched with, and whether that policy admits the start. If a
group of the name exists, it says in what the new one would differ. Nothing is started.

` + groupLong + `

The exit code is 3 if the policy would refuse the start.`,
		Example: `  cofferdam group plan compose.yaml
  cofferdam group plan template.json --parameters values.json -o json | jq .changes`,
		Args: console.Arguments(1, -1, "a description"),
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx, stop := console.Interruptible(cmd.Context())
			defer stop()
			return a.planOnly(ctx, cmd, &o, args)
		},
	}
	o.flags(c)
	a.OutputFlag(c)
	return c
}

func (a *App) planOnly(ctx context.Context, cmd *cobra.Command, o *GroupOptions, files []string) error {
	d, err := a.describe(ctx, cmd, o, files)
	if err != nil {
		return err
	}
	p, err := a.prepareGroup(ctx, o, d)
	if err != nil {
		return err
	}
	found, err := p.Admits(ctx)
	if err != nil {
		return err
	}
	plan := p.Draft(o.Machine())
	v := showPlan(plan, p, found)
	err = a.compare(v, plan)
	if err != nil {
		return err
	}
	err = a.Answer(v, v.show)
	if err == nil && !v.Admitted {
		return console.Quiet(console.ExitRefused)
	}
	return err
}

func showPlan(plan *group.Plan, p *deploy.Prepared, found []deploy.Finding) *groupPlan {
	hash := plan.PolicyHash()
	v := &groupPlan{
		Schema: "cofferdam.dev/group-plan-answer/v1", Name: plan.Name, PolicyHash: hex.EncodeToString(hash[:]), PolicyFrom: p.Origin,
		Admitted: !slices.ContainsFunc(found, deploy.Finding.Refusal), Findings: append([]deploy.Finding{}, found...),
		Replaced: append([]deploy.Replacement{}, p.Replaced...), VCPUs: plan.VCPUs, MemoryMiB: plan.MemoryMiB, Network: plan.Network,
		Ports: append([]group.Port{}, plan.Ports...), Warnings: append([]string{}, deploy.Warnings(plan)...), Changes: []deploy.Change{},
	}
	for _, c := range plan.Containers {
		pc := plannedContainer{
			Name: c.Name, Init: c.Life.Init, Image: c.Image, Digest: c.ImageDigest, Command: c.Command, User: c.User, Mounts: c.Mounts,
		}
		for _, kv := range c.Env {
			name, _, _ := strings.Cut(kv, "=")
			pc.Variables = append(pc.Variables, name)
		}
		v.Containers = append(v.Containers, pc)
	}
	return v
}

// compare looks at the group of the same name, if there is one.
func (a *App) compare(v *groupPlan, plan *group.Plan) error {
	if v.Name == "" {
		return nil
	}
	s, err := a.Store()
	if err != nil {
		return err
	}
	g, err := s.Lookup(v.Name)
	if errors.Is(err, group.ErrNotFound) || err == nil && g.Record.Name != v.Name {
		return nil
	}
	if err != nil {
		return err
	}
	was, _, err := group.Load(g.Dir)
	if err != nil {
		return err
	}
	v.Exists, v.Changes = true, append(v.Changes, deploy.Changes(was, plan)...)
	return nil
}

func (v *groupPlan) show(w io.Writer) error {
	pairs := [][2]string{
		{"group", v.Name}, {"size", fmt.Sprintf("%d vCPU, %d MiB", v.VCPUs, v.MemoryMiB)}, {"network", v.Network},
		{"policy", v.PolicyHash + " (" + v.PolicyFrom + ")"},
	}
	for _, p := range v.Ports {
		pairs = append(pairs, [2]string{"port", p.String()})
	}
	for _, c := range v.Containers {
		kind := "container"
		if c.Init {
			kind = "init container"
		}
		pairs = append(pairs, [2]string{kind, c.Name + ": " + plain.Printable(c.Image)}, [2]string{"  digest", c.Digest},
			[2]string{"  command", plain.Printable(plain.Command(c.Command))}, [2]string{"  user", plain.Printable(c.User)},
			[2]string{"  variables", plain.Printable(strings.Join(c.Variables, ", "))})
		for _, m := range c.Mounts {
			pairs = append(pairs, [2]string{"  mount", plain.Printable(m.Destination + " from " + m.Source)})
		}
	}
	for _, f := range v.Findings {
		if f.Refusal() {
			pairs = append(pairs, [2]string{"refused", describeFinding(f)})
			continue
		}
		pairs = append(pairs, [2]string{"dropped", "container " + f.Container + ": variable " + plain.Printable(f.Dropped)})
	}
	for _, text := range v.Warnings {
		pairs = append(pairs, [2]string{"warning", plain.Printable(text)})
	}
	for _, c := range v.Changes {
		pairs = append(pairs, [2]string{"change", describeChange(c)})
	}
	if v.Exists && len(v.Changes) == 0 {
		pairs = append(pairs, [2]string{"change", "none: the group is as described"})
	}
	filled := pairs[:0]
	for _, p := range pairs {
		if p[1] != "" {
			filled = append(filled, p)
		}
	}
	return console.Facts(w, filled...)
}

func describeChange(c deploy.Change) string {
	where := c.Field
	if c.Container != "" {
		where = "container " + c.Container + ": " + c.Field
	}
	switch {
	case c.Was == c.Becomes: // values that are not shown
		return plain.Printable(where + " has another value")
	case c.Was == "":
		return plain.Printable(where + " is new: " + c.Becomes)
	case c.Becomes == "":
		return plain.Printable(where + " goes: " + c.Was)
	}
	return plain.Printable(where + ": " + c.Was + " becomes " + c.Becomes)
}
