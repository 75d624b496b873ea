// SPDX-License-Identifier: Apache-2.0

package diff

import (
	"context"
	"flag"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"cofferdam.dev/policy"
)

func testContainer(name, layer string) policy.Container {
	return policy.Container{
		Name: name, Layers: []string{"ba5e", layer}, Command: []string{"/" + name}, WorkingDir: "/",
		EnvRules: []policy.EnvRule{
			{Pattern: "PATH=/bin", Strategy: policy.StrategyString}, {Pattern: "HOSTNAME=.+", Strategy: policy.StrategyRegexp},
		},
		Mounts:        []policy.Mount{{Destination: "/d", Source: "sandbox:///tmp/atlas/emptydir/.+", Type: "bind", Options: []string{"rbind", "ro"}}},
		ExecProcesses: []policy.ExecProcess{{Command: []string{"/probe"}, Signals: []int{1}}}, Signals: []int{9, 15},
		User: policy.User{
			UserIDName:   policy.IDName{Pattern: "1000", Strategy: policy.StrategyID},
			GroupIDNames: []policy.IDName{{Pattern: "1000", Strategy: policy.StrategyID}}, Umask: "0022",
		},
		Capabilities: policy.Capabilities{Effective: []string{"CAP_KILL"}}, NoNewPrivileges: true,
	}
}

func testModel() *policy.Policy {
	return &policy.Policy{
		APIVersion: policy.DeployedAPI, FrameworkVersion: policy.DeployedFramework, AllowEnvironmentVariableDropping: true,
		Containers: []policy.Container{testContainer("web", "aaaa"), testContainer("db", "bbbb")},
	}
}

func testPolicy(change func(*policy.Policy)) []byte {
	p := testModel()
	if change != nil {
		change(p)
	}
	return p.Text()
}

var mirrored = map[Relation]Relation{Equal: Equal, Narrower: Wider, Wider: Narrower, Incomparable: Incomparable, Undecided: Undecided}

// compare compares, and holds every witness against the engines.
func compare(t interface {
	Helper()
	Fatalf(string, ...any)
}, a, b []byte) *Result {
	t.Helper()
	ctx := context.Background()
	r, err := Compare(ctx, a, b)
	if err != nil {
		t.Fatalf("%v", err)
	}
	for _, w := range []struct {
		w            *Witness
		admits, deny []byte
		shown        bool
	}{{r.OnlyFirst, a, b, r.FirstInSecond}, {r.OnlySecond, b, a, r.SecondInFirst}} {
		if w.w == nil {
			continue
		}
		ok, err := Verify(ctx, w.w, w.admits, w.deny)
		if err != nil || !ok {
			t.Fatalf("witness %+v is none: %v", w.w, err)
		}
		if w.shown {
			t.Fatalf("inclusion was concluded, and contradicted by %+v", w.w)
		}
		if len(w.w.Reasons) == 0 {
			t.Fatalf("witness %q has no reason", w.w.What)
		}
	}
	return r
}

// mutation changes a policy; the relation is that of the original to the changed one.
type mutation struct {
	name   string
	change func(*policy.Policy)
	want   Relation
}

