// SPDX-License-Identifier: Apache-2.0

package groupcmd

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"cofferdam.dev/internal/cli/console"
	"cofferdam.dev/internal/deploy"
	"cofferdam.dev/internal/group"
	"cofferdam.dev/internal/plain"
	"cofferdam.dev/internal/spec"
)

// allowedCommand is a command that a person lets the host start in a container.
type allowedCommand struct {
	text string // as it was given
	// container is what stands before the first colon of the text, if it could be a name; words is the text without it.
	container   string
	words, rest []string
}

// readAllowed reads the values of --allow-exec: words as in a shell, after a container's name and a colon.
func readAllowed(texts []string) ([]allowedCommand, error) {
	var list []allowedCommand
	for _, text := range texts {
		a := allowedCommand{text: text}
		var err error
		if a.words, err = spec.SplitWords(text); err != nil {
			return nil, fmt.Errorf("%q: %w", text, err)
		}
		if name, rest, ok := strings.Cut(text, ":"); ok {
			a.container = name
			if a.rest, err = spec.SplitWords(rest); err != nil {
				return nil, fmt.Errorf("%q: %w", text, err)
			}
		}
		if len(a.words) == 0 || a.container != "" && len(a.rest) == 0 {
			return nil, fmt.Errorf("%q has no command", text)
		}
		list = append(list, a)
	}
	return list, nil
}

// allow adds the commands to the containers of a group. Without a container's name a command is for the only container:
// nothing is allowed where nobody asked for it.
func allow(g *spec.Group, list []allowedCommand) error {
	for _, a := range list {
		found, names := -1, []string{}
		for i, c := range g.Containers {
			names = append(names, c.Name)
			if c.Name == a.container {
				found = i
			}
		}
		words := a.rest
		if found < 0 && len(g.Containers) == 1 {
			found, words = 0, a.words
		}
		if found < 0 {
			return fmt.Errorf("--allow-exec %q begins with the name of no container and a colon; the group has %s", a.text, strings.Join(names, ", "))
		}
		g.Containers[found].AllowExec = append(g.Containers[found].AllowExec, words)
	}
	return nil
}

// checkAllowed refuses commands that have no effect, since the policy is somebody else's.
func checkAllowed(o *GroupOptions, p *deploy.Prepared) error {
	if len(o.allowExec) > 0 && p.Origin == deploy.FromDescription {
		return console.Fixed(errors.New("--allow-exec has no effect: the policy is the description's"), "--regenerate, or a description without a policy")
	}
	return nil
}

// howToAllow says how a command gets into the policy of a group like this one.
func (a *App) howToAllow(ref, container string, command []string) string {
	_, g, err := a.Lookup(ref)
	if err != nil || g.Record.Source == "" {
		return "the policy is fixed at launch; allow the command there: cofferdam run --allow-exec " + strconv.Quote(plain.Printable(plain.Command(command))) + " ..."
	}
	if c, err := g.Record.Container(container); err == nil {
		container = c.Name
	}
	return "the policy is fixed at launch; allow the command there: cofferdam group up --allow-exec " + strconv.Quote(plain.Printable(container+":"+plain.Command(command))) + " ..."
}

// lookAgain is how often somebody who waits for a group looks at it.
const lookAgain = 200 * time.Millisecond

// waitReady waits until every container of a group is ready, or the group has ended.
func (a *App) waitReady(ctx context.Context, id string) error {
	step := a.Board()
	defer step.Close()
	task := step.Start("waiting until ready", 0)
	defer task.Done("")
	for {
		_, g, err := a.Lookup(id)
		if err != nil {
			return err
		}
		r := g.Record
		code, ended := r.ExitCode()
		switch {
		case r.Ready, ended && code == 0 && r.State == group.StateExited:
			return nil
		case r.State.Final() && ended:
			return console.Fixed(fmt.Errorf("group %s ended with exit code %d before it was ready", r.Name, code), "cofferdam group debug %s", r.Name)
		case r.State.Final():
			return console.Fixed(fmt.Errorf("group %s ended before it was ready: %s", r.Name, plain.Printable(endOf(r))), "cofferdam group debug %s", r.Name)
		}
		select {
		case <-ctx.Done():
			return &console.Failure{Code: console.ExitInterrupt, Err: fmt.Errorf("interrupted; group %s runs on", r.Name), Fix: "cofferdam group down " + r.Name}
		case <-time.After(lookAgain):
		}
	}
}

// endOf says why a group ended that never ran as a whole.
func endOf(r *group.Record) string {
	for _, c := range r.Containers {
		if r.Reason == "" && c.ExitCode != nil && *c.ExitCode != 0 {
			return fmt.Sprintf("container %s ended with exit code %d", c.Name, *c.ExitCode)
		}
	}
	return r.Reason
}

// allowFlag lets the policy have further commands.
func (o *GroupOptions) allowFlag(c *cobra.Command) {
	c.Flags().StringArrayVar(&o.allowExec, "allow-exec", nil, `let the host start a further command: "web:tar -cf - -C /srv site"`)
}
