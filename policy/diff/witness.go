// SPDX-License-Identifier: Apache-2.0

package diff

import (
	"context"
	"fmt"
	"maps"
	"strconv"

	"cofferdam.dev/policy"
	"cofferdam.dev/policy/engine"
	"cofferdam.dev/policy/replay"
)

// newEngine loads a policy as old as it may be: what an old one leaves open is a difference, too.
func newEngine(text []byte) (*engine.Engine, error) {
	return engine.New(text, engine.Options{MinimumAPI: "0.0.0"})
}

// probe is a request of interest, after a container's layers have been mounted if it has one.
type probe struct {
	what      string
	container *policy.Container
	steps     []replay.Step // without container IDs if there is a container
	streams   bool
}

// beyond looks for something that s admits and t does not.
func (s *side) beyond(ctx context.Context, t *side) (*Witness, error) {
	if c := s.connection(t); c != nil {
		w := &Witness{What: c.String(), Connection: c}
		ok, err := Verify(ctx, w, s.outline.Text, t.outline.Text)
		if err != nil || ok {
			return w, err
		}
	}
	mine, theirs := &runner{s, map[string]string{}}, &runner{t, map[string]string{}}
	for _, p := range s.probes() {
		if err := ctx.Err(); err != nil {
			return nil, fmt.Errorf("looking for a witness: %w", err)
		}
		if !mine.admits(ctx, p) || theirs.admits(ctx, p) {
			continue
		}
		// The runners have been asked many things: what counts is what fresh engines say.
		w := p.witness()
		ok, err := Verify(ctx, w, s.outline.Text, t.outline.Text)
		if err != nil {
			return nil, err
		}
		if ok {
			return w, nil
		}
	}
	return nil, nil
}

// Verify asks both policies about a witness, each in an engine of its own. It is true when the first admits all of it
// and the second does not: the witness is cut after the request that the second does not admit, and its reasons are the
// second's.
func Verify(ctx context.Context, w *Witness, admits, denies []byte) (bool, error) {
	a, err := newEngine(admits)
	if err != nil {
		return false, err
	}
	b, err := newEngine(denies)
	if err != nil {
		return false, err
	}
	if w.Connection != nil {
		w.Reasons = []string{policy.EgressRuleName + " has no rule for it"}
		return w.Connection.allowed(a.Egress()) && !w.Connection.allowed(b.Egress()), nil
	}
	for i, step := range w.Steps {
		streams := w.Streams && i == len(w.Steps)-1
		if ok, _ := granted(ctx, a, step, streams); !ok {
			return false, ctx.Err()
		}
		if ok, why := granted(ctx, b, step, streams); !ok {
			w.Steps, w.Reasons, w.Streams = w.Steps[:i+1], why, streams
			return true, ctx.Err()
		}
	}
	return false, ctx.Err()
}

// granted says whether a request is admitted with everything that it asks for, else why not.
func granted(ctx context.Context, e replay.Decider, step replay.Step, streams bool) (bool, []string) {
	r := replay.Ask(ctx, e, step)
	switch {
	case r.Err != nil:
		return false, []string{r.Err.Error()}
	case !r.Decision.Allowed:
		return false, r.Decision.Reasons
	case len(r.Dropped) > 0:
		return false, []string{fmt.Sprintf("allowed without %v", r.Dropped)}
	case streams && !r.Decision.AllowStdio:
		return false, []string{"allowed without standard streams"}
	}
	return true, nil
}

// runner asks one engine about many probes, each under a container ID and with mounts of its own.
type runner struct {
	side    *side
	mounted map[string]string // hash → target
}

func (r *runner) admits(ctx context.Context, p probe) bool {
	r.side.asked++
	id := fmt.Sprintf("%064x", r.side.asked)
	var d replay.Decider = r.side.engine
	if p.container == nil {
		tx, err := r.side.engine.Begin(ctx)
		if err != nil {
			return false
		}
		defer tx.Rollback() // the same will be asked again
		d = tx
	} else if !r.mount(ctx, *p.container, id) {
		return false
	}
	for i, step := range p.steps {
		if p.container != nil {
			step = named(step, id)
		}
		if ok, _ := granted(ctx, d, step, p.streams && i == len(p.steps)-1); !ok {
			return false
		}
	}
	return true
}

func (r *runner) mount(ctx context.Context, c policy.Container, id string) bool {
	var paths []any
	for _, hash := range c.Layers {
		target, ok := r.mounted[hash]
		if !ok {
			r.side.asked++
			target = "/run/mounts/scsi/m" + strconv.Itoa(1000+r.side.asked)
			if ok, _ = granted(ctx, r.side.engine, replay.Step{Name: engine.PointMountDevice, Input: map[string]any{
				"target": target, "deviceHash": hash,
			}}, false); !ok {
				return false
			}
			r.mounted[hash] = target
		}
		paths = append([]any{target}, paths...)
	}
	ok, _ := granted(ctx, r.side.engine, replay.Step{Name: engine.PointMountOverlay, Input: map[string]any{
		"containerID": id, "layerPaths": paths, "target": engine.GuestRoot + "/" + id + "/rootfs",
	}}, false)
	return ok
}

func named(s replay.Step, id string) replay.Step {
	in := maps.Clone(s.Input)
	in["containerID"] = id
	return replay.Step{Name: s.Name, Input: in}
}

// witnessID is the container's ID in witnesses.
const witnessID = "00000000000000000000000000000000000000000000000000000000000000c1"

// witness makes the sequence that stands for itself.
func (p probe) witness() *Witness {
	w := &Witness{What: p.what, Streams: p.streams}
	if p.container != nil {
		w.Steps = replay.Mount(*p.container, witnessID)
	}
	for _, s := range p.steps {
		if p.container != nil {
			s = named(s, witnessID)
		}
		w.Steps = append(w.Steps, s.Complete())
	}
	return w
}
