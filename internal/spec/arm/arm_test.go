// SPDX-License-Identifier: Apache-2.0

package arm

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"cofferdam.dev/internal/spec"
	"cofferdam.dev/internal/spec/armexpr"
	"cofferdam.dev/internal/spec/doc"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

func read(text string, o Options) ([]spec.Group, spec.Warnings, error) {
	root, err := doc.ParseJSON([]byte(text))
	if err != nil {
		return nil, nil, err
	}
	var w spec.Warnings
	groups, err := Read(context.Background(), root, o, &w)
	return groups, w, err
}

// group wraps the JSON of a container's properties, of further properties of the group, and of further members of the
// template.
func group(container, properties, template string) string {
	return fmt.Sprintf(`{"$schema": "x"%s, "resources": [{"type": "Microsoft.ContainerInstance/containerGroups", "name": "g",
		"properties": {"containers": [{"name": "c", "properties": {"image": "i"%s}}]%s}}]}`, template, container, properties)
}

func one(t *testing.T, text string, o Options) (spec.Group, spec.Warnings) {
	t.Helper()
	groups, w, err := read(text, o)
	if err != nil {
		t.Fatal(err)
	}
	if len(groups) != 1 {
		t.Fatalf("%d groups", len(groups))
	}
	return groups[0], w
}

func ptr(n int64) *int64 { return &n }

const whole = `{
 "$schema": "x",
 "parameters": {
  "image": {"type": "string", "defaultValue": "default"}, "count": {"type": "int", "defaultValue": 2},
  "prefix": {"type": "string", "defaultValue": "[concat('p', '-')]"}, "secret": {"type": "securestring"}
 },
 "variables": {
  "names": {"first": "one", "unknown": "[resourceGroup().location]"}, "nested": "[variables('names').first]",
  "copy": [{"name": "list", "count": 3, "input": "[format('v{0}', copyIndex('list', 1))]"}],
  "object": {"copy": [{"name": "inner", "count": 2, "input": {"k": "[copyIndex('inner')]"}}]}
 },
 "resources": [
  {"type": "Microsoft.Storage/storageAccounts", "name": "[listKeys('x', '1').keys[0].value]"},
  {"type": "microsoft.containerinstance/CONTAINERGROUPS", "NAME": "[concat(parameters('prefix'), copyIndex())]",
   "copy": {"name": "groups", "count": "[parameters('count')]"}, "Tags": {"annotate-zero-sidecar": "True"},
   "location": "[resourceGroup().location]",
   "properties": {
    "OSTYPE": "linux", "ipAddress": {"ports": "[reference('x')]"},
    "confidentialComputeProperties": {"ccePolicy": "cA==", "standaloneFragments": ["r/f:1"]},
    "copy": [{"name": "initContainers", "count": 2, "input": {
      "name": "[concat('init', copyIndex('initContainers'))]", "properties": {"image": "[variables('list')[copyIndex('initContainers')]]"}}}],
    "volumes": [{"name": "a", "azureFile": {"shareName": "[reference('s').x]"}}, {"name": "e", "emptyDir": {}},
     {"name": "s", "secret": {"k": "dg=="}}, {"name": "r", "gitRepo": {"repository": "u"}, "secret": null}],
    "containers": [{"name": "main", "properties": {
     "image": "[parameters('image')]", "command": "[createArray('run', variables('nested'))]",
     "resources": {"requests": {"cpu": 1}}, "ports": [{"port": 80}],
     "environmentVariables": [{"name": "A", "value": "[variables('list')[0]]"}, {"name": "B", "secureValue": "[parameters('secret')]"},
      {"name": "C", "value": "[[literal]"}, {"Name": "N", "Value": 5}, {"name": "E", "value": ""}],
     "livenessProbe": {"exec": {"command": ["live"]}, "periodSeconds": 5}, "readinessProbe": {"exec": {"command": ["ready"]}},
     "volumeMounts": [{"name": "a", "mountPath": "/a", "readOnly": true}, {"name": "e", "mountPath": "/e"}, {"name": "s", "mountPath": "/s"}, {"name": "r", "mountPath": "/r"}],
     "securityContext": {"privileged": "false", "allowPrivilegeEscalation": false, "runAsUser": 7, "runAsGroup": 8,
      "capabilities": {"add": ["NET_ADMIN"], "drop": ["ALL"]}, "readOnlyRootFilesystem": true}}}]}}]}`

