// SPDX-License-Identifier: Apache-2.0

package groupapi

import (
	"context"
	"crypto/rand"
	"errors"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"cofferdam.dev/internal/auth"
	"cofferdam.dev/internal/serve"
)

// The kinds of operations.
const (
	kindPut     = "put"
	kindStart   = "start"
	kindStop    = "stop"
	kindRestart = "restart"
	kindDelete  = "delete"
)

// The states of operations.
const (
	inProgress = "InProgress"
	succeeded  = "Succeeded"
	failed     = "Failed"
	canceled   = "Canceled"
)

// operation is something that takes a while.
type operation struct {
	// ID is the kind, the digest of the resource's ID and something random.
	ID      string     `json:"id"`
	Kind    string     `json:"kind"`
	Status  string     `json:"status"`
	Started time.Time  `json:"started"`
	Ended   *time.Time `json:"ended,omitempty"`
	Error   *armError  `json:"error,omitempty"`
}

// maxPast is how many operations are remembered whose documents have gone on.
const maxPast = 1000

// retryAfter is how many seconds a client should wait before it asks again.
const retryAfter = "1"

// begin notes an operation, in the document and in the audit, and returns what a job of it works on. The entry is locked;
// d is the document that the operation begins with.
func (a *API) begin(r *http.Request, e *entry, d *document, kind string, event map[string]any) *armError {
	event["resource"] = d.ID.String()
	bad := a.audit(r.Context(), kind, event)
	if bad != nil {
		return bad
	}
	if e.doc != nil {
		a.remember(e.doc.Operation)
	}
	d.Operation = operation{ID: kind + "-" + d.ID.digest() + "-" + rand.Text(), Kind: kind, Status: inProgress, Started: a.opts.Now().UTC()}
	err := a.save(e, d)
	if err != nil {
		return a.internal(err)
	}
	return nil
}

// run has a job work on the operation that the entry's document holds. The entry is locked; the job locks it when it has to.
func (a *API) run(e *entry, job func(ctx context.Context) *armError) <-chan struct{} {
	ctx, cancel := context.WithCancel(a.ctx)
	done := make(chan struct{})
	e.cancel, e.done = cancel, done
	id := e.doc.Operation.ID
	work := func() {
		defer close(done)
		defer cancel()
		a.finish(e, id, job(ctx))
	}
	if !a.spawn(work) {
		close(done) // the service ends; whoever starts it again settles the operation
		cancel()
	}
	return done
}

// finish notes how an operation ended, unless another one took its place.
func (a *API) finish(e *entry, id string, bad *armError) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.doc == nil || e.doc.Operation.ID != id {
		return
	}
	d := e.doc.clone()
	d.Operation = ended(d.Operation, bad, a.opts.Now())
	if len(e.events) > 0 {
		d.Events = e.events
	}
	e.events, e.phase, e.cancel = nil, "", nil
	// The service may be closing: what came of it is told all the same.
	err := a.opts.auditOutcome(context.WithoutCancel(a.ctx), d)
	if err == nil {
		err = a.save(e, d)
	}
	if err != nil {
		a.opts.Log.Error("an operation's end could not be noted", slog.String("operation", id), slog.Any("error", err))
		e.doc = d // true as long as the service runs; the next one finds out by itself
	}
}

func ended(o operation, bad *armError, now time.Time) operation {
	now = now.UTC()
	o.Ended, o.Status, o.Error = &now, succeeded, bad
	if bad != nil {
		o.Status = failed
	}
	return o
}

// remember keeps an operation whose place another one takes.
func (a *API) remember(o operation) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if o.Status == inProgress {
		o = ended(o, nil, a.opts.Now())
		o.Status = canceled
	}
	a.past = append(a.past, o)
	if len(a.past) > maxPast {
		a.past = a.past[1:]
	}
}

// operationByID finds an operation. A removal is known by its resource not being there any more, also after a restart.
func (a *API) operationByID(id string) (operation, bool) {
	kind, rest, _ := strings.Cut(id, "-")
	digest, _, _ := strings.Cut(rest, "-")
	there := false
	for _, d := range a.snapshot() {
		if d.Operation.ID == id {
			return d.Operation, true
		}
		there = there || d.ID.digest() == digest
	}
	a.mu.Lock()
	past := slices.Clone(a.past)
	a.mu.Unlock()
	for _, o := range past {
		if o.ID == id {
			return o, true
		}
	}
	if kind == kindDelete && len(digest) == 32 && !there {
		return operation{ID: id, Kind: kind, Status: succeeded}, true
	}
	return operation{}, false
}

