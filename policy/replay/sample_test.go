// SPDX-License-Identifier: Apache-2.0

package replay

import (
	"context"
	"regexp"
	"strings"
	"testing"

	"cofferdam.dev/policy"
	"cofferdam.dev/policy/engine"
)

func TestSamples(t *testing.T) {
	t.Parallel()
	for _, p := range []string{
		"HOSTNAME=.+", "(?i)(FABRIC)_.+=.+", "T(E)?MP=.+", "a{3,5}", "[^a]", "[0-9]+", "(a|b|c)", "x*", `\d\d`, "^done$", "é+",
	} {
		s := Samples(p)
		if len(s) == 0 {
			t.Errorf("%q has no sample", p)
		}
		for _, x := range s {
			if !regexp.MustCompile("^(?:" + p + ")$").MatchString(x) {
				t.Errorf("%q is no sample of %q", x, p)
			}
		}
	}
	escaped := false
	for _, s := range Samples("MODE=prod|MODE=dev") {
		escaped = escaped || strings.Contains(s, "~")
	}
	if !escaped {
		t.Error("nothing slips past the anchors of an alternation")
	}
	if s := Samples("("); s != nil {
		t.Errorf("%q", s)
	}
}

// TestStart has the least requests admitted, and nothing dropped.
func TestStart(t *testing.T) {
	t.Parallel()
	c := policy.Container{
		Layers: []string{"a1", "b2", "a1"}, Command: []string{"/x"}, WorkingDir: "/w", NoNewPrivileges: true,
		User: policy.User{UserIDName: policy.IDName{Pattern: "web", Strategy: policy.StrategyName}, Umask: "0022"},
		EnvRules: []policy.EnvRule{
			{Pattern: "A=[0-9]+", Strategy: policy.StrategyRegexp, Required: true}, {Pattern: "B=c", Strategy: policy.StrategyString},
		},
		ExecProcesses: []policy.ExecProcess{{Command: []string{"/y"}, Signals: []int{1}}}, Signals: []int{15},
		Capabilities: policy.Capabilities{Effective: []string{"CAP_KILL"}}, SeccompProfileSHA256: "ab",
		Mounts: []policy.Mount{{Destination: "/d", Type: "bind", Options: []string{"ro"}, Source: "sandbox:///tmp/atlas/emptydir/.+"}},
	}
	p := &policy.Policy{APIVersion: policy.DeployedAPI, FrameworkVersion: policy.DeployedFramework, Containers: []policy.Container{c}}
	e, err := engine.New(p.Text(), engine.Options{})
	if err != nil {
		t.Fatal(err)
	}
	create := Create(c, "id")
	create.Input["mounts"] = []any{MountOf(c.Mounts[0])[0]}
	steps := append(Mount(c, "id"), create, Exec(c, "id", []string{"/y"}), Signal("id", 15, nil), Signal("id", 1, []string{"/y"}))
	for i, r := range Run(context.Background(), e, steps) {
		if !r.Allowed() || len(r.Dropped) > 0 {
			t.Errorf("step %d, %s: %q, dropped %q, %v", i, r.Step.Name, r.Decision.Reasons, r.Dropped, r.Err)
		}
	}
}

func FuzzSamples(f *testing.F) {
	f.Add("(a|b)*c{2,}[^x]")
	f.Fuzz(func(t *testing.T, p string) {
		for _, s := range Samples(p) {
			if len(s) >= maxSample {
				t.Fatalf("a sample of %d bytes", len(s))
			}
		}
	})
}
