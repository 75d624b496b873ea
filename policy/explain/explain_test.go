// SPDX-License-Identifier: Apache-2.0

package explain

import (
	"context"
	"slices"
	"strings"
	"testing"

	"cofferdam.dev/policy"
	"cofferdam.dev/policy/denial"
	"cofferdam.dev/policy/engine"
	"cofferdam.dev/policy/replay"
)

const id = "3a376494ee188e35d9f6c88b26bff29231b3e5ae0c71370dcae23e9c82710a06"

func testContainer(name, layer string) policy.Container {
	return policy.Container{
		Name: name, Layers: []string{"ba5e", layer}, Command: []string{"/bin/" + name, "--serve"}, WorkingDir: "/" + name,
		EnvRules: []policy.EnvRule{
			{Pattern: "PATH=/bin", Strategy: policy.StrategyString}, {Pattern: "MODE=prod", Strategy: policy.StrategyString},
			{Pattern: "HOSTNAME=.+", Strategy: policy.StrategyRegexp},
		},
		Mounts:        []policy.Mount{{Destination: "/data", Source: "sandbox:///tmp/atlas/emptydir/.+", Type: "bind", Options: []string{"rbind", "ro"}}},
		ExecProcesses: []policy.ExecProcess{{Command: []string{"/probe"}, Signals: []int{1}}}, Signals: []int{15},
		User: policy.User{
			UserIDName:   policy.IDName{Pattern: "1000", Strategy: policy.StrategyID},
			GroupIDNames: []policy.IDName{{Pattern: "1000", Strategy: policy.StrategyID}}, Umask: "0022",
		},
		Capabilities: policy.Capabilities{Effective: []string{"CAP_KILL"}}, NoNewPrivileges: true,
	}
}

func testPolicy(change func(*policy.Policy)) []byte {
	p := &policy.Policy{
		APIVersion: policy.DeployedAPI, FrameworkVersion: policy.DeployedFramework,
		Containers: []policy.Container{testContainer("web", "aaaa"), testContainer("db", "bbbb")},
	}
	if change != nil {
		change(p)
	}
	return p.Text()
}

type tweak func(in map[string]any)

func createStep(c policy.Container, change tweak) replay.Step {
	s := replay.Create(c, id)
	s.Input["envList"] = []any{"PATH=/bin", "MODE=prod", "HOSTNAME=x"}
	s.Input["mounts"] = []any{replay.MountOf(c.Mounts[0])[0]}
	if change != nil {
		change(s.Input)
	}
	return s
}

// TestFields breaks a good request in one way after the other, and expects that this, and nothing else, is named.
func TestFields(t *testing.T) {
	t.Parallel()
	web := testContainer("web", "aaaa")
	mount := func(in map[string]any) map[string]any { m, _ := in["mounts"].([]any)[0].(map[string]any); return m }
	for name, c := range map[string]struct {
		change      tweak
		field, rule string
		fix         string
		expected    string
	}{
		"command":          {func(in map[string]any) { in["argList"] = []any{"/bin/web"} }, "argList", "containers[0].command", `["/bin/web"]`, `["/bin/web","--serve"]`},
		"directory":        {func(in map[string]any) { in["workingDir"] = "/x" }, "workingDir", "containers[0].working_dir", `"/x"`, `"/web"`},
		"privilege":        {func(in map[string]any) { in["privileged"] = true }, "privileged", "containers[0].allow_elevated", "true", "false"},
		"new privileges":   {func(in map[string]any) { in["noNewPrivileges"] = false }, "noNewPrivileges", "containers[0].no_new_privileges", "false", "true"},
		"seccomp":          {func(in map[string]any) { in["seccompProfileSHA256"] = "ab" }, "seccompProfileSHA256", "containers[0].seccomp_profile_sha256", `"ab"`, `""`},
		"user":             {func(in map[string]any) { in["user"] = map[string]any{"id": "0", "name": "root"} }, "user", "containers[0].user.user_idname", `"pattern":"0"`, "1000"},
		"umask":            {func(in map[string]any) { in["umask"] = "0000" }, "umask", "containers[0].user.umask", `"0000"`, `"0022"`},
		"group":            {func(in map[string]any) { in["groups"] = []any{map[string]any{"id": "0", "name": "root"}} }, "groups", "containers[0].user.group_idnames", `"pattern":"0"`, "1000"},
		"variable":         {func(in map[string]any) { in["envList"] = []any{"PATH=/bin", "MODE=dev"} }, "envList[1]", "containers[0].env_rules", `"MODE=dev"`, `"MODE=prod"`},
		"strange variable": {func(in map[string]any) { in["envList"] = []any{"LD_PRELOAD=/x"} }, "envList[0]", "containers[0].env_rules", `"LD_PRELOAD=/x"`, "no rule for LD_PRELOAD"},
		"capability": {func(in map[string]any) {
			in["capabilities"].(map[string]any)["effective"] = []any{"CAP_KILL", "CAP_BPF"}
		}, "capabilities.effective", "containers[0].capabilities.effective", "CAP_BPF", "CAP_KILL"},
		"mount options": {func(in map[string]any) { mount(in)["options"] = []any{"rbind", "rw"} }, "mounts[0]", "containers[0].mounts", `"rw"`, `"ro"`},
		"mount source":  {func(in map[string]any) { mount(in)["source"] = replay.SandboxDir + "/tmp/x" }, "mounts[0]", "containers[0].mounts", `sandbox:///tmp/x`, "emptydir"},
		"mount":         {func(in map[string]any) { mount(in)["destination"] = "/etc" }, "mounts[0]", "containers[0].mounts", `"/etc"`, "no mount at /etc"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			step := createStep(web, c.change)
			for _, prior := range [][]replay.Step{nil, replay.Mount(web, id)} {
				x, err := Request(context.Background(), testPolicy(nil), prior, step)
				if err != nil {
					t.Fatal(err)
				}
				if x.Allowed || x.Nearest == nil || x.Nearest.Name != "web" || len(x.Nearest.Faults) != 1 {
					t.Fatalf("%+v, nearest %+v", x, x.Nearest)
				}
				f := x.Nearest.Faults[0]
				if f.Field != c.field || f.Rule != c.rule || !strings.Contains(f.Fix, c.fix) || !strings.Contains(f.Expected, c.expected) {
					t.Errorf("%+v", f)
				}
				if !x.Nearest.Proven {
					t.Error("the change was not shown to admit the request")
				}
			}
		})
	}
}

