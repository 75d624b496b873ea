// SPDX-License-Identifier: Apache-2.0

package kube

import (
	"context"
	"encoding/json"
	"flag"
	"os"
	"strings"
	"testing"

	"cofferdam.dev/internal/spec"
	"cofferdam.dev/internal/spec/doc"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

var update = flag.Bool("update", false, "write the golden files")

func read(text string, o Options) ([]spec.Group, spec.Warnings, error) {
	objects, err := doc.ParseYAML([]byte(text))
	if err != nil {
		return nil, nil, err
	}
	var w spec.Warnings
	groups, err := Read(context.Background(), objects, o, &w)
	return groups, w, err
}

func TestGolden(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("testdata/workloads.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for name, o := range map[string]Options{"pods": {}, "virtualnode": {VirtualNode: true}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			groups, warnings, err := read(string(text), o)
			if err != nil {
				t.Fatal(err)
			}
			for _, g := range groups {
				if err := g.Validate(); err != nil {
					t.Error(err)
				}
			}
			got, err := json.MarshalIndent(map[string]any{"groups": groups, "warnings": warnings}, "", " ")
			if err != nil {
				t.Fatal(err)
			}
			file := "testdata/" + name + ".golden"
			if *update {
				if err := os.WriteFile(file, append(got, '\n'), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), string(got)+"\n"); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// pod wraps the YAML (in flow style) of a container's fields and of the pod's.
func podText(container, spec string) string {
	return "apiVersion: v1\nkind: Pod\nmetadata: {name: p}\nspec: {containers: [{name: c, image: i" + container + "}]" + spec + "}\n"
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	claims := "apiVersion: apps/v1\nkind: StatefulSet\nmetadata: {name: s}\nspec: {template: {spec: {containers: [{name: c, image: i}]}}, volumeClaimTemplates: [{metadata: {name: d}}]}\n"
	for name, c := range map[string]struct{ text, want string }{
		"unknown container field": {podText(", entrypoint: [x]", ""), `Pod/p: $.spec.containers[0].entrypoint (line 4): field "entrypoint" is not known`},
		"unknown pod field":       {podText("", ", ephemeralContainers: []"), `field "ephemeralContainers"`},
		"host network":            {podText("", ", hostNetwork: true"), "hostNetwork is not supported"},
		"host path":               {podText("", ", volumes: [{name: v, hostPath: {path: /}}]"), "hostPath volume is not supported"},
		"claim on a plain pod":    {podText("", ", volumes: [{name: v, persistentVolumeClaim: {claimName: x}}]"), "on the virtual node only"},
		"claim templates":         {claims, "on the virtual node only"},
		"image volume":            {podText("", ", volumes: [{name: v, image: {}}]"), `kind "image" are not supported`},
		"volume twice":            {podText("", ", volumes: [{name: v}, {name: v}]"), "name of its own"},
		"undeclared volume":       {podText(", volumeMounts: [{name: v, mountPath: /x}]", ""), `volume "v" is not declared`},
		"yes is a boolean":        {podText(", env: [{name: A, value: yes}]", ""), "yes is a boolean to Kubernetes"},
		"number as a value":       {podText(", env: [{name: A, value: 1}]", ""), "put it in quotation marks"},
		"missing config map":      {podText(", env: [{name: A, valueFrom: {configMapKeyRef: {name: m, key: k}}}]", ""), `ConfigMap "m", which is not given`},
		"missing names":           {podText(", envFrom: [{secretRef: {name: m}}]", ""), "names of its variables are not known"},
		"two sources":             {podText(", env: [{name: A, valueFrom: {fieldRef: {}, secretKeyRef: {}}}]", ""), "exactly one source"},
		"node's resources":        {podText(", env: [{name: A, valueFrom: {resourceFieldRef: {resource: limits.cpu}}}]", ""), "what the node has to give"},
		"unknown in a command":    {podText(", command: ['$(IP)'], env: [{name: IP, valueFrom: {fieldRef: {fieldPath: status.podIP}}}]", ""), "a command must be known in advance"},
		"service in a command":    {podText(", command: ['$(DB_SERVICE_HOST)']", ""), "a command must be known in advance"},
		"local seccomp profile":   {podText(", securityContext: {seccompProfile: {type: Localhost, localhostProfile: x}}", ""), `type "Localhost" are not supported`},
		"user":                    {podText(", securityContext: {runAsUser: root}", ""), "no 32-bit number"},
		"no image":                {"apiVersion: v1\nkind: Pod\nmetadata: {name: p}\nspec: {containers: [{name: c}]}\n", "the image is missing"},
		"no pod":                  {"apiVersion: v1\nkind: Deployment\nmetadata: {name: p}\nspec: {}\n", "there is no pod in it (spec.template.spec)"},
		"nothing":                 {"apiVersion: v1\nkind: Service\nmetadata: {name: p}\n", "no object starts containers"},
		"secret no base64":        {"apiVersion: v1\nkind: Secret\nmetadata: {name: p}\ndata: {k: '*'}\n" + "---\n" + podText("", ""), "no base64"},
		"windows":                 {podText("", ", os: {name: windows}"), "only linux"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, _, err := read(c.text, Options{})
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v, want one with %q", err, c.want)
			}
		})
	}
}

func TestApprovedWildcards(t *testing.T) {
	t.Parallel()
	groups, w, err := read(podText(", env: [{name: A, valueFrom: {secretKeyRef: {name: m, key: k}}}, {name: B, value: 'x$(A)'}, {name: C, value: '===VIRTUALNODE2.CC.THIM.URL==='}]", ""),
		Options{AllowWildcards: true, VirtualNode: true})
	if err != nil {
		t.Fatal(err)
	}
	want := []spec.EnvVar{spec.Wildcard("A"), spec.Wildcard("B"), spec.Wildcard("C")}
	if diff := cmp.Diff(want, groups[0].Containers[0].Env); diff != "" || len(w) != 3 {
		t.Errorf("%s, warnings %v", diff, w)
	}
}

func TestVirtualNode(t *testing.T) {
	t.Parallel()
	text := `apiVersion: apps/v1
kind: StatefulSet
metadata: {name: s, annotations: {microsoft.containerinstance.virtualnode.ccepolicy: cA==}}
spec:
  volumeClaimTemplates:
    - {metadata: {name: d}, spec: {accessModes: [ReadOnlyMany]}}
  template:
    metadata: {labels: {azure.workload.identity/use: "true"}}
    spec:
      volumes: [{name: f, azureFile: {shareName: x}}]
      containers:
        - {name: c, image: i, volumeMounts: [{name: d, mountPath: /d}, {name: f, mountPath: /f}]}
`
	groups, _, err := read(text, Options{VirtualNode: true})
	if err != nil {
		t.Fatal(err)
	}
	g := groups[0]
	mounts := []spec.Mount{{Kind: spec.MountEmptyDir, Path: "/d", ReadOnly: true}, {Kind: spec.MountEmptyDir, Path: "/f"}}
	if diff := cmp.Diff(mounts, g.Containers[0].Mounts); diff != "" || !g.WorkloadIdentity || g.ExistingPolicy != "cA==" || g.Platform != spec.PlatformVirtualNode {
		t.Errorf("%s %+v", diff, g)
	}
}

func TestQuantity(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{"1": "1", "1500m": "3/2", "64Mi": "67108864", "1k": "1000", "1.5Gi": "1610612736", "2E": "2000000000000000000", "1e3": "1000", "1E3": "1000", "15e-1": "3/2", "7u": "7/1000000", "1Ei": "1152921504606846976"} {
		q, err := quantity(doc.Str(in))
		if err != nil || q.RatString() != want {
			t.Errorf("%s: %v, %v", in, q, err)
		}
	}
	for _, in := range []string{"", "1e99", "1e", "-1", "1Zi", "m", ".5", "1 "} {
		if q, err := quantity(doc.Str(in)); err == nil {
			t.Errorf("%q is %v", in, q)
		}
	}
}

// TestExpansionWithoutReferences: a text without a dollar sign stays as it is, and doubling its dollars undoes expansion.
func TestExpansion(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		s := rapid.StringMatching(`[a$(){}A_]{0,20}`).Draw(t, "s")
		env := &environment{list: []spec.EnvVar{{Name: "A", Value: "$(a)"}, {Name: "a", Value: "v"}}}
		got, err := env.expand(strings.ReplaceAll(s, "$", "$$"))
		if err != nil || got != s {
			t.Fatalf("%q became %q, %v", s, got, err)
		}
	})
	env := &environment{list: []spec.EnvVar{{Name: "A", Value: "$(B)"}, {Name: "B", Value: "b"}}}
	for in, want := range map[string]string{"$(A)": "$(B)", "$(C)$": "$(C)$", "$(A": "$(A", "$A": "$A", "$$(A)": "$(A)", "x$(B)y$(B)": "xbyb"} {
		if got, err := env.expand(in); err != nil || got != want {
			t.Errorf("%s: %q, %v; want %q", in, got, err, want)
		}
	}
}

func FuzzRead(f *testing.F) {
	if text, err := os.ReadFile("testdata/workloads.yaml"); err == nil {
		f.Add(text)
	}
	f.Add([]byte(podText(", command: ['$(A)'], env: [{name: A, value: 'x'}]", "")))
	f.Fuzz(func(t *testing.T, data []byte) {
		o := Options{VirtualNode: len(data)%2 == 0, AllowWildcards: true}
		g1, _, err1 := read(string(data), o)
		g2, _, err2 := read(string(data), o)
		if diff := cmp.Diff(g1, g2); diff != "" || (err1 == nil) != (err2 == nil) {
			t.Errorf("%v %v %s", err1, err2, diff)
		}
	})
}
