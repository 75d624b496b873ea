// SPDX-License-Identifier: Apache-2.0

package deploy

import (
	"context"
	"encoding/base64"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"cofferdam.dev/internal/group"
	"cofferdam.dev/internal/spec"
	"cofferdam.dev/internal/testimage"
)

func container(name, ref string) spec.Container {
	return spec.Container{Name: name, Image: ref, AllowStdio: true, AllowPrivilegeEscalation: true}
}

func TestPrepare(t *testing.T) {
	t.Parallel()
	source := testimage.New(t)
	two := spec.Group{Name: "pair", Containers: []spec.Container{container("a", "one"), container("b", "three")}}
	request := func(change func(*Request)) Request {
		r := Request{Group: two, Images: source, Generate: PolicyOptions(spec.PlatformOwn)}
		change(&r)
		return r
	}
	own, err := Prepare(t.Context(), request(func(*Request) {}))
	if err != nil {
		t.Fatal(err)
	}
	held := two
	held.ExistingPolicy = base64.StdEncoding.EncodeToString([]byte("package policy"))
	broken := two
	broken.ExistingPolicy = "?"
	for name, tc := range map[string]struct {
		change func(*Request)
		origin string
		text   string
		fails  string
	}{
		"generated":             {func(*Request) {}, Generated, string(own.Text), ""},
		"held":                  {func(r *Request) { r.Group = held }, FromDescription, "package policy", ""},
		"held and set aside":    {func(r *Request) { r.Group, r.Regenerate = held, true }, Generated, string(own.Text), ""},
		"given":                 {func(r *Request) { r.Group, r.Policy = held, []byte("x") }, FromFile, "x", ""},
		"held in another form":  {func(r *Request) { r.Group = broken }, "", "", "not in base64"},
		"an image is not there": {func(r *Request) { r.Stand.Map = map[string]string{"one": "missing"} }, "", "", "container a: no such image"},
		"without images": {func(r *Request) {
			r.Group = spec.Group{Definitions: []spec.Definition{{Name: "x"}}}
		}, "", "", ErrNotRunnable.Error()},
		"a profile": {func(r *Request) { r.Group.Profile = true }, "", "", "profile"},
		"a volume that nobody knows": {func(r *Request) {
			r.Group.Unknown = []spec.Warning{{Path: "$.properties.volumes[0].secret.x", Text: "listKeys()"}}
		}, "", "", "known to a deployment alone"},
		"a login that nobody knows": {func(r *Request) {
			r.Group.Unknown = []spec.Warning{{Path: "$.properties.imageRegistryCredentials[0].password", Text: "listKeys()"}}
		}, Generated, string(own.Text), ""},
		"a part of a volume": {func(r *Request) {
			c := container("a", "one")
			c.Mounts = []spec.Mount{{Kind: spec.MountEmptyDir, Path: "/x", Volume: "v", SubPath: "y"}}
			r.Group.Containers = []spec.Container{c}
		}, "", "", "only a whole volume"},
		"a sidecar that is not at hand": {func(r *Request) { r.Stand.WithSKR = true }, "", "", ErrNoSidecar.Error()},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p, err := Prepare(t.Context(), request(tc.change))
			if tc.fails != "" {
				if err == nil || !strings.Contains(err.Error(), tc.fails) {
					t.Fatalf("error is %v, want %q", err, tc.fails)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if p.Origin != tc.origin || string(p.Text) != tc.text || p.Hash() == [32]byte{} {
				t.Errorf("policy is %s (%s)", p.Text, p.Origin)
			}
		})
	}
	if two.Containers[0].Image != "one" {
		t.Error("the caller's description was changed")
	}
}

