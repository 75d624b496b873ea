// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"

	"cofferdam.dev/internal/cli/progress"
	"cofferdam.dev/internal/group"
	"cofferdam.dev/internal/spec"
)

// lastWords is how long a foreground run waits for the machine to go down after its process has ended.
const lastWords = 30 * time.Second

func (a *app) runCommand() *cobra.Command {
	var o runOptions
	c := &cobra.Command{
		Use:   "run [flags] IMAGE [--] [COMMAND...]",
		Short: "Run a container in a measured machine of its own",
		Long: `Run an image in a virtual machine of its own, under a policy that is fixed at launch.

The image's layers become verified disks. A policy is generated that allows this command,
this environment and these layers and nothing else, unless --policy names one. The machine
is launched with the policy's hash; the guest refuses whatever the policy does not allow.
` + aboutReferences + `

In the foreground the streams, signals and the exit code are those of the process; Ctrl-C
twice in a row stops the group. A failure of cofferdam itself exits with 125, a refusal by
the policy with 3, a mistake on the command line with 2.

Environment values stand in the policy's text, which is public. Do not pass secrets by
environment; a value at least stays off the command line with -e NAME or --env-file.`,
		Example: `  cofferdam run --rm oci-archive:busybox.tar -- echo hello
  cofferdam run -d --name db -p 6379:6379 oci-archive:redis.tar
  cofferdam run -it --rm docker.io/library/alpine:3 sh
  cofferdam run --rm --policy policy.rego --network none oci:layout:latest`,
		Args: arguments(1, -1, "an image"),
		RunE: func(cmd *cobra.Command, args []string) error {
			o.image, o.command = args[0], afterDashes(args[1:])
			g, err := o.group(cmd, a)
			if err != nil {
				return err
			}
			return own(a.run(cmd.Context(), &o, g))
		},
	}
	o.policyFlags(c)
	o.launchFlags(c)
	return c
}

// afterDashes drops the dashes that may stand between a name and the command that belongs to it.
func afterDashes(args []string) []string {
	if len(args) > 0 && args[0] == "--" {
		return args[1:]
	}
	return args
}

func (a *app) run(ctx context.Context, o *runOptions, g *spec.Group) error {
	starting, stop := interruptible(ctx)
	defer stop()
	prep, err := a.prepare(starting, o, g)
	if err != nil {
		return err
	}
	plan, err := a.plan(starting, o, g, prep)
	if err != nil {
		return err
	}
	created, start, err := a.launch(plan)
	if err != nil {
		return err
	}
	defer func() { _ = start.Close() }() // by then the group runs on its own, or is gone
	if o.detach {
		err = start.Wait(starting, group.StageRunning)
		if err != nil {
			return a.startFailure(created, o, err)
		}
		_, err = fmt.Fprintln(a.Out, plan.Name)
		if err != nil {
			return fmt.Errorf("writing the answer: %w", err)
		}
		return nil
	}
	return a.foreground(starting, stop, o, created, start)
}

// foreground attaches to the container before it starts, and stays until it has ended.
func (a *app) foreground(ctx context.Context, stop context.CancelFunc, o *runOptions, created *group.Created, start *group.Starting) error {
	err := start.Wait(ctx, group.StageAttach)
	if err != nil {
		return a.startFailure(created, o, err)
	}
	client, err := group.DialDir(created.Dir)
	if err != nil {
		return err
	}
	defer func() { _ = client.Close() }() // the process has ended, or is beyond reach
	streams, err := client.Attach(ctx, group.AttachOptions{Stdin: o.interactive, Wait: true})
	if err != nil {
		return err
	}
	defer func() { _ = streams.Close() }() // likewise
	signals, release := forwarded()
	defer release()
	err = start.Wait(ctx, group.StageRunning)
	if err != nil {
		return a.startFailure(created, o, err)
	}
	stop() // from here on signals are for the process
	base := context.WithoutCancel(ctx)
	a.pass, err = a.converse(base, &groupProcess{client: client}, streams, o.interactive, signals)
	if err != nil {
		return err
	}
	select {
	case <-client.Done():
	case <-time.After(lastWords):
		a.say("cofferdam: the machine of %s is still going down", created.Record.Name)
	}
	return nil
}

// launch makes the group of a plan and starts its supervisor.
func (a *app) launch(plan *group.Plan) (*group.Created, *group.Starting, error) {
	s, err := a.store()
	if err != nil {
		return nil, nil, err
	}
	created, err := s.Create(plan)
	if errors.Is(err, group.ErrExists) {
		return nil, nil, fixed(err, "cofferdam group rm %s, or another --name", plan.Name)
	}
	if err != nil {
		return nil, nil, err
	}
	self, err := os.Executable()
	if err != nil {
		return nil, nil, errors.Join(fmt.Errorf("finding this program: %w", err), created.Close())
	}
	board := a.board()
	step := board.Start("starting the machine of "+plan.Name, 0)
	start, err := group.Start(created, group.StartOptions{
		Command:  []string{self, "--home", a.home, "supervise"},
		Progress: func(e group.Event) { step = a.stage(board, step, e) },
	})
	if err != nil {
		board.Close()
		return nil, nil, errors.Join(err, created.Close())
	}
	return created, start, nil
}

// comes is what a start does after a stage.
var comes = map[string]string{
	group.StageMachine:    "booting the guest",
	group.StageGuest:      "setting the policy",
	group.StagePolicy:     "mounting layers",
	group.StageLayers:     "creating containers",
	group.StageContainers: "starting containers",
}

// stage shows one stage of a start; the last one takes the board down.
func (a *app) stage(board *progress.Board, step *progress.Step, e group.Event) *progress.Step {
	step.Done("")
	next, ok := comes[e.Stage]
	if !ok {
		board.Close()
		return nil
	}
	return board.Start(next, 0)
}

// startFailure says why a group did not start. What it leaves behind is removed: the group never ran.
func (a *app) startFailure(created *group.Created, o *runOptions, err error) error {
	name := created.Record.Name
	var se *group.StartError
	if errors.As(err, &se) && se.Denial != nil {
		f := refusal(se.Denial)
		f.details = append(f.details, "group: "+name)
		if f.fix == "" {
			f.fix = "cofferdam policy generate with the same flags shows what the policy would have to say"
		}
		err = f
	}
	s, openErr := a.store()
	if openErr == nil && o.remove {
		openErr = s.Remove(created.Record.ID)
		if errors.Is(openErr, group.ErrNotFound) {
			openErr = nil
		}
	}
	return errors.Join(err, openErr)
}
