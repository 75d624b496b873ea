// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"context"
	"encoding/base64"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"cofferdam.dev/internal/testcap"
	"cofferdam.dev/policy"

	"github.com/open-policy-agent/opa/v1/ast"
)

const bare = "package policy\n\napi_version := \"0.11.0\"\nframework_version := \"0.2.3\"\n"

func TestLoadRefuses(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ text, want string }{
		"nothing":            {"", "empty"},
		"no Rego":            {"package policy\n!", "rego_parse_error"},
		"another package":    {strings.Replace(bare, "policy", "framework", 1), `expected "package policy"`},
		"a deeper package":   {strings.Replace(bare, "policy", "policy.x", 1), `expected "package policy"`},
		"no api_version":     {"package policy\n", "does not define api_version"},
		"old api_version":    {strings.Replace(bare, "0.11.0", "0.9.9", 1), "older than 0.10.0"},
		"future api_version": {strings.Replace(bare, "0.11.0", "0.13.0", 1), "newer than 0.12.0"},
		"odd api_version":    {strings.Replace(bare, "0.11.0", "11", 1), "not MAJOR.MINOR.PATCH"},
		"number as version":  {strings.Replace(bare, `"0.11.0"`, "11", 1), "is no text"},
		"network":            {bare + `x { http.send({"method": "get", "url": "x"}) }`, "undefined function http.send"},
		"names":              {bare + `x { net.lookup_ip_addr("x") }`, "undefined function net.lookup_ip_addr"},
		"environment":        {bare + `x := opa.runtime()`, "undefined function opa.runtime"},
		"clock":              {bare + `x := time.now_ns()`, "undefined function time.now_ns"},
		"dice":               {bare + `x := rand.intn("a", 9)`, "undefined function rand.intn"},
		"tokens":             {bare + `x := io.jwt.decode("a")`, "undefined function io.jwt.decode"},
		"files by a schema":  {bare + `x := json.match_schema(1, {"$ref": "file:///etc/passwd"})`, "undefined function json.match_schema"},
		"files of a schema":  {bare + `x := json.verify_schema({"$ref": "file:///etc/passwd"})`, "undefined function json.verify_schema"},
		"other documents":    {bare + "x := data.secrets.key", "data.secrets.key, which is outside of it"},
		"computed documents": {bare + "x := data[y] { y := \"policy\" }", "outside of it"},
		"all documents":      {bare + "x := data", "outside of it"},
		"passed documents":   {bare + "x := count(data)", "outside of it"},
		"iterated documents": {bare + "x[y] { y := [data, 1][_] }", "outside of it"},
		"imported documents": {"package policy\nimport data.other\n" + bare[len("package policy"):], "outside of it"},
		"container's form":   {bare + `containers := [{"env_rules": [{"pattern": "A=.+", "strategy": "regex"}]}]`, "container 1"},
		"mount's form":       {bare + `containers := [{"mounts": [{"source": "x"}]}]`, "container 1"},
		"process's form":     {bare + `external_processes := [{"env_rules": [{}]}]`, "external process 1"},
		"many expressions":   {bare + strings.Repeat("x { input.y }\n", 5000), "more than 4096 expressions"},
		"many references":    {bare + "x := [" + strings.Repeat("input.y,", 5000) + "input.y == 1]", "more than 4096 expressions"},
		"deep nesting":       {bare + "x := " + strings.Repeat("[", 200000), "recursion depth"},
		"no list":            {bare + `containers := 7`, "unexpected form"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := New([]byte(c.text), Options{})
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v, want one with %q", err, c.want)
			}
		})
	}
	if _, err := New(make([]byte, MaxTextSize+1), Options{}); err == nil {
		t.Error("oversized text was loaded")
	}
}