func TestSubstitutes(t *testing.T) {
	t.Parallel()
	const ours = "oci-archive:/sidecar.tar"
	for name, tc := range map[string]struct {
		images []string
		s      Substitutes
		want   []Replacement
		fails  bool
	}{
		"nothing":               {[]string{"web"}, Substitutes{Sidecar: ours}, nil, false},
		"by the map":            {[]string{"web", "db"}, Substitutes{Map: map[string]string{"db": "other"}}, []Replacement{{"b", "db", "other"}}, false},
		"the platform's":        {[]string{"r.example/aci/skr:2.13"}, Substitutes{Sidecar: ours}, []Replacement{{"a", "r.example/aci/skr:2.13", ours}}, false},
		"by digest":             {[]string{"r.example/aci/encfs@sha256:00"}, Substitutes{Sidecar: ours}, []Replacement{{"a", "r.example/aci/encfs@sha256:00", ours}}, false},
		"the map wins":          {[]string{"aci/skr:1"}, Substitutes{Sidecar: ours, Map: map[string]string{"aci/skr:1": "mine"}}, []Replacement{{"a", "aci/skr:1", "mine"}}, false},
		"with none at hand":     {[]string{"aci/skr:1"}, Substitutes{}, nil, false},
		"another name":          {[]string{"r.example/maci/skr:1", "skr", "aci/skr2"}, Substitutes{Sidecar: ours}, nil, false},
		"added":                 {[]string{"web"}, Substitutes{Sidecar: ours, WithSKR: true, SidecarEnv: []spec.EnvVar{{Name: "X", Value: "1"}}}, []Replacement{{"skr-sidecar", "", ours}}, false},
		"added to one that has": {[]string{"web", "aci/skr:1"}, Substitutes{Sidecar: ours, WithSKR: true}, []Replacement{{"b", "aci/skr:1", ours}}, false},
		"added from nowhere":    {[]string{"web"}, Substitutes{WithSKR: true}, nil, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := &spec.Group{}
			for i, ref := range tc.images {
				g.Containers = append(g.Containers, container(string(rune('a'+i)), ref))
			}
			got, err := tc.s.apply(g)
			if d := cmp.Diff(tc.want, got); d != "" || tc.fails != (err != nil) {
				t.Errorf("%v (-want +got):\n%s", err, d)
			}
			for _, r := range got {
				if c := g.Containers[len(g.Containers)-1]; r.From == "" && (c.Image != r.To || c.Name != r.Container || len(c.Env) != len(tc.s.SidecarEnv)) {
					t.Errorf("added %+v", c)
				}
			}
		})
	}
}

func TestSize(t *testing.T) {
	t.Parallel()
	asks := func(init bool, millis int, memory uint64) spec.Container {
		return spec.Container{Life: spec.Life{Init: init}, Resources: spec.Resources{RequestCPUMillis: millis, RequestMemoryBytes: memory}}
	}
	const gib = 1 << 30
	for name, tc := range map[string]struct {
		group  spec.Group
		cpus   int
		memory int
	}{
		"nothing is asked for":   {spec.Group{Containers: []spec.Container{asks(false, 0, 0)}}, 1, 512},
		"three ask for nothing":  {spec.Group{Containers: []spec.Container{asks(false, 0, 0), asks(false, 0, 0), asks(false, 0, 0)}}, 1, 3*256 + 192},
		"a sum, rounded up":      {spec.Group{Containers: []spec.Container{asks(false, 600, gib), asks(false, 600, gib)}}, 2, 2048 + 192},
		"init containers first":  {spec.Group{Containers: []spec.Container{asks(false, 100, gib), asks(true, 3000, gib/2), asks(true, 200, 2*gib)}}, 3, 2048 + 192},
		"the group says":         {spec.Group{CPUs: 4, MemoryMiB: 300, Containers: []spec.Container{asks(false, 100, gib)}}, 4, 300},
		"more than there can be": {spec.Group{Containers: []spec.Container{asks(false, 1<<30, 1<<60)}}, spec.MaxCPUs, spec.MaxMemoryMiB},
		"limits stand for requests": {spec.Group{Containers: []spec.Container{
			{Resources: spec.Resources{LimitCPUMillis: 1500, LimitMemoryBytes: gib}},
		}}, 2, 1024 + 192},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cpus, memory := Size(&tc.group)
			if cpus != tc.cpus || memory != tc.memory {
				t.Errorf("%d processors and %d MiB, want %d and %d", cpus, memory, tc.cpus, tc.memory)
			}
		})
	}
}

