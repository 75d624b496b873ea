// SPDX-License-Identifier: Apache-2.0

package policygen

import (
	"slices"
	"strings"
	"testing"

	"cofferdam.dev/internal/spec"
	"cofferdam.dev/policy"

	"github.com/google/go-cmp/cmp"
)

func webGroup() spec.Group {
	return spec.Group{Containers: []spec.Container{{Name: "web", Image: "web", AllowStdio: true, AllowPrivilegeEscalation: true}}}
}

func webFacts() map[string]ImageFacts {
	return map[string]ImageFacts{"web": {
		Reference: "web@sha256:0", LayerRoots: []string{strings.Repeat("a", 64)},
		Config: ImageConfig{
			Env: []string{"PATH=/bin", "MODE=image"}, Entrypoint: []string{"/entry"}, Cmd: []string{"serve", "-x"},
			User: "www:33", WorkingDir: "/srv", StopSignal: "SIGQUIT", Volumes: []string{"/data/", "/cache", "/data"},
		},
	}}
}

// generate makes the one container of webGroup after a change.
func generate(t *testing.T, change func(*spec.Group, *ImageFacts)) (policy.Container, *policy.Policy) {
	t.Helper()
	g, facts := webGroup(), webFacts()
	f := facts["web"]
	if change != nil {
		change(&g, &f)
	}
	facts["web"] = f
	p, err := Generate(g, facts, RunOptions())
	if err != nil {
		t.Fatal(err)
	}
	return p.Containers[0], p
}

func TestImageIsHonoured(t *testing.T) {
	t.Parallel()
	c, p := generate(t, nil)
	if want := []string{"/entry", "serve", "-x"}; !slices.Equal(c.Command, want) {
		t.Errorf("command %q, want %q", c.Command, want)
	}
	if want := []int{9, 15, 3}; !slices.Equal(c.Signals, want) {
		t.Errorf("signals %v, want %v", c.Signals, want)
	}
	if c.WorkingDir != "/srv" || c.ID != "web@sha256:0" || c.NoNewPrivileges || c.AllowElevated || !c.AllowStdioAccess {
		t.Errorf("container %+v", c)
	}
	user := policy.User{
		Umask: "0022", UserIDName: policy.IDName{Pattern: "www", Strategy: policy.StrategyName},
		GroupIDNames: []policy.IDName{{Pattern: "33", Strategy: policy.StrategyID}},
	}
	if diff := cmp.Diff(user, c.User); diff != "" {
		t.Error(diff)
	}
	var got []string
	for _, m := range c.Mounts {
		got = append(got, m.Destination+" "+m.Source+" "+strings.Join(m.Options, ","))
	}
	if diff := cmp.Diff([]string{
		"/cache sandbox:///tmp/atlas/emptydir/.+ rbind,rshared,rw",
		"/data sandbox:///tmp/atlas/emptydir/.+ rbind,rshared,rw",
		"/etc/resolv.conf sandbox:///tmp/atlas/resolvconf/.+ rbind,rshared,rw",
	}, got); diff != "" {
		t.Error(diff)
	}
	if len(p.Containers) != 1 || len(p.Fragments) != 0 || p.AllowDumpStacks || p.AllowUnencryptedScratch {
		t.Errorf("policy allows more than the group: %+v", p)
	}
}

