// SPDX-License-Identifier: Apache-2.0

package lint

import (
	"context"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"cofferdam.dev/internal/testcap"
	"cofferdam.dev/policy"
)

var update = flag.Bool("update", false, "rewrite the table of the reference page")

// clean is a policy without findings.
func clean() *policy.Policy {
	return &policy.Policy{
		APIVersion: "0.11.0", FrameworkVersion: "0.2.3", AllowPropertiesAccess: true,
		Containers: []policy.Container{{
			Name: "web", ID: "example.org/web@sha256:00", Layers: []string{"a1"}, Command: []string{"/web"}, WorkingDir: "/",
			EnvRules: []policy.EnvRule{
				{Pattern: "PATH=/bin", Strategy: policy.StrategyString}, {Pattern: "HOSTNAME=.+", Strategy: policy.StrategyRegexp},
				{Pattern: "MODE=(prod|dev)", Strategy: policy.StrategyRegexp},
			},
			Mounts: []policy.Mount{{Destination: "/d", Source: "sandbox:///tmp/atlas/emptydir/.+", Type: "bind", Options: []string{"rbind"}}},
			User: policy.User{
				UserIDName:   policy.IDName{Pattern: "1000", Strategy: policy.StrategyID},
				GroupIDNames: []policy.IDName{{Strategy: policy.StrategyAny}}, Umask: "0022",
			},
			Capabilities: policy.Capabilities{Effective: []string{"CAP_KILL"}},
		}},
	}
}

func codes(t *testing.T, text []byte) []Code {
	t.Helper()
	found, err := Check(context.Background(), text)
	if err != nil {
		t.Fatal(err)
	}
	var out []Code
	for _, f := range found {
		if f.Message == "" || f.Fix == "" || ranks[f.Severity] == 0 {
			t.Errorf("unfinished finding %+v", f)
		}
		out = append(out, f.Code)
	}
	return out
}