func TestShares(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	err := os.WriteFile(file, nil, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	v := group.Volume{Volume: spec.Volume{Name: "v", Kind: spec.MountAzureFile, Share: &spec.Share{Account: "acc", Name: "data"}}}
	for name, tc := range map[string]struct {
		dirs  map[string]string
		want  string
		fails string
	}{
		"by name":               {map[string]string{"data": dir}, dir, ""},
		"by account and name":   {map[string]string{"acc/data": dir, "data": file}, dir, ""},
		"nothing stands in":     {nil, "", "no directory of this machine stands in"},
		"another account":       {map[string]string{"other/data": dir}, "", "stands in"},
		"a file":                {map[string]string{"data": file}, "", "is no directory"},
		"a directory not there": {map[string]string{"data": dir + "/x"}, "", "no such file"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			list := []group.Volume{v}
			err := share(list, tc.dirs)
			if tc.fails == "" && (err != nil || list[0].HostDir != tc.want) || tc.fails != "" && (err == nil || !strings.Contains(err.Error(), tc.fails)) {
				t.Errorf("%q, %v", list[0].HostDir, err)
			}
		})
	}
}

func TestReadMap(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]int{
		"a: b\n\"c:1\": oci-archive:x.tar\n": 2, `{"a":"b"}`: 1, "": -1, "- a": -1, "a: 1": -1, "a: \"\"": -1, "a: b\na: c": -1,
	} {
		m, err := ReadMap([]byte(text))
		if len(m) != max(want, 0) || (err != nil) != (want < 0) {
			t.Errorf("%q is %v (%v)", text, m, err)
		}
	}
}

