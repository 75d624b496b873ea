// SPDX-License-Identifier: Apache-2.0

package outline

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"cofferdam.dev/internal/testcap"
	"cofferdam.dev/policy"
)

func example() *policy.Policy {
	return &policy.Policy{
		APIVersion: "0.11.0", FrameworkVersion: "0.2.3", AllowDumpStacks: true,
		Fragments:  []policy.Fragment{{Feed: "f", Issuer: "did:x", MinimumSVN: "1", Includes: []string{"containers"}}},
		Containers: []policy.Container{{Name: "a", Command: []string{"é"}}, {Name: "b"}},
	}
}

func TestGenerated(t *testing.T) {
	t.Parallel()
	for name, text := range map[string][]byte{"plain": example().Text(), "pretty": example().PrettyText()} {
		o, err := Read(text)
		if err != nil {
			t.Fatal(err)
		}
		if !o.Generated || len(o.Unread) > 0 {
			t.Errorf("%s: generated %v, unread %v", name, o.Generated, o.Unread)
		}
		if v, line := o.Version("api_version"); v != "0.11.0" || line != 6 {
			t.Errorf("%s: api_version %q on line %d", name, v, line)
		}
		if on, _ := o.Switch("allow_dump_stacks"); !on {
			t.Errorf("%s: allow_dump_stacks is off", name)
		}
		if r := o.Rules["mount_device"]; !r.Framework || r.Line == 0 {
			t.Errorf("%s: mount_device %+v", name, r)
		}
		p, err := policy.Parse(text)
		if err != nil {
			t.Fatal(err)
		}
		for i, c := range o.Containers {
			if diff := cmp.Diff(p.Containers[i], c.Container); diff != "" {
				t.Error(diff)
			}
			line := strings.Split(string(text), "\n")[c.Line-1]
			if i == 1 && !strings.Contains(line, "{") {
				t.Errorf("%s: container %d is not on line %d", name, i, c.Line)
			}
		}
		only, err := o.With(o.Containers[1].Raw)
		if err != nil {
			t.Fatal(err)
		}
		again, err := Read(only)
		if err != nil || len(again.Containers) != 1 || again.Containers[0].Name != "b" {
			t.Errorf("%s: %v, %v", name, again, err)
		}
		if same, _ := o.With(o.Containers[0].Raw, o.Containers[1].Raw); name == "plain" && !bytes.Equal(same, text) {
			t.Error("the same containers make another text")
		}
	}
}

func TestWrittenByHand(t *testing.T) {
	t.Parallel()
	o, err := Read([]byte(`package policy
api_svn := "0.10.0"
mount_device := {"allowed": true}
get_properties := data.framework.dump_stacks
exec_external = data.framework.exec_external { input.x }
x := "a" { false }
list := [1, 2][0]
containers := [c | c := data.framework.y[_]]
fragments := [{"minimum_svn": 7}]
dump_stacks := data.framework.dump_stacks
dump_stacks := data.framework.dump_stacks
`))
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"api_svn": `"0.10.0"`, "mount_device": `{"allowed": true}`, "get_properties": "", "exec_external": "", "x": "",
		"list": "", "containers": "", "dump_stacks": "",
	} {
		r, ok := o.Rules[name]
		if !ok || string(r.Constant) != want || r.Framework {
			t.Errorf("%s: %+v", name, r)
		}
	}
	if v, _ := o.Version("api_version"); v != "0.10.0" {
		t.Errorf("api version %q", v)
	}
	if o.Generated || len(o.Unread) != 2 || o.Unread[0].Line != 8 || o.Unread[1].Line != 9 {
		t.Errorf("%v", o.Unread)
	}
	if _, err := o.With(); err == nil {
		t.Error("containers were put in place of a comprehension")
	}
}

// TestAliases has imports that may change what a name means.
func TestAliases(t *testing.T) {
	t.Parallel()
	for imports, want := range map[string]bool{
		"": true, "import future.keywords.in": true, "import data.policy.x as framework": false, "import data.framework": false,
	} {
		o, err := Read([]byte("package policy\n" + imports + "\nmount_device := data.framework.mount_device\n"))
		if err != nil {
			t.Fatal(err)
		}
		if o.Rules["mount_device"].Framework != want {
			t.Errorf("%q: %v", imports, !want)
		}
	}
}

func TestRefuses(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"", "hello", "package other\nx := 1", "package policy\nx := ", strings.Repeat(" ", policy.MaxTextSize+1)} {
		if _, err := Read([]byte(text)); err == nil {
			t.Errorf("%.20q was read", text)
		}
	}
}

// TestStored reads policies that were deployed.
func TestStored(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob(filepath.Join(testcap.Vectors(t, "confcom/aci"), "*", "policy.rego"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no stored policies: %v", err)
	}
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		o, err := Read(text)
		if err != nil || !o.Generated || len(o.Unread) > 0 || len(o.Containers) == 0 {
			t.Errorf("%s: %+v, %v", f, o, err)
		}
	}
}

func FuzzRead(f *testing.F) {
	f.Add(string(example().Text()))
	f.Add("package policy\ncontainers := [{}, 7]\nx := data.framework.x")
	f.Fuzz(func(t *testing.T, text string) {
		o, err := Read([]byte(text))
		if err != nil {
			return
		}
		if one, err := o.With([]byte(`{"name":"x"}`)); err == nil {
			again, err := Read(one)
			if err != nil || len(again.Containers) != 1 || again.Containers[0].Name != "x" {
				t.Fatalf("%q: %+v, %v", one, again, err)
			}
		}
	})
}
