// SPDX-License-Identifier: Apache-2.0

package explain

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"cofferdam.dev/policy/denial"
	"cofferdam.dev/policy/engine"
	"cofferdam.dev/policy/outline"
	"cofferdam.dev/policy/replay"
)

// Explanation is the answer. Its zero value explains nothing.
type Explanation struct {
	Point   engine.Point `json:"point"`
	Allowed bool         `json:"allowed"`

	// Reasons are those of the denial, or the engine's own.
	Reasons []string `json:"reasons,omitempty"`

	// Nearest is the container of the policy that comes nearest to the request; nil where containers do not matter.
	Nearest *Nearest `json:"nearest,omitempty"`

	// Faults are what is wrong besides, or without, a container.
	Faults []Fault `json:"faults,omitempty"`

	// Notes say what was assumed.
	Notes []string `json:"notes,omitempty"`
}

// Nearest is how a request and one container of the policy differ.
type Nearest struct {
	Index  int     `json:"index"`
	Name   string  `json:"name,omitempty"`
	Faults []Fault `json:"faults,omitempty"`

	// Proven is true when the engine admits the request after the faults' changes, and not after fewer of them.
	Proven bool `json:"proven"`
}

// Fault is one difference.
type Fault struct {
	Reason   string `json:"reason"`             // the predicate's text
	Field    string `json:"field"`              // of the request
	Rule     string `json:"rule,omitempty"`     // place in the policy
	Expected string `json:"expected,omitempty"` // what the policy wants
	Actual   string `json:"actual,omitempty"`   // what the request has
	Fix      string `json:"fix,omitempty"`      // the smallest change of the policy, or what to do
}

// Request explains the step, unless one of the prior ones is denied already. If there are no prior ones, what the request
// needs (mounted layers, a started container) is assumed.
func Request(ctx context.Context, text []byte, prior []replay.Step, step replay.Step) (*Explanation, error) {
	return First(ctx, text, append(slices.Clone(prior), step))
}

// First explains the first of the requests that is denied after those before it. If none is, the last one's allowance is
// all there is to tell.
func First(ctx context.Context, text []byte, steps []replay.Step) (*Explanation, error) {
	e, err := engine.New(text, engine.Options{})
	if err != nil {
		return nil, err
	}
	x := &Explanation{}
	for i, step := range steps {
		r := replay.Ask(ctx, e, step)
		if r.Err != nil {
			return nil, r.Err
		}
		x = &Explanation{Point: step.Name, Allowed: r.Decision.Allowed, Reasons: r.Decision.Reasons}
		if !x.Allowed {
			return x, explain(ctx, x, text, steps[:i], r.Step)
		}
	}
	return x, nil
}

// Denial explains a denial that was made under the policy. Nothing is known of what went before. Without a policy (nil)
// it says what the denial says.
func Denial(ctx context.Context, text []byte, d *denial.Denial) (*Explanation, error) {
	x := &Explanation{Point: engine.Point(d.Point()), Reasons: slices.Clone(d.Errors)}
	for _, extra := range []string{d.Remark, d.PolicyError} {
		if extra != "" {
			x.Reasons = append(x.Reasons, extra)
		}
	}
	if len(d.Truncated) > 0 {
		x.Notes = append(x.Notes, "left out of the denial for its size: "+strings.Join(d.Truncated, ", "))
	}
	if d.Input == nil || x.Point == "" || text == nil {
		return x, nil
	}
	input := map[string]any{}
	for k, v := range d.Input {
		input[k] = v
	}
	if s, ok := input["capabilities"].(string); ok {
		sets := map[string]any{}
		for name, list := range denial.Capabilities(s) {
			sets[name] = anys(list)
		}
		input["capabilities"] = sets
	}
	return x, explain(ctx, x, text, nil, replay.Step{Name: x.Point, Input: input}.Complete())
}

func explain(ctx context.Context, x *Explanation, text []byte, prior []replay.Step, step replay.Step) error {
	o, err := outline.Read(text)
	if err != nil {
		return err
	}
	s := &session{ctx: ctx, outline: o, prior: prior, step: step}
	switch step.Name {
	case engine.PointCreateContainer, engine.PointExecInContainer, engine.PointSignalContainerProcess:
		err = s.containers(x)
	case engine.PointMountOverlay:
		s.overlay(x)
	case engine.PointMountDevice:
		s.device(x)
	}
	if err != nil {
		return err
	}
	explained := map[string]bool{}
	if x.Nearest != nil {
		for _, f := range x.Nearest.Faults {
			explained[f.Reason] = true
		}
	}
	for _, f := range x.Faults {
		explained[f.Reason] = true
	}
	for _, reason := range x.Reasons {
		if f, ok := advise(reason, step); ok && !explained[reason] {
			x.Faults = append(x.Faults, f)
		}
	}
	return nil
}

// session explains one request.
type session struct {
	ctx     context.Context
	outline *outline.Outline
	prior   []replay.Step
	step    replay.Step
}

// device names the layers that there are.
func (s *session) device(x *Explanation) {
	if !slices.Contains(x.Reasons, "deviceHash not found") {
		return
	}
	var known []string
	for _, c := range s.outline.Containers {
		known = append(known, c.Layers...)
	}
	slices.Sort(known)
	known = slices.Compact(known)
	x.Faults = append(x.Faults, Fault{
		Reason: "deviceHash not found", Field: "deviceHash", Rule: "containers[].layers",
		Expected: fmt.Sprintf("one of %d root hashes: %s", len(known), list(known)), Actual: show(s.step.Input["deviceHash"]),
		Fix: "the image is another one than the policy was made for, or its layers were converted by another scheme: generate the policy from this image",
	})
}

// overlay compares the layers that are mounted to those of each container.
func (s *session) overlay(x *Explanation) {
	if !slices.Contains(x.Reasons, "no matching containers for overlay") || len(s.outline.Containers) == 0 {
		return
	}
	mounted := map[string]string{}
	for _, p := range s.prior {
		target, _ := p.Input["target"].(string)
		hash, _ := p.Input["deviceHash"].(string)
		if p.Name == engine.PointMountDevice {
			mounted[target] = hash
		}
	}
	var layers []string // base first, as policies have them
	for _, p := range slices.Backward(replay.Strings(s.step.Input["layerPaths"])) {
		hash := mounted[p]
		if hash == "" {
			hash = "nothing known at " + p
		}
		layers = append(layers, hash)
	}
	best, shared := 0, -1
	for i, c := range s.outline.Containers {
		n := 0
		for n < len(c.Layers) && n < len(layers) && c.Layers[n] == layers[n] {
			n++
		}
		if n > shared {
			best, shared = i, n
		}
	}
	c := s.outline.Containers[best]
	x.Nearest = &Nearest{Index: best, Name: name(c), Faults: []Fault{{
		Reason: "no matching containers for overlay", Field: "layerPaths", Rule: fmt.Sprintf("containers[%d].layers", best),
		Expected: fmt.Sprintf("%d layers, base first: %s", len(c.Layers), list(c.Layers)),
		Actual:   fmt.Sprintf("%d layers, the first %d as expected: %s", len(layers), shared, list(layers)),
		Fix:      "mount all of the image's layers, top layer first, or generate the policy from this image",
	}}}
}

func name(c outline.Container) string {
	if c.Name != "" {
		return c.Name
	}
	return c.ID
}

func anys(list []string) []any {
	out := make([]any, len(list))
	for i, s := range list {
		out[i] = s
	}
	return out
}