func mutations() []mutation {
	web := func(f func(c *policy.Container)) func(*policy.Policy) {
		return func(p *policy.Policy) { f(&p.Containers[0]) }
	}
	env := func(rule policy.EnvRule) func(*policy.Policy) {
		return web(func(c *policy.Container) { c.EnvRules = append(c.EnvRules, rule) })
	}
	return []mutation{
		{"names", web(func(c *policy.Container) { c.Name, c.ID = "x", "y" }), Equal},
		{"order", func(p *policy.Policy) { slices.Reverse(p.Containers) }, Equal},
		{"dropping", func(p *policy.Policy) { p.AllowEnvironmentVariableDropping = false }, Equal},
		{"listed twice", func(p *policy.Policy) { p.Containers = append(p.Containers, p.Containers[0]) }, Equal},
		{"a variable that a pattern admits", env(policy.EnvRule{Pattern: "HOSTNAME=a", Strategy: policy.StrategyString}), Equal},
		{"signals of old frameworks", web(func(c *policy.Container) { c.Signals = nil }), Equal},
		{"a variable", env(policy.EnvRule{Pattern: "A=b", Strategy: policy.StrategyString}), Narrower},
		{"a pattern", env(policy.EnvRule{Pattern: "A=[0-9]+", Strategy: policy.StrategyRegexp}), Narrower},
		{"a container", func(p *policy.Policy) { p.Containers = append(p.Containers, testContainer("new", "cccc")) }, Narrower},
		{"one container less", func(p *policy.Policy) { p.Containers = p.Containers[1:] }, Wider},
		{"a mount", web(func(c *policy.Container) {
			c.Mounts = append(c.Mounts, policy.Mount{Destination: "/e", Source: "sandbox:///tmp/e", Type: "bind", Options: []string{"ro"}})
		}), Narrower},
		{"no mount", web(func(c *policy.Container) { c.Mounts = nil }), Wider},
		{"mount options", web(func(c *policy.Container) {
			for i := range c.Mounts {
				c.Mounts[i].Options = []string{"rbind", "rw"}
			}
		}), Incomparable},
		{"command", web(func(c *policy.Container) { c.Command = []string{"/other"} }), Incomparable},
		{"layers", web(func(c *policy.Container) { c.Layers = []string{"ba5e", "dddd"} }), Incomparable},
		{"a required variable", web(func(c *policy.Container) { c.EnvRules[0].Required = true }), Wider},
		{"elevated", web(func(c *policy.Container) { c.AllowElevated = true }), Narrower},
		{"stdio", web(func(c *policy.Container) { c.AllowStdioAccess = true }), Narrower},
		{"new privileges", web(func(c *policy.Container) { c.NoNewPrivileges = false }), Narrower},
		{"any user", web(func(c *policy.Container) { c.User.UserIDName = policy.IDName{Strategy: policy.StrategyAny} }), Narrower},
		{"another user", web(func(c *policy.Container) { c.User.UserIDName.Pattern = "2" }), Incomparable},
		{"a group", web(func(c *policy.Container) {
			c.User.GroupIDNames = append(c.User.GroupIDNames, policy.IDName{Pattern: "7", Strategy: policy.StrategyID})
		}), Narrower},
		{"umask", web(func(c *policy.Container) { c.User.Umask = "0077" }), Incomparable},
		{"capabilities", web(func(c *policy.Container) { c.Capabilities.Effective = nil }), Incomparable},
		{"seccomp", web(func(c *policy.Container) { c.SeccompProfileSHA256 = "ab" }), Incomparable},
		{"exec", web(func(c *policy.Container) {
			c.ExecProcesses = append(c.ExecProcesses, policy.ExecProcess{Command: []string{"/sh"}})
		}), Narrower},
		{"exec's signal", web(func(c *policy.Container) { c.ExecProcesses[0].Signals = []int{1, 2} }), Narrower},
		{"a signal", web(func(c *policy.Container) { c.Signals = append(c.Signals, 10) }), Narrower},
		{"null command", web(func(c *policy.Container) { c.Command = nil }), Wider},
		{"properties", func(p *policy.Policy) { p.AllowPropertiesAccess = true }, Narrower},
		{"stacks", func(p *policy.Policy) { p.AllowDumpStacks = true }, Narrower},
		{"logging", func(p *policy.Policy) { p.AllowRuntimeLogging = true }, Narrower},
		{"scratch", func(p *policy.Policy) { p.AllowUnencryptedScratch = true }, Narrower},
		{"a fragment", func(p *policy.Policy) {
			p.Fragments = []policy.Fragment{{Feed: "f", Issuer: "did:x509:0:sha256:x", MinimumSVN: "4", Includes: []string{"containers"}}}
		}, Narrower},
		{"version that lacks a line", func(p *policy.Policy) { p.APIVersion, p.OmitRWMountDevice = "0.10.0", true }, Equal},
		{"egress", func(p *policy.Policy) { p.Egress = &policy.Egress{} }, Wider},
		{"missing line", func(p *policy.Policy) { p.OmitRWMountDevice = true }, Wider},
		{"newer framework", func(p *policy.Policy) { p.FrameworkVersion = "0.4.1" }, Equal},
		{"stdio of one twin", func(p *policy.Policy) {
			twin := p.Containers[0]
			twin.AllowStdioAccess = true
			p.Containers = append(p.Containers, twin)
		}, Undecided}, // it admits less, and no rule concludes that
	}
}

