// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"context"
	"errors"
	"fmt"
	"time"

	"cofferdam.dev/policy"

	"github.com/open-policy-agent/opa/v1/ast"
)

// Defaults of Options.
const (
	DefaultMinimumAPI = "0.10.0"
	DefaultDeadline   = 2 * time.Minute // a busy machine needs long for what takes a second of a processor

	// MaxTextSize bounds the text of a policy or fragment.
	MaxTextSize = policy.MaxTextSize
)

// Options configure an Engine. The zero value is the strict one.
type Options struct {
	// DefaultMounts are mounts that every container may have besides those its policy lists (/proc, /dev, …);
	// PrivilegedMounts those that a privileged container may have besides.
	DefaultMounts    []policy.Mount
	PrivilegedMounts []policy.Mount

	// MinimumAPI is the oldest api_version accepted: an older policy would leave newer enforcement points open.
	// Empty means DefaultMinimumAPI. "0.0.0" accepts every policy, even one without a version, which denies all.
	MinimumAPI string

	// Deadline bounds what is evaluated of the policy: when it is loaded, for each decision, and for the reasons of each
	// denial. Compiling is not counted: its time grows with the text alone. Zero means DefaultDeadline.
	Deadline time.Duration
}

// Engine holds one loaded policy and the group's state. It is safe for concurrent use: requests are decided one after
// another.
type Engine struct {
	Requests

	lock     chan struct{} // holds one token while somebody decides
	text     []byte
	program  *program
	store    *store
	queries  map[string]ast.Body
	egress   *policy.Egress // nil: no limit
	api      *version       // nil: the policy has none, and everything is denied
	deadline time.Duration
	stdio    map[string]bool // container ID → its standard streams may reach the host
}

// New loads a policy.
func New(text []byte, o Options) (*Engine, error) {
	e, err := load(text, o)
	if err != nil {
		return nil, fmt.Errorf("loading policy: %w", err)
	}
	return e, nil
}

// Decide asks one enforcement point and applies the state changes of an allowed decision. An error means that no
// decision could be made; the Decision returned with it denies.
func (e *Engine) Decide(ctx context.Context, point Point, input map[string]any) (Decision, error) {
	tx, err := e.Begin(ctx)
	if err != nil {
		return denied(point, "no decision: "+err.Error()), err
	}
	defer tx.Rollback()
	d, err := tx.Decide(ctx, point, input)
	if err == nil {
		tx.Commit()
	}
	return d, err
}

// Begin starts a unit of decisions whose state changes are undone unless it is committed. Until Commit or Rollback
// all other callers wait, so that nobody builds on a mount that has not happened yet; the caller must not ask the
// Engine itself meanwhile.
//
//	tx, err := e.Begin(ctx)
//	defer tx.Rollback()
//	d, err := tx.MountDevice(ctx, target, hash)
//	… refuse unless d.Allowed; mount …
//	tx.Commit()
func (e *Engine) Begin(ctx context.Context) (*Tx, error) {
	select {
	case e.lock <- struct{}{}:
	case <-ctx.Done():
		return nil, fmt.Errorf("waiting for the policy: %w", ctx.Err())
	}
	t := &Tx{engine: e}
	t.Requests = Requests{decide: t.Decide}
	return t, nil
}

// Tx is a unit of decisions in progress. It is not safe for concurrent use.
type Tx struct {
	Requests
	engine *Engine // nil once it has ended
}

// Decide is Engine.Decide within the unit.
func (t *Tx) Decide(ctx context.Context, point Point, input map[string]any) (Decision, error) {
	d, _, err := t.answer(ctx, point, input, true)
	return d, err
}

// Allows is Decide for a caller to whom the reasons of a denial do not matter. It is quicker, because nothing has to
// find them.
func (t *Tx) Allows(ctx context.Context, point Point, input map[string]any) (bool, error) {
	d, _, err := t.answer(ctx, point, input, false)
	return d.Allowed && err == nil, err
}

func (t *Tx) answer(ctx context.Context, point Point, input map[string]any, why bool) (Decision, ast.Object, error) {
	if t.engine == nil {
		err := errors.New("unit of decisions has ended")
		return denied(point, err.Error()), nil, err
	}
	d, said, err := t.engine.decide(ctx, point, input, why)
	if err != nil {
		d, said, err = denied(point, "no decision: "+err.Error()), nil, fmt.Errorf("deciding %s: %w", point, err)
	}
	if !d.Allowed {
		d.Input = input
	}
	return d, said, err
}

// Commit keeps the state changes of the unit and lets others proceed.
func (t *Tx) Commit() {
	if t.engine != nil {
		t.engine.store.state.keep()
		t.end()
	}
}

// Rollback undoes the state changes of the unit and lets others proceed. After Commit it does nothing.
func (t *Tx) Rollback() {
	if t.engine != nil {
		t.engine.store.state.rollback(0)
		t.end()
	}
}

func (t *Tx) end() {
	<-t.engine.lock
	t.engine = nil
}
