// SPDX-License-Identifier: Apache-2.0

package group

import (
	"strings"
	"testing"
	"time"

	"cofferdam.dev/internal/spec"

	"github.com/google/go-cmp/cmp"
)

// oldRecord is one as it was written before containers could be started again.
const oldRecord = `{
  "schema": "cofferdam.dev/group-record/v1", "id": "00112233445566778899aabbccddeeff", "name": "calm-weir", "state": "exited", "reason": "stopped",
  "created": "2026-01-02T03:04:05Z", "started": "2026-01-02T03:04:06Z", "finished": "2026-01-02T03:04:07Z",
  "stages": [{"name": "machine", "time": "2026-01-02T03:04:05Z"}], "accelerator": "tcg", "tee": "simulated", "simulated": true, "vcpus": 1,
  "memory_mib": 256, "network": "nat", "policy_hash": "00",
  "containers": [{"id": "ab", "name": "main", "image": "busybox", "command": ["sh"], "layer_roots": ["cd"], "state": "exited", "exit_code": 3}]
}`

// TestRecordForm reads what earlier versions wrote, and reads again what this one writes.
func TestRecordForm(t *testing.T) {
	t.Parallel()
	r, err := ParseRecord([]byte(oldRecord))
	if err != nil {
		t.Fatal(err)
	}
	if code, ok := r.ExitCode(); code != 3 || !ok || r.Runs != 0 {
		t.Errorf("exit code %d, %v; %d runs", code, ok, r.Runs)
	}
	now, code := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), 137
	r.Ready, r.Runs, r.Source, r.Digest = true, 2, "/f.json", "ab"
	c := &r.Containers[0]
	c.Init, c.RestartCount, c.Ready, c.Message, c.State = true, 4, true, "last words", StateWaiting
	c.Previous = &Run{ExitCode: &code, Reason: "out of memory", Started: &now, Finished: &now, Message: "bye"}
	data, err := r.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	again, err := ParseRecord(data)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(r, again); d != "" {
		t.Error(d)
	}
	Settle(again, StateFailed, "gone", now)
	if again.Ready || again.Containers[0].Ready || again.Containers[0].State != StateFailed {
		t.Errorf("settled: %+v", again)
	}
	_, err = ParseRecord([]byte(strings.Replace(oldRecord, `"reason"`, `"raison"`, 1)))
	if err == nil {
		t.Error("an unknown field")
	}
}

// TestPlanOfGroups is the table of what a plan must not say of volumes, logs and restarts.
func TestPlanOfGroups(t *testing.T) {
	t.Parallel()
	volume := func(name, source, dir string) Volume {
		v := Volume{Source: source, HostDir: dir}
		v.Name = name
		return v
	}
	for name, c := range map[string]struct {
		change func(*Plan)
		want   string
	}{
		"good":           {func(p *Plan) { p.Volumes = []Volume{volume("a", "sandbox:///tmp/atlas/emptydir/a", "/d")} }, ""},
		"restart policy": {func(p *Plan) { p.RestartPolicy = "Sometimes" }, "restart policy"},
		"a ring": {func(p *Plan) {
			p.Containers[0].Life.After = waitFor("side")
			p.Containers[1].Life.After = waitFor("web")
		}, "waits for itself"},
		"log limit":       {func(p *Plan) { p.LogLimitBytes = 100 }, "log limit"},
		"scratch":         {func(p *Plan) { p.ScratchMiB = -1 }, "negative"},
		"no name":         {func(p *Plan) { p.Volumes = []Volume{volume("", "sandbox:///tmp/atlas/emptydir/a", "")} }, "no name"},
		"source":          {func(p *Plan) { p.Volumes = []Volume{volume("a", "/etc", "")} }, "is not sandbox"},
		"source above":    {func(p *Plan) { p.Volumes = []Volume{volume("a", "sandbox:///tmp/atlas/emptydir/a/b", "")} }, "is not sandbox"},
		"relative":        {func(p *Plan) { p.Volumes = []Volume{volume("a", "sandbox:///tmp/atlas/azureFileVolume/a", "d")} }, "not absolute"},
		"the same volume": {func(p *Plan) { v := volume("a", "sandbox:///tmp/atlas/emptydir/a", ""); p.Volumes = []Volume{v, v} }, "another one"},
	} {
		p := testPlan("web")
		p.Schema = PlanSchema
		for i := range p.Containers {
			p.Containers[i].ID = newID(32)
		}
		c.change(p)
		err := p.Validate()
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error is %v, want %q", name, err, c.want)
		}
	}
}

func waitFor(name string) []spec.Dependency {
	return []spec.Dependency{{Container: name, Condition: spec.ConditionStarted}}
}
