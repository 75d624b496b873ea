// SPDX-License-Identifier: Apache-2.0

package groupcmd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"cofferdam.dev/internal/cli/console"
	"cofferdam.dev/internal/group"
	"cofferdam.dev/internal/plain"
)

// GroupCommand returns `group` with all that is below it.
func (a *App) GroupCommand() *cobra.Command {
	return console.Noun("group", "Run container groups, look at them, talk to them, end them",
		a.upCommand(), a.planCommand(), a.downCommand(), a.psCommand(), a.inspectCommand(), a.eventsCommand(), a.debugCommand(),
		a.logsCommand(), a.execCommand(), a.attachCommand(), a.copyCommand(), a.statsCommand(), a.topCommand(), a.startCommand(),
		a.stopCommand(), a.restartCommand(), a.rmCommand(), a.loadCommand(), a.attestCommand())
}

// groupList is the document behind `group ps -o json`.
type groupList struct {
	Schema string          `json:"schema"`
	Groups []*group.Record `json:"groups"`
}

func (a *App) psCommand() *cobra.Command {
	var all bool
	c := &cobra.Command{
		Use:   "ps",
		Short: "List groups",
		Long: `List the container groups that run; with --all also those that have ended.

A group whose supervisor was killed is listed as failed, whatever its record says.`,
		Example: `  cofferdam group ps
  cofferdam group ps --all -o json`,
		Args: console.Arguments(0, 0, "no arguments"),
		RunE: func(*cobra.Command, []string) error {
			s, err := a.Store()
			if err != nil {
				return err
			}
			groups, listErr := s.List()
			l := groupList{Schema: "cofferdam.dev/group-list/v1", Groups: []*group.Record{}}
			for _, g := range groups {
				if all || !g.Record.State.Final() {
					l.Groups = append(l.Groups, g.Record)
				}
			}
			err = a.Answer(l, func(w io.Writer) error { return console.Table(w, a.psRows(l.Groups)) })
			return errors.Join(err, listErr)
		},
	}
	c.Flags().BoolVarP(&all, "all", "a", false, "list groups that have ended, too")
	a.OutputFlag(c)
	return c
}

func (a *App) psRows(records []*group.Record) [][]string {
	rows := [][]string{{"NAME", "STATE", "READY", "CONTAINERS", "TEE", "AGE", "PORTS"}}
	for _, r := range records {
		var ports []string
		for _, p := range r.Ports {
			ports = append(ports, p.String())
		}
		rows = append(rows, []string{
			r.Name, describeState(r), readiness(r), describeContainers(r), r.TEE, age(a.Now().Sub(r.Created)), strings.Join(ports, ", "),
		})
	}
	return rows
}

// readiness is how many of a group's containers can be used, of those that are not for its start alone.
func readiness(r *group.Record) string {
	ready, all := 0, 0
	for _, c := range r.Containers {
		if c.Init {
			continue
		}
		all++
		if c.Ready {
			ready++
		}
	}
	return fmt.Sprintf("%d/%d", ready, all)
}

// describeContainers is the image of the only container, or the names of several.
func describeContainers(r *group.Record) string {
	if len(r.Containers) == 1 {
		return plain.Printable(r.Containers[0].Image)
	}
	var names []string
	for _, c := range r.Containers {
		if !c.Init {
			names = append(names, c.Name)
		}
	}
	return strings.Join(names, ", ")
}

// describeState is the state with what it ended with.
func describeState(r *group.Record) string {
	code, ok := r.ExitCode()
	if ok && r.State == group.StateExited {
		return fmt.Sprintf("%s (%d)", r.State, code)
	}
	return string(r.State)
}

// age is a duration for people.
func age(d time.Duration) string {
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%ds", int(max(d, 0).Seconds()))
	case d < time.Hour:
		return fmt.Sprintf("%dm", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh", int(d.Hours()))
	}
	return fmt.Sprintf("%dd", int(d.Hours()/24))
}

