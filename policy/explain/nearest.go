// SPDX-License-Identifier: Apache-2.0

package explain

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"cofferdam.dev/policy"
	"cofferdam.dev/policy/denial"
	"cofferdam.dev/policy/engine"
	"cofferdam.dev/policy/replay"
)

// maxTrials bounds how many containers are asked: each needs an engine of its own.
const maxTrials = 24

// containers asks each container of the policy by itself, and explains the difference to the nearest.
func (s *session) containers(x *Explanation) error {
	var best *trial
	all := s.bySimilarity()
	if len(all) > maxTrials {
		x.Notes = append(x.Notes, fmt.Sprintf("only the %d most similar of %d containers were compared", maxTrials, len(all)))
		all = all[:maxTrials]
	}
	for _, t := range all {
		t.guessValues()
		if err := t.first(); err != nil {
			return err
		}
		if t.asked && (best == nil || t.cost() < best.cost()) {
			best = t
		}
	}
	if best == nil {
		x.Notes = append(x.Notes, "no container of the policy could be asked about the request")
		return nil
	}
	var err error
	if x.Nearest, err = best.finish(); err != nil {
		return err
	}
	x.Nearest.Name = name(s.outline.Containers[best.index])
	if best.assumed {
		x.Notes = append(x.Notes, "the container's layers, and its start where the request needs one, were assumed: the requests before do not show them")
	}
	if best.guesses > 0 {
		x.Notes = append(x.Notes, guessed)
	}
	if len(x.Nearest.Faults) == 0 {
		x.Notes = append(x.Notes, "the request fits the container: what is at fault is what went before")
	}
	return nil
}

// bySimilarity orders the containers so that the promising ones are asked if there are too many. It decides nothing
// else.
func (s *session) bySimilarity() []*trial {
	var out []*trial
	points := map[*trial]int{}
	for i, c := range s.outline.Containers {
		t := &trial{session: s, index: i, step: s.step}
		if json.Unmarshal(c.Raw, &t.raw) != nil {
			continue
		}
		command := replay.Strings(s.step.Input["argList"])
		switch {
		case slices.Equal(command, c.Command):
			points[t] += 4
		case len(command) > 0 && len(c.Command) > 0 && command[0] == c.Command[0]:
			points[t] += 2
		}
		if s.step.Input["workingDir"] == c.WorkingDir {
			points[t]++
		}
		out = append(out, t)
	}
	slices.SortStableFunc(out, func(a, b *trial) int { return points[b] - points[a] })
	return out
}

const guessed = "values of variables are not in the denial: they were taken to be what the policy lists, where it lists the name"

// trial asks about one container alone.
type trial struct {
	*session
	index   int
	raw     map[string]any // the container
	step    replay.Step
	guesses int
	assumed bool
	other   bool            // it is recorded that other layers were mounted
	asked   bool            // the container could be asked
	said    engine.Decision // to the request as it is
}

// cost orders containers: other layers weigh more than anything else.
func (t *trial) cost() int {
	n := 0
	if !t.said.Allowed {
		n = 1 + len(t.changes(t.said.Reasons))
	}
	if t.other {
		n += 100
	}
	return n
}

// guessValues puts values that the policy lists in the place of redacted ones.
func (t *trial) guessValues() {
	env := replay.Strings(t.step.Input["envList"])
	for i, e := range env {
		name, ok := strings.CutSuffix(e, "="+denial.Redacted)
		if !ok {
			continue
		}
		t.guesses++
		for _, r := range t.outline.Containers[t.index].EnvRules {
			for _, v := range replay.Variable(r) {
				if strings.HasPrefix(v, name+"=") {
					env[i] = v
				}
			}
		}
	}
	if t.guesses > 0 {
		t.step = replay.Step{Name: t.step.Name, Input: with(t.step.Input, "envList", anys(env))}
	}
}

func with(in map[string]any, key string, value any) map[string]any {
	out := make(map[string]any, len(in))
	for k, v := range in {
		out[k] = v
	}
	out[key] = value
	return out
}

// first asks about the request as it is.
func (t *trial) first() error {
	var err error
	t.said, t.asked, err = t.ask(nil)
	return err
}

