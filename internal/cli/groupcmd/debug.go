// SPDX-License-Identifier: Apache-2.0

package groupcmd

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"cofferdam.dev/internal/cli/console"
	"cofferdam.dev/internal/group"
	"cofferdam.dev/internal/group/event"
	"cofferdam.dev/internal/plain"
)

func (a *App) debugCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "debug GROUP",
		Short: "Explain why a group did not start, step by step",
		Long: `Explain how far the start of a group came: which steps were done and how long they took,
which one failed, what the containers do or wait for, what went wrong on the way, and what
to look at next.`,
		Example: `  cofferdam group debug shop
  cofferdam group debug shop -o json | jq '.steps[] | select(.done | not)'`,
		Args:              console.Arguments(1, 1, "the name of a group"),
		ValidArgsFunction: a.CompleteGroups,
		RunE: func(cmd *cobra.Command, args []string) error {
			v, err := a.debug(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			return a.Answer(v, func(w io.Writer) error { return a.showDebug(w, v) })
		},
	}
	a.OutputFlag(c)
	return c
}

// startSteps are the steps of a start, in order, in words.
var startSteps = []struct{ stage, words string }{
	{group.StageMachine, "the machine's process starts"},
	{group.StageGuest, "the guest boots and answers"},
	{group.StagePolicy, "the guest accepts the policy"},
	{group.StageLayers, "the images' layers are mounted"},
	{group.StageContainers, "the containers are created"},
	{group.StageRunning, "the containers start"},
}

func (a *App) debug(ctx context.Context, ref string) (*debugAnswer, error) {
	s, g, err := a.Lookup(ref)
	if err != nil {
		return nil, err
	}
	r := g.Record
	v := &debugAnswer{
		Schema: "cofferdam.dev/group-debug/v1", Group: r.Name, State: r.State, Reason: r.Reason, Steps: stepsOf(r, waitsFor(g)),
		Events: []event.Event{}, Try: []string{},
	}
	err = s.Events(ctx, r.ID, event.Options{}, func(e event.Event) error {
		if e.Type == event.Warning {
			v.Events = append(v.Events, e)
		}
		return nil
	})
	v.Try = append(v.Try, whatNext(r, v)...)
	return v, err
}

// stepsOf are the steps of the start, and what each container is at.
func stepsOf(r *group.Record, waits map[string]string) []debugStep {
	var steps []debugStep
	before := r.Created
	if r.Runs > 1 {
		before = time.Time{} // when it was started again is not known
	}
	for _, s := range startSteps {
		step := debugStep{Name: s.words}
		for _, done := range r.Stages {
			if done.Name == s.stage {
				step.Done = true
				if !before.IsZero() {
					step.Milliseconds = max(done.Time.Sub(before).Milliseconds(), 0)
				}
				before = done.Time
			}
		}
		steps = append(steps, step)
	}
	for _, c := range r.Containers {
		kind := "container"
		if c.Init {
			kind = "init container"
		}
		step := debugStep{Name: kind + " " + c.Name + " is " + string(c.State), Done: c.State == group.StateRunning}
		if c.Reason != r.Reason { // what ended the group is said once
			step.Note = c.Reason
		}
		if c.State == group.StateCreated && !r.State.Final() {
			step.Note = waits[c.Name]
		}
		if c.ExitCode != nil {
			step.Done = *c.ExitCode == 0
			step.Note = strings.TrimPrefix(fmt.Sprintf("%s; exit code %d", step.Note, *c.ExitCode), "; ")
		}
		if c.RestartCount > 0 {
			step.Note = strings.TrimPrefix(fmt.Sprintf("%s; restarted %d times", step.Note, c.RestartCount), "; ")
		}
		steps = append(steps, step)
	}
	return steps
}

// waitsFor says what each container needs of others before it is started. A plan that can not be read says nothing.
func waitsFor(g *group.Group) map[string]string {
	plan, _, err := group.Load(g.Dir)
	if err != nil {
		return nil
	}
	waits := map[string]string{}
	for _, c := range plan.Containers {
		var list []string
		for _, d := range c.Life.After {
			list = append(list, d.Container+" "+string(d.Condition))
		}
		if len(list) > 0 {
			waits[c.Name] = "it starts after: " + strings.Join(list, ", ")
		}
	}
	return waits
}

// whatNext are the commands that show more, the most telling first.
func whatNext(r *group.Record, v *debugAnswer) []string {
	var list []string
	add := func(format string, args ...any) { list = append(list, fmt.Sprintf(format, args...)) }
	if h := hint(r.Reason); h != "" {
		add("%s", h)
	}
	for _, e := range v.Events {
		if e.Name == event.PolicyDenied {
			add("cofferdam policy explain group:%s", r.Name)
			break
		}
	}
	for _, c := range r.Containers {
		if c.RestartCount > 0 || c.ExitCode != nil && *c.ExitCode != 0 {
			add("cofferdam group logs --container %s %s", c.Name, r.Name)
		}
	}
	if len(r.Stages) < 2 || r.State == group.StateFailed {
		add("cofferdam group logs --console %s", r.Name)
		add("cofferdam group logs --supervisor %s", r.Name)
	}
	return list
}

func (a *App) showDebug(w io.Writer, v *debugAnswer) error {
	var b strings.Builder
	s := a.Style(a.Out)
	fmt.Fprintf(&b, "group %s is %s", v.Group, v.State)
	if v.Reason != "" {
		fmt.Fprintf(&b, ": %s", plain.Printable(v.Reason))
	}
	b.WriteByte('\n')
	failed := false
	for _, step := range v.Steps {
		mark := "ok  "
		switch {
		case step.Done:
		case failed:
			mark = "-   "
		default:
			mark, failed = s.Bad("no  "), true
		}
		fmt.Fprintf(&b, "  %s %s", mark, step.Name)
		if step.Milliseconds > 0 {
			fmt.Fprintf(&b, " (%d ms)", step.Milliseconds)
		}
		if step.Note != "" {
			fmt.Fprintf(&b, ": %s", plain.Printable(step.Note))
		}
		b.WriteByte('\n')
	}
	if len(v.Events) > 0 {
		b.WriteString("what went wrong on the way:\n")
	}
	for _, e := range v.Events {
		fmt.Fprintf(&b, "  %s: %s\n", plain.Printable(e.Name), eventText(e))
	}
	for _, t := range v.Try {
		fmt.Fprintf(&b, "%s %s\n", s.Strong("try:"), t)
	}
	_, err := io.WriteString(w, b.String())
	return err
}