func TestWhole(t *testing.T) {
	t.Parallel()
	groups, w, err := read(whole, Options{Parameters: map[string]string{"IMAGE": "mine", "secret": "s3cret"}})
	if err != nil {
		t.Fatal(err)
	}
	if len(groups) != 2 || groups[1].Name != "p-1" {
		t.Fatalf("%d groups, %+v", len(groups), groups)
	}
	want := spec.Group{
		Name: "p-0", Platform: spec.PlatformACI, Origin: "$.resources[1]", ExistingPolicy: "cA==", ExcludeDefaultFragment: true,
		FragmentReferences: []string{"r/f:1"}, Restart: spec.RestartAlways,
		Volumes: []spec.Volume{
			{Name: "a", Kind: spec.MountAzureFile}, {Name: "e", Kind: spec.MountEmptyDir},
			{Name: "s", Kind: spec.MountSecret, Files: []spec.File{{Path: "k", Content: spec.Content("v")}}},
			{Name: "r", Kind: spec.MountGitRepo, Repository: &spec.Repository{URL: "u"}},
		},
		Unknown: []spec.Warning{
			{Code: spec.WarnUnknown, Path: "$.resources[1].properties.volumes[0].azureFile.shareName", Text: "expression [reference('s').x] cannot be evaluated offline: reference() asks a deployed resource"},
			{Code: spec.WarnUnknown, Path: "$.resources[1].properties.ipAddress.ports", Text: "expression [reference('x')] cannot be evaluated offline: reference() asks a deployed resource"},
		},
		Containers: []spec.Container{
			{
				Name: "main", Image: "mine", Command: []string{"run", "one"}, AllowStdio: true,
				Env:       []spec.EnvVar{{Name: "A", Value: "v1"}, {Name: "B", Value: "s3cret", Secret: true}, {Name: "C", Value: "[literal]"}, {Name: "N", Value: "5"}, {Name: "E"}},
				AllowExec: [][]string{{"ready"}, {"live"}},
				Mounts: []spec.Mount{
					{Kind: spec.MountAzureFile, Path: "/a", ReadOnly: true, Volume: "a"}, {Kind: spec.MountEmptyDir, Path: "/e", Volume: "e"},
					{Kind: spec.MountSecret, Path: "/s", Volume: "s"}, {Kind: spec.MountGitRepo, Path: "/r", Volume: "r"},
				},
				RunAsUser: ptr(7), RunAsGroup: ptr(8), AddCapabilities: []string{"NET_ADMIN"}, DropCapabilities: []string{"ALL"},
				ReadOnlyRoot: true, Resources: spec.Resources{RequestCPUMillis: 1000}, Exposed: []spec.Port{{Protocol: spec.TCP, GuestPort: 80}},
				Life: spec.Life{
					Liveness:  &spec.Probe{Action: spec.Action{Exec: []string{"live"}}, Period: 5 * time.Second},
					Readiness: &spec.Probe{Action: spec.Action{Exec: []string{"ready"}}},
				},
			},
			{Name: "init0", Image: "v1", AllowStdio: true, AllowPrivilegeEscalation: true, Life: spec.Life{Init: true}},
			{Name: "init1", Image: "v2", AllowStdio: true, AllowPrivilegeEscalation: true, Life: spec.Life{Init: true}},
		},
	}
	if diff := cmp.Diff(want, groups[0]); diff != "" {
		t.Error(diff)
	}
	for _, code := range []spec.WarningCode{spec.WarnSecret, spec.WarnFragment} {
		found := false
		for _, warning := range w {
			found = found || warning.Code == code
			if strings.Contains(warning.Text, "s3cret") {
				t.Errorf("warning shows the secret: %s", warning)
			}
		}
		if !found {
			t.Errorf("no warning %s in %v", code, w)
		}
	}
}

