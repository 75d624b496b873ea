// SPDX-License-Identifier: Apache-2.0

package reader_test

import (
	"context"
	"flag"
	"os"
	"strings"
	"testing"

	"cofferdam.dev/internal/policygen"
	"cofferdam.dev/internal/spec"
	"cofferdam.dev/internal/spec/reader"
	"cofferdam.dev/policy"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write the golden files")

func baseFacts() map[string]policygen.ImageFacts {
	return map[string]policygen.ImageFacts{"base": {
		Reference: "base", LayerRoots: []string{strings.Repeat("a", 64)},
		Config: policygen.ImageConfig{Env: []string{"PATH=/bin"}, Entrypoint: []string{"/entry"}, Cmd: []string{"cmd"}},
	}}
}

// TestGoldenPolicies pins the whole text of policies made from descriptions.
func TestGoldenPolicies(t *testing.T) {
	t.Parallel()
	for file, c := range map[string]struct {
		read reader.Options
		make policygen.Options
	}{
		"virtualnode": {reader.Options{VirtualNode: true}, policygen.Options{}},
		"compose":     {reader.Options{}, policygen.RunOptions()},
	} {
		t.Run(file, func(t *testing.T) {
			t.Parallel()
			data := readFile(t, "testdata", file+".yaml")
			groups, _, err := reader.Read(context.Background(), []reader.Input{{Name: file, Data: data}}, c.read)
			if err != nil {
				t.Fatal(err)
			}
			p, err := policygen.Generate(groups[0], baseFacts(), c.make)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := policy.Parse(p.Text()); err != nil {
				t.Error(err)
			}
			golden := "testdata/" + file + ".rego"
			if *update {
				if err := os.WriteFile(golden, append(p.PrettyText(), '\n'), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			if diff := cmp.Diff(string(readFile(t, golden)), string(p.PrettyText())+"\n"); diff != "" {
				t.Error(diff)
			}
		})
	}
}

const (
	template = `{"$schema": "x", "resources": [{"type": "Microsoft.ContainerInstance/containerGroups", "properties": {"containers": [{"name": "c", "properties": {"image": "i"}}]}}]}`
	pod      = "apiVersion: v1\nkind: Pod\nmetadata: {name: p}\nspec: {containers: [{name: c, image: i, env: [{name: A, valueFrom: {configMapKeyRef: {name: m, key: k}}}]}]}\n"
	settings = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: m}\ndata: {k: v}\n"
	podJSON  = `{"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "i"}]}}`
	compose  = "services: {web: {image: i}}"
	input    = `{"version": "1.0", "containers": [{"name": "c", "properties": {"image": "i"}}]}`
	old      = `{"containers": [{"name": "c", "containerImage": "i"}]}`
)

var definition = `[{"name": "d", "platform": "linux/amd64", "layers": ["` + strings.Repeat("a", 64) + `"]}]`

func inputs(texts ...string) []reader.Input {
	var out []reader.Input
	for _, s := range texts {
		out = append(out, reader.Input{Name: "file", Data: []byte(s)})
	}
	return out
}

func TestDetection(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		in   []reader.Input
		want string // origins of the groups
	}{
		"template": {inputs(template), "$.resources[0]"}, "pod in JSON": {inputs(podJSON), "Pod/p"}, "pod and map": {inputs(pod, settings), "Pod/p"},
		"compose": {inputs(compose), "$"}, "input": {inputs("\n " + input), "$"}, "old input": {inputs(old), "$"},
		"definitions of two files are one group": {inputs(definition, definition), "$"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			groups, _, err := reader.Read(context.Background(), c.in, reader.Options{})
			var got []string
			for _, g := range groups {
				got = append(got, g.Origin)
			}
			if err != nil || strings.Join(got, " ") != c.want {
				t.Errorf("%q, %v; want %q", got, err, c.want)
			}
		})
	}
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		in   []reader.Input
		o    reader.Options
		want string
	}{
		"nothing":         {nil, reader.Options{}, "no description"},
		"empty":           {inputs(""), reader.Options{}, "reading file: the file is empty"},
		"neither":         {inputs("a: 1"), reader.Options{}, "it is neither"},
		"two documents":   {inputs(compose + "\n---\n" + compose), reader.Options{}, "several documents"},
		"broken JSON":     {inputs("{"), reader.Options{}, "expected a key"},
		"unknown format":  {inputs(template), reader.Options{Format: "x"}, `format "x" is unknown`},
		"other format":    {inputs(compose), reader.Options{Format: reader.FormatKubernetes}, "no object starts containers"},
		"parameters file": {inputs(template), reader.Options{ParameterFiles: []reader.Input{{Name: "p", Data: []byte("[")}}}, "parameters file p"},
		"two of one name": {inputs(strings.Replace(input, `[{"name`, `[{"name": "c", "properties": {"image": "j"}}, {"name`, 1)), reader.Options{}, "a name of its own"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, _, err := reader.Read(context.Background(), c.in, c.o)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v, want one with %q", err, c.want)
			}
		})
	}
}

func TestOptionsForAll(t *testing.T) {
	t.Parallel()
	for _, text := range []string{template, podJSON, compose, input} {
		groups, _, err := reader.Read(context.Background(), inputs(text), reader.Options{DisableStdio: true, Debug: true})
		if err != nil || !groups[0].Debug || groups[0].Containers[0].AllowStdio {
			t.Errorf("%s: %+v, %v", text, groups, err)
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, _, err := reader.Read(ctx, inputs(template), reader.Options{}); err == nil {
		t.Error("a cancelled reader reads on")
	}
}

// FuzzRead: whatever is read is a valid group, the same one each time, and makes a policy that can be parsed.
func FuzzRead(f *testing.F) {
	for _, s := range []string{template, pod + "---\n" + settings, podJSON, compose, input, old, definition} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		o := reader.Options{AllowWildcards: true, VirtualNode: len(data)%2 == 0}
		groups, _, err := reader.Read(context.Background(), []reader.Input{{Name: "f", Data: data}}, o)
		if err != nil {
			return
		}
		again, _, err := reader.Read(context.Background(), []reader.Input{{Name: "f", Data: data}}, o)
		if diff := cmp.Diff(groups, again); diff != "" || err != nil {
			t.Errorf("read twice: %v %s", err, diff)
		}
		for _, g := range groups {
			check(t, g)
		}
	})
}

func check(t *testing.T, g spec.Group) {
	t.Helper()
	if err := g.Validate(); err != nil {
		t.Error(err)
	}
	images := map[string]policygen.ImageFacts{}
	for _, c := range g.Containers {
		images[c.Image] = baseFacts()["base"]
	}
	p, err := policygen.Generate(g, images, policygen.Options{})
	if err != nil {
		return // such as a capability that does not exist
	}
	if _, err := policy.Parse(p.Text()); err != nil {
		t.Errorf("policy cannot be parsed: %v", err)
	}
}