func (a *App) inspectCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "inspect GROUP",
		Short: "Show everything that is known of a group",
		Long: `Show the record of a group: state, ports, policy hash, launch measurement, containers.

The record is the host's own account. What the guest can prove is in its evidence:
see ` + "`cofferdam group attest`" + `.`,
		Example: `  cofferdam group inspect db
  cofferdam group inspect db -o json | jq -r .policy_hash`,
		Args:              console.Arguments(1, 1, "the name of a group"),
		ValidArgsFunction: a.CompleteGroups,
		RunE: func(_ *cobra.Command, args []string) error {
			_, g, err := a.Lookup(args[0])
			if err != nil {
				return err
			}
			return a.Answer(g.Record, func(w io.Writer) error { return a.showRecord(w, g.Record) })
		},
	}
	a.OutputFlag(c)
	return c
}

func (a *App) showRecord(w io.Writer, r *group.Record) error {
	tee := r.TEE
	if r.Simulated {
		tee = a.Style(a.Out).Warn(tee + " (no hardware protection)")
	}
	pairs := [][2]string{
		{"name", r.Name}, {"id", r.ID}, {"state", describeState(r)}, {"reason", plain.Printable(r.Reason)},
		{"created", r.Created.Format(time.RFC3339)},
		{"tee", tee}, {"accelerator", r.Accelerator},
		{"size", fmt.Sprintf("%d vCPU, %d MiB", r.VCPUs, r.MemoryMiB)},
		{"guest image", r.GuestImage}, {"measurement", r.Measurement}, {"policy hash", r.PolicyHash},
		{"network", r.Network},
	}
	for _, p := range r.Ports {
		pairs = append(pairs, [2]string{"port", p.String()})
	}
	for _, text := range r.Warnings {
		pairs = append(pairs, [2]string{"warning", plain.Printable(text)})
	}
	for _, c := range r.Containers {
		pairs = append(pairs, [][2]string{
			{"container", fmt.Sprintf("%s: %s", c.Name, plain.Printable(c.Image))},
			{"  digest", c.ImageDigest}, {"  command", plain.Printable(plain.Command(c.Command))},
			{"  state", containerState(&c)}, {"  reason", plain.Printable(c.Reason)}, {"  message", plain.Printable(c.Message)},
		}...)
		for _, l := range c.LayerRoots {
			pairs = append(pairs, [2]string{"  layer", l})
		}
	}
	filled := pairs[:0]
	for _, p := range pairs {
		if p[1] != "" {
			filled = append(filled, p)
		}
	}
	return console.Facts(w, filled...)
}

// containerState is a container's state with what it ended with and how often it was restarted.
func containerState(c *group.Container) string {
	text := string(c.State)
	if c.ExitCode != nil {
		text += fmt.Sprintf(" (%d)", *c.ExitCode)
	}
	if c.State == group.StateRunning && !c.Ready {
		text += ", not ready"
	}
	if c.RestartCount > 0 {
		text += fmt.Sprintf(", restarted %d times", c.RestartCount)
	}
	return text
}

func (a *App) rmCommand() *cobra.Command {
	var force bool
	c := &cobra.Command{
		Use:   "rm GROUP...",
		Short: "Remove groups that have ended",
		Long: `Remove the records, logs and scratch disks of groups that have ended.

A group that runs is refused, unless --force stops it first. Images, layers and the
guest image stay.`,
		Example: `  cofferdam group rm db
  cofferdam group rm --force db web`,
		Args:              console.Arguments(1, -1, "at least one group"),
		ValidArgsFunction: a.CompleteGroups,
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx, stop := console.Interruptible(cmd.Context())
			defer stop()
			return a.each(args, func(s *group.Store, g *group.Group) error { return a.removeGroup(ctx, s, g, force) })
		},
	}
	c.Flags().BoolVarP(&force, "force", "f", false, "stop groups that run, first")
	return c
}

// removeGroup removes a group that has ended, or with force any.
func (a *App) removeGroup(ctx context.Context, s *group.Store, g *group.Group, force bool) error {
	if g.Alive && force {
		err := a.stopGroup(ctx, s, g, 0)
		if err != nil {
			return err
		}
	}
	err := s.Remove(g.Record.ID)
	if errors.Is(err, group.ErrRunning) {
		return console.Fixed(err, "cofferdam group stop %s, or cofferdam group rm --force %s", g.Record.Name, g.Record.Name)
	}
	if errors.Is(err, group.ErrNotFound) {
		return nil // --rm was quicker
	}
	return err
}