// finish finds the faults, and the changes that remove them.
func (t *trial) finish() (*Nearest, error) {
	n := &Nearest{Index: t.index}
	if t.other {
		n.Faults = append(n.Faults, Fault{
			Reason: "no matching containers for overlay", Field: "layers", Rule: fmt.Sprintf("containers[%d].layers", t.index),
			Expected: list(t.outline.Containers[t.index].Layers), Actual: "the container was mounted from other layers",
			Fix: "mount the layers of this container, or change the request to fit the container of those layers",
		})
	}
	if t.said.Allowed {
		n.Proven = len(n.Faults) == 0
		return n, nil
	}
	changes := t.changes(t.said.Reasons)
	d, _, err := t.ask(changes)
	if err != nil {
		return nil, err
	}
	if d.Allowed {
		if changes, err = t.fewest(changes); err != nil {
			return nil, err
		}
		n.Proven = len(n.Faults) == 0
	}
	for _, c := range changes {
		n.Faults = append(n.Faults, c.Fault)
	}
	return n, nil
}

// fewest drops changes that are not needed.
func (t *trial) fewest(changes []change) ([]change, error) {
	for i := 0; i < len(changes) && len(changes) > 1; {
		without := slices.Delete(slices.Clone(changes), i, i+1)
		d, _, err := t.ask(without)
		switch {
		case err != nil:
			return nil, err
		case d.Allowed:
			changes = without
		default:
			i++
		}
	}
	return changes, nil
}

// overlayKnown says whether it is recorded what the container was mounted from.
func (t *trial) overlayKnown() bool {
	return slices.ContainsFunc(t.prior, func(p replay.Step) bool {
		return p.Name == engine.PointMountOverlay && p.Input["containerID"] == t.step.Input["containerID"]
	})
}

// ask decides the request under a policy that lists the container alone, after changes. It is false when the container
// cannot be brought into the state that the request needs.
func (t *trial) ask(changes []change) (engine.Decision, bool, error) {
	raw := clone(t.raw)
	for _, c := range changes {
		if c.apply != nil {
			c.apply(raw)
		}
	}
	data, err := json.Marshal(raw)
	if err != nil {
		return engine.Decision{}, false, err
	}
	text, err := t.outline.With(data)
	if err != nil {
		return engine.Decision{}, false, err
	}
	e, err := engine.New(text, engine.Options{})
	if err != nil {
		return engine.Decision{}, false, nil // the container alone is not understood
	}
	if !t.prepare(e) {
		// A new engine: what was replayed may be in the way.
		t.assumed = true
		if e, err = engine.New(text, engine.Options{}); err != nil || !t.assume(e, data) {
			return engine.Decision{}, false, err
		}
	}
	r := replay.Ask(t.ctx, e, t.step)
	return r.Decision, r.Err == nil, t.ctx.Err()
}

// prepare replays what went before, and says whether the container is in the state that the request needs.
func (t *trial) prepare(e *engine.Engine) bool {
	if t.assumed || len(t.prior) == 0 {
		return false
	}
	mounted, created := false, false
	for _, r := range replay.Run(t.ctx, e, t.prior) {
		if r.Step.Input["containerID"] == t.step.Input["containerID"] && r.Allowed() {
			mounted = mounted || r.Step.Name == engine.PointMountOverlay
			created = created || r.Step.Name == engine.PointCreateContainer
		}
	}
	t.other = !mounted && t.overlayKnown()
	if t.step.Name == engine.PointCreateContainer {
		return mounted && !created
	}
	return created
}

// assume mounts the container, and creates it where the request is about a running one.
func (t *trial) assume(e *engine.Engine, container []byte) bool {
	id, _ := t.step.Input["containerID"].(string)
	var c policy.Container
	if json.Unmarshal(container, &c) != nil {
		return false
	}
	steps := replay.Mount(c, id)
	if t.step.Name != engine.PointCreateContainer {
		steps = append(steps, replay.Create(c, id))
	}
	for _, r := range replay.Run(t.ctx, e, steps) {
		if !r.Allowed() {
			return false
		}
	}
	return true
}

func clone(v map[string]any) map[string]any {
	data, err := json.Marshal(v)
	if err != nil {
		return v // it came from JSON
	}
	out := map[string]any{}
	if json.Unmarshal(data, &out) != nil {
		return v
	}
	return out
}