func TestPolicyMayUse(t *testing.T) {
	t.Parallel()
	text := bare + `
import data.framework as f
get_properties := {"allowed": f.version == "0.5.0"}
dump_stacks := {"allowed": count(data.metadata.devices) == 1}
runtime_logging := {"allowed": input.rule == "runtime_logging"}
mount_device := {"allowed": true, "metadata": [{"name": "devices", "action": "add", "key": input.target, "value": "x"}]}
`
	text = strings.Replace(text, "\nimport data.framework as f", "", 1)
	text = strings.Replace(text, "package policy\n", "package policy\nimport data.framework as f\n", 1)
	e, err := New([]byte(text), Options{})
	if err != nil {
		t.Fatal(err)
	}
	ctx := context.Background()
	d, err := e.GetProperties(ctx)
	mustAllow(t, d, err)
	d, err = e.DumpStacks(ctx)
	wantDenied(t, d, err, "policy's rule for dump_stacks does not allow it and gives no reason")
	d, err = e.MountDevice(ctx, "/m", "x")
	mustAllow(t, d, err)
	d, err = e.MountDevice(ctx, "/m", "x")
	wantDenied(t, d, err, `state: devices already has "/m"`)
	d, err = e.DumpStacks(ctx)
	mustAllow(t, d, err)
	d, err = e.RuntimeLogging(ctx)
	mustAllow(t, d, err)
}

// TestOldPolicyLeavesDoorsOpen shows why policies below 0.10.0 are refused.
func TestOldPolicyLeavesDoorsOpen(t *testing.T) {
	t.Parallel()
	text := []byte("package policy\napi_version := \"0.1.0\"\nmount_device := {\"allowed\": false}\n")
	e, err := New(text, Options{MinimumAPI: "0.0.0"})
	if err != nil {
		t.Fatal(err)
	}
	ctx := context.Background()
	d, err := e.ExecExternal(ctx, []string{"/bin/sh"}, []string{"A=b"}, "/")
	mustAllow(t, d, err)
	if d.AllowStdio || !slices.Equal(d.EnvList, []string{"A=b"}) {
		t.Errorf("%+v", d)
	}
	d, err = e.MountOverlay(ctx, testID, nil, "/x")
	wantDenied(t, d, err, "rule for mount_overlay is missing from policy")
	d, err = e.Decide(ctx, PointLoadFragment, nil)
	wantDenied(t, d, err, "policy of api_version 0.1.0 does not know load_fragment")
	d, err = e.RWMountDevice(ctx, GuestRoot+"/"+testID, true, true, "ext4")
	mustAllow(t, d, err)
}

