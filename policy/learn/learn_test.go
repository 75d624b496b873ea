// SPDX-License-Identifier: Apache-2.0

package learn

import (
	"context"
	"flag"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"cofferdam.dev/policy"
	"cofferdam.dev/policy/engine"
	"cofferdam.dev/policy/replay"
)

// recording starts containers, and does things to them.
func recording(t *rapid.T) ([]replay.Step, []int) {
	word := rapid.StringMatching(`[a-z]{1,6}`)
	var steps []replay.Step
	var creates []int
	for i := range rapid.IntRange(1, 3).Draw(t, "containers") {
		id := fmt.Sprintf("%064x", i)
		c := policy.Container{
			Layers:     []string{"ba5e", fmt.Sprintf("%04x", i)},
			Command:    rapid.SliceOfN(word, 1, 3).Draw(t, "command"),
			WorkingDir: "/" + word.Draw(t, "dir"), NoNewPrivileges: rapid.Bool().Draw(t, "nnp"),
			User:         policy.User{Umask: "0022", UserIDName: policy.IDName{Pattern: rapid.StringMatching(`[0-9]{1,4}`).Draw(t, "user"), Strategy: policy.StrategyID}},
			Capabilities: policy.Capabilities{Effective: rapid.SampledFrom([][]string{nil, {"CAP_KILL"}, {"CAP_KILL", "CAP_CHOWN"}}).Draw(t, "caps")},
		}
		mount := replay.Mount(c, id)
		for k := range mount {
			mount[k] = retarget(mount[k], i)
		}
		create := replay.Create(c, id)
		create.Input["noNewPrivileges"] = c.NoNewPrivileges
		env := []any{}
		for k, n := range rapid.SliceOfNDistinct(word, 0, 4, rapid.ID[string]).Draw(t, "env") {
			env = append(env, fmt.Sprintf("%s%d=(%s|.*", strings.ToUpper(n), k, n))
		}
		create.Input["envList"] = env
		if rapid.Bool().Draw(t, "mounts") {
			create.Input["mounts"] = []any{map[string]any{
				"destination": "/d", "type": "bind", "options": []any{"ro"}, "source": replay.SandboxDir + "/tmp/a+b",
			}}
		}
		steps = append(steps, mount...)
		creates = append(creates, len(steps))
		steps = append(steps, create)
		if rapid.Bool().Draw(t, "exec") {
			exec := replay.Exec(c, id, []string{"/probe"})
			exec.Input["noNewPrivileges"] = c.NoNewPrivileges
			exec.Input["envList"] = env[:len(env)/2]
			steps = append(steps, exec, replay.Signal(id, 12, []string{"/probe"}))
		}
		if rapid.Bool().Draw(t, "signal") {
			steps = append(steps, replay.Signal(id, 10, nil))
		}
	}
	return append(steps, replay.Step{Name: engine.PointGetProperties}), creates
}

// retarget gives each container's layers paths of their own.
func retarget(s replay.Step, i int) replay.Step {
	in := maps.Clone(s.Input)
	move := func(v any) any {
		path, _ := v.(string)
		if strings.HasPrefix(path, "/run/mounts/scsi/m") {
			return fmt.Sprintf("%s%d", path, 100+i)
		}
		return v
	}
	in["target"] = move(in["target"])
	if paths, ok := in["layerPaths"].([]any); ok {
		moved := make([]any, len(paths))
		for k, p := range paths {
			moved[k] = move(p)
		}
		in["layerPaths"] = moved
	}
	return replay.Step{Name: s.Name, Input: in}
}

// mutants are requests near to one that was recorded.
func mutants(s replay.Step) map[string]replay.Step {
	out := map[string]replay.Step{}
	set := func(key string, value any) {
		in := maps.Clone(s.Input)
		in[key] = value
		out[key] = replay.Step{Name: s.Name, Input: in}
	}
	env, _ := s.Input["envList"].([]any)
	set("argList", append(slices.Clone(s.Input["argList"].([]any)), "x"))
	set("envList", append(slices.Clone(env), "LD_PRELOAD=/x"))
	set("workingDir", "/elsewhere")
	set("user", map[string]any{"id": "99999", "name": "x"})
	set("umask", "0000")
	set("privileged", true)
	set("seccompProfileSHA256", "ab")
	set("devices", []any{map[string]any{"path": "/dev/kvm"}})
	set("mounts", []any{map[string]any{"destination": "/etc", "type": "bind", "options": []any{"ro"}, "source": replay.SandboxDir + "/x"}})
	set("capabilities", map[string]any{
		"ambient": []any{}, "bounding": []any{}, "effective": []any{"CAP_SYS_ADMIN"}, "inheritable": []any{}, "permitted": []any{},
	})
	return out
}