func TestDescriptionWins(t *testing.T) {
	t.Parallel()
	id := int64(7)
	for name, c := range map[string]struct {
		change func(*spec.Container)
		check  func(policy.Container) any
		want   any
	}{
		"arguments": {func(c *spec.Container) { c.Args = []string{"once"} },
			func(c policy.Container) any { return c.Command }, []string{"/entry", "once"}},
		"command": {func(c *spec.Container) { c.Command = []string{"/bin/x"} },
			func(c policy.Container) any { return c.Command }, []string{"/bin/x"}},
		"command and arguments": {func(c *spec.Container) { c.Command, c.Args = []string{"/bin/x"}, []string{"y"} },
			func(c policy.Container) any { return c.Command }, []string{"/bin/x", "y"}},
		"directory": {func(c *spec.Container) { c.WorkingDir = "/w" },
			func(c policy.Container) any { return c.WorkingDir }, "/w"},
		"user": {func(c *spec.Container) { c.User = "0" },
			func(c policy.Container) any { return c.User.UserIDName }, policy.IDName{Pattern: "0", Strategy: policy.StrategyID}},
		"numeric user": {func(c *spec.Container) { c.RunAsUser = &id },
			func(c policy.Container) any { return c.User.UserIDName }, policy.IDName{Pattern: "7", Strategy: policy.StrategyID}},
		"numeric group": {func(c *spec.Container) { c.RunAsGroup = &id },
			func(c policy.Container) any { return c.User.GroupIDNames[0] }, policy.IDName{Pattern: "7", Strategy: policy.StrategyID}},
		"variables": {func(c *spec.Container) { c.Env = []spec.EnvVar{{Name: "MODE", Value: "mine"}} },
			func(c policy.Container) any {
				return []string{c.EnvRules[0].Pattern, c.EnvRules[1].Pattern, c.EnvRules[2].Pattern}
			},
			[]string{"MODE=mine", "PATH=/bin", "TERM=xterm"}},
		"volume with own mount": {func(c *spec.Container) {
			c.Mounts = []spec.Mount{{Kind: spec.MountSecret, Path: "/data", ReadOnly: true}}
		},
			func(c policy.Container) any {
				return []string{c.Mounts[0].Source, c.Mounts[1].Destination, c.Mounts[2].Destination}
			},
			[]string{"sandbox:///tmp/atlas/secretsVolume/.+", "/cache", "/etc/resolv.conf"}},
		"no stdio": {func(c *spec.Container) { c.AllowStdio = false },
			func(c policy.Container) any { return c.AllowStdioAccess }, false},
		"no new privileges": {func(c *spec.Container) { c.AllowPrivilegeEscalation = false },
			func(c policy.Container) any { return c.NoNewPrivileges }, true},
		"drop all, add one": {func(c *spec.Container) { c.DropCapabilities, c.AddCapabilities = []string{"all"}, []string{"net_raw"} },
			func(c policy.Container) any { return c.Capabilities.Effective }, []string{"CAP_NET_RAW"}},
		"privileged": {func(c *spec.Container) { c.Privileged = true },
			func(c policy.Container) any { return len(c.Capabilities.Inheritable) }, 41},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, _ := generate(t, func(g *spec.Group, _ *ImageFacts) { c.change(&g.Containers[0]) })
			if diff := cmp.Diff(c.want, c.check(got)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestNothingToStart(t *testing.T) {
	t.Parallel()
	c, _ := generate(t, func(_ *spec.Group, f *ImageFacts) { f.Config.Entrypoint, f.Config.Cmd = nil, nil })
	if c.Command != nil {
		t.Errorf("command %q, want none", c.Command)
	}
}

func TestDebug(t *testing.T) {
	t.Parallel()
	c, p := generate(t, func(g *spec.Group, _ *ImageFacts) {
		g.Debug = true
		g.Containers[0].AllowExec = [][]string{{"/bin/sh"}, {"a"}, {"a"}}
	})
	want := []policy.ExecProcess{{Command: []string{"/bin/sh"}}, {Command: []string{"a"}}, {Command: []string{"/bin/bash"}}}
	if diff := cmp.Diff(want, c.ExecProcesses); diff != "" {
		t.Error(diff)
	}
	if !p.AllowDumpStacks || !p.AllowRuntimeLogging {
		t.Error("debug mode does not allow debugging")
	}
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		change func(*spec.Group, *ImageFacts)
		want   string
	}{
		"no facts":    {func(g *spec.Group, _ *ImageFacts) { g.Containers[0].Image = "other" }, `facts about image "other" are missing`},
		"no layers":   {func(_ *spec.Group, f *ImageFacts) { f.LayerRoots = nil }, "there are no layers"},
		"layer root":  {func(_ *spec.Group, f *ImageFacts) { f.LayerRoots = []string{strings.Repeat("A", 64)} }, "no SHA-256 in lower-case"},
		"stop signal": {func(_ *spec.Group, f *ImageFacts) { f.Config.StopSignal = "SIGNOPE" }, `stop signal "SIGNOPE" is unknown`},
		"image's env": {func(_ *spec.Group, f *ImageFacts) { f.Config.Env = []string{"A"} }, "not NAME=VALUE"},
		"capability":  {func(g *spec.Group, _ *ImageFacts) { g.Containers[0].AddCapabilities = []string{"FLY"} }, `"FLY" does not exist`},
		"bad group":   {func(g *spec.Group, _ *ImageFacts) { g.Containers = nil }, "no containers"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g, facts := webGroup(), webFacts()
			f := facts["web"]
			c.change(&g, &f)
			facts["web"] = f
			_, err := Generate(g, facts, Options{})
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v, want one with %q", err, c.want)
			}
		})
	}
}

func TestSignalNumber(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]int{
		"SIGTERM": 15, "term": 15, "9": 9, "SIGRTMIN+3": 37, "RTMAX-14": 50, "64": 64,
		"": 0, "0": 0, "65": 0, "SIGTERM+1": 0, "SIGRTMIN+99": 0, "RTMIN+x": 0,
	} {
		got, err := signalNumber(in)
		if got != want || (err == nil) != (want != 0) {
			t.Errorf("%q: %d, %v; want %d", in, got, err, want)
		}
	}
}

// TestParse makes sure that what is generated is what policy.Parse reads. What confcom makes of whole descriptions is
// compared where those are read, in internal/spec/reader.
func TestParse(t *testing.T) {
	t.Parallel()
	p, err := Generate(webGroup(), webFacts(), RunOptions())
	if err != nil {
		t.Fatal(err)
	}
	again, err := policy.Parse(p.Text())
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(p.Text()), string(again.Text())); diff != "" {
		t.Error(diff)
	}
}