// TestSeveral needs the fewest changes that suffice.
func TestSeveral(t *testing.T) {
	t.Parallel()
	step := createStep(testContainer("db", "bbbb"), func(in map[string]any) {
		in["workingDir"], in["umask"] = "/", "0000"
		in["envList"] = []any{"PATH=/bin", "A=1", "B=2"}
	})
	x, err := Request(context.Background(), testPolicy(nil), nil, step)
	if err != nil {
		t.Fatal(err)
	}
	var fields []string
	for _, f := range x.Nearest.Faults {
		fields = append(fields, f.Field)
	}
	slices.Sort(fields)
	if x.Nearest.Name != "db" || !x.Nearest.Proven || !slices.Equal(fields, []string{"envList[1]", "envList[2]", "umask", "workingDir"}) {
		t.Errorf("%+v", x.Nearest)
	}
}

// TestOtherLayers has a request that fits one container in everything but the layers that were mounted.
func TestOtherLayers(t *testing.T) {
	t.Parallel()
	step := createStep(testContainer("db", "bbbb"), nil)
	x, err := Request(context.Background(), testPolicy(nil), replay.Mount(testContainer("web", "aaaa"), id), step)
	if err != nil {
		t.Fatal(err)
	}
	// The layers were measured: the container that they belong to is meant.
	if x.Nearest.Name != "web" || !x.Nearest.Proven || len(x.Nearest.Faults) != 2 {
		t.Errorf("%+v", x.Nearest)
	}
}

