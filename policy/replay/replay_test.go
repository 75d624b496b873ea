// SPDX-License-Identifier: Apache-2.0

package replay

import (
	"bytes"
	"context"
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"cofferdam.dev/policy"
	"cofferdam.dev/policy/engine"
)

func TestRead(t *testing.T) {
	t.Parallel()
	want := []Step{
		{Name: engine.PointDumpStacks, Input: map[string]any{}},
		{Name: engine.PointUnmountDevice, Input: map[string]any{"unmountTarget": "/x"}},
	}
	for name, text := range map[string]string{
		"list":  ` [{"name":"dump_stacks","input":{}}, {"name":"unmount_device","input":{"unmountTarget":"/x"}}]`,
		"lines": "{\"name\":\"dump_stacks\",\"input\":{}}\n{\"name\":\"unmount_device\",\"input\":{\"unmountTarget\":\"/x\"}}\n",
	} {
		got, err := Read([]byte(text))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
	for name, text := range map[string]string{
		"nothing": "", "empty list": "[]", "no name": `[{"input":{}}]`, "other keys": `{"name":"x","inputs":{}}`,
		"more": `[{"name":"x"}] x`, "no object": `[7]`, "no outcome": `{"name":"x","decision":"perhaps"}`, "half": `{"name":`, "too many": strings.Repeat(`{"name":"x"}`, MaxSteps+1),
	} {
		if got, err := Read([]byte(text)); err == nil {
			t.Errorf("%s: %v", name, got)
		}
	}
}

// TestRun replays a start: allowed, with what was dropped, and denied the second time.
func TestRun(t *testing.T) {
	t.Parallel()
	p := &policy.Policy{
		APIVersion: policy.DeployedAPI, FrameworkVersion: policy.DeployedFramework, AllowEnvironmentVariableDropping: true,
		Containers: []policy.Container{{
			Layers: []string{"a1"}, Command: []string{"/x"}, WorkingDir: "/",
			User:     policy.User{UserIDName: policy.IDName{Strategy: policy.StrategyAny}, Umask: "0022"},
			EnvRules: []policy.EnvRule{{Pattern: "A=b", Strategy: policy.StrategyString}},
		}},
	}
	e, err := engine.New(p.Text(), engine.Options{})
	if err != nil {
		t.Fatal(err)
	}
	steps, err := Read([]byte(`[
{"name":"mount_device","input":{"target":"/run/mounts/scsi/m0","deviceHash":"a1"}},
{"name":"mount_overlay","input":{"containerID":"c","layerPaths":["/run/mounts/scsi/m0"],"target":"/x"}},
{"name":"create_container","input":{"containerID":"c","argList":["/x"],"envList":["A=b","C=d","A=b"],"workingDir":"/",
  "user":{"id":"0","name":"root"},"groups":[],"umask":"0022","noNewPrivileges":true,"privileged":false,
  "seccompProfileSHA256":"","capabilities":{"ambient":[],"bounding":[],"effective":[],"inheritable":[],"permitted":[]}}},
{"name":"create_container","input":{"containerID":"c"}}]`))
	if err != nil {
		t.Fatal(err)
	}
	results := Run(context.Background(), e, steps)
	var allowed []bool
	for _, r := range results {
		allowed = append(allowed, r.Allowed())
	}
	if !slices.Equal(allowed, []bool{true, true, true, false}) {
		t.Fatalf("%+v", results)
	}
	if diff := cmp.Diff([]string{"C"}, results[2].Dropped); diff != "" {
		t.Error(diff)
	}
	if !slices.Contains(results[3].Decision.Reasons, "container already started") {
		t.Errorf("%q", results[3].Decision.Reasons)
	}
	if _, changed := steps[0].Input["mountPathRegex"]; changed {
		t.Error("the recording was changed")
	}
}

func FuzzRead(f *testing.F) {
	f.Add([]byte(`[{"name":"dump_stacks","input":{}}]`))
	f.Add([]byte("{\"name\":\"x\"}\n{\"name\":\"y\"}"))
	f.Fuzz(func(t *testing.T, data []byte) {
		steps, err := Read(data)
		if err != nil {
			return
		}
		var b bytes.Buffer
		for _, s := range steps {
			if err := json.NewEncoder(&b).Encode(s); err != nil {
				t.Fatal(err)
			}
		}
		again, err := Read(b.Bytes())
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(steps, again); diff != "" {
			t.Fatal(diff)
		}
	})
}
