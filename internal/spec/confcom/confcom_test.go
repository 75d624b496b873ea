// SPDX-License-Identifier: Apache-2.0

package confcom

import (
	"strings"
	"testing"

	"cofferdam.dev/internal/spec"
	"cofferdam.dev/internal/spec/doc"

	"github.com/google/go-cmp/cmp"
)

func parse(t *testing.T, text string) *doc.Value {
	t.Helper()
	v, err := doc.ParseJSON([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func ptr(n int64) *int64 { return &n }

func TestVersion1(t *testing.T) {
	t.Parallel()
	var w spec.Warnings
	g, err := Read(parse(t, `{"Version": "1.0", "scenario": "vn2", "labels": {"azure.workload.identity/use": true},
	 "fragments": [{"issuer": "did:x", "feed": "f", "minimum_svn": "3", "includes": ["containers"]}],
	 "containers": [{"name": "c", "properties": {"image": "i", "workingDir": "/w", "command": ["python3"],
	  "execProcesses": [{"command": ["echo", "Hello"], "signals": []}], "readinessProbe": {"exec": {"command": ["ready"]}},
	  "livenessProbe": {"exec": {"command": ["live"]}},
	  "volumeMounts": [{"name": "a", "mountPath": "/a", "mountType": "azureFile", "readOnly": true}, {"mountPath": "/e", "mountType": "emptyDir", "options": ["rbind", "rw"]}],
	  "environmentVariables": [{"name": "A", "value": "1"}, {"name": "B", "value": "v.*", "regex": true}, {"name": "C", "value": "x|y", "regex": true}, {"name": "S", "secureValue": "s3cret"}],
	  "securityContext": {"privileged": true, "runAsUser": 1, "runAsGroup": 2, "runAsNonRoot": true, "capabilities": {"add": ["NET_ADMIN"], "drop": ["ALL"]}}}}]}`), &w)
	if err != nil {
		t.Fatal(err)
	}
	want := spec.Group{
		Platform: spec.PlatformVirtualNode, WorkloadIdentity: true, Origin: "$",
		Fragments: []spec.Fragment{{Issuer: "did:x", Feed: "f", MinimumSVN: "3", Includes: []string{"containers"}}},
		Containers: []spec.Container{{
			Name: "c", Image: "i", WorkingDir: "/w", Command: []string{"python3"}, AllowStdio: true, AllowPrivilegeEscalation: true, Privileged: true,
			AllowExec: [][]string{{"echo", "Hello"}, {"ready"}, {"live"}}, RunAsUser: ptr(1), RunAsGroup: ptr(2), RunAsNonRoot: true,
			Mounts: []spec.Mount{{Kind: spec.MountAzureFile, Path: "/a", ReadOnly: true}, {Kind: spec.MountEmptyDir, Path: "/e", Options: []string{"rbind", "rw"}}},
			Env: []spec.EnvVar{{Name: "A", Value: "1"}, {Name: "B", Value: "v.*", Regexp: true}, {Name: "C", Value: "(?:x|y)", Regexp: true},
				{Name: "S", Value: "s3cret", Secret: true}},
			AddCapabilities: []string{"NET_ADMIN"}, DropCapabilities: []string{"ALL"},
		}},
	}
	if diff := cmp.Diff(want, g); diff != "" {
		t.Error(diff)
	}
	if len(w) != 2 || w[0].Code != spec.WarnChanged || w[1].Code != spec.WarnSecret || strings.Contains(w[1].Text, "s3cret") {
		t.Errorf("warnings %v", w)
	}
}

func TestVersion0(t *testing.T) {
	t.Parallel()
	var w spec.Warnings
	g, err := Read(parse(t, `{"version": "1.0", "containers": [{"containerImage": "i:1", "allow_elevated": true, "workingDir": "/w",
	 "environmentVariables": [{"name": "A", "value": "x.+", "strategy": "re2"}, {"name": "B", "value": "y", "strategy": "string"}],
	 "command": ["run"], "execProcesses": ["one", "command"], "mounts": [{"mountType": "emptyDir", "mountPath": "/e"}, {"mountType": "secret", "mountPath": "/s", "readonly": false}]}]}`), &w)
	if err != nil {
		t.Fatal(err)
	}
	want := []spec.Container{{
		Name: "i:1", Image: "i:1", Privileged: true, WorkingDir: "/w", Command: []string{"run"}, AllowStdio: true, AllowPrivilegeEscalation: true,
		Env: []spec.EnvVar{{Name: "A", Value: "x.+", Regexp: true}, {Name: "B", Value: "y"}}, AllowExec: [][]string{{"one", "command"}},
		Mounts: []spec.Mount{{Kind: spec.MountEmptyDir, Path: "/e", ReadOnly: true}, {Kind: spec.MountSecret, Path: "/s"}},
	}}
	if diff := cmp.Diff(want, g.Containers); diff != "" {
		t.Error(diff)
	}
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	container := func(s string) string {
		return `{"containers": [{"name": "c", "properties": {"image": "i"` + s + `}}]}`
	}
	for name, c := range map[string]struct{ text, want string }{
		"unknown key":        {container(`, "entrypoint": []`), `$.containers[0].properties.entrypoint (line 1): key "entrypoint" is not known`},
		"unknown top key":    {`{"containers": [], "more": 1}`, `key "more"`},
		"host network":       {`{"containers": [], "allowHostNetwork": true}`, "--allow-host-network"},
		"host network, what": {`{"containers": [], "allowHostNetwork": 7}`, "expected a boolean"},
		"log providers":      {`{"containers": [], "allowedLogProviders": ["x"]}`, "for Windows"},
		"version":            {`{"version": "2.0", "containers": []}`, "expected 1.0"},
		"scenario":           {`{"scenario": "x", "containers": []}`, "neither aci nor vn2"},
		"no image":           {`{"containers": [{"name": "c", "properties": {}}]}`, "image is missing"},
		"mount type":         {container(`, "volumeMounts": [{"mountType": "configMap", "mountPath": "/x"}]`), `type "configMap" are not supported`},
		"strategy":           {container(`, "environmentVariables": [{"name": "A", "value": "", "strategy": "x"}]`), "neither string nor re2"},
		"required":           {container(`, "environmentVariables": [{"name": "A", "value": "", "required": true}]`), "required variables"},
		"signals":            {container(`, "execProcesses": [{"command": ["x"], "signals": [9]}]`), "signals of a further command"},
		"no command":         {container(`, "execProcesses": [{}]`), "command is missing"},
		"fragment":           {`{"fragments": [{"issuer": "i", "feed": "f"}]}`, "has no minimum_svn"},
		"fragment's svn":     {`{"fragments": [{"issuer": "i", "feed": "f", "minimum_svn": "x"}]}`, "no whole number"},
		"fragment's parts":   {`{"fragments": [{"issuer": "i", "feed": "f", "minimum_svn": "1", "includes": ["all"]}]}`, `"all" cannot be included`},
		"user":               {container(`, "securityContext": {"runAsUser": "root"}`), "32-bit number"},
		"list":               {container(`, "command": "x"`), "expected a list"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var w spec.Warnings
			_, err := Read(parse(t, c.text), &w)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v, want one with %q", err, c.want)
			}
		})
	}
}

func TestDefinitions(t *testing.T) {
	t.Parallel()
	g, err := ReadDefinitions(parse(t, `{"name": "d", "platform": "linux/amd64", "layers": ["x"], "signals": [9], "command": null, "allow_elevated": false}`))
	if err != nil {
		t.Fatal(err)
	}
	want := []spec.Definition{{Name: "d", Path: "$", JSON: []byte(`{"name":"d","layers":["x"],"signals":[9],"command":null,"allow_elevated":false}`)}}
	if diff := cmp.Diff(want, g.Definitions); diff != "" {
		t.Error(diff)
	}
	for text, want := range map[string]string{
		`[]`: "no containers", `[1]`: "a container is expected", `{"layers": [], "x": 1}`: `key "x"`, `{"layers": [], "platform": "windows/amd64"}`: "not linux/amd64",
	} {
		if _, err := ReadDefinitions(parse(t, text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error %v, want one with %q", text, err, want)
		}
	}
}

// FuzzRead: what is read is the same each time, in either form.
func FuzzRead(f *testing.F) {
	for _, s := range []string{
		`{"version": "1.0", "containers": [{"name": "c", "properties": {"image": "i", "environmentVariables": [{"name": "A", "value": "x|y", "regex": true}]}}]}`,
		`{"containers": [{"containerImage": "i", "mounts": [{"mountType": "secret", "mountPath": "/s"}]}]}`,
		`[{"name": "d", "layers": ["x"], "env_rules": []}]`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		v, err := doc.ParseJSON(data)
		if err != nil {
			return
		}
		var w1, w2 spec.Warnings
		g1, err1 := Read(v, &w1)
		g2, err2 := Read(v, &w2)
		if diff := cmp.Diff(g1, g2); diff != "" || (err1 == nil) != (err2 == nil) {
			t.Errorf("%v %v %s", err1, err2, diff)
		}
		d, err := ReadDefinitions(v)
		if err != nil {
			return
		}
		for _, one := range d.Definitions {
			if _, err := doc.ParseJSON(one.JSON); err != nil {
				t.Errorf("definition %s: %v", one.JSON, err)
			}
		}
	})
}
