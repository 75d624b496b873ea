// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"context"
	"errors"
	"time"

	"cofferdam.dev/policy"
)

// Defaults of Options.
const (
	DefaultMinimumAPI = "0.10.0"
	DefaultDeadline   = 10 * time.Second

	// MaxTextSize bounds a policy's text.
	MaxTextSize = 1 << 20
)

// Options configure an Engine. The zero value is the strict one.
type Options struct {
	// DefaultMounts are mounts that every container may have besides those its policy lists (/proc, /dev, …);
	// PrivilegedMounts those that a container with allow_elevated may have besides.
	DefaultMounts    []policy.Mount
	PrivilegedMounts []policy.Mount

	// MinimumAPI is the oldest api_version accepted: an older policy would leave newer enforcement points open.
	// Empty means DefaultMinimumAPI. "0.0.0" accepts all.
	MinimumAPI string

	// Deadline bounds loading, and each decision. Zero means DefaultDeadline.
	Deadline time.Duration
}

// Decision is the answer to one request. Its zero value denies.
type Decision struct {
	Point   Point
	Allowed bool

	// Reasons say why a request was denied: sorted, and at least one whenever Allowed is false.
	Reasons []string

	// EnvList is what is kept of the requested environment, in the requested order (create and exec points).
	EnvList []string

	// Capabilities are what is kept of the requested capabilities; nil where the point has none.
	Capabilities *policy.Capabilities

	// AllowStdio says whether standard streams may reach the host (create and exec points).
	AllowStdio bool
}

// Engine holds one loaded policy and the group's state. It is safe for concurrent use: requests are decided one after
// another.
type Engine struct {
	Requests
}

// New loads a policy.
func New(text []byte, o Options) (*Engine, error) {
	return nil, errors.New("loading policy: not implemented")
}

// Decide asks one enforcement point and applies the state changes of an allowed decision. An error means that no
// decision could be made; the Decision returned with it denies.
func (e *Engine) Decide(ctx context.Context, point Point, input map[string]any) (Decision, error) {
	return Decision{Point: point}, errors.New("not implemented")
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
func (e *Engine) Begin(ctx context.Context) (*Tx, error) { return nil, errors.New("not implemented") }

// Tx is a unit of decisions in progress. It is not safe for concurrent use.
type Tx struct {
	Requests
}

// Decide is Engine.Decide within the unit.
func (t *Tx) Decide(ctx context.Context, point Point, input map[string]any) (Decision, error) {
	return t.decide(ctx, point, input)
}

// Commit keeps the state changes of the unit and lets others proceed.
func (t *Tx) Commit() {}

// Rollback undoes the state changes of the unit and lets others proceed. After Commit it does nothing.
func (t *Tx) Rollback() {}