func TestMutations(t *testing.T) {
	t.Parallel()
	base := testPolicy(nil)
	for _, m := range mutations() {
		t.Run(m.name, func(t *testing.T) {
			t.Parallel()
			r := compare(t, base, testPolicy(m.change))
			if r.Relation != m.want {
				t.Errorf("%s, expected %s; notes %q, witnesses %+v, %+v", r.Relation, m.want, r.Notes, r.OnlyFirst, r.OnlySecond)
			}
			if len(r.Changes) == 0 && m.name != "order" {
				t.Error("no change was named")
			}
		})
	}
}

// TestMutationsCompose applies any three mutations in any order: the property test draws from these, and a mutation must
// not depend on what another took away.
func TestMutationsCompose(t *testing.T) {
	t.Parallel()
	all := mutations()
	for i := range all {
		for j := range all {
			for k := range all {
				if i == j || j == k || i == k {
					continue
				}
				p := testModel()
				for _, n := range []int{i, j, k} {
					all[n].change(p)
				}
			}
		}
	}
}

// TestFragmentVersions has one policy take older fragments than the other.
func TestFragmentVersions(t *testing.T) {
	t.Parallel()
	with := func(svn string) []byte {
		return testPolicy(func(p *policy.Policy) {
			p.Fragments = []policy.Fragment{{Feed: "f", Issuer: "did:x509:0:sha256:x", MinimumSVN: svn, Includes: []string{"containers"}}}
		})
	}
	if r := compare(t, with("4"), with("2")); r.Relation != Narrower {
		t.Errorf("%+v", r)
	}
}

// TestWrittenByHand has texts of which nothing can be concluded, and some of which something can be shown.
func TestWrittenByHand(t *testing.T) {
	t.Parallel()
	const head = "package policy\napi_version := \"0.11.0\"\nframework_version := \"0.2.3\"\n"
	for name, c := range map[string]struct {
		a, b string
		want Relation
		only bool // the first is seen to admit something of its own
	}{
		"same":          {head, head, Equal, false},
		"own rule":      {head + "get_properties := {\"allowed\": input.x == 7}\n", head + "get_properties := {\"allowed\": input.x == 8}\n", Undecided, false},
		"allow all":     {head + "exec_external := {\"allowed\": true}\n", head, Undecided, true},
		"constant rule": {head + "mount_cims := {\"allowed\": true}\n", head, Undecided, false},
		"old version":   {"package policy\napi_version := \"0.1.0\"\nframework_version := \"0.2.3\"\n", head, Wider, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := compare(t, []byte(c.a), []byte(c.b))
			if r.Relation != c.want || (r.OnlyFirst != nil) != c.only {
				t.Errorf("%+v", r)
			}
		})
	}
	if _, err := Compare(context.Background(), []byte("nonsense"), []byte(head)); err == nil {
		t.Error("nonsense was compared")
	}
}

// TestProperties composes mutations: a policy equals itself, comparisons mirror, and witnesses hold.
func TestProperties(t *testing.T) {
	if err := flag.Set("rapid.checks", "5"); err != nil { // each loads a dozen engines
		t.Fatal(err)
	}
	all := mutations()
	rapid.Check(t, func(rt *rapid.T) {
		build := func(label string) []byte {
			picks := rapid.SliceOfNDistinct(rapid.IntRange(0, len(all)-1), 0, 3, rapid.ID[int]).Draw(rt, label)
			return testPolicy(func(p *policy.Policy) {
				for _, i := range picks {
					if len(p.Containers) > 0 {
						all[i].change(p)
					}
				}
			})
		}
		a, b := build("first"), build("second")
		if r, err := Compare(context.Background(), a, a); err != nil || r.Relation != Equal {
			rt.Fatalf("a policy and itself: %+v, %v", r, err)
		}
		r, back := compare(rt, a, b), compare(rt, b, a)
		if back.Relation != mirrored[r.Relation] {
			rt.Fatalf("one way %s, the other way %s\n%+v\n%+v", r.Relation, back.Relation, r, back)
		}
	})
}