func TestParameters(t *testing.T) {
	t.Parallel()
	text := group(`, "environmentVariables": [{"name": "A", "value": "[string(parameters('x'))]"}]`, "", `, "parameters": {"x": {"type": "TYPE", "defaultValue": DEFAULT}}`)
	file := func(s string) []*doc.Value {
		v, err := doc.ParseJSON([]byte(s))
		if err != nil {
			t.Fatal(err)
		}
		return []*doc.Value{v}
	}
	for name, c := range map[string]struct {
		kind, value string
		o           Options
		want        string
	}{
		"default":               {"string", `"[concat('d', 'e')]"`, Options{}, "de"},
		"file is no expression": {"string", `"d"`, Options{ParameterFiles: file(`{"parameters": {"X": {"value": "[concat('a')]"}}}`)}, "[concat('a')]"},
		"last file wins": {"string", `"d"`, Options{ParameterFiles: append(file(`{"parameters": {"x": {"value": "1"}}}`),
			file(`{"parameters": {"x": {"value": "2"}}}`)...)}, "2"},
		"flag wins":        {"string", `"d"`, Options{ParameterFiles: file(`{"parameters": {"x": {"value": "1"}}}`), Parameters: map[string]string{"x": "[f]"}}, "[f]"},
		"flag of a list":   {"array", `[]`, Options{Parameters: map[string]string{"x": `["a"]`}}, `["a"]`},
		"flag of a number": {"int", `1`, Options{Parameters: map[string]string{"x": `7`}}, `7`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g, _ := one(t, strings.NewReplacer("TYPE", c.kind, "DEFAULT", c.value).Replace(text), c.o)
			if got := g.Containers[0].Env[0].Value; got != c.want {
				t.Errorf("%q, want %q", got, c.want)
			}
		})
	}
}

func TestWildcards(t *testing.T) {
	t.Parallel()
	for name, text := range map[string]string{
		"parameter without value": group(`, "environmentVariables": [{"name": "A", "value": "[parameters('x')]"}]`, "", `, "parameters": {"x": {"type": "string"}}`),
		"within an expression":    group(`, "environmentVariables": [{"name": "A", "value": "[concat('x', parameters('x'))]"}]`, "", `, "parameters": {"x": {"type": "string"}}`),
		"deployed resource":       group(`, "environmentVariables": [{"name": "A", "secureValue": "[listKeys('a', 'b').k]"}]`, "", ""),
		"key vault":               group(`, "environmentVariables": [{"name": "A", "secureValueReference": "x"}]`, "", ""),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, _, err := read(text, Options{})
			if err == nil || !strings.Contains(err.Error(), "wildcard rules are not approved") || !strings.Contains(err.Error(), "$.resources[0].properties.containers[0].properties.environmentVariables[0]") {
				t.Errorf("error %v", err)
			}
			g, w := one(t, text, Options{AllowWildcards: true})
			if diff := cmp.Diff([]spec.EnvVar{spec.Wildcard("A")}, g.Containers[0].Env); diff != "" {
				t.Error(diff)
			}
			if len(w) != 1 || w[0].Code != spec.WarnWildcard {
				t.Errorf("warnings %v", w)
			}
		})
	}
	_, _, err := read(group(`, "environmentVariables": [{"name": "[parameters('x')]", "value": "v"}]`, "", `, "parameters": {"x": {"type": "string"}}`), Options{AllowWildcards: true})
	if err == nil || !armexpr.Unknowable(err) {
		t.Errorf("an unknown name: error %v", err)
	}
}

func TestNestedTemplates(t *testing.T) {
	t.Parallel()
	inner := strings.ReplaceAll(group(`, "environmentVariables": [{"name": "A", "value": "[parameters('x')]"}]`, "", `, "parameters": {"x": {"type": "string"}}`), "\n", " ")
	deployment := func(scope string) string {
		return `{"$schema": "x", "parameters": {"x": {"type": "string", "defaultValue": "outer"}}, "resources": {"m": {"type": "Microsoft.Resources/deployments",
		 "properties": {"expressionEvaluationOptions": {"scope": "` + scope + `"}, "parameters": {"x": {"value": "[concat('in', parameters('x'))]"}}, "template": ` + inner + `}}}}`
	}
	for scope, want := range map[string]string{"inner": "inouter", "outer": "outer"} {
		g, _ := one(t, deployment(scope), Options{})
		if got := g.Containers[0].Env[0].Value; got != want {
			t.Errorf("scope %s: %q, want %q", scope, got, want)
		}
	}
	deep := inner
	for range maxNesting + 1 {
		deep = `{"resources": [{"type": "Microsoft.Resources/deployments", "properties": {"expressionEvaluationOptions": {"scope": "inner"}, "template": ` + deep + `}}]}`
	}
	if _, _, err := read(deep, Options{}); err == nil || !strings.Contains(err.Error(), "nested more than") {
		t.Errorf("error %v", err)
	}
}

