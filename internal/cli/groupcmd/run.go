// SPDX-License-Identifier: Apache-2.0

package groupcmd

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"cofferdam.dev/internal/cli/console"
	"cofferdam.dev/internal/cli/imagecmd"
	"cofferdam.dev/internal/cli/progress"
	"cofferdam.dev/internal/group"
	"cofferdam.dev/internal/plain"
	"cofferdam.dev/internal/spec"
)

const (
	// lastWords is how long to wait for a supervisor to end after its group has.
	lastWords = 30 * time.Second
	// stopPoll is how often it is looked whether it has.
	stopPoll = 50 * time.Millisecond
)

// RunCommand returns `run` with all that is below it.
func (a *App) RunCommand() *cobra.Command {
	var o runOptions
	c := &cobra.Command{
		Use:   "run [flags] IMAGE [--] [COMMAND...]",
		Short: "Run a container in a measured machine of its own",
		Long: `Run an image in a virtual machine of its own, under a policy that is fixed at launch.

The image's layers become verified disks. A policy is generated that allows this command,
this environment and these layers and nothing else, unless --policy names one. The machine
is launched with the policy's hash; the guest refuses whatever the policy does not allow.
` + imagecmd.AboutReferences + `

In the foreground the streams, signals and the exit code are those of the process; Ctrl-C
twice in a row stops the group. A failure of cofferdam itself exits with 125, a refusal by
the policy with 3, a mistake on the command line with 2.

Environment values stand in the policy's text, which is public. Do not pass secrets by
environment; a value at least stays off the command line with -e NAME or --env-file.`,
		Example: `  cofferdam run --rm oci-archive:busybox.tar -- echo hello
  cofferdam run -d --name db -p 6379:6379 oci-archive:redis.tar
  cofferdam run -it --rm docker.io/library/alpine:3 sh
  cofferdam run --rm --policy policy.rego --network none oci:layout:latest`,
		Args: console.Arguments(1, -1, "an image"),
		RunE: func(cmd *cobra.Command, args []string) error {
			o.Image, o.Command = args[0], console.AfterDashes(args[1:])
			g, err := o.group(cmd, a)
			if err != nil {
				return own(err)
			}
			return own(a.run(cmd.Context(), &o, g))
		},
	}
	o.Flags(c)
	o.launchFlags(c)
	return c
}

func (a *App) run(ctx context.Context, o *runOptions, g *spec.Group) error {
	starting, stop := console.Interruptible(ctx)
	defer stop()
	err := a.nameFree(o.name)
	if err != nil {
		return err
	}
	prep, err := a.prepare(starting, o, g)
	if err != nil {
		return err
	}
	plan, err := a.plan(starting, o, g, prep)
	if err != nil {
		return err
	}
	l, err := a.launch(plan, nil)
	if err != nil {
		return err
	}
	l.prep = prep
	defer l.close()
	if !o.detach {
		return a.foreground(starting, stop, o, l)
	}
	err = l.wait(starting, group.StageRunning)
	if err != nil {
		return a.startFailure(ctx, l, o, err)
	}
	_, err = fmt.Fprintln(a.Out, plan.Name)
	if err != nil {
		return fmt.Errorf("writing the answer: %w", err)
	}
	return nil
}

// foreground attaches to the container before it starts, and stays until it has ended.
func (a *App) foreground(ctx context.Context, stop context.CancelFunc, o *runOptions, l *launched) error {
	err := l.wait(ctx, group.StageAttach)
	if err != nil {
		return a.startFailure(ctx, l, o, err)
	}
	client, err := group.DialDir(l.created.Dir)
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
	err = l.wait(ctx, group.StageRunning)
	if err != nil {
		return a.startFailure(ctx, l, o, err)
	}
	stop() // from here on signals are for the process
	a.Pass, err = a.converse(context.WithoutCancel(ctx), &groupProcess{client: client}, streams, o.interactive, signals)
	if errors.Is(err, console.ErrLeft) {
		return err
	}
	var told *console.Failure
	if err != nil && !errors.As(err, &told) && !o.remove {
		err = console.Fixed(err, "%s", howToLook(l.created.Record.Name))
	}
	_ = client.Close() // the supervisor waits for its clients before it ends
	store, storeErr := a.Store()
	if storeErr == nil && !a.gone(store, l.created.Record.ID) {
		a.Say("cofferdam: the machine of %s is still going down", l.created.Record.Name)
	}
	return errors.Join(err, storeErr)
}

// gone waits until a group's supervisor has ended, and with it everything of the group that is not kept.
func (a *App) gone(s *group.Store, id string) bool {
	for end := a.Now().Add(lastWords); a.Now().Before(end); time.Sleep(stopPoll) {
		g, err := s.Lookup(id)
		if err != nil || !g.Alive {
			return true // a group that is not found has removed itself
		}
	}
	return false
}

// launched is a group whose start is under way, and the board that shows it.
type launched struct {
	prep    *prepared
	created *group.Created
	start   *group.Starting
	board   *progress.Board
	// warnings are what the supervisor wants a person to know, told when nothing is drawn over them.
	warnings []string
	warn     func(text string)
}

