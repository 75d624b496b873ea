// SPDX-License-Identifier: Apache-2.0

package groupcmd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"cofferdam.dev/internal/cli/console"
	"cofferdam.dev/internal/group"
	"cofferdam.dev/internal/plain"
)

// statsAnswer is the document behind `group stats`.
type statsAnswer struct {
	Schema string       `json:"schema"`
	Groups []groupStats `json:"groups"`
}

type groupStats struct {
	Group string `json:"group"`
	group.Stats
}

func (a *App) statsCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "stats GROUP...",
		Short: "Show what containers use of memory and processors",
		Long: `Show what the containers of groups use, as their guests tell it. The policy must allow it
(allow_properties_access).

CPU is the time used since the container started; ` + "`cofferdam group top`" + ` shows the share.`,
		Example: `  cofferdam group stats shop
  cofferdam group stats shop db -o json`,
		Args:              console.Arguments(1, -1, "at least one group"),
		ValidArgsFunction: a.CompleteGroups,
		RunE: func(cmd *cobra.Command, args []string) error {
			v := statsAnswer{Schema: "cofferdam.dev/group-stats/v1", Groups: []groupStats{}}
			for _, ref := range args {
				g, err := a.stats(cmd.Context(), ref)
				if err != nil {
					return err
				}
				v.Groups = append(v.Groups, *g)
			}
			return a.Answer(v, func(w io.Writer) error { return console.Table(w, v.rows()) })
		},
	}
	a.OutputFlag(c)
	return c
}

func (a *App) stats(ctx context.Context, ref string) (*groupStats, error) {
	client, err := a.Dial(ref)
	if err != nil {
		return nil, err
	}
	defer func() { _ = client.Close() }() // the answer is there
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	s, err := client.Stats(ctx)
	if err != nil {
		return nil, err
	}
	return &groupStats{Group: ref, Stats: *s}, nil
}

func (v *statsAnswer) rows() [][]string {
	rows := [][]string{{"GROUP", "CONTAINER", "STATE", "MEMORY", "CPU", "PROCESSES"}}
	for _, g := range v.Groups {
		for _, c := range g.Containers {
			rows = append(rows, []string{
				g.Group, c.Name, plain.Printable(c.State), mebibytes(c.MemoryBytes), c.CPU.Round(time.Millisecond).String(), strconv.Itoa(c.Processes),
			})
		}
		used := g.MemoryTotalBytes - min(g.MemoryAvailableBytes, g.MemoryTotalBytes)
		rows = append(rows, []string{g.Group, "(machine)", "", mebibytes(used) + " of " + mebibytes(g.MemoryTotalBytes), "", ""})
	}
	return rows
}

func mebibytes(n uint64) string { return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20)) }

func (a *App) topCommand() *cobra.Command {
	interval := 2 * time.Second
	c := &cobra.Command{
		Use:   "top GROUP",
		Short: "Watch which containers use processors and memory",
		Long: `Show the containers of a group with their share of a processor, the busiest first, over and
over until Ctrl-C or the group's end. Without a terminal it shows one interval and ends.`,
		Example: `  cofferdam group top shop
  cofferdam group top --interval 10s shop`,
		Args:              console.Arguments(1, 1, "the name of a group"),
		ValidArgsFunction: a.CompleteGroups,
		RunE: func(cmd *cobra.Command, args []string) error {
			if interval < 100*time.Millisecond {
				return console.Usage(cmd, "--interval is at least 100ms")
			}
			ctx, stop := console.Interruptible(cmd.Context())
			defer stop()
			return a.top(ctx, args[0], interval)
		},
	}
	c.Flags().DurationVar(&interval, "interval", interval, "how long each share is measured")
	return c
}

func (a *App) top(ctx context.Context, ref string, interval time.Duration) error {
	client, err := a.Dial(ref)
	if err != nil {
		return err
	}
	defer func() { _ = client.Close() }() // nothing is under way
	before, err := client.Stats(ctx)
	if err != nil {
		return err
	}
	for {
		began := a.Now()
		select {
		case <-ctx.Done():
			return nil // Ctrl-C is how watching ends
		case <-client.Done():
			return nil
		case <-time.After(interval):
		}
		after, err := client.Stats(ctx)
		if errors.Is(err, context.Canceled) || errors.Is(err, group.ErrSupervisorGone) {
			return nil
		}
		if err != nil {
			return err
		}
		watched := term.IsTerminal(int(a.Out.Fd()))
		if watched {
			_, _ = io.WriteString(a.Out, "\x1b[H\x1b[2J") // a terminal that is gone ends the next write
		}
		err = console.Table(a.Out, topRows(before, after, a.Now().Sub(began)))
		if err != nil || !watched {
			return err
		}
		before = after
	}
}

// topRows are the containers with the share of a processor that they used in between, the busiest first.
func topRows(before, after *group.Stats, took time.Duration) [][]string {
	type row struct {
		group.ContainerStats
		share float64
	}
	var list []row
	for _, c := range after.Containers {
		r := row{ContainerStats: c}
		for _, b := range before.Containers {
			if b.ID == c.ID && took > 0 {
				r.share = float64(c.CPU-b.CPU) / float64(took) * 100
			}
		}
		list = append(list, r)
	}
	slices.SortStableFunc(list, func(x, y row) int {
		switch {
		case x.share > y.share:
			return -1
		case x.share < y.share:
			return 1
		}
		return 0
	})
	rows := [][]string{{"CONTAINER", "STATE", "CPU%", "MEMORY", "PROCESSES"}}
	for _, r := range list {
		rows = append(rows, []string{r.Name, plain.Printable(r.State), fmt.Sprintf("%.1f", r.share), mebibytes(r.MemoryBytes), strconv.Itoa(r.Processes)})
	}
	return rows
}
