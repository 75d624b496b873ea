// SPDX-License-Identifier: Apache-2.0

package groupapi

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"time"

	"cofferdam.dev/internal/group"
	"cofferdam.dev/internal/group/event"
	"cofferdam.dev/internal/spec"
)

// maxEvents bounds the events of a deployment that are kept.
const maxEvents = 100

func hashOf(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}

// tell notes an event of a deployment under way.
func (a *API) tell(e *entry) Tell {
	return func(container, name string, t event.Type, message string) {
		now := a.opts.Now().UTC()
		e.mu.Lock()
		defer e.mu.Unlock()
		if len(e.events) < maxEvents {
			e.events = append(e.events, event.Event{
				Name: name, Type: t, Message: event.Clean(message), Count: 1, First: now, Last: now, Container: container,
			})
		}
	}
}

// deployment is the job that makes a group of a description, in the place of the one that is there.
func (a *API) deployment(e *entry, id resourceID, g spec.Group, digest string) func(context.Context) *armError {
	return func(ctx context.Context) *armError {
		plan, contents, warnings, err := a.opts.Planner.Plan(ctx, g, a.tell(e))
		if err != nil {
			return a.deploymentError(ctx, err)
		}
		plan.Source, plan.Digest = id.source(), digest
		e.mu.Lock()
		before := e.doc
		e.mu.Unlock()
		err = a.removeGroups(ctx, before)
		if err != nil {
			return a.deploymentError(ctx, err)
		}
		created, err := a.create(ctx, id, plan)
		if err != nil {
			return a.deploymentError(ctx, err)
		}
		e.mu.Lock()
		d := e.doc.clone()
		d.Group, d.GroupID, d.Events = created.Record.Name, created.Record.ID, e.events
		d.Warnings = withNew(d.Warnings, warnings)
		err = a.save(e, d)
		e.phase = "Creating"
		e.contents.Zero()
		e.contents = contents
		e.mu.Unlock()
		if err != nil {
			return a.deploymentError(ctx, errors.Join(err, created.Close()))
		}
		return a.launch(ctx, created, contents)
	}
}

// withNew are the texts of both lists, each once.
func withNew(list, more []string) []string {
	list = slices.Clone(list)
	for _, text := range more {
		if !slices.Contains(list, text) {
			list = append(list, text)
		}
	}
	return list
}

// create makes the group in the store, under the first of its names that is free.
func (a *API) create(ctx context.Context, id resourceID, plan *group.Plan) (*group.Created, error) {
	var err error
	for _, name := range id.storeNames() {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		plan.Name = name
		var created *group.Created
		created, err = a.opts.Groups.Create(plan)
		if !errors.Is(err, group.ErrExists) {
			return created, err
		}
	}
	return nil, err
}

// launch starts a group and returns when it runs.
func (a *API) launch(ctx context.Context, created *group.Created, contents group.Contents) *armError {
	starting, err := group.Start(created, group.StartOptions{Command: a.opts.Supervisor, Contents: contents})
	if err != nil {
		return a.deploymentError(ctx, errors.Join(err, created.Close()))
	}
	err = starting.Wait(ctx, group.StageRunning)
	_ = starting.Close() // the start is over, one way or the other
	if err != nil {
		return a.deploymentError(ctx, err)
	}
	return nil
}

// deploymentError is how an operation ends that could not start a group.
func (a *API) deploymentError(ctx context.Context, err error) *armError {
	var refusal *Refusal
	var start *group.StartError
	switch {
	case ctx.Err() != nil:
		return failure(http.StatusConflict, codeOperationLost, "", "The operation was called off before it had ended.")
	case errors.As(err, &refusal):
		bad := failure(http.StatusConflict, codeDeployment, "", "%s", refusal.Message)
		if refusal.Policy {
			bad.Code = codePolicy
		}
		for _, text := range refusal.Details {
			bad.Details = append(bad.Details, armError{Code: bad.Code, Message: text})
		}
		return bad
	case errors.As(err, &start) && start.Denial != nil:
		return failure(http.StatusConflict, codePolicy, "", "The guest refused: %s", event.Clean(start.Denial.Error()))
	}
	a.opts.Log.Warn("a group could not be started", slog.Any("error", err))
	return failure(http.StatusConflict, codeDeployment, "", "%s", event.Clean(err.Error()))
}

// groupsOf are the groups in the store that were made for a resource: one, but for what an interrupted deployment left.
func (a *API) groupsOf(d *document) ([]*group.Group, error) {
	all, err := a.opts.Groups.List()
	var list []*group.Group
	for _, g := range all {
		if d.GroupID != "" && g.Record.ID == d.GroupID || g.Record.Source == d.ID.source() {
			list = append(list, g)
		}
	}
	if len(list) > 0 {
		err = nil // whatever else can not be read
	}
	return list, err
}

// current is the group of a resource, nil if there is none.
func (a *API) current(d *document) *group.Group {
	list, err := a.groupsOf(d)
	if err != nil {
		a.opts.Log.Warn("the groups can not be read", slog.Any("error", err))
	}
	for _, g := range list {
		if g.Record.ID == d.GroupID {
			return g
		}
	}
	return nil
}

// removeGroups stops and removes what the store holds of a resource.
func (a *API) removeGroups(ctx context.Context, d *document) error {
	list, err := a.groupsOf(d)
	if err != nil {
		return err
	}
	for _, g := range list {
		err = a.stopGroup(ctx, g.Record.ID)
		if err == nil {
			err = a.opts.Groups.Remove(g.Record.ID)
		}
		if err != nil && !errors.Is(err, group.ErrNotFound) {
			return err
		}
	}
	return nil
}

// How long a supervisor may take to go when it was asked to, and how often it is looked at.
const (
	stopPatience = 5 * time.Minute
	stopPoll     = 50 * time.Millisecond
)

// stopGroup stops a group and returns when its supervisor has gone. One that is just being started or called off is asked
// again.
func (a *API) stopGroup(ctx context.Context, id string) error {
	ctx, cancel := context.WithTimeout(ctx, stopPatience)
	defer cancel()
	asked := false
	for {
		g, err := a.opts.Groups.Lookup(id)
		if errors.Is(err, group.ErrNotFound) {
			return nil
		}
		if err != nil {
			return err
		}
		if !g.Alive {
			return nil
		}
		if !asked {
			asked = askToStop(ctx, g.Dir) == nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("stopping the group %s: %w", g.Record.Name, ctx.Err())
		case <-time.After(stopPoll):
		}
	}
}

func askToStop(ctx context.Context, dir string) error {
	client, err := group.DialDir(dir)
	if err != nil {
		return err
	}
	err = client.Stop(ctx, 0)
	_ = client.Close() // the supervisor waits for its clients
	return err
}
