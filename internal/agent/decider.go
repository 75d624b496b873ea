// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"

	"cofferdam.dev/policy"
	"cofferdam.dev/policy/engine"
)

// Decider answers whether the policy in force allows a request. The service holds one unit of decisions open at a
// time, from the question until the operation has succeeded (Commit) or not (Rollback).
type Decider interface {
	Begin(ctx context.Context) (Unit, error)
	// Egress is what containers may connect to; nil if the policy sets no limit.
	Egress() *policy.Egress
}

// Unit is one question to the policy and the operation that follows it. *engine.Tx is one.
type Unit interface {
	MountDevice(ctx context.Context, target, hash string) (engine.Decision, error)
	UnmountDevice(ctx context.Context, target string) (engine.Decision, error)
	RWMountDevice(ctx context.Context, target string, encrypted, ensureFilesystem bool, filesystem string) (engine.Decision, error)
	RWUnmountDevice(ctx context.Context, target string) (engine.Decision, error)
	MountOverlay(ctx context.Context, containerID string, layerPaths []string, target string) (engine.Decision, error)
	UnmountOverlay(ctx context.Context, target string) (engine.Decision, error)
	CreateContainer(ctx context.Context, in engine.CreateInput) (engine.Decision, error)
	ExecInContainer(ctx context.Context, in engine.ExecInput) (engine.Decision, error)
	SignalContainerProcess(ctx context.Context, in engine.SignalInput) (engine.Decision, error)
	ShutdownContainer(ctx context.Context, containerID string) (engine.Decision, error)
	GetProperties(ctx context.Context) (engine.Decision, error)
	DumpStacks(ctx context.Context) (engine.Decision, error)
	LoadFragment(ctx context.Context, f engine.Fragment) (engine.Decision, error)
	LoadTrustList(ctx context.Context, l engine.TrustList) (engine.Decision, []string, error)
	// Allows answers without the reasons of a denial.
	Allows(ctx context.Context, point engine.Point, input map[string]any) (bool, error)

	// Commit keeps the state changes of the decision, Rollback undoes them unless they were committed.
	Commit()
	Rollback()
}

var _ Unit = (*engine.Tx)(nil)

// engineDecider is the real policy engine.
type engineDecider struct{ engine *engine.Engine }

func (d engineDecider) Egress() *policy.Egress { return d.engine.Egress() }

func (d engineDecider) Begin(ctx context.Context) (Unit, error) {
	tx, err := d.engine.Begin(ctx)
	if err != nil {
		return nil, err // a nil *engine.Tx in a Unit would not be nil
	}
	return tx, nil
}

// LoadPolicy loads a policy text into the engine. An emulated guest needs longer for it than the engine's default.
func LoadPolicy(text []byte) (Decider, error) {
	e, err := engine.New(text, engine.Options{Deadline: policyDeadline})
	if err != nil {
		return nil, err
	}
	return engineDecider{engine: e}, nil
}