func TestConditions(t *testing.T) {
	t.Parallel()
	text := strings.Replace(group("", "", ""), `"name": "g"`, `"name": "g", "condition": "[equals(1, CASE)]"`, 1)
	if _, _, err := read(strings.Replace(text, "CASE", "2", 1), Options{}); err == nil || !strings.Contains(err.Error(), "no container group") {
		t.Errorf("error %v", err)
	}
	one(t, strings.Replace(text, "CASE", "1", 1), Options{})
	_, _, err := read(strings.Replace(text, "CASE", "reference('x').n", 1), Options{})
	if err == nil || !armexpr.Unknowable(err) || !strings.Contains(err.Error(), "$.resources[0].condition") {
		t.Errorf("error %v", err)
	}
}

// TestNoDoubleEvaluation makes sure that what an expression yields is text, even if it looks like an expression.
func TestNoDoubleEvaluation(t *testing.T) {
	t.Parallel()
	g, w := one(t, group(`, "command": "[createArray(concat('[', 'parameters(''p'')]'))]", "environmentVariables": [{"name": "A", "value": "[variables('v').k]"}]`, "",
		`, "parameters": {"p": {"type": "string", "defaultValue": "no"}}, "variables": {"v": {"k": "[[parameters('p')]"}}`), Options{})
	c := g.Containers[0]
	if c.Command[0] != "[parameters('p')]" || c.Env[0].Value != "[parameters('p')]" {
		t.Errorf("%q %v", c.Command, c.Env)
	}
	if len(w) != 2 || w[0].Code != spec.WarnExpression || w[1].Code != spec.WarnExpression { // of the command, and of the variable
		t.Errorf("warnings %v", w)
	}
}

