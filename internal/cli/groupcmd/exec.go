// SPDX-License-Identifier: Apache-2.0

package groupcmd

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	guestv1 "cofferdam.dev/api/guest/v1"
	"cofferdam.dev/internal/cli/console"
	"cofferdam.dev/internal/group"
	"cofferdam.dev/internal/plain"
)

func (a *App) execCommand() *cobra.Command {
	var o group.ExecOptions
	c := &cobra.Command{
		Use:   "exec [flags] GROUP [--] COMMAND...",
		Short: "Start a further process in a group that runs",
		Long: `Start a process in a container of a group, if the group's policy lists its command.

The policy was fixed at launch: allow commands with --allow-exec of ` + "`cofferdam run`" + ` or
` + "`cofferdam group up`" + `; those of probes and hooks are allowed, too. Everything else is
refused by the guest, with the reason.

The exit code is that of the process; 3 if the policy refused, 125 for a failure of
cofferdam itself.`,
		Example: `  cofferdam group exec db -- redis-cli ping
  cofferdam group exec -it web -- /bin/sh`,
		Args:              console.Arguments(2, -1, "the name of a group and a command"),
		ValidArgsFunction: a.CompleteGroups,
		RunE: func(cmd *cobra.Command, args []string) error {
			o.Command = console.AfterDashes(args[1:])
			if len(o.Command) == 0 {
				return console.Usage(cmd, "no command to start")
			}
			if first := args[1]; strings.HasPrefix(first, "-") && first != "--" {
				return console.Usage(cmd, plain.Printable(first)+" stands after the group's name, where a command does: flags stand before it")
			}
			return own(a.exec(cmd.Context(), args[0], o))
		},
	}
	f := c.Flags()
	f.SetInterspersed(false) // what follows the group's name belongs to the command
	f.StringVar(&o.Container, "container", "", "container, where the group has several")
	a.completeContainers(c)
	f.BoolVarP(&o.Stdin, "interactive", "i", false, "pass standard input on")
	f.BoolVarP(&o.Terminal, "tty", "t", false, "give the process a terminal")
	f.StringArrayVarP(&o.Env, "env", "e", nil, "set an environment variable, NAME=VALUE (the policy has to allow it)")
	f.StringVarP(&o.WorkingDir, "workdir", "w", "", "working directory")
	f.StringVarP(&o.User, "user", "u", "", "user[:group], names or numbers")
	return c
}

func (a *App) exec(ctx context.Context, ref string, o group.ExecOptions) error {
	if o.Terminal {
		err := a.needTerminal()
		if err != nil {
			return err
		}
		columns, rows, err := term.GetSize(int(a.In.Fd()))
		if err == nil {
			o.Columns, o.Rows = uint32(columns), uint32(rows)
		}
	}
	client, err := a.Dial(ref)
	if err != nil {
		return err
	}
	defer func() { _ = client.Close() }() // the process has ended, or is beyond reach
	signals, release := forwarded()
	defer release()
	id, streams, err := client.Exec(ctx, o)
	if d := guestv1.DenialFrom(err); d.GetCode() == guestv1.CodePolicyDenied {
		f := console.Refusal(d)
		f.Fix = a.howToAllow(ref, o.Container, o.Command)
		return f
	}
	if err != nil {
		return err
	}
	defer func() { _ = streams.Close() }() // likewise
	a.Pass, err = a.converse(ctx, &groupProcess{client: client, container: o.Container, exec: id}, streams, o.Stdin, signals)
	return err
}

func (a *App) stopCommand() *cobra.Command {
	var timeout time.Duration
	c := &cobra.Command{
		Use:   "stop GROUP...",
		Short: "Stop groups that run",
		Long: `Stop groups: each container gets its stop signal and some time, then it is killed,
then the machine is powered off. The record and the logs stay until ` + "`cofferdam group rm`" + `.`,
		Example: `  cofferdam group stop db
  cofferdam group stop --timeout 1s db web`,
		Args:              console.Arguments(1, -1, "at least one group"),
		ValidArgsFunction: a.CompleteGroups,
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx, cancel := console.Interruptible(cmd.Context())
			defer cancel()
			return a.each(args, func(s *group.Store, g *group.Group) error { return a.stopGroup(ctx, s, g, timeout) })
		},
	}
	c.Flags().DurationVar(&timeout, "timeout", 0, "how long containers may take (default: what they were started with)")
	return c
}

// each does something to several groups at the same time, since stopping may take long, and prints the names of those
// that it worked for. One that fails does not hold up the others.
func (a *App) each(refs []string, do func(*group.Store, *group.Group) error) error {
	type result struct {
		name string
		err  error
	}
	results := make([]result, len(refs))
	var all sync.WaitGroup
	for i, ref := range refs {
		all.Go(func() {
			s, g, err := a.Lookup(ref)
			if err == nil {
				results[i].name = g.Record.Name
				err = do(s, g)
			}
			results[i].err = err
		})
	}
	all.Wait()
	var errs []error
	for _, r := range results {
		if r.err != nil {
			errs = append(errs, r.err)
			continue
		}
		_, err := fmt.Fprintln(a.Out, r.name)
		if err != nil {
			return fmt.Errorf("writing the answer: %w", err)
		}
	}
	if len(errs) == 1 {
		return errs[0] // with what to do about it
	}
	return errors.Join(errs...)
}

// stopGroup stops a group and returns when its supervisor has gone, too. One that has ended is stopped already.
func (a *App) stopGroup(ctx context.Context, s *group.Store, g *group.Group, timeout time.Duration) error {
	if !g.Alive {
		return nil
	}
	client, err := group.DialDir(g.Dir)
	if err != nil {
		return err
	}
	err = client.Stop(ctx, timeout)
	_ = client.Close() // the supervisor waits for its clients
	if err != nil {
		return err
	}
	if !a.gone(s, g.Record.ID) {
		return fmt.Errorf("the machine of %s is down, but its supervisor is still there", g.Record.Name)
	}
	return nil
}
