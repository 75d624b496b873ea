// SPDX-License-Identifier: Apache-2.0

// Package groupapi serves container groups by the calls that Azure Resource Manager has for them, so that what was written
// for Azure Container Instances can point at a machine of one's own.
//
// It owns one document for each resource, what was put without its secure values, and nothing else: groups live in the
// group store, each under a supervisor of its own, and go on when this service ends. What it says of a group it reads from
// the store at that moment. It trusts the store, the documents in its directory, and whoever opens images for it; it treats
// requests as hostile. Secure values are held in memory for as long as the service runs, and never written or answered. It
// decides nothing about policy: the guest does, and its refusals are passed on.
package groupapi

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"cofferdam.dev/internal/audit"
	"cofferdam.dev/internal/auth"
	"cofferdam.dev/internal/group"
	"cofferdam.dev/internal/group/event"
	"cofferdam.dev/internal/spec"
)

// The roles of callers.
const (
	// RoleReader may look at groups and read their logs.
	RoleReader auth.Role = "reader"
	// RoleOperator may do everything.
	RoleOperator auth.Role = "operator"
)

// Tell notes something that happened while a group was prepared, before it has a supervisor that does.
type Tell func(container, name string, t event.Type, message string)

// Planner makes the plan of a group: it gets the images and settles the policy and the machine.
type Planner interface {
	// Plan returns the plan, the files of its volumes, and what a person should know. A group that can not be started
	// as it is described is a *Refusal.
	Plan(ctx context.Context, g spec.Group, tell Tell) (*group.Plan, group.Contents, []string, error)
}

// Options are what the API is made of.
type Options struct {
	// Groups is the store of the groups. Others may work on it at the same time.
	Groups *group.Store
	// Dir is the directory of the documents. One process at a time may have it; holding that is the caller's.
	Dir string
	// Planner prepares groups.
	Planner Planner
	// Supervisor is the command that runs a supervisor; the group's name is appended.
	Supervisor []string
	// Auth finds out who sent a request.
	Auth auth.Authenticator
	// Audit takes what is changed, before it is.
	Audit *audit.Log
	// Log takes what went wrong behind an answer.
	Log *slog.Logger
	// Now is the clock; nil is the machine's.
	Now func() time.Time
}

// API answers requests about container groups.
type API struct {
	opts     Options
	docs     *documents
	tickets  tickets
	macKey   [32]byte // of what tells secure values apart, good for this process alone
	ctx      context.Context
	cancel   context.CancelFunc
	work     sync.WaitGroup
	handler  http.Handler
	document []byte // the OpenAPI description

	mu      sync.Mutex
	closing bool
	entries map[string]*entry // by the resource's key
	past    []operation       // operations whose document has gone on, newest last
}

// New reads the documents, settles what was under way when the service ended last, and returns the API. Close it.
func New(opts Options) (*API, error) {
	if opts.Groups == nil || opts.Planner == nil || opts.Auth == nil || opts.Audit == nil || len(opts.Supervisor) == 0 {
		return nil, errors.New("starting the groups API: groups, planner, supervisor, authenticator or audit log is missing")
	}
	if opts.Now == nil {
		opts.Now = time.Now
	}
	if opts.Log == nil {
		opts.Log = slog.New(slog.DiscardHandler)
	}
	a := &API{opts: opts, entries: map[string]*entry{}}
	_, _ = rand.Read(a.macKey[:]) // never fails: crypto/rand aborts the program instead
	a.ctx, a.cancel = context.WithCancel(context.Background())
	a.tickets.now = opts.Now
	var err error
	a.docs, err = openDocuments(opts.Dir)
	if err != nil {
		return nil, fmt.Errorf("starting the groups API: %w", err)
	}
	list, err := a.docs.all()
	if err != nil {
		return nil, fmt.Errorf("starting the groups API: %w", err)
	}
	a.document, err = openAPI()
	if err != nil {
		return nil, fmt.Errorf("starting the groups API: %w", err)
	}
	a.handler = a.router()
	for _, d := range list {
		a.entries[d.ID.key()] = &entry{doc: d}
	}
	a.reconcile()
	return a, nil
}

// ServeHTTP implements http.Handler.
func (a *API) ServeHTTP(w http.ResponseWriter, r *http.Request) { a.handler.ServeHTTP(w, r) }

// Close calls off what is under way, ends the sessions, and returns when all of that has ended. Groups that run go on.
func (a *API) Close() {
	a.mu.Lock()
	a.closing = true
	a.mu.Unlock()
	a.cancel()
	a.work.Wait()
	for _, e := range a.table() {
		e.mu.Lock()
		e.contents.Zero()
		e.mu.Unlock()
	}
}

// spawn runs f until it ends, and makes Close wait for it. It is false when the API is closing.
func (a *API) spawn(f func()) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.closing {
		return false
	}
	a.work.Go(f)
	return true
}

// entry is one resource in memory.
type entry struct {
	mu   sync.Mutex
	doc  *document // never changed, only replaced; nil before the first write and after the removal
	gone bool      // the entry was removed from the table: look it up again

	contents group.Contents     // the files of its volumes, if they are known
	mac      []byte             // tells whether secure values are the same, if they are known
	cancel   context.CancelFunc // calls off the operation under way
	done     chan struct{}      // closed when it has ended
	phase    string             // of a deployment under way, as provisioningState has it
	events   []event.Event      // of a deployment under way
}

// find returns a resource's entry, and makes one if make is set. It is locked; nil if there is none.
func (a *API) find(id resourceID, make bool) *entry {
	for {
		a.mu.Lock()
		e := a.entries[id.key()]
		if e == nil && make {
			e = &entry{}
			a.entries[id.key()] = e
		}
		a.mu.Unlock()
		if e == nil {
			return nil
		}
		e.mu.Lock()
		if e.gone {
			e.mu.Unlock()
			continue
		}
		if e.doc == nil && !make {
			e.mu.Unlock()
			return nil
		}
		return e
	}
}

// table is what entries there are. An entry's lock is never taken while the table's is held.
func (a *API) table() []*entry {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Collect(maps.Values(a.entries))
}

// snapshot are the documents as they are now, in the order of their keys.
func (a *API) snapshot() []*document {
	var list []*document
	for _, e := range a.table() {
		e.mu.Lock()
		if e.doc != nil {
			list = append(list, e.doc)
		}
		e.mu.Unlock()
	}
	slices.SortFunc(list, func(x, y *document) int { return strings.Compare(x.ID.key(), y.ID.key()) })
	return list
}

// drop takes an entry without document out of the table. The entry is locked.
func (a *API) drop(id resourceID, e *entry) {
	a.mu.Lock()
	defer a.mu.Unlock()
	e.gone = true
	delete(a.entries, id.key())
}

// save replaces a resource's document, on disk first. The entry is locked.
func (a *API) save(e *entry, d *document) error {
	err := a.docs.write(d)
	if err != nil {
		return err
	}
	e.doc = d
	return nil
}
