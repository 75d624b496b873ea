// SPDX-License-Identifier: Apache-2.0

package groupapi

import (
	"context"
	"errors"
	"net/http"
	"time"

	"cofferdam.dev/internal/group"
	"cofferdam.dev/internal/group/event"
)

// stopAnswer is how long a request to stop waits for the end before it is answered all the same.
const stopAnswer = time.Minute

// ready finds a resource on which no operation is under way. The entry is locked.
func (a *API) ready(id resourceID) (*entry, *armError) {
	e := a.find(id, false)
	if e == nil {
		return nil, notFound(id)
	}
	if o := e.doc.Operation; o.Status == inProgress {
		e.mu.Unlock()
		return nil, transitioning(id, o.Kind)
	}
	return e, nil
}

// startGroup starts a group that has ended.
func (a *API) startGroup(w http.ResponseWriter, r *http.Request, p params) *armError {
	e, bad := a.ready(p.resource())
	if bad != nil {
		return bad
	}
	defer e.mu.Unlock()
	g := a.current(e.doc)
	if g != nil && g.Alive {
		w.WriteHeader(http.StatusNoContent)
		return nil
	}
	return a.startEnded(w, r, e, g, kindStart, http.StatusAccepted)
}

// startEnded has a group started again, or made anew where there is none. The entry is locked.
func (a *API) startEnded(w http.ResponseWriter, r *http.Request, e *entry, g *group.Group, kind string, status int) *armError {
	var job func(context.Context) *armError
	if g == nil {
		d, bad := a.redescribe(r.Context(), e.doc)
		if bad != nil {
			return bad
		}
		job = a.deployment(e, e.doc.ID, d.group, hashOf(e.doc.Resource))
	} else {
		plan, _, err := group.Load(g.Dir)
		if err != nil {
			return a.internal(err)
		}
		if plan.NeedsContents() && e.contents == nil {
			return failure(http.StatusConflict, codeConflict, "", "The content of the secret volumes of %q is not stored; put the resource again.", e.doc.ID.Name)
		}
		contents := e.contents
		job = func(ctx context.Context) *armError {
			created, err := a.opts.Groups.Reset(g.Record.ID)
			if err != nil {
				return a.deploymentError(ctx, err)
			}
			return a.launch(ctx, created, contents)
		}
	}
	return a.accept(w, r, e, kind, status, job)
}

// accept begins an operation and answers that it was.
func (a *API) accept(w http.ResponseWriter, r *http.Request, e *entry, kind string, status int, job func(context.Context) *armError) *armError {
	bad := a.begin(r, e, e.doc.clone(), kind, map[string]any{})
	if bad != nil {
		return bad
	}
	a.run(e, job)
	announce(w, r, e.doc.ID, &e.doc.Operation)
	w.WriteHeader(status)
	return nil
}

// restartGroup restarts the containers of a group, or starts it if it has ended.
func (a *API) restartGroup(w http.ResponseWriter, r *http.Request, p params) *armError {
	e, bad := a.ready(p.resource())
	if bad != nil {
		return bad
	}
	defer e.mu.Unlock()
	g := a.current(e.doc)
	if g == nil || !g.Alive {
		return a.startEnded(w, r, e, g, kindRestart, http.StatusNoContent)
	}
	return a.accept(w, r, e, kindRestart, http.StatusNoContent, func(ctx context.Context) *armError {
		client, err := group.DialDir(g.Dir)
		if err == nil {
			err = client.Restart(ctx, "")
			_ = client.Close() // the answer is there
		}
		if err != nil {
			return a.operationError(ctx, err)
		}
		return nil
	})
}

// operationError is how an operation on a group that runs fails.
func (a *API) operationError(ctx context.Context, err error) *armError {
	if ctx.Err() != nil {
		return failure(http.StatusConflict, codeOperationLost, "", "The operation was called off before it had ended.")
	}
	return failure(http.StatusConflict, codeConflict, "", "%s", event.Clean(err.Error()))
}

// stopGroupNow stops a group and answers when it has, or after a while.
func (a *API) stopGroupNow(w http.ResponseWriter, r *http.Request, p params) *armError {
	e, bad := a.ready(p.resource())
	if bad != nil {
		return bad
	}
	g := a.current(e.doc)
	if g == nil || !g.Alive {
		e.mu.Unlock()
		w.WriteHeader(http.StatusNoContent)
		return nil
	}
	bad = a.begin(r, e, e.doc.clone(), kindStop, map[string]any{})
	if bad != nil {
		e.mu.Unlock()
		return bad
	}
	o := e.doc.Operation
	done := a.run(e, a.stopping(g.Record.ID))
	e.mu.Unlock()
	select {
	case <-done:
		if o, ok := a.operationByID(o.ID); ok && o.Error != nil {
			bad = o.Error
			bad.status = http.StatusConflict
			return bad
		}
	case <-time.After(stopAnswer):
		announce(w, r, p.resource(), &o)
	case <-r.Context().Done():
		return failure(http.StatusServiceUnavailable, codeUnavailable, "", "The group is being stopped, which takes longer than the request may.")
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// stopping is the job that stops a group.
func (a *API) stopping(groupID string) func(context.Context) *armError {
	return func(ctx context.Context) *armError {
		err := a.stopGroup(ctx, groupID)
		if err != nil {
			return a.operationError(ctx, err)
		}
		return nil
	}
}

// deleteGroup stops a group and removes everything of it. What is under way is called off.
func (a *API) deleteGroup(w http.ResponseWriter, r *http.Request, p params) *armError {
	id := p.resource()
	for {
		e := a.find(id, false)
		if e == nil {
			w.WriteHeader(http.StatusNoContent)
			return nil
		}
		o := e.doc.Operation
		if o.Status != inProgress {
			defer e.mu.Unlock()
			return a.accept(w, r, e, kindDelete, http.StatusAccepted, a.removal(e, id))
		}
		cancel, done := e.cancel, e.done
		e.mu.Unlock()
		if a.ctx.Err() != nil {
			return failure(http.StatusServiceUnavailable, codeUnavailable, "", "The service is ending.")
		}
		if o.Kind == kindDelete {
			announce(w, r, id, &o)
			w.WriteHeader(http.StatusAccepted)
			return nil
		}
		cancel()
		select {
		case <-done:
		case <-r.Context().Done():
			return transitioning(id, o.Kind)
		}
	}
}

// removal is the job that removes a resource with its group. The document goes last: as long as it is there, somebody who
// was interrupted goes on.
func (a *API) removal(e *entry, id resourceID) func(context.Context) *armError {
	return func(ctx context.Context) *armError {
		e.mu.Lock()
		d := e.doc
		e.mu.Unlock()
		err := a.removeGroups(ctx, d)
		if err != nil {
			return a.operationError(ctx, err)
		}
		e.mu.Lock()
		defer e.mu.Unlock()
		gone := e.doc.clone()
		gone.Operation = ended(gone.Operation, nil, a.opts.Now())
		err = errors.Join(a.opts.auditOutcome(ctx, gone), a.docs.remove(id))
		if err != nil {
			return a.internal(err)
		}
		a.remember(gone.Operation)
		e.doc = nil
		e.contents.Zero()
		a.drop(id, e)
		return nil
	}
}
