// SPDX-License-Identifier: Apache-2.0

package deploy

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"cofferdam.dev/internal/group"
	"cofferdam.dev/policy"
	"cofferdam.dev/policy/engine"
	"cofferdam.dev/policy/explain"
	"cofferdam.dev/policy/replay"
)

// Finding is one thing in which a policy that was given does not fit what the description asks for.
type Finding struct {
	Container string `json:"container"`
	// Field is the place in the policy's entry for the container, empty where no entry comes near.
	Field    string `json:"field,omitempty"`
	Expected string `json:"expected,omitempty"` // what the policy allows
	Actual   string `json:"actual,omitempty"`   // what is asked for
	Fix      string `json:"fix,omitempty"`
	// Dropped is a variable that the policy takes out of the container's environment; the container starts without it.
	Dropped string `json:"dropped,omitempty"`
}

// Refusal says whether the finding keeps the container from starting.
func (f Finding) Refusal() bool { return f.Dropped == "" }

// Admits puts everything that the start of the group will ask to the policy that the group is launched with, and returns
// what it refuses. There is none for a policy that was generated from the same description. It is a forecast: users are
// resolved in the guest alone. The error is that of a policy that can not be asked.
func (p *Prepared) Admits(ctx context.Context) ([]Finding, error) {
	if p.Origin == Generated {
		return nil, nil
	}
	list, err := p.unlimited()
	if err != nil {
		return nil, err
	}
	for i := range p.Parts.Containers {
		found, err := admits(ctx, p.Text, p.Parts.Policy.Containers[i], &p.Parts.Containers[i])
		if err != nil {
			return nil, err
		}
		list = append(list, found...)
	}
	return list, nil
}

// unlimited finds a limit of connections that the description has and the policy does not keep: no request would show it.
func (p *Prepared) unlimited() ([]Finding, error) {
	want := p.Parts.Policy.Egress
	if want == nil {
		return nil, nil
	}
	e, err := engine.New(p.Text, engine.Options{})
	if err != nil {
		return nil, fmt.Errorf("asking the policy: %w", err)
	}
	if e.Egress().Within(want) {
		return nil, nil
	}
	return []Finding{{
		Container: p.Parts.Containers[0].Name, Field: policy.EgressRuleName,
		Expected: egressText(e.Egress()), Actual: egressText(want), Fix: "put the limit into the policy, or generate it again",
	}}, nil
}

func egressText(e *policy.Egress) string {
	if e == nil {
		return "no limit"
	}
	data, err := e.MarshalJSON()
	if err != nil {
		return "" // the model always encodes
	}
	return string(data)
}

// admits asks about one container, whose generated rule is asked for.
func admits(ctx context.Context, text []byte, rule policy.Container, plan *group.ContainerPlan) ([]Finding, error) {
	id := strings.Repeat("0", 64)
	create := replay.Create(rule, id)
	create.Input["privileged"] = plan.Privileged
	create.Input["envList"] = anys(plan.Env)
	create.Input["noNewPrivileges"] = plan.NoNewPrivileges
	create.Input["mounts"] = mounts(plan)
	steps := append(replay.Mount(rule, id), create)
	for _, exec := range rule.ExecProcesses {
		steps = append(steps, replay.Exec(rule, id, exec.Command))
	}
	e, err := engine.New(text, engine.Options{})
	if err != nil {
		return nil, fmt.Errorf("asking the policy: %w", err)
	}
	var list []Finding
	for i, r := range replay.Run(ctx, e, steps) {
		switch {
		case r.Err != nil:
			return nil, fmt.Errorf("asking the policy: %w", r.Err)
		case !r.Allowed():
			return append(list, refusals(ctx, text, plan.Name, steps[:i+1])...), nil
		case r.Step.Name == engine.PointCreateContainer:
			for _, name := range r.Dropped {
				list = append(list, Finding{Container: plan.Name, Dropped: name})
			}
		}
	}
	return list, nil
}

// refusals explains the last step, which is refused.
func refusals(ctx context.Context, text []byte, container string, steps []replay.Step) []Finding {
	x, err := explain.First(ctx, text, steps)
	if err != nil || x.Allowed {
		return []Finding{{Container: container, Actual: fmt.Sprint(errors.Join(errUnexplained, err))}}
	}
	faults := x.Faults
	if x.Nearest != nil {
		faults = x.Nearest.Faults
	}
	var list []Finding
	for _, f := range faults {
		list = append(list, Finding{Container: container, Field: f.Rule, Expected: f.Expected, Actual: f.Actual, Fix: f.Fix})
	}
	if len(list) == 0 {
		list = []Finding{{Container: container, Field: string(x.Point), Actual: strings.Join(x.Reasons, "; ")}}
	}
	return list
}

var errUnexplained = errors.New("the policy refuses it, and the reason can not be told")

func mounts(plan *group.ContainerPlan) []any {
	var list []any
	for _, m := range plan.Mounts {
		list = append(list, map[string]any{
			"destination": m.Destination, "options": anys(m.Options), "type": m.Type,
			"source": replay.SandboxDir + strings.TrimPrefix(m.Source, "sandbox://"),
		})
	}
	return list
}

func anys(list []string) []any {
	out := make([]any, len(list))
	for i, s := range list {
		out[i] = s
	}
	return out
}