// wait follows the start to a stage. The board is down afterwards.
func (l *launched) wait(ctx context.Context, stage string) error {
	err := l.start.Wait(ctx, stage)
	l.board.Close()
	for _, text := range l.warnings {
		l.warn(text)
	}
	l.warnings = nil
	return err
}

// close lets go of the start: by then the group runs on its own, or is gone.
func (l *launched) close() {
	l.board.Close()
	_ = l.start.Close() // the status connection has served
}

// nameFree looks whether a group can have a name, before any work is done for it. Whether it really can is settled when
// the group is made.
func (a *App) nameFree(name string) error {
	if name == "" {
		return nil
	}
	s, err := a.Store()
	if err != nil {
		return err
	}
	g, err := s.Lookup(name)
	if err != nil || g.Record.Name != name {
		return nil // a record that can not be read is another command's news
	}
	err = fmt.Errorf("%w: %s, which is %s", group.ErrExists, name, describeState(g.Record))
	if g.Alive {
		return console.Fixed(err, "cofferdam group rm --force %s stops and removes it; or another --name", name)
	}
	return console.Fixed(err, "cofferdam group rm %s, or another --name", name)
}

// launch makes the group of a plan and starts its supervisor.
func (a *App) launch(plan *group.Plan, contents group.Contents) (*launched, error) {
	s, err := a.Store()
	if err != nil {
		return nil, err
	}
	created, err := s.Create(plan)
	if errors.Is(err, group.ErrExists) {
		return nil, console.Fixed(err, "cofferdam group rm --force %s, or another --name", plan.Name)
	}
	if err != nil {
		return nil, err
	}
	return a.follow(created, contents)
}

// follow starts the supervisor of a group that was made, and shows how the start goes on.
func (a *App) follow(created *group.Created, contents group.Contents) (*launched, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, errors.Join(fmt.Errorf("finding this program: %w", err), created.Close())
	}
	l := &launched{created: created, board: a.Board(), warn: func(text string) {
		a.Say("%s %s", a.Style(a.Err).Warn("warning:"), console.OneLine(text))
	}}
	step := l.board.Start("starting "+created.Record.Name, 0)
	l.start, err = group.Start(created, group.StartOptions{
		Command:  []string{self, "--home", a.Home, "supervise"},
		Contents: contents,
		Progress: func(e group.Event) {
			step.Done("")
			step = nil
			next, ok := comes[e.Stage]
			if ok {
				step = l.board.Start(next, 0)
			}
		},
		Warning: func(text string) { l.warnings = append(l.warnings, text) },
	})
	if err != nil {
		l.board.Close()
		return nil, errors.Join(err, created.Close())
	}
	return l, nil
}

// comes is what a start does after a stage.
var comes = map[string]string{
	group.StageMachine:    "booting the guest",
	group.StageGuest:      "setting the policy",
	group.StagePolicy:     "mounting layers",
	group.StageLayers:     "creating containers",
	group.StageContainers: "starting containers",
}

// startFailure says why a group did not start. Its record stays, unless --rm asked for its removal; the supervisor sees
// to that, if it lives long enough.
func (a *App) startFailure(ctx context.Context, l *launched, o *runOptions, err error) error {
	var se *group.StartError
	if errors.As(err, &se) {
		err = l.explain(ctx, se, o)
	}
	s, openErr := a.Store()
	if openErr == nil && o.remove {
		openErr = s.Remove(l.created.Record.ID)
		if errors.Is(openErr, group.ErrNotFound) {
			openErr = nil
		}
	}
	return errors.Join(err, openErr)
}

// containerPrefix begins the message of a start that failed in one of the containers.
const containerPrefix = "container "

// explain says what a person can do about a start that failed.
func (l *launched) explain(ctx context.Context, se *group.StartError, o *runOptions) error {
	f := &console.Failure{Code: console.ExitError, Err: se}
	if se.Denial != nil {
		f = console.Refusal(se.Denial)
	}
	f.Details = append(f.Details, "group: "+l.created.Record.Name)
	if name, _, ok := strings.Cut(strings.TrimPrefix(se.Message, containerPrefix), ":"); ok && strings.HasPrefix(se.Message, containerPrefix) {
		f.Details = append(f.Details, "container: "+plain.Printable(name))
	}
	given := o.policyFile != ""
	switch {
	case f.Code == console.ExitRefused && given && l.prep == nil:
		f.Fix = "cofferdam group plan with the same flags; --regenerate launches with a policy made of the description"
	case f.Code == console.ExitRefused && given:
		f.Details = append(f.Details, mismatch(ctx, l.prep.parts.Policy, l.prep.text)...)
		f.Fix = fmt.Sprintf("cofferdam policy show %s, and compare with `cofferdam policy generate` and the flags of this run", o.policyFile)
	case f.Code == console.ExitRefused && f.Fix == "":
		f.Fix = "cofferdam policy generate with the same flags shows what the policy says"
	case f.Fix == "":
		f.Fix = hint(se.Message)
	}
	if f.Fix == "" && !o.remove {
		f.Fix = howToLook(l.created.Record.Name)
	}
	return f
}
