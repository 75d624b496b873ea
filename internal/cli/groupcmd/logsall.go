// SPDX-License-Identifier: Apache-2.0

package groupcmd

import (
	"bytes"
	"context"
	"fmt"
	"sync"

	"cofferdam.dev/internal/group"
	"cofferdam.dev/internal/group/logfile"
)

// piece is a piece of a container's output.
type piece struct {
	prefix string
	entry  logfile.Entry
}

// allLogs prints what all containers of a group have written: what is there in the order of time, and what follows as it
// comes.
func (a *App) allLogs(ctx context.Context, s *group.Store, r *group.Record, o logfile.Options, stamps bool) error {
	width := 0
	for _, c := range r.Containers {
		width = max(width, len(c.Name))
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	errs := make([]error, len(r.Containers))
	pieces := make([]chan piece, len(r.Containers))
	joined := make(chan piece)
	var readers sync.WaitGroup
	for i, c := range r.Containers {
		pieces[i] = make(chan piece)
		to := pieces[i]
		if o.Follow {
			to = joined
		}
		readers.Go(func() {
			defer close(pieces[i])
			prefix := fmt.Sprintf("%-*s | ", width, c.Name)
			errs[i] = s.Logs(ctx, r.ID, c.Name, o, func(e logfile.Entry) error {
				e.Data = bytes.Clone(e.Data) // valid during the call only
				e.Newline = true             // of several containers, a line is a line
				select {
				case to <- piece{prefix, e}:
					return nil
				case <-ctx.Done():
					return ctx.Err()
				}
			})
		})
	}
	go func() {
		readers.Wait()
		close(joined)
	}()
	write := func(p piece) error { return a.writeEntry(p.prefix, p.entry, stamps) }
	var err error
	if o.Follow {
		err = each(joined, write)
	} else {
		err = merge(pieces, write)
	}
	cancel()
	readers.Wait()
	for i := range errs {
		if err == nil {
			err = errs[i]
		}
	}
	return err
}

func each(from <-chan piece, do func(piece) error) error {
	for p := range from {
		err := do(p)
		if err != nil {
			return err
		}
	}
	return nil
}

// merge calls do for the pieces of several logs in the order of time. Each log is in that order by itself.
func merge(logs []chan piece, do func(piece) error) error {
	next := make([]*piece, len(logs))
	for {
		first := -1
		for i := range logs {
			if next[i] == nil && logs[i] != nil {
				p, ok := <-logs[i]
				if !ok {
					logs[i] = nil
					continue
				}
				next[i] = &p
			}
			if next[i] != nil && (first < 0 || next[i].entry.Time.Before(next[first].entry.Time)) {
				first = i
			}
		}
		if first < 0 {
			return nil
		}
		err := do(*next[first])
		if err != nil {
			return err
		}
		next[first] = nil
	}
}
