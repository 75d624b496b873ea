// SPDX-License-Identifier: Apache-2.0

package groupcmd

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"cofferdam.dev/internal/cli/console"
	"cofferdam.dev/internal/cli/policycmd"
	"cofferdam.dev/internal/deploy"
	"cofferdam.dev/internal/group"
	"cofferdam.dev/internal/spec/doc"
)

func (a *App) startCommand() *cobra.Command {
	var read policycmd.GenerateOptions
	var from []string
	var which string
	c := &cobra.Command{
		Use:   "start GROUP",
		Short: "Start a group that has ended, as it was",
		Long: `Start a group that has ended, with the same images, the same policy and a new machine. What
was in its memory and on its scratch disks is gone.

The content of secret volumes is not stored with a group. It is taken from the description
again, if that is where it was and unchanged; otherwise --from names it.`,
		Example: `  cofferdam group start shop
  cofferdam group start shop --from template.json --parameters values.json`,
		Args:              console.Arguments(1, 1, "the name of a group"),
		ValidArgsFunction: a.CompleteGroups,
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx, stop := console.Interruptible(cmd.Context())
			defer stop()
			return a.startAgain(ctx, cmd, args[0], &read, from, which)
		},
	}
	f := c.Flags()
	f.StringArrayVar(&from, "from", nil, "description that the group was started from")
	f.StringVar(&which, "group", "", "the group to take of it, if it has several")
	read.DescriptionFlags(f)
	return c
}

func (a *App) startAgain(ctx context.Context, cmd *cobra.Command, ref string, read *policycmd.GenerateOptions, from []string, which string) error {
	s, g, err := a.Lookup(ref)
	if err != nil {
		return err
	}
	plan, _, err := group.Load(g.Dir)
	if err != nil {
		return err
	}
	var contents group.Contents
	if plan.NeedsContents() {
		contents, err = a.contentsAgain(ctx, cmd, plan, read, from, which)
		if err != nil {
			return err
		}
	}
	created, err := s.Reset(g.Record.ID)
	if errors.Is(err, group.ErrRunning) {
		return console.Fixed(err, "cofferdam group restart %s restarts its containers", g.Record.Name)
	}
	if err != nil {
		return err
	}
	l, err := a.follow(created, contents)
	if err != nil {
		return err
	}
	defer l.close()
	err = l.wait(ctx, group.StageRunning)
	if err != nil {
		return a.startFailure(ctx, l, &runOptions{}, err)
	}
	_, err = fmt.Fprintln(a.Out, g.Record.Name)
	return err
}

// contentsAgain reads the content of a group's volumes from its description: the one that is named, or the one that the group
// was started from, as long as it is the same.
func (a *App) contentsAgain(ctx context.Context, cmd *cobra.Command, plan *group.Plan, read *policycmd.GenerateOptions, from []string, which string) (group.Contents, error) {
	named := len(from) > 0
	if !named {
		from = []string{plan.Source}
		data, err := console.ReadLimited(plan.Source, nil, doc.MaxBytes)
		sum := sha256.Sum256(data)
		if err != nil || hex.EncodeToString(sum[:]) != plan.Digest {
			return nil, console.Fixed(group.ErrContentsNeeded, "--from FILE; %s is not what the group was started from any more", plan.Source)
		}
	}
	in, err := a.policy.DescriptionInput(ctx, cmd, read, from)
	if err != nil && !named {
		return nil, console.Fixed(fmt.Errorf("%w: %w", group.ErrContentsNeeded, err), "the parameters that it was started with (--parameters, -p); --from FILE for another description")
	}
	if err != nil {
		return nil, err
	}
	g, err := pick(in.Groups, which)
	if err != nil {
		return nil, err
	}
	return deploy.Contents(g), nil
}

func (a *App) restartCommand() *cobra.Command {
	var container string
	c := &cobra.Command{
		Use:   "restart GROUP...",
		Short: "Restart the containers of groups that run",
		Long: `Stop the containers of a group and start them again in the same machine. Volumes stay as
they are; what the containers wrote elsewhere is gone. With --container only that one.

A group that has ended is started with ` + "`cofferdam group start`" + `.`,
		Example: `  cofferdam group restart shop
  cofferdam group restart shop --container web`,
		Args:              console.Arguments(1, -1, "at least one group"),
		ValidArgsFunction: a.CompleteGroups,
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx, stop := console.Interruptible(cmd.Context())
			defer stop()
			return a.each(args, func(_ *group.Store, g *group.Group) error {
				client, err := a.Dial(g.Record.ID)
				if errors.Is(err, group.ErrNotRunning) {
					return console.Fixed(err, "cofferdam group start %s", g.Record.Name)
				}
				if err != nil {
					return err
				}
				defer func() { _ = client.Close() }() // the answer is there
				return client.Restart(ctx, container)
			})
		},
	}
	c.Flags().StringVar(&container, "container", "", "only this container")
	a.completeContainers(c)
	return c
}
