// SPDX-License-Identifier: Apache-2.0

package groupapi

import (
	"context"
	"log/slog"
	"strings"
	"time"

	"cofferdam.dev/internal/group"
)

// watchPoll is how often a start is looked at that another process began.
const watchPoll = 100 * time.Millisecond

// reconcile settles what was under way when the service ended last. Removals and stops go on; of everything else the truth
// is told. It runs before the first request.
func (a *API) reconcile() {
	groups, err := a.opts.Groups.List()
	if err != nil {
		a.opts.Log.Warn("some groups can not be read", slog.Any("error", err))
	}
	known := map[string]bool{}
	for _, e := range a.entries {
		known[e.doc.ID.source()] = true
		e.mu.Lock()
		a.adopt(e, groups)
		if e.doc.Operation.Status == inProgress {
			a.run(e, a.resumption(e))
		}
		e.mu.Unlock()
	}
	for _, g := range groups {
		if strings.HasPrefix(g.Record.Source, sourcePrefix) && !known[g.Record.Source] {
			a.opts.Log.Warn("a group was made here, and its document is gone: see `cofferdam group inspect`", slog.String("group", g.Record.Name))
		}
	}
}

// adopt gives a document its group where the service ended between making the one and noting it in the other.
func (a *API) adopt(e *entry, groups []*group.Group) {
	var found *group.Group
	for _, g := range groups {
		if g.Record.ID == e.doc.GroupID {
			return
		}
		if g.Record.Source == e.doc.ID.source() {
			found = g
		}
	}
	if found == nil {
		return
	}
	d := e.doc.clone()
	d.Group, d.GroupID = found.Record.Name, found.Record.ID
	if err := a.save(e, d); err != nil {
		a.opts.Log.Error("a document could not be written", slog.String("resource", d.ID.String()), slog.Any("error", err))
		e.doc = d
	}
}

// resumption is the job that settles what another process had begun.
func (a *API) resumption(e *entry) func(context.Context) *armError {
	d := e.doc
	switch d.Operation.Kind {
	case kindDelete:
		return a.removal(e, d.ID)
	case kindStop:
		return a.stopping(d.GroupID)
	case kindPut, kindStart:
		return func(ctx context.Context) *armError { return a.awaitStart(ctx, d) }
	}
	return func(context.Context) *armError {
		return interrupted("whether all containers were restarted is not known")
	}
}

func interrupted(text string) *armError {
	return failure(409, codeOperationLost, "", "The service ended while this was under way: %s.", text)
}

// awaitStart finds out what became of a start that another process followed. A supervisor whose starter is gone calls its
// start off, unless that was over.
func (a *API) awaitStart(ctx context.Context, d *document) *armError {
	for {
		g := a.current(d)
		switch {
		case g == nil:
			return interrupted("the group was not made yet; put the resource again")
		case d.Operation.Kind == kindPut && (g.Record.Digest != hashOf(d.Resource) || g.Record.Created.Before(d.Operation.Started)):
			return interrupted("the group is still the one before; put the resource again")
		case g.Record.State == group.StateRunning:
			return nil
		case g.Record.State == group.StateExited && g.Record.Started != nil && g.Record.Started.After(d.Operation.Started):
			return nil // it ran, and has ended since
		case !g.Alive:
			return interrupted("the start was called off: " + g.Record.Reason)
		}
		select {
		case <-ctx.Done():
			return failure(409, codeOperationLost, "", "The operation was called off before it had ended.")
		case <-time.After(watchPoll):
		}
	}
}
