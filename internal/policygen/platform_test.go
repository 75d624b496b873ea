// SPDX-License-Identifier: Apache-2.0

package policygen

import (
	"context"
	"slices"
	"strings"
	"testing"

	"cofferdam.dev/internal/spec"
	"cofferdam.dev/policy"
	"cofferdam.dev/policy/engine"

	"github.com/google/go-cmp/cmp"
)

func service(t *testing.T, p spec.Platform, change func(*spec.Group, *ImageFacts, *Options)) *policy.Policy {
	t.Helper()
	g, facts := webGroup(), webFacts()
	g.Platform = p
	f, o := facts["web"], Options{}
	if change != nil {
		change(&g, &f, &o)
	}
	facts["web"] = f
	out, err := Generate(g, facts, o)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func destinations(c policy.Container) (list []string) {
	for _, m := range c.Mounts {
		list = append(list, m.Destination+" "+m.Options[2])
	}
	return list
}

func envPatterns(c policy.Container) (list []string) {
	for _, e := range c.EnvRules {
		list = append(list, e.Pattern)
	}
	return list
}

func TestServicePlatform(t *testing.T) {
	t.Parallel()
	p := service(t, spec.PlatformACI, nil)
	if got := destinations(p.Containers[0]); !slices.Equal(got, []string{"/etc/resolv.conf rw"}) {
		t.Errorf("the service mounts volumes of images: %q", got)
	}
	if len(p.Containers) != 2 || p.Containers[1].Name != "pause-container" || len(p.Fragments) != 1 || p.Fragments[0].MinimumSVN != "4" {
		t.Errorf("policy %+v", p)
	}
}

func TestGivenNamesReplacePlatformRules(t *testing.T) {
	t.Parallel()
	change := func(g *spec.Group, _ *ImageFacts, _ *Options) {
		g.Containers[0].Env = []spec.EnvVar{{Name: "TERM", Value: "dumb"}, {Name: "HOSTNAME", Value: "h"}}
	}
	got := envPatterns(service(t, spec.PlatformACI, change).Containers[0])
	for _, absent := range []string{"TERM=xterm", "HOSTNAME=.+"} {
		if slices.Contains(got, absent) {
			t.Errorf("rule %q stays beside a variable of the same name", absent)
		}
	}
	if own := envPatterns(service(t, spec.PlatformOwn, change).Containers[0]); !slices.Contains(own, "TERM=xterm") {
		t.Error("our own machines need TERM=xterm for terminals")
	}
}

func TestVirtualNode(t *testing.T) {
	t.Parallel()
	p := service(t, spec.PlatformVirtualNode, func(g *spec.Group, f *ImageFacts, _ *Options) {
		g.WorkloadIdentity = true
		g.Containers[0].Privileged = true
		g.Containers[0].Env = []spec.EnvVar{{Name: "A", Value: "1"}, spec.Wildcard("B")}
		g.Containers[0].Mounts = []spec.Mount{{Kind: spec.MountEmptyDir, Path: "/data", Options: []string{"rbind", "rshared", "ro"}}}
		f.Config.Entrypoint, f.Config.Cmd = nil, nil
	})
	c := p.Containers[0]
	if diff := cmp.Diff([]string{
		"/var/run/secrets/azure/tokens ro", "/data ro", "/sys/fs/cgroup rw", "/sys rw", "/etc/resolv.conf rw",
		"/var/run/secrets/kubernetes.io/serviceaccount ro", "/etc/hosts rw", "/dev/termination-log rw", "/etc/hostname rw",
	}, destinations(c)); diff != "" {
		t.Error(diff)
	}
	for _, m := range c.Mounts {
		if m.Source != "sandbox:///tmp/atlas/emptydir/.+" {
			t.Errorf("mount %s comes from %s", m.Destination, m.Source)
		}
	}
	env := envPatterns(c)
	if want := []string{"A=1", "B=.*", "AZURE_CLIENT_ID=.+"}; !slices.Equal(env[:3], want) || c.EnvRules[1].Strategy != policy.StrategyRegexp {
		t.Errorf("variables begin %q, want %q", env[:3], want)
	}
	if env[len(env)-1] != "[A-Z0-9_]+_PORT_[0-9]+_TCP_ADDR=.+" {
		t.Errorf("variables end with %q", env[len(env)-1])
	}
	if c.Command == nil || len(c.Command) != 0 {
		t.Errorf("command %#v, want an empty list", c.Command)
	}
	if len(c.Capabilities.Inheritable) != 41 || !c.AllowElevated {
		t.Errorf("a privileged container inherits %d capabilities", len(c.Capabilities.Inheritable))
	}
}

// TestConfcomJSONOrder is the order that confcom gives a virtual node's description in its own JSON.
func TestConfcomJSONOrder(t *testing.T) {
	t.Parallel()
	c := service(t, spec.PlatformVirtualNode, func(g *spec.Group, f *ImageFacts, o *Options) {
		g.WorkloadIdentity, o.ConfcomJSON = true, true
		g.Containers[0].Privileged = true
		g.Containers[0].Env = []spec.EnvVar{{Name: "A", Value: "1"}}
		g.Containers[0].Mounts = []spec.Mount{{Kind: spec.MountAzureFile, Path: "/data"}}
		f.Config.Entrypoint, f.Config.Cmd = nil, nil
	}).Containers[0]
	if got := envPatterns(c); got[0] != "AZURE_CLIENT_ID=.+" || got[4] != "A=1" {
		t.Errorf("variables begin %q", got[:5])
	}
	if got := destinations(c); !slices.Equal(got[:5], []string{
		"/data rw", "/sys/fs/cgroup rw", "/sys rw", "/var/run/secrets/azure/tokens ro", "/etc/resolv.conf rw",
	}) {
		t.Errorf("mounts begin %q", got)
	}
	if c.Command != nil {
		t.Errorf("command %q, want none", c.Command)
	}
}

func TestOptions(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		change func(*spec.Group, *ImageFacts, *Options)
		check  func(*policy.Policy) any
		want   any
	}{
		"drop of a privileged container": {func(g *spec.Group, _ *ImageFacts, _ *Options) {
			g.Containers[0].Privileged, g.Containers[0].DropCapabilities = true, []string{"SYS_ADMIN"}
		}, func(p *policy.Policy) any {
			return len(p.Containers[0].Capabilities.Effective) + len(p.Containers[0].Capabilities.Inheritable)
		}, 80},
		"security context replaces the image's user": {func(g *spec.Group, _ *ImageFacts, _ *Options) {
			id := int64(7)
			g.Containers[0].RunAsUser = &id
		}, func(p *policy.Policy) any { return p.Containers[0].User.GroupIDNames },
			[]policy.IDName{{Strategy: policy.StrategyAny}}},
		"no stdio anywhere": {func(_ *spec.Group, _ *ImageFacts, o *Options) { o.WithoutStdio = true },
			func(p *policy.Policy) any {
				return p.Containers[0].AllowStdioAccess || p.Containers[1].AllowStdioAccess
			}, false},
		"fragments of group and options follow": {func(g *spec.Group, _ *ImageFacts, o *Options) {
			g.Fragments, o.Fragments = []spec.Fragment{{Feed: "g"}}, []policy.Fragment{{Feed: "o"}}
			o.InfrastructureSVN = "7"
		}, func(p *policy.Policy) any {
			return []string{p.Fragments[0].MinimumSVN, p.Fragments[1].Feed, p.Fragments[2].Feed}
		},
			[]string{"7", "g", "o"}},
		"default fragment last": {func(g *spec.Group, _ *ImageFacts, o *Options) {
			g.Fragments, o.ConfcomJSON = []spec.Fragment{{Feed: "g"}}, true
		}, func(p *policy.Policy) any { return p.Fragments[0].Feed }, "g"},
		"group without default fragment": {func(g *spec.Group, _ *ImageFacts, _ *Options) { g.ExcludeDefaultFragment = true },
			func(p *policy.Policy) any { return len(p.Fragments) }, 0},
		"named by image": {func(_ *spec.Group, _ *ImageFacts, o *Options) { o.NameByImage = true },
			func(p *policy.Policy) any { return p.Containers[0].Name }, "web@sha256:0"},
		"named by image, without": {func(_ *spec.Group, _ *ImageFacts, o *Options) { o.NameByImage, o.OmitID = true, true },
			func(p *policy.Policy) any { return p.Containers[0].Name + p.Containers[0].ID }, ""},
		"definition": {func(g *spec.Group, _ *ImageFacts, _ *Options) {
			g.Definitions = []spec.Definition{{Name: "d", JSON: []byte(`{"layers":["` + strings.Repeat("b", 64) + `"],"command":["x"]}`)}}
		}, func(p *policy.Policy) any {
			c := p.Containers[1]
			return []any{c.Name, c.Command, c.AllowStdioAccess, c.WorkingDir, len(c.Capabilities.Bounding), c.User.Umask}
		}, []any{"d", []string{"x"}, true, "/", 14, "0022"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if diff := cmp.Diff(c.want, c.check(service(t, spec.PlatformACI, c.change))); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestDefinitionsAreStrict(t *testing.T) {
	t.Parallel()
	layer := `"layers":["` + strings.Repeat("b", 64) + `"]`
	for text, want := range map[string]string{
		`{` + layer + `,"more":1}`: `unknown field "more"`,
		`{"layers":["x"]}`:         `layer 0: root "x"`,
		`{}`:                       "there are no layers",
		`{` + layer + `}{}`:        "something follows",
		`{` + layer + `,"platform":"windows/amd64"}`: "only linux/amd64",
	} {
		_, err := definition(spec.Definition{JSON: []byte(text)}, false, Options{})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error %v, want one with %q", text, err, want)
		}
	}
}

func TestAPIsAndEras(t *testing.T) {
	t.Parallel()
	var o Options
	if err := o.SetAPI("0.9.0"); err == nil || !strings.Contains(err.Error(), "none of 0.11.0, 0.12.0") {
		t.Errorf("error %v", err)
	}
	if err := o.SetEra("old"); err == nil || !strings.Contains(err.Error(), "0.10.0-sorted-env") {
		t.Errorf("error %v", err)
	}
	if _, err := Generate(webGroup(), webFacts(), Options{AllowHostNetwork: true}); err == nil {
		t.Error("the deployed form took a line that it does not have")
	}
}

// TestPrereleaseIsEnforced asks the engine about what only the prerelease form has.
func TestPrereleaseIsEnforced(t *testing.T) {
	t.Parallel()
	for _, allow := range []bool{true, false} {
		p := service(t, spec.PlatformACI, func(_ *spec.Group, _ *ImageFacts, o *Options) {
			o.AllowHostNetwork = allow
			if err := o.SetAPI(policy.PrereleaseAPI); err != nil {
				t.Fatal(err)
			}
		})
		e, err := engine.New(p.Text(), engine.Options{})
		if err != nil {
			t.Fatal(err)
		}
		d, err := e.HostNetwork(context.Background())
		if err != nil || d.Allowed != allow {
			t.Errorf("host network: %+v, %v; want %v", d, err, allow)
		}
	}
}

func TestSidecar(t *testing.T) {
	t.Parallel()
	for image, want := range map[string]bool{
		"mcr.microsoft.com/aci/sc-proxy:1.2": true, "mcr.microsoft.com/aci/sc-proxy@sha256:00": true, "k8s.gcr.io/pause": true,
		"mcr.microsoft.com/aci/sc-proxy-mine:1": false, "example.com/aci/sc-proxy": false,
	} {
		if Sidecar(image) != want {
			t.Errorf("%s: %v", image, !want)
		}
	}
}
