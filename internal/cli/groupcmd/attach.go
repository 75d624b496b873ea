// SPDX-License-Identifier: Apache-2.0

package groupcmd

import (
	"context"
	"errors"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"cofferdam.dev/internal/cli/console"
	"cofferdam.dev/internal/group"
)

func (a *App) attachCommand() *cobra.Command {
	var o group.AttachOptions
	c := &cobra.Command{
		Use:   "attach GROUP",
		Short: "Follow a container as if it had been started here",
		Long: `Show what a container writes from now on, and with -i pass our standard input to it.

It ends when the container has ended for the last time, with its exit code. Ctrl-C leaves,
and the container runs on. Where -i joins two terminals, all keys are the container's: close
the terminal to leave. Without a policy that allows stdio there is nothing to attach to.`,
		Example: `  cofferdam group attach shop --container web
  cofferdam group attach -i shell`,
		Args:              console.Arguments(1, 1, "the name of a group"),
		ValidArgsFunction: a.CompleteGroups,
		RunE: func(cmd *cobra.Command, args []string) error {
			return own(a.attach(cmd.Context(), args[0], o))
		},
	}
	f := c.Flags()
	f.StringVar(&o.Container, "container", "", "container, where the group has several")
	a.completeContainers(c)
	f.BoolVarP(&o.Stdin, "interactive", "i", false, "pass standard input on")
	f.BoolVar(&o.Replay, "replay", false, "show what was written before, first")
	return c
}

func (a *App) attach(ctx context.Context, ref string, o group.AttachOptions) error {
	client, err := a.Dial(ref)
	if err != nil {
		return err
	}
	defer func() { _ = client.Close() }() // the container has ended, or we have left it
	ctx, stop := console.Interruptible(ctx)
	defer stop()
	resized := make(chan os.Signal, 1)
	signal.Notify(resized, syscall.SIGWINCH)
	defer signal.Stop(resized)
	streams, err := client.Attach(ctx, o)
	if err != nil {
		return err
	}
	defer func() { _ = streams.Close() }() // likewise
	if streams.Stdin == nil && streams.Stdout == nil && streams.Stderr == nil {
		return &console.Failure{Code: console.ExitRefused, Err: errors.New("the policy keeps the container's standard streams from the host: there is nothing to attach to")}
	}
	a.Pass, err = a.converse(ctx, &attached{groupProcess{client: client, container: o.Container}}, streams, o.Stdin, resized)
	if errors.Is(err, context.Canceled) {
		return nil // Ctrl-C is how attaching ends
	}
	return err
}

// attached is a container that others started: our end is not its end.
type attached struct{ groupProcess }

// Stop does nothing to the container.
func (p *attached) Stop(context.Context, bool) error { return nil }