func TestFindings(t *testing.T) {
	t.Parallel()
	env := func(pattern string) func(*policy.Policy, *policy.Container) {
		return func(_ *policy.Policy, c *policy.Container) {
			c.EnvRules = append(c.EnvRules, policy.EnvRule{Pattern: pattern, Strategy: policy.StrategyRegexp})
		}
	}
	fragment := func(f policy.Fragment) func(*policy.Policy, *policy.Container) {
		return func(p *policy.Policy, _ *policy.Container) { p.Fragments = []policy.Fragment{f} }
	}
	egress := func(change func(*policy.Container), prefixes ...string) func(*policy.Policy, *policy.Container) {
		return func(p *policy.Policy, c *policy.Container) {
			p.Egress = &policy.Egress{}
			for _, prefix := range prefixes {
				p.Egress.Rules = append(p.Egress.Rules, policy.EgressRule{Prefix: prefix, Protocol: policy.ProtocolAny})
			}
			if change != nil {
				change(c)
			}
		}
	}
	good := policy.Fragment{Feed: "f", Issuer: "did:x509:0:sha256:x::eku:1", MinimumSVN: "4", Includes: []string{"containers"}}
	bad := func(change func(*policy.Fragment)) policy.Fragment {
		f := good
		change(&f)
		return f
	}
	for name, c := range map[string]struct {
		change func(*policy.Policy, *policy.Container)
		want   []Code
	}{
		"clean":            {func(*policy.Policy, *policy.Container) {}, nil},
		"fragment":         {fragment(good), nil},
		"egress":           {egress(nil, "192.0.2.0/24"), nil},
		"no egress":        {egress(nil), nil},
		"egress to all":    {egress(nil, "192.0.2.0/24", "::/0"), []Code{EgressAnywhere}},
		"egress, elevated": {egress(func(c *policy.Container) { c.AllowElevated = true }), []Code{Elevated, EgressEscape}},
		"egress, admin": {egress(func(c *policy.Container) {
			c.Capabilities.Bounding = []string{"CAP_SYS_ADMIN"}
		}), []Code{MoreCapabilities, EgressEscape}},
		"old framework":      {func(p *policy.Policy, _ *policy.Container) { p.FrameworkVersion = "0.2.1" }, []Code{OldFramework}},
		"nothing listed":     {func(p *policy.Policy, _ *policy.Container) { p.Containers = nil }, []Code{NoContainers}},
		"no layers":          {func(_ *policy.Policy, c *policy.Container) { c.Layers = nil }, []Code{NoLayers}},
		"null command":       {func(_ *policy.Policy, c *policy.Container) { c.Command = nil }, []Code{NullCommand}},
		"twins":              {func(p *policy.Policy, c *policy.Container) { p.Containers = append(p.Containers, *c) }, []Code{Duplicate}},
		"bad pattern":        {env("A=("), []Code{BadPattern}},
		"alternation":        {env("MODE=prod|MODE=dev"), []Code{Alternation}},
		"escaped anchor":     {env(`PRICE=5\$`), []Code{EscapedAnchor}},
		"any variable":       {env(".*"), []Code{AnyVariable}},
		"any variable named": {env("[A-Z_]+=.+"), []Code{AnyVariable}},
		"any value":          {env("MODE=.*"), []Code{AnyValue}},
		"platform's value":   {env("IDENTITY_HEADER=.+"), nil},
		"secret": {func(_ *policy.Policy, c *policy.Container) {
			c.EnvRules = append(c.EnvRules, policy.EnvRule{Pattern: "DB_PASSWORD=hunter2", Strategy: policy.StrategyString})
		}, []Code{Secret}},
		"tag":      {func(_ *policy.Policy, c *policy.Container) { c.ID = "example.org/web:latest" }, []Code{MutableTag}},
		"elevated": {func(_ *policy.Policy, c *policy.Container) { c.AllowElevated = true }, []Code{Elevated}},
		"any user": {func(_ *policy.Policy, c *policy.Container) {
			c.User.UserIDName = policy.IDName{Strategy: policy.StrategyAny}
		}, []Code{AnyUser}},
		"capabilities": {func(_ *policy.Policy, c *policy.Container) { c.Capabilities.Ambient = []string{"CAP_SYS_ADMIN"} }, []Code{MoreCapabilities}},
		"guest path":   {func(_ *policy.Policy, c *policy.Container) { c.Mounts[0].Source = "/run" }, []Code{GuestPath}},
		"mount bar":    {func(_ *policy.Policy, c *policy.Container) { c.Mounts[0].Source = "sandbox:///a|/b" }, []Code{Alternation}},
		"shell": {func(_ *policy.Policy, c *policy.Container) {
			c.ExecProcesses = []policy.ExecProcess{{Command: []string{"/bin/sh"}}}
		}, []Code{DebugShell}},
		"dump stacks": {func(p *policy.Policy, _ *policy.Container) { p.AllowDumpStacks = true }, []Code{DumpStacks}},
		"logging":     {func(p *policy.Policy, _ *policy.Container) { p.AllowRuntimeLogging = true }, []Code{RuntimeLogging}},
		"scratch":     {func(p *policy.Policy, _ *policy.Container) { p.AllowUnencryptedScratch = true }, []Code{UnencryptedScratch}},
		"no svn":      {fragment(bad(func(f *policy.Fragment) { f.MinimumSVN = "" })), []Code{FragmentSVN}},
		"svn zero":    {fragment(bad(func(f *policy.Fragment) { f.MinimumSVN = "0" })), []Code{FragmentSVN}},
		"issuer":      {fragment(bad(func(f *policy.Fragment) { f.Issuer = "me" })), []Code{FragmentIssuer}},
		"receipts":    {fragment(bad(func(f *policy.Fragment) { f.RequiredReceipts = []string{"*"} })), []Code{FragmentReceipts}},
		"receipts and a list": {func(p *policy.Policy, _ *policy.Container) {
			p.APIVersion, p.FrameworkVersion = policy.PrereleaseAPI, policy.PrereleaseFramework
			p.Fragments = []policy.Fragment{bad(func(f *policy.Fragment) { f.RequiredReceipts = []string{"*"} })}
			p.TrustLists = []policy.TrustList{{Issuer: "did:x509:0:sha256:x::eku:1", Subject: "s", MinimumSVN: "1", AllowedLedgers: []string{"l"}}}
		}, []Code{MissingRule, MissingRule}}, // of points that confcom's text has no line for
		"namespace": {fragment(bad(func(f *policy.Fragment) { f.Includes = []string{"namespace"} })), []Code{FragmentNamespace}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := clean()
			c.change(p, &p.Containers[0])
			got := codes(t, p.Text())
			// A pattern that cannot be compiled is refused by the guest, too, at the first request.
			if !slices.Equal(got, c.want) {
				t.Errorf("found %v, expected %v", got, c.want)
			}
		})
	}
	p := clean()
	other := p.Containers[0]
	other.AllowStdioAccess = true
	p.Containers = append(p.Containers, other)
	if got := codes(t, p.Text()); !slices.Equal(got, []Code{Indistinguishable}) {
		t.Errorf("twins that differ in stdio: %v", got)
	}
}