// TestLearned admits everything that was recorded, and nothing near it.
func TestLearned(t *testing.T) {
	t.Parallel()
	if err := flag.Set("rapid.checks", "12"); err != nil { // each loads several engines
		t.Fatal(err)
	}
	rapid.Check(t, func(rt *rapid.T) {
		ctx := context.Background()
		steps, creates := recording(rt)
		p, notes, err := Learn(ctx, steps, Options{})
		if err != nil || len(notes) > 0 {
			rt.Fatalf("%v, %q", err, notes)
		}
		text := p.Text()
		if _, err := policy.Parse(text); err != nil {
			rt.Fatal(err)
		}
		e, err := engine.New(text, engine.Options{})
		if err != nil {
			rt.Fatal(err)
		}
		for i, s := range steps {
			if slices.Contains(creates, i) {
				for name, m := range mutants(s) {
					if r := replay.Ask(ctx, e, m); r.Err == nil && r.Allowed() {
						rt.Fatalf("a request with another %s was admitted", name)
					}
				}
			}
			r := replay.Ask(ctx, e, s)
			if !r.Allowed() || len(r.Dropped) > 0 {
				rt.Fatalf("request %d, %s: %q, %v", i+1, s.Name, r.Decision.Reasons, r.Err)
			}
		}
		for _, s := range []replay.Step{{Name: engine.PointDumpStacks}, replay.Signal(fmt.Sprintf("%064x", 0), 11, nil)} {
			if r := replay.Ask(ctx, e, s); r.Allowed() {
				rt.Fatalf("%s was admitted", s.Name)
			}
		}
	})
}

// TestLeftOut names what cannot be learned.
func TestLeftOut(t *testing.T) {
	t.Parallel()
	c := policy.Container{Layers: []string{"a1"}, Command: []string{"/x"}, WorkingDir: "/", User: policy.User{Umask: "0022"}}
	devices := replay.Create(c, "b")
	devices.Input["devices"] = []any{map[string]any{"path": "/dev/kvm"}}
	wide := replay.Exec(c, "a", []string{"/y"})
	wide.Input["envList"] = []any{"NEW=1"}
	for name, s := range map[string][]replay.Step{
		"second start":     append(replay.Mount(c, "a"), replay.Create(c, "a"), replay.Create(c, "a")),
		"devices":          append(replay.Mount(c, "b"), devices),
		"no layers":        {replay.Create(c, "a")},
		"not created":      {replay.Exec(c, "a", []string{"/y"})},
		"exec's variable":  append(replay.Mount(c, "a"), replay.Create(c, "a"), wide),
		"process of none":  append(replay.Mount(c, "a"), replay.Create(c, "a"), replay.Signal("a", 9, []string{"/y"})),
		"outside":          {{Name: engine.PointExecExternal}},
		"layer of nothing": replay.Mount(c, "a")[:1],
		"bad mount point":  {{Name: engine.PointMountDevice, Input: map[string]any{"target": "/etc", "deviceHash": "a1"}}},
	} {
		_, notes, err := Learn(context.Background(), s, Options{})
		if err != nil || len(notes) != 1 {
			t.Errorf("%s: %q, %v", name, notes, err)
		}
	}
	p, notes, err := Learn(context.Background(), replay.Mount(c, "a"), Options{})
	if err != nil || len(notes) > 0 || p.Containers[0].Command != nil {
		t.Errorf("a container that was mounted only: %+v, %q, %v", p, notes, err)
	}
}

// TestUnknownForm names what has another form than it must have, as the recording calls it.
func TestUnknownForm(t *testing.T) {
	t.Parallel()
	c := policy.Container{Layers: []string{"a1"}}
	create := replay.Create(c, "a")
	create.Input["argList"] = "x"
	_, notes, err := Learn(context.Background(), append(replay.Mount(c, "a"), create), Options{})
	if err != nil || len(notes) != 1 || !strings.HasSuffix(strings.ToLower(notes[0]), "unknown form: arglist is a string") {
		t.Errorf("%q, %v", notes, err)
	}
}

// TestDenied learns what was allowed, and what was denied only when that is asked for.
func TestDenied(t *testing.T) {
	t.Parallel()
	c := policy.Container{Layers: []string{"a1"}, Command: []string{"/x"}, WorkingDir: "/", User: policy.User{Umask: "0022"}}
	id := fmt.Sprintf("%064x", 1)
	exec := replay.Exec(c, id, []string{"/bin/sh"})
	exec.Decision = replay.Deny
	steps := append(replay.Mount(c, id), replay.Create(c, id), exec)
	for i := range steps[:len(steps)-1] {
		steps[i].Decision = replay.Allow
	}
	for denied, want := range map[bool]int{false: 0, true: 1} {
		p, notes, err := Learn(context.Background(), steps, Options{Denied: denied})
		if err != nil || len(notes) != 1-want || len(p.Containers) != 1 || len(p.Containers[0].ExecProcesses) != want {
			t.Errorf("denied %v: %+v, %q, %v", denied, p, notes, err)
		}
	}
}
