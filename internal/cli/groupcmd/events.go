// SPDX-License-Identifier: Apache-2.0

package groupcmd

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"cofferdam.dev/internal/cli/console"
	"cofferdam.dev/internal/group"
	"cofferdam.dev/internal/group/event"
	"cofferdam.dev/internal/plain"
)

// eventList is the document behind `group events`.
type eventList struct {
	Schema string        `json:"schema"`
	Group  string        `json:"group"`
	Events []event.Event `json:"events"`
}

func (a *App) eventsCommand() *cobra.Command {
	var o event.Options
	var since time.Duration
	c := &cobra.Command{
		Use:   "events GROUP",
		Short: "Show what happened to a group",
		Long: `Show what happened to a group, in the form that Azure's container groups have: images,
containers that started, ended, were restarted or waited, probes that failed, and every
request that the guest's policy refused, with the reason.

What happens again is one event with a count. With --follow, events are printed as they
happen; then -o json prints one object on a line.`,
		Example: `  cofferdam group events shop
  cofferdam group events --follow shop
  cofferdam group events shop -o json | jq '.events[] | select(.type == "Warning")'`,
		Args:              console.Arguments(1, 1, "the name of a group"),
		ValidArgsFunction: a.CompleteGroups,
		RunE: func(cmd *cobra.Command, args []string) error {
			if since < 0 {
				return console.Usage(cmd, "--since is not negative")
			}
			if since > 0 {
				o.Since = a.Now().Add(-since)
			}
			ctx, stop := console.Interruptible(cmd.Context())
			defer stop()
			return a.events(ctx, args[0], o)
		},
	}
	f := c.Flags()
	f.BoolVarP(&o.Follow, "follow", "f", false, "go on with what happens from now on, until the group ends")
	f.StringVar(&o.Container, "container", "", "only the events of this container")
	a.completeContainers(c)
	f.DurationVar(&since, "since", 0, "leave out what is older, such as 10m (0 shows all)")
	a.OutputFlag(c)
	return c
}

func (a *App) events(ctx context.Context, ref string, o event.Options) error {
	s, g, err := a.Lookup(ref)
	if err != nil {
		return err
	}
	if o.Container != "" {
		c, err := g.Record.Container(o.Container)
		if err != nil {
			return err
		}
		o.Container = c.Name
	}
	if o.Follow {
		err = s.Events(ctx, g.Record.ID, o, a.showEvent)
		if errors.Is(err, context.Canceled) {
			return nil // Ctrl-C is how following ends
		}
		return err
	}
	list := eventList{Schema: "cofferdam.dev/group-events/v1", Group: g.Record.Name, Events: []event.Event{}}
	err = s.Events(ctx, g.Record.ID, o, func(e event.Event) error {
		list.Events = append(list.Events, e)
		return nil
	})
	if err != nil {
		return err
	}
	return a.Answer(list, func(w io.Writer) error { return console.Table(w, a.eventRows(list.Events)) })
}

func (a *App) eventRows(list []event.Event) [][]string {
	rows := [][]string{{"LAST", "TYPE", "NAME", "CONTAINER", "COUNT", "MESSAGE"}}
	for _, e := range list {
		rows = append(rows, []string{
			age(a.Now().Sub(e.Last)), string(e.Type), plain.Printable(e.Name), e.Container, strconv.Itoa(e.Count), plain.Printable(e.Message),
		})
	}
	return rows
}

// showEvent prints one event as it happens.
func (a *App) showEvent(e event.Event) error {
	var err error
	if a.Output == "json" {
		var text []byte
		text, err = json.Marshal(e)
		if err == nil {
			_, err = fmt.Fprintf(a.Out, "%s\n", text)
		}
	} else {
		_, err = fmt.Fprintf(a.Out, "%s  %-7s  %-14s  %s\n", e.Last.UTC().Format(time.RFC3339), e.Type, plain.Printable(e.Name), eventText(e))
	}
	if err != nil {
		return fmt.Errorf("writing the event: %w", err)
	}
	return nil
}

func eventText(e event.Event) string {
	text := plain.Printable(e.Message)
	if e.Container != "" {
		text = e.Container + ": " + text
	}
	if e.Count > 1 {
		text += fmt.Sprintf(" (%d times)", e.Count)
	}
	return text
}

// debugAnswer is the document behind `group debug`.
type debugAnswer struct {
	Schema string        `json:"schema"`
	Group  string        `json:"group"`
	State  group.State   `json:"state"`
	Reason string        `json:"reason,omitempty"`
	Steps  []debugStep   `json:"steps"`
	Events []event.Event `json:"events"`
	Try    []string      `json:"try"`
}

// debugStep is one step of a start.
type debugStep struct {
	Name string `json:"name"`
	Done bool   `json:"done"`
	// Milliseconds is how long it took.
	Milliseconds int64  `json:"ms,omitempty"`
	Note         string `json:"note,omitempty"`
}