func TestState(t *testing.T) {
	t.Parallel()
	web := testContainer("web", "aaaa")
	started := append(replay.Mount(web, id), createStep(web, nil))
	for name, c := range map[string]struct {
		prior []replay.Step
		step  replay.Step
		field string
	}{
		"second start":  {started, createStep(web, nil), "containerID"},
		"not started":   {replay.Mount(web, id), replay.Exec(web, id, []string{"/probe"}), "containerID"},
		"unknown layer": {nil, replay.Step{Name: engine.PointMountDevice, Input: map[string]any{"target": "/run/mounts/scsi/m0", "deviceHash": "x"}}, "deviceHash"},
		"mount point":   {nil, replay.Step{Name: engine.PointMountDevice, Input: map[string]any{"target": "/etc", "deviceHash": "aaaa"}}, "target"},
		"switch":        {nil, replay.Step{Name: engine.PointDumpStacks}, "rule"},
		"missing rule":  {nil, replay.Step{Name: engine.PointLogProvider}, "rule"},
		"fragment":      {nil, replay.Step{Name: engine.PointLoadFragment, Input: map[string]any{"issuer": "x", "fragment_loaded": false}}, "issuer"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			x, err := Request(context.Background(), testPolicy(nil), c.prior, c.step)
			if err != nil {
				t.Fatal(err)
			}
			if x.Allowed || len(x.Faults) == 0 || x.Faults[0].Field != c.field || x.Faults[0].Fix == "" {
				t.Errorf("%+v", x)
			}
			if x.Nearest != nil && len(x.Nearest.Faults) > 0 {
				t.Errorf("the container is blamed: %+v", x.Nearest)
			}
		})
	}
	for name, c := range map[string]struct {
		step replay.Step
		rule string
	}{
		"exec":          {replay.Exec(web, id, []string{"/bin/sh"}), "containers[0].exec_processes"},
		"signal":        {replay.Signal(id, 10, nil), "containers[0].signals"},
		"exec's signal": {replay.Signal(id, 15, []string{"/probe"}), "containers[0].exec_processes[0].signals"},
	} {
		x, err := Request(context.Background(), testPolicy(nil), started, c.step)
		if err != nil {
			t.Fatal(err)
		}
		if x.Nearest == nil || len(x.Nearest.Faults) != 1 || x.Nearest.Faults[0].Rule != c.rule || !x.Nearest.Proven {
			t.Errorf("%s: %+v", name, x.Nearest)
		}
	}
	missing := replay.Mount(web, id)
	overlay := missing[len(missing)-1]
	overlay.Input["layerPaths"] = overlay.Input["layerPaths"].([]any)[1:]
	x, err := Request(context.Background(), testPolicy(nil), missing[:len(missing)-1], overlay)
	if err != nil || x.Nearest == nil || x.Nearest.Faults[0].Field != "layerPaths" || !strings.Contains(x.Nearest.Faults[0].Actual, "1 layers, the first 1 as expected") {
		t.Errorf("overlay: %+v, %v", x, err)
	}
	if x, err = Request(context.Background(), testPolicy(nil), replay.Mount(web, id), createStep(web, nil)); err != nil || !x.Allowed {
		t.Errorf("a good request: %+v, %v", x, err)
	}
}

// TestDenial explains what came out of a log, where the values of variables are missing.
func TestDenial(t *testing.T) {
	t.Parallel()
	step := createStep(testContainer("web", "aaaa"), func(in map[string]any) {
		in["envList"] = append(in["envList"].([]any), "SECRET=hunter2")
		in["argList"] = []any{"/bin/web"}
	})
	message, err := denial.New(string(step.Name), step.Input, []string{"invalid command", "invalid env list: SECRET"}).Encode()
	if err != nil {
		t.Fatal(err)
	}
	d, err := denial.Decode(message)
	if err != nil {
		t.Fatal(err)
	}
	x, err := Denial(context.Background(), testPolicy(nil), d)
	if err != nil {
		t.Fatal(err)
	}
	if x.Nearest == nil || x.Nearest.Name != "web" || len(x.Nearest.Faults) != 2 || !x.Nearest.Proven || !slices.Contains(x.Notes, guessed) {
		t.Fatalf("%+v, %+v", x, x.Nearest)
	}
	if f := x.Nearest.Faults[1]; !strings.Contains(f.Fix, "SECRET") || strings.Contains(f.Fix, denial.Redacted) {
		t.Errorf("%+v", f)
	}
	x, err = Denial(context.Background(), testPolicy(nil), &denial.Denial{Errors: []string{"invalid command"}, Truncated: []string{"input"}})
	if err != nil || len(x.Notes) == 0 || x.Reasons[0] != "invalid command" {
		t.Errorf("%+v, %v", x, err)
	}
}

// FuzzDenial explains whatever a log may hold.
func FuzzDenial(f *testing.F) {
	text := testPolicy(nil)
	step := createStep(testContainer("web", "aaaa"), nil)
	message, err := denial.New(string(step.Name), step.Input, []string{"invalid command", "invalid user"}).Encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(message)
	f.Add(`{"decision":"deny","input":{"rule":"create_container","mounts":[7],"groups":{},"envList":[1]},"reason":{"errors":["invalid mount list: /d"]}}`)
	f.Add(`{"decision":"deny","input":{"rule":"signal_container_process","signal":"x"}}`)
	f.Fuzz(func(t *testing.T, message string) {
		d, err := denial.Decode(message)
		if err != nil {
			return
		}
		x, err := Denial(context.Background(), text, d)
		if err == nil && x.Nearest != nil && x.Nearest.Proven && x.Nearest.Index > 1 {
			t.Fatalf("%+v", x.Nearest)
		}
	})
}
