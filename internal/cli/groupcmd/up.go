// SPDX-License-Identifier: Apache-2.0

package groupcmd

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"cofferdam.dev/internal/cli/console"
	"cofferdam.dev/internal/deploy"
	"cofferdam.dev/internal/group"
)

// groupLong is what `group up` and `group plan` have in common.
const groupLong = `FILE is an ARM template, Kubernetes YAML or a Compose file, unchanged from what other tools
take. It describes one group, or --group names one of several.

If the description holds a policy (ccePolicy), the machine is launched with it, after it was
asked about everything that the start needs; --regenerate makes a new one instead. Without
one, a policy is generated: for an ARM template the text that Azure's confcom makes.

The images of Azure's own release sidecar are replaced by cofferdam's, where one is at hand
(--sidecar-image, or sidecar.tar in the state directory); --image-map replaces others. A
file share needs a directory of this machine that stands in for it: --share NAME=DIR.`

func (a *App) upCommand() *cobra.Command {
	var o GroupOptions
	c := &cobra.Command{
		Use:   "up [flags] FILE...",
		Short: "Run a group of containers in a measured machine of its own",
		Long: `Run the containers of a description together in one virtual machine, under a policy that
is fixed at launch. They share the network and localhost, start in the order that the
description gives, and are watched, restarted and stopped as it says.

` + groupLong + `

The command ends when the first containers run; with --wait when all are ready. The group
runs on: ` + "`cofferdam group ps`, `logs`, `events`" + ` and ` + "`down`" + ` find it by its name. Ctrl-C
before that leaves nothing behind.

The exit code is 3 if the policy or the guest refused.`,
		Example: `  cofferdam group up compose.yaml
  cofferdam group up template.json --parameters values.json --share data=/srv/data
  cofferdam group up pod.yaml --name shop --with-skr
  cofferdam group up template.json --image-map images.yaml --regenerate`,
		Args: console.Arguments(1, -1, "a description"),
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx, stop := console.Interruptible(cmd.Context())
			defer stop()
			return a.up(ctx, cmd, &o, args)
		},
	}
	o.flags(c)
	c.Flags().StringVar(&o.record, "record", "", "record what the guest is asked, with its decisions, in this new file; it holds environment values")
	c.Flags().BoolVar(&o.wait, "wait", false, "return when every container is ready, and fail if the group ends before")
	c.Flags().BoolVar(&o.remove, "rm", false, "remove the group as soon as it has ended")
	a.OutputFlag(c)
	return c
}

// up prepares and starts a group, and returns when its containers run.
func (a *App) up(ctx context.Context, cmd *cobra.Command, o *GroupOptions, files []string) error {
	d, err := a.describe(ctx, cmd, o, files)
	if err != nil {
		return err
	}
	err = a.nameFree(cmp.Or(o.name, d.request.Group.Name))
	if err != nil {
		return err
	}
	prepared, err := a.prepareGroup(ctx, o, d)
	if err != nil {
		return err
	}
	err = a.checkAdmitted(ctx, prepared)
	if err != nil {
		return err
	}
	plan, err := a.planGroup(ctx, o, d, prepared)
	if err != nil {
		return err
	}
	for _, text := range deploy.Warnings(plan) {
		a.Say("%s %s", a.Style(a.Err).Warn("warning:"), console.OneLine(text))
	}
	l, err := a.launch(plan, prepared.Parts.Contents)
	if err != nil {
		return err
	}
	defer l.close()
	err = l.wait(ctx, group.StageRunning)
	if err != nil && ctx.Err() != nil {
		return a.forget(ctx, l)
	}
	if err != nil {
		return a.startFailure(ctx, l, &runOptions{remove: o.remove, policyFile: givenPolicy(o, prepared)}, err)
	}
	if o.wait {
		err = a.waitReady(ctx, l.created.Record.ID)
		if err != nil {
			return err
		}
	}
	_, g, err := a.Lookup(l.created.Record.ID)
	if err != nil {
		return err
	}
	return a.Answer(g.Record, func(w io.Writer) error { return a.showStarted(w, g.Record) })
}

// forget removes a group whose start was interrupted, so that its name is free for the next.
func (a *App) forget(ctx context.Context, l *launched) error {
	l.close()
	s, err := a.Store()
	if err != nil {
		return err
	}
	r := l.created.Record
	if !a.gone(s, r.ID) {
		return console.Fixed(fmt.Errorf("interrupted, and the supervisor of %s is still there", r.Name), "cofferdam group down %s", r.Name)
	}
	err = s.Remove(r.ID)
	if err != nil && !errors.Is(err, group.ErrNotFound) {
		return fmt.Errorf("interrupted, and group %s could not be removed: %w", r.Name, err)
	}
	return ctx.Err()
}

// givenPolicy names the policy of a group where it was not generated.
func givenPolicy(o *GroupOptions, p *deploy.Prepared) string {
	switch p.Origin {
	case deploy.FromFile:
		return o.policyFile
	case deploy.FromDescription:
		return "the description's"
	}
	return ""
}

// showStarted prints a group's name, which is what scripts want, and what else a person wants after a start.
func (a *App) showStarted(w io.Writer, r *group.Record) error {
	_, err := fmt.Fprintln(w, r.Name)
	for _, p := range r.Ports {
		a.Say("port: %s", p)
	}
	a.Say("policy: %s", r.PolicyHash)
	return err
}

func (a *App) downCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "down GROUP...",
		Short: "Stop groups and remove them",
		Long: `Stop the containers of groups, take their machines down and remove what is kept of them:
records, logs, scratch disks. Images, layers and the guest image stay.`,
		Example: `  cofferdam group down shop
  cofferdam group down shop db`,
		Args:              console.Arguments(1, -1, "at least one group"),
		ValidArgsFunction: a.CompleteGroups,
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx, stop := console.Interruptible(cmd.Context())
			defer stop()
			return a.each(args, func(s *group.Store, g *group.Group) error { return a.removeGroup(ctx, s, g, true) })
		},
	}
	return c
}