func TestSeccomp(t *testing.T) {
	t.Parallel()
	profile := base64.StdEncoding.EncodeToString([]byte(`{"defaultAction": "SCMP_ACT_ERRNO", "archMap": [1], "syscalls": [{"names": ["read"], "action": "SCMP_ACT_ALLOW", "comment": "x", "args": []}]}`))
	g, _ := one(t, group(`, "securityContext": {"seccompProfile": "`+profile+`"}`, "", ""), Options{})
	// sha256 of {"defaultAction":"SCMP_ACT_ERRNO","syscalls":[{"names":["read"],"action":"SCMP_ACT_ALLOW"}]}
	if want := "277c010494e13af16396386972b35492f5b124b47b9ba26f4697cf0c966f47fd"; g.Containers[0].SeccompProfileSHA256 != want {
		t.Errorf("hash %s, want %s", g.Containers[0].SeccompProfileSHA256, want)
	}
	if want := `{"defaultAction":"SCMP_ACT_ERRNO","syscalls":[{"names":["read"],"action":"SCMP_ACT_ALLOW"}]}`; string(g.Containers[0].SeccompProfile) != want {
		t.Errorf("profile %s, want %s", g.Containers[0].SeccompProfile, want)
	}
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ text, want string }{
		"unknown property":     {group(`, "entrypoint": ["x"]`, "", ""), `$.resources[0].properties.containers[0].properties.entrypoint (line 2): property "entrypoint" is not known`},
		"unknown group key":    {group("", `, "sidecars": []`, ""), `property "sidecars"`},
		"windows":              {group("", `, "osType": "Windows"`, ""), "only Linux"},
		"no image":             {strings.Replace(group("", "", ""), `"image": "i"`, `"image": ""`, 1), "the image is missing"},
		"no containers":        {group("", `, "volumes": []`, "")[:0] + `{"$schema": "x", "resources": [{"type": "Microsoft.ContainerInstance/containerGroupProfiles", "properties": {}}]}`, "has no containers"},
		"no groups":            {`{"resources": []}`, "no container group"},
		"undeclared volume":    {group(`, "volumeMounts": [{"name": "v", "mountPath": "/x"}]`, "", ""), `volume "v" is not declared`},
		"kind of volume":       {group("", `, "volumes": [{"name": "v", "elasticSan": {}}]`, ""), `"elasticSan" are not supported`},
		"two kinds":            {group("", `, "volumes": [{"name": "v", "emptyDir": {}, "secret": {}}]`, ""), "of two kinds"},
		"config map":           {group(`, "configMap": {"keyValuePairs": {}}`, "", ""), "config maps are not supported"},
		"command as a string":  {group(`, "command": "run"`, "", ""), "a string stands where a list is expected"},
		"value twice":          {group(`, "environmentVariables": [{"name": "A", "value": "1", "secureValue": "2"}]`, "", ""), "needs a value or a secureValue"},
		"no value":             {group(`, "environmentVariables": [{"name": "A"}]`, "", ""), "needs a value or a secureValue"},
		"empty probe":          {group(`, "livenessProbe": {"exec": {}}`, "", ""), "command of a probe is missing"},
		"user":                 {group(`, "securityContext": {"runAsUser": -1}`, "", ""), "runAsUser is no number"},
		"profile":              {group(`, "securityContext": {"seccompProfile": "*"}`, "", ""), "no base64"},
		"undeclared parameter": {group(`, "command": ["[parameters('x')]"]`, "", ""), `command[0] (line 2): expression [parameters('x')]: parameter "x" is not declared`},
		"missing parameter":    {group(`, "command": ["[parameters('x')]"]`, "", `, "parameters": {"x": {"type": "string"}}`), `parameter "x" has neither`},
		"wrong type":           {group(`, "command": ["[parameters('x')]"]`, "", `, "parameters": {"x": {"type": "string", "defaultValue": 1}}`), "the value is a number, and the type is string"},
		"allowed values":       {group("", "", `, "parameters": {"x": {"type": "string", "allowedValues": ["a"], "value": "b"}}`), "not among those"},
		"cycle":                {group(`, "command": ["[variables('a')]"]`, "", `, "variables": {"a": "[variables('b')]", "b": "[variables('a')]"}`), "depends on itself"},
		"reference in command": {group(`, "command": ["[reference('x').y]"]`, "", ""), "expression [reference('x').y] cannot be evaluated offline"},
		"too many loops":       {strings.Replace(group("", "", ""), `"name": "g"`, `"name": "g", "copy": {"name": "x", "count": 801}`, 1), "a loop runs 801 times"},
		"syntax":               {group(`, "command": ["[concat('a']"]`, "", ""), "ends where a comma or a closing parenthesis was expected"},
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

// FuzzRead: a template is read the same way each time, and what is read holds no unknown value.
func FuzzRead(f *testing.F) {
	f.Add([]byte(whole), "x")
	f.Add([]byte(group(`, "command": ["[parameters('image')]"]`, "", `, "parameters": {"image": {"type": "string"}}`)), "y")
	f.Fuzz(func(t *testing.T, data []byte, value string) {
		o := Options{Parameters: map[string]string{"image": value}, AllowWildcards: len(value)%2 == 0}
		g1, _, err1 := read(string(data), o)
		g2, _, err2 := read(string(data), o)
		if diff := cmp.Diff(g1, g2); diff != "" || (err1 == nil) != (err2 == nil) {
			t.Errorf("%v %v %s", err1, err2, diff)
		}
	})
}

// TestTextsSurvive: any text comes through a template as it is, escaped or by way of a parameter.
func TestTextsSurvive(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		s := rapid.StringMatching(`\[?\[?[a'\]"\\()\[é]{0,12}`).Draw(t, "s")
		literal := s
		if strings.HasPrefix(s, "[") && strings.HasSuffix(s, "]") {
			literal = "[" + s
		}
		quoted, err := json.Marshal([]string{literal, "[concat('" + strings.ReplaceAll(s, "'", "''") + "')]", "[parameters('p')]"})
		if err != nil {
			t.Fatal(err)
		}
		groups, _, err := read(group(`, "command": `+string(quoted), "", `, "parameters": {"p": {"type": "string"}}`), Options{Parameters: map[string]string{"p": s}})
		if err != nil {
			t.Fatal(err)
		}
		if got := groups[0].Containers[0].Command; got[0] != s || got[1] != s || got[2] != s {
			t.Fatalf("%q became %q", s, got)
		}
	})
}
