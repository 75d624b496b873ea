// SPDX-License-Identifier: Apache-2.0

package groupcmd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"time"

	"github.com/spf13/cobra"

	"cofferdam.dev/internal/cli/console"
	"cofferdam.dev/internal/group"
	"cofferdam.dev/internal/group/logfile"
)

func (a *App) logsCommand() *cobra.Command {
	var o logfile.Options
	var since time.Duration
	var stamps, machine, supervisor bool
	var container string
	c := &cobra.Command{
		Use:   "logs GROUP",
		Short: "Show what a group's containers have written",
		Long: `Show the output of containers: their standard output on ours, their standard error on ours.
Of several containers, each line has the container's name before it.

A policy without stdio access keeps output inside; then there is nothing to show. With
--console it is the machine's console, with --supervisor the host side's own log.`,
		Example: `  cofferdam group logs db
  cofferdam group logs --follow --tail 10 db
  cofferdam group logs --container web --since 10m shop
  cofferdam group logs --console db`,
		Args:              console.Arguments(1, 1, "the name of a group"),
		ValidArgsFunction: a.CompleteGroups,
		RunE: func(cmd *cobra.Command, args []string) error {
			if o.Tail < 0 || since < 0 {
				return console.Usage(cmd, "--tail and --since are not negative")
			}
			if machine && supervisor {
				return console.Usage(cmd, "--console and --supervisor exclude each other")
			}
			if since > 0 {
				o.Since = a.Now().Add(-since)
			}
			ctx, stop := console.Interruptible(cmd.Context())
			defer stop()
			s, g, err := a.Lookup(args[0])
			if err != nil {
				return err
			}
			switch {
			case machine:
				return a.copyLog(group.ConsolePath(g.Dir))
			case supervisor:
				return a.copyLog(group.SupervisorLogPath(g.Dir))
			}
			if container == "" && len(g.Record.Containers) > 1 {
				err = a.allLogs(ctx, s, g.Record, o, stamps)
			} else {
				err = s.Logs(ctx, g.Record.ID, container, o, func(e logfile.Entry) error { return a.writeEntry("", e, stamps) })
			}
			if o.Follow && errors.Is(err, context.Canceled) {
				return nil // Ctrl-C is how following ends
			}
			return err
		},
	}
	f := c.Flags()
	f.BoolVarP(&o.Follow, "follow", "f", false, "go on with what is written from now on, until the group ends")
	f.IntVar(&o.Tail, "tail", 0, "leave out all but the last lines (0 shows all)")
	f.DurationVar(&since, "since", 0, "leave out what is older, such as 10m (0 shows all)")
	f.BoolVar(&stamps, "timestamps", false, "put the time before each line")
	f.StringVar(&container, "container", "", "only this container, without its name before each line")
	a.completeContainers(c)
	f.BoolVar(&machine, "console", false, "show the machine's console instead")
	f.BoolVar(&supervisor, "supervisor", false, "show the supervisor's own log instead")
	return c
}

// writeEntry prints a piece of output. A prefix stands before each of its lines.
func (a *App) writeEntry(prefix string, e logfile.Entry, stamps bool) error {
	w := a.Out
	if e.Stream == logfile.Stderr {
		w = a.Err
	}
	if stamps {
		prefix += e.Time.UTC().Format(time.RFC3339Nano) + " "
	}
	data := e.Bytes()
	if prefix != "" {
		data = append([]byte(prefix), data...)
	}
	_, err := w.Write(data)
	if err != nil {
		return fmt.Errorf("writing the log: %w", err)
	}
	return nil
}

// copyLog prints a log file as it is. One that was never written is empty.
func (a *App) copyLog(path string) error {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("reading the log: %w", err)
	}
	defer func() { _ = f.Close() }() // opened for reading only
	_, err = io.Copy(a.Out, f)
	if err != nil {
		return fmt.Errorf("copying the log: %w", err)
	}
	return nil
}