// operationPath is where an operation of a resource is asked for, with the last part of its path's kind.
func operationPath(id resourceID, what string, o *operation) string {
	return "/subscriptions/" + url.PathEscape(id.Subscription) + "/providers/Microsoft.ContainerInstance/locations/local/" + what + "/" + o.ID
}

// announce says where the operation is asked for.
func announce(w http.ResponseWriter, r *http.Request, id resourceID, o *operation) {
	query := "?api-version=" + url.QueryEscape(r.URL.Query().Get("api-version"))
	w.Header().Set("Azure-AsyncOperation", baseURL(r)+operationPath(id, "operations", o)+query)
	w.Header().Set("Location", baseURL(r)+operationPath(id, "operationResults", o)+query)
	w.Header().Set("Retry-After", retryAfter)
}

// baseURL is the service's as the client wrote it.
func baseURL(r *http.Request) string {
	if r.TLS == nil {
		return "http://" + r.Host
	}
	return "https://" + r.Host
}

// operationAnswer is how an operation is answered.
type operationAnswer struct {
	ID        string     `json:"id"`
	Name      string     `json:"name"`
	Status    string     `json:"status"`
	StartTime *time.Time `json:"startTime,omitempty"`
	EndTime   *time.Time `json:"endTime,omitempty"`
	Error     *armError  `json:"error,omitempty"`
}

func (a *API) getOperation(w http.ResponseWriter, r *http.Request, p params) *armError {
	o, ok := a.operationByID(p["operationId"])
	if !ok {
		return failure(http.StatusNotFound, codeNoOperation, "operationId", "The operation %q is not known, or too long ago.", p["operationId"])
	}
	v := operationAnswer{ID: r.URL.Path, Name: o.ID, Status: o.Status, EndTime: o.Ended, Error: o.Error}
	if !o.Started.IsZero() {
		v.StartTime = &o.Started
	}
	if o.Status == inProgress {
		w.Header().Set("Retry-After", retryAfter)
	}
	return answer(w, http.StatusOK, v)
}

// getOperationResult answers as the operation itself would if it took no time.
func (a *API) getOperationResult(w http.ResponseWriter, r *http.Request, p params) *armError {
	o, ok := a.operationByID(p["operationId"])
	switch {
	case !ok:
		return failure(http.StatusNotFound, codeNoOperation, "operationId", "The operation %q is not known, or too long ago.", p["operationId"])
	case o.Status == inProgress:
		w.Header().Set("Location", baseURL(r)+r.URL.RequestURI())
		w.Header().Set("Retry-After", retryAfter)
		w.WriteHeader(http.StatusAccepted)
	case o.Error != nil:
		bad := *o.Error
		bad.status = http.StatusConflict
		return &bad
	default:
		w.WriteHeader(http.StatusNoContent)
	}
	return nil
}

// audit notes a change before it is made. What can not be noted is not done.
func (a *API) audit(ctx context.Context, what string, event map[string]any) *armError {
	event["caller"] = auth.From(ctx).String()
	event["request"] = serve.RequestID(ctx)
	_, err := a.opts.Audit.Append(ctx, "groups."+what, event)
	if err != nil {
		a.opts.Log.Error("the audit log takes nothing", slog.Any("error", err))
		return failure(http.StatusServiceUnavailable, codeUnavailable, "", "The change can not be noted in the audit log, and is not made.")
	}
	return nil
}

// auditOutcome notes how an operation ended.
func (o *Options) auditOutcome(ctx context.Context, d *document) error {
	event := map[string]any{"resource": d.ID.String(), "operation": d.Operation.ID, "status": d.Operation.Status, "group": d.GroupID}
	if d.Operation.Error != nil {
		event["error"] = d.Operation.Error.Code
	}
	_, err := o.Audit.Append(ctx, "groups.outcome", event)
	return err
}

// internal is an error that is nobody's business but the operator's.
func (a *API) internal(err error) *armError {
	var bad *armError
	if !errors.As(err, &bad) {
		a.opts.Log.Error("a request failed", slog.Any("error", err))
	}
	return asArm(err)
}
