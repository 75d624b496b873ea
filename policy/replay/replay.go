// SPDX-License-Identifier: Apache-2.0

package replay

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"cofferdam.dev/policy/engine"
)

// MaxSteps bounds a recording.
const MaxSteps = 100_000

// Step is one recorded request.
type Step struct {
	Name  engine.Point   `json:"name"`
	Input map[string]any `json:"input"`
	// Decision is what was said to it when it was recorded, empty where the recording does not tell.
	Decision Outcome `json:"decision,omitempty"`
}

// Outcome is a recorded decision.
type Outcome string

// The outcomes that a recording can tell of.
const (
	Allow Outcome = "allow"
	Deny  Outcome = "deny"
)

// Read reads a recording: a JSON array of steps, one step, or steps one after another (JSON Lines).
func Read(data []byte) ([]Step, error) {
	var steps []Step
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	array := bytes.HasPrefix(bytes.TrimLeft(data, " \t\r\n"), []byte("["))
	if array {
		if err := d.Decode(&steps); err != nil {
			return nil, fmt.Errorf("reading recorded requests: %w", err)
		}
		if _, err := d.Token(); !errors.Is(err, io.EOF) {
			return nil, errors.New("reading recorded requests: something follows the list")
		}
	}
	for i := 0; !array; i++ {
		var s Step
		err := d.Decode(&s)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("reading recorded requests: request %d: %w", i+1, err)
		}
		if steps = append(steps, s); len(steps) > MaxSteps {
			break
		}
	}
	if len(steps) > MaxSteps {
		return nil, fmt.Errorf("reading recorded requests: more than %d of them", MaxSteps)
	}
	if len(steps) == 0 {
		return nil, errors.New("reading recorded requests: there are none")
	}
	for i, s := range steps {
		if s.Name == "" {
			return nil, fmt.Errorf("reading recorded requests: request %d has no name", i+1)
		}
		if s.Decision != "" && s.Decision != Allow && s.Decision != Deny {
			return nil, fmt.Errorf("reading recorded requests: decision of request %d is %q, want %q or %q", i+1, s.Decision, Allow, Deny)
		}
	}
	return steps, nil
}

// Complete fills in what the guest itself, and not the host, adds to a request: recordings of other enforcers may lack
// it. It returns a copy.
func (s Step) Complete() Step {
	in := make(map[string]any, len(s.Input))
	for k, v := range s.Input {
		in[k] = v
	}
	add := func(key string, value any) {
		if _, ok := in[key]; !ok {
			in[key] = value
		}
	}
	switch s.Name {
	case engine.PointMountDevice:
		add("mountPathRegex", engine.DeviceTarget)
	case engine.PointRWMountDevice:
		add("mountPathRegex", engine.RWDeviceTarget)
	case engine.PointPlan9Mount:
		add("rootPrefix", engine.GuestRoot)
		add("mountPathPrefix", engine.Plan9Target)
	case engine.PointCreateContainer:
		add("devices", []any{})
		add("mounts", []any{})
		add("sandboxDir", SandboxDir)
		add("hugePagesDir", HugePagesDir)
		add("isSandboxContainer", false)
	}
	delete(in, "rule") // the engine's own word
	return Step{Name: s.Name, Input: in, Decision: s.Decision}
}

// Where sandbox:// and hugepages:// sources lie when a recording does not say.
const (
	SandboxDir   = engine.GuestRoot + "/sandbox/sandboxMounts"
	HugePagesDir = engine.GuestRoot + "/sandbox/hugepages"
)

// Result is what the policy said to one step.
type Result struct {
	Step     Step
	Decision engine.Decision
	// Dropped are the names of the variables, and the capabilities, that were asked for and not kept.
	Dropped []string
	// Err is set when no decision could be made.
	Err error
}

// Allowed says whether the request was allowed.
func (r Result) Allowed() bool { return r.Err == nil && r.Decision.Allowed }

// Decider is an engine, or a unit of decisions of one.
type Decider interface {
	Decide(ctx context.Context, point engine.Point, input map[string]any) (engine.Decision, error)
}

// Run decides the steps in order. Denied steps change nothing, and the rest is decided all the same.
func Run(ctx context.Context, e Decider, steps []Step) []Result {
	out := make([]Result, 0, len(steps))
	for _, s := range steps {
		out = append(out, Ask(ctx, e, s))
	}
	return out
}

// Ask decides one step.
func Ask(ctx context.Context, e Decider, s Step) Result {
	s = s.Complete()
	d, err := e.Decide(ctx, s.Name, s.Input)
	r := Result{Step: s, Decision: d, Err: err}
	if r.Allowed() {
		r.Dropped = dropped(s, d)
	}
	return r
}