func TestDeadline(t *testing.T) {
	t.Parallel()
	text := bare + `get_properties := {"allowed": count([1 | numbers.range(1, 20000)[i]; numbers.range(1, 20000)[j]; i == -j]) == 0}`
	e, err := New([]byte(text), Options{Deadline: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	e.deadline = 50 * time.Millisecond
	d, err := e.GetProperties(context.Background())
	if err == nil || d.Allowed || len(d.Reasons) == 0 {
		t.Errorf("an endless rule: %+v, %v", d, err)
	}
	e.deadline = time.Minute
	if d, err = e.DumpStacks(context.Background()); err != nil || d.Allowed {
		t.Errorf("afterwards: %+v, %v", d, err)
	}
}

// TestRealPolicy walks through a policy that was deployed.
func TestRealPolicy(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile(testcap.Vectors(t, "policy/policy_attestation.rego"))
	if err != nil {
		t.Fatal(err)
	}
	e, err := New(text, Options{})
	if err != nil {
		t.Fatal(err)
	}
	p, err := policy.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	ctx := context.Background()
	c := p.Containers[0]
	var paths []string
	for i, hash := range c.Layers {
		path := "/run/mounts/scsi/m" + string(rune('0'+i/10)) + string(rune('0'+i%10))
		d, err := e.MountDevice(ctx, path, hash)
		mustAllow(t, d, err)
		paths = append(paths, path)
	}
	id := testID
	d, err := e.MountOverlay(ctx, id, paths, "/x")
	wantDenied(t, d, err, "no matching containers for overlay")
	slices.Reverse(paths)
	d, err = e.MountOverlay(ctx, id, paths, "/x")
	mustAllow(t, d, err)
	in := CreateInput{ContainerID: id, Process: Process{
		Args: c.Command, Env: []string{"LANG=C.UTF-8", "EVIL=1"}, WorkingDir: "/app", Umask: "0022",
		User: ID{ID: "0", Name: "root"}, Capabilities: c.Capabilities,
	}}
	d, err = e.CreateContainer(ctx, in)
	mustAllow(t, d, err)
	if !slices.Equal(d.EnvList, []string{"LANG=C.UTF-8"}) {
		t.Errorf("environment %q", d.EnvList)
	}
	d, err = e.CreateContainer(ctx, in)
	wantDenied(t, d, err, "container already started")
	// Older framework versions let every container be killed and terminated, and nothing else.
	for signal, allowed := range map[int]bool{9: true, 15: true, 10: false} {
		d, err := e.SignalContainerProcess(ctx, SignalInput{id, signal, true, c.Command})
		if err != nil || d.Allowed != allowed {
			t.Errorf("signal %d: %+v, %v", signal, d, err)
		}
	}
	// Texts of 0.10.0 know no writable devices; the framework decides.
	d, err = e.RWMountDevice(ctx, GuestRoot+"/"+id, true, true, "ext4")
	mustAllow(t, d, err)
}

// TestAllowAllPolicies loads the policies of recorded real machines, which use the version key's older name.
func TestAllowAllPolicies(t *testing.T) {
	t.Parallel()
	dir := testcap.Vectors(t, "snp")
	files, err := filepath.Glob(filepath.Join(dir, "s1*", "*policy*"))
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, f := range files {
		data, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		if text, err := base64.StdEncoding.DecodeString(strings.TrimSpace(string(data))); err == nil {
			data = text
		}
		if !strings.HasPrefix(string(data), "package policy") {
			continue
		}
		n++
		e, err := New(data, Options{})
		if err != nil {
			t.Errorf("%s: %v", f, err)
			continue
		}
		d, err := e.MountDevice(context.Background(), "/anywhere", "anything")
		mustAllow(t, d, err)
	}
	if n == 0 {
		t.Errorf("no policies among %q", files)
	}
}

// FuzzParse makes sure that no text crashes the reader, and that what it accepts names nothing outside of the policy.
// It runs a thousand times as often as FuzzNew, which compiles the framework each time.
func FuzzParse(f *testing.F) {
	caps := capabilities()
	f.Add(bare + "x := data.framework.version\nmount_device := data.framework.mount_device")
	f.Add(bare + "x { y := data[input.a]; z := [data.policy | data.metadata[_]] }")
	f.Add(bare + "x { input.a with input as data.other }")
	f.Fuzz(func(t *testing.T, text string) {
		m, err := parse([]byte(text), caps)
		if err != nil {
			return
		}
		var inside func(*ast.Term) bool
		inside = func(x *ast.Term) bool {
			ref, ok := x.Value.(ast.Ref)
			if !ok {
				if x.Equal(ast.DefaultRootDocument) {
					t.Errorf("data as a whole is named in %q", text)
				}
				return false
			}
			if ref[0].Equal(ast.DefaultRootDocument) {
				name, ok := ref[min(1, len(ref)-1)].Value.(ast.String)
				if !ok || !policyDocuments[string(name)] {
					t.Errorf("%s is named in %q", ref, text)
				}
				ref = ref[1:]
			}
			for _, part := range ref {
				ast.WalkTerms(part, inside)
			}
			return true
		}
		for _, i := range m.Imports {
			ast.WalkTerms(i.Path, inside)
		}
		for _, r := range m.Rules {
			ast.WalkTerms(r, inside)
		}
	})
}

// FuzzNew makes sure that no text crashes the loader, and that what loads decides.
func FuzzNew(f *testing.F) {
	f.Add(bare)
	f.Add(bare + "containers := [{}]\nmount_device := data.framework.mount_device")
	f.Add(bare + "x := data[input.a]")
	f.Add(bare + "mount_device := {\"allowed\": true, \"metadata\": [{}]}")
	f.Fuzz(func(t *testing.T, text string) {
		e, err := New([]byte(text), Options{Deadline: time.Second})
		if err != nil {
			return
		}
		d, err := e.MountDevice(context.Background(), "/run/mounts/scsi/m1", "x")
		if d.Allowed && err != nil || !d.Allowed && len(d.Reasons) == 0 {
			t.Errorf("%+v, %v", d, err)
		}
	})
}