func TestAdmits(t *testing.T) {
	t.Parallel()
	source := testimage.New(t)
	prepare := func(g spec.Group, text []byte) *Prepared {
		p, err := Prepare(t.Context(), Request{Group: g, Images: source, Policy: text, Generate: PolicyOptions(spec.PlatformOwn)})
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	a := container("a", "one")
	a.Mounts = []spec.Mount{{Kind: spec.MountEmptyDir, Path: "/data", Volume: "d"}}
	a.AllowExec = [][]string{{"/bin/check"}}
	volumes := []spec.Volume{{Name: "d", Kind: spec.MountEmptyDir}}
	g := spec.Group{Volumes: volumes, Containers: []spec.Container{a, container("b", "three")}}
	text := prepare(g, nil).Text
	change := func(f func(*spec.Container)) spec.Group {
		out := spec.Group{Volumes: volumes, Containers: []spec.Container{a, container("b", "three")}}
		f(&out.Containers[0])
		return out
	}
	for name, tc := range map[string]struct {
		group   spec.Group
		refused string // in a field
		dropped bool
	}{
		"what it was made of":    {g, "", false},
		"a limit of connections": {spec.Group{Volumes: volumes, Containers: g.Containers, Egress: &spec.Egress{}}, "allow_egress", false},
		"another command":        {change(func(c *spec.Container) { c.Command = []string{"/bin/other"} }), "command", false},
		"another image":          {change(func(c *spec.Container) { c.Image = "seven77" }), "layers", false},
		"a mount more": {change(func(c *spec.Container) {
			c.Mounts = append(c.Mounts[:1:1], spec.Mount{Kind: spec.MountEmptyDir, Path: "/more"})
		}), "mounts", false},
		"a probe more":    {change(func(c *spec.Container) { c.AllowExec = append(c.AllowExec[:1:1], []string{"/bin/sh"}) }), "exec", false},
		"a variable more": {change(func(c *spec.Container) { c.Env = []spec.EnvVar{{Name: "X", Value: "1"}} }), "", true},
		"more privileges": {change(func(c *spec.Container) { c.Privileged = true }), "allow_elevated", false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			found, err := prepare(tc.group, text).Admits(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			refused, dropped := "", false
			for _, f := range found {
				if f.Container != "a" {
					t.Errorf("container %s: %+v", f.Container, f)
				}
				dropped = dropped || f.Dropped == "X"
				if f.Refusal() {
					refused += f.Field + " " + f.Actual + " " + f.Fix
				}
			}
			if dropped != tc.dropped || (tc.refused == "") != (refused == "") || !strings.Contains(refused, tc.refused) {
				t.Errorf("found %+v", found)
			}
		})
	}
	_, err := prepare(g, []byte("no policy")).Admits(t.Context())
	if err == nil || errors.Is(err, context.Canceled) {
		t.Error("a text that is no policy can be asked")
	}
}

func TestChanges(t *testing.T) {
	t.Parallel()
	base := func() *group.Plan {
		return &group.Plan{Policy: []byte("p"), VCPUs: 1, Containers: []group.ContainerPlan{
			{Name: "a", Image: "i", Command: []string{"run"}, Env: []string{"A=1", "B=secret"}}, {Name: "b", Image: "j"},
		}}
	}
	if got := Changes(base(), base()); len(got) != 0 {
		t.Errorf("no change is %+v", got)
	}
	next := base()
	next.Policy, next.VCPUs = []byte("q"), 2
	next.Containers[0].Env = []string{"A=1", "B=other secret", "C=x"}
	next.Containers[0].ReadOnlyRoot = true
	next.Containers[1].Name = "c"
	var got []string
	for _, c := range Changes(base(), next) {
		got = append(got, c.Container+"/"+c.Field)
		if strings.Contains(c.Was+c.Becomes, "secret") {
			t.Errorf("a value is shown: %+v", c)
		}
	}
	want := []string{"/policy", "/size", "a/environment B", "a/environment C", "a/privileges", "c/container", "b/container"}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("changes (-want +got):\n%s", d)
	}
}

// TestNoPasswords shows where repositories are, and not how to get in.
func TestNoPasswords(t *testing.T) {
	t.Parallel()
	for url, want := range map[string]string{
		"https://user:hunter2@git.example/x": "https://user:xxxxx@git.example/x", "https://hunter2@git.example/x": "https://xxxxx@git.example/x",
		"https://git.example/x": "https://git.example/x", "https://u:hunter2@%zz": "a URL that can not be parsed",
	} {
		plan := &group.Plan{Volumes: []group.Volume{{Volume: spec.Volume{Name: "src", Repository: &spec.Repository{URL: url}}}}}
		text := strings.Join(Warnings(plan), "\n")
		for _, c := range Changes(&group.Plan{}, plan) {
			text += c.Was + c.Becomes
		}
		if strings.Contains(text, "hunter2") || strings.Count(text, want) != 2 || plan.Volumes[0].Repository.URL != url {
			t.Errorf("%s is shown as:\n%s", url, text)
		}
	}
}

// TestMemoryOnDisk tells that a directory that is to be in memory is not.
func TestMemoryOnDisk(t *testing.T) {
	t.Parallel()
	plan := &group.Plan{Volumes: []group.Volume{{Volume: spec.Volume{Name: "keys", Kind: spec.MountEmptyDir, Memory: true}}}}
	if list := Warnings(plan); len(list) > 0 {
		t.Errorf("in memory: %q", list)
	}
	plan.ScratchMiB = 64
	if list := Warnings(plan); len(list) != 1 || !strings.Contains(list[0], "volume keys") {
		t.Errorf("on a disk: %q", list)
	}
}
