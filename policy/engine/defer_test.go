// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/open-policy-agent/opa/v1/ast"
)

// TestDeferredRules holds what makes deferring safe: the deferred files add nothing to a rule that is in force without
// them, and do not look at the policy's rules, whose types they could then clash with.
func TestDeferredRules(t *testing.T) {
	t.Parallel()
	names := func(file, text string) map[string]bool {
		m, err := ast.ParseModuleWithOpts(file, text, ast.ParserOptions{RegoVersion: ast.RegoV1})
		if err != nil {
			t.Fatal(err)
		}
		set := map[string]bool{}
		for _, r := range m.Rules {
			set[ruleName(r)] = true
		}
		return set
	}
	inForce := names("framework.rego", frameworkText)
	for name := range names("facts.rego", factsText) {
		inForce[name] = true
	}
	for file, text := range deferred() {
		for name := range names(file, text) {
			if inForce[name] {
				t.Errorf("%s adds to the rule %s", file, name)
			}
			if _, known := points[Point(name)]; known && !slices.Contains(deferredPoints, Point(name)) {
				t.Errorf("%s has the rule for %s, which is asked without it", file, name)
			}
		}
		if strings.Contains(text, "data.policy") || strings.Contains(text, "data.framework") {
			t.Errorf("%s refers to the policy's rules", file)
		}
	}
	for _, point := range deferredPoints {
		if inForce[string(point)] {
			t.Errorf("%s is answered without its deferred rules", point)
		}
	}
}

func TestPlain(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name, rules string
		want        bool
	}{
		{"generated", string(groupPolicy(2).Text()), true},
		{"constants", bare + `x := [{"a": {"b"}}, null, 1.5, true]`, true},
		{"point", bare + "mount_device := data.framework.mount_device", true},
		{"fragment's point", bare + "load_fragment := data.framework.load_fragment", true},
		{"reason", bare + `reason := {"errors": data.framework.errors}`, true},
		{"reason of its own", bare + `reason := {"errors": ["no"]}`, true},
		{"other point", bare + "mount_device := data.framework.load_fragment", false},
		{"member of a point", bare + "mount_device := data.framework.mount_device.allowed", false},
		{"no point", bare + "errors := data.framework.errors", false},
		{"reason with more", bare + `reason := {"errors": data.framework.errors, "objects": 1}`, false},
		{"reason of another rule", bare + `reason := {"errors": data.framework.named}`, false},
		{"rule of its own", bare + "x := load_fragment", false},
		{"whole framework", bare + "x := data.framework", false},
		{"input", bare + "x := input.a", false},
		{"call", bare + "x := count([])", false},
		{"comprehension", bare + "x := [1 | true]", false},
		{"nested reference", bare + "x := [[data.framework.errors]]", false},
		{"body", bare + "x := 1 { count(data.framework.errors) == 0 }", false},
		{"with", bare + "x := 1 { true with input as 2 }", false},
		{"else", bare + "x := 1 { false } else := 2 { data.framework.errors }", false},
		{"function", bare + "f(x) := 1", false},
		{"set", bare + `x["a"]`, false},
		{"nested name", bare + "x.y := 1", false},
		{"default", bare + "default x := 1", true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			m, err := parse([]byte(tc.rules), capabilities())
			if err != nil {
				t.Fatal(err)
			}
			if got := plain(m); got != tc.want {
				t.Errorf("plain is %t, want %t", got, tc.want)
			}
		})
	}
}

// TestDeferredDecisions asks the same of an engine with everything compiled, and of one that defers.
func TestDeferredDecisions(t *testing.T) {
	t.Parallel()
	whole, parts := mustLoad(t, groupPolicy(2)), mustLoad(t, groupPolicy(2))
	err := whole.complete()
	if err != nil {
		t.Fatal(err)
	}
	ask := func(e *Engine, doing string, f func(Requests) (Decision, error)) string {
		d, err := f(e.Requests)
		return fmt.Sprintf("%s: %+v, %v", doing, d, err)
	}
	run := func(e *Engine) []string {
		ctx := context.Background()
		start(t, e, 0)
		tx, err := e.Begin(ctx)
		if err != nil {
			t.Fatal(err)
		}
		logs, err := tx.Allows(ctx, PointRuntimeLogging, nil)
		tx.Rollback()
		said := []string{fmt.Sprintf("runtime_logging: %t, %v; early: %t", logs, err, e.program.complete && e != whole)}
		for _, hash := range []string{"bad", testContainer(0).Layers[0]} {
			said = append(said, ask(e, "mount_device", func(r Requests) (Decision, error) {
				return r.MountDevice(ctx, "/run/mounts/scsi/m900000", hash)
			}))
		}
		start(t, e, 1)
		in := testCreate(testID2(0), 0)
		in.Args = []string{"/bin/sh"}
		said = append(said, ask(e, "create_container", func(r Requests) (Decision, error) { return r.CreateContainer(ctx, in) }))
		d, err := e.LoadFragment(ctx, Fragment{Issuer: "did:x509:x", Text: []byte("package fragment\n\nsvn := \"1\"\n")})
		return append(said, fmt.Sprintf("load_fragment: %+v, %v", d, err))
	}
	if diff := cmp.Diff(run(whole), run(parts)); diff != "" {
		t.Errorf("decisions differ (-whole +parts):\n%s", diff)
	}
	if !parts.program.complete {
		t.Error("a denial was explained without the rules for it")
	}
}