// TestWrittenByHand looks at texts that no generator makes.
func TestWrittenByHand(t *testing.T) {
	t.Parallel()
	const head = "package policy\napi_version := \"0.11.0\"\nframework_version := \"0.2.3\"\n"
	for name, c := range map[string]struct {
		text string
		want []Code // at least
		not  []Code
	}{
		"old and open": {
			"package policy\napi_version := \"0.1.0\"\nmount_device := data.framework.mount_device\n",
			[]Code{OldAPI, OpenPoint, Refused}, []Code{CustomRule},
		},
		"allow all":   {head + "exec_external := {\"allowed\": true}\n", []Code{OpenPoint, CustomRule, MissingRule, NoContainers}, []Code{OldAPI}},
		"misspelt":    {head + "create_contaner := data.framework.create_container\n", []Code{UnknownRule, MissingRule}, nil},
		"computed":    {head + "containers := [c | c := data.framework.containers[_]]\n", []Code{NotUnderstood}, []Code{NoContainers}},
		"not loaded":  {head + "x := http.send({})\n", []Code{Refused}, nil},
		"own helpers": {head + "get_properties := {\"allowed\": mine(1)}\nmine(x) = true { x == 1 }\n", []Code{CustomRule, OpenPoint}, []Code{UnknownRule}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := codes(t, []byte(c.text))
			for _, want := range c.want {
				if !slices.Contains(got, want) {
					t.Errorf("%s was not found in %v", want, got)
				}
			}
			for _, not := range c.not {
				if slices.Contains(got, not) {
					t.Errorf("%s was found", not)
				}
			}
		})
	}
	if _, err := Check(context.Background(), []byte("nonsense")); err == nil {
		t.Error("nonsense was looked at")
	}
	found, err := Check(context.Background(), []byte(head+"\n\ndump_stacks := {\"allowed\": true}\n"))
	at := slices.IndexFunc(found, func(f Finding) bool { return f.Code == OpenPoint })
	if err != nil || at < 0 || found[at].Line != 6 || found[at].Path != "dump_stacks" {
		t.Errorf("%v, %v", found, err)
	}
}

// TestStored makes sure that what Azure's tool makes by default is not called broken.
func TestStored(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob(filepath.Join(testcap.Vectors(t, "confcom/aci"), "*", "policy.rego"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no stored policies: %v", err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		found, err := Check(context.Background(), text)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range found {
			if f.Severity == Error {
				t.Errorf("%s: %+v", filepath.Base(filepath.Dir(file)), f)
			}
		}
	}
}

// FuzzAnchors holds what is said about anchors against the regular expressions themselves.
func FuzzAnchors(f *testing.F) {
	for _, p := range []string{"a|b", "(a|b)", "[|]", `\|`, `\Qa|b\E|c`, "[]|]", "[^]|]", "[[:alpha:]|]x", `[\]|]`, `a\$`} {
		f.Add(p, "xa")
	}
	f.Fuzz(func(t *testing.T, p, s string) {
		if strings.Contains(p, "(?") || strings.HasSuffix(p, "$") || strings.HasPrefix(p, "^") || topLevelBar(p) {
			return
		}
		enforced, err := regexp.Compile(anchored(p))
		if err != nil {
			return
		}
		meant, err := regexp.Compile("^(?:" + p + ")$")
		if err != nil {
			return
		}
		if enforced.MatchString(s) != meant.MatchString(s) {
			t.Errorf("%q is anchored as %q, which differs for %q", p, anchored(p), s)
		}
	})
}

// TestReferencePage holds the documented codes against those that there are.
func TestReferencePage(t *testing.T) {
	t.Parallel()
	var b strings.Builder
	b.WriteString("| code | severity | why it matters | what to do |\n|---|---|---|---|\n")
	for _, r := range Rules() {
		escape := func(s string) string { return strings.ReplaceAll(s, "|", `\|`) }
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", r.Code, r.Severity, escape(r.Why), escape(r.Fix))
	}
	const begin, end = "<!-- codes -->\n", "<!-- end of codes -->"
	file := filepath.Join("..", "..", "docs", "reference", "policy-lint.md")
	page, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	head, rest, ok := strings.Cut(string(page), begin)
	table, tail, closed := strings.Cut(rest, end)
	if !ok || !closed {
		t.Fatalf("%s has no place for the table", file)
	}
	if *update {
		if err := os.WriteFile(file, []byte(head+begin+b.String()+end+tail), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if table != b.String() {
		t.Errorf("%s does not list the codes that there are; run the test with -update", file)
	}
}
