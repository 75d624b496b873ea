// SPDX-License-Identifier: Apache-2.0

package lint

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"cofferdam.dev/policy"
	"cofferdam.dev/policy/engine"
	"cofferdam.dev/policy/outline"
)

// Finding is one thing found.
type Finding struct {
	Code     Code     `json:"code"`
	Severity Severity `json:"severity"`
	Line     int      `json:"line,omitempty"` // of the text, 1 the first; 0 where there is none
	Path     string   `json:"path,omitempty"` // within the policy, e.g. containers[0].env_rules[2]
	Message  string   `json:"message"`
	Fix      string   `json:"fix"`
}

// Check looks at a policy. An error means that the text is no Rego policy, so that there is nothing to look at.
func Check(ctx context.Context, text []byte) ([]Finding, error) {
	o, err := outline.Read(text)
	if err != nil {
		return nil, err
	}
	l := &linter{outline: o, rules: map[Code]Rule{}}
	for _, r := range Rules() {
		l.rules[r.Code] = r
	}
	l.versions()
	l.notes()
	l.switches()
	l.fragments()
	l.containers()
	l.egress()
	if err := l.points(ctx); err != nil {
		return nil, err
	}
	slices.SortStableFunc(l.found, func(a, b Finding) int {
		switch {
		case a.Severity != b.Severity && a.Severity.AtLeast(b.Severity):
			return -1
		case a.Severity != b.Severity:
			return 1
		}
		return a.Line - b.Line
	})
	return l.found, nil
}

type linter struct {
	outline *outline.Outline
	rules   map[Code]Rule
	found   []Finding
}

func (l *linter) add(code Code, line int, path, format string, args ...any) {
	r := l.rules[code]
	l.found = append(l.found, Finding{
		Code: code, Severity: r.Severity, Line: line, Path: path, Message: fmt.Sprintf(format, args...), Fix: r.Fix,
	})
}

// lowest versions that leave nothing open, and that know every field of a container.
const (
	closedAPI     = engine.DefaultMinimumAPI
	fullFramework = "0.2.3"
)

func (l *linter) versions() {
	if v, line := l.outline.Version("api_version"); v != "" && older(v, closedAPI) {
		l.add(OldAPI, line, "api_version", "api_version %s is older than %s", v, closedAPI)
	}
	if v, line := l.outline.Version("framework_version"); v != "" && older(v, fullFramework) {
		l.add(OldFramework, line, "framework_version", "framework_version %s is older than %s: %s", v, fullFramework, unenforced(v))
	}
}

// unenforced names the fields that a framework of a version does not look at.
func unenforced(v string) string {
	var fields []string
	for _, f := range [][2]string{
		{"0.2.0", "no_new_privileges"}, {"0.2.1", "user"}, {"0.2.2", "capabilities"}, {"0.2.3", "seccomp_profile_sha256"},
	} {
		if older(v, f[0]) {
			fields = append(fields, f[1])
		}
	}
	return "it does not enforce " + strings.Join(fields, ", ")
}

func older(v, than string) bool {
	numbers := func(s string) (out [3]int, ok bool) {
		n, err := fmt.Sscanf(s, "%d.%d.%d", &out[0], &out[1], &out[2])
		return out, err == nil && n == 3
	}
	a, ok := numbers(v)
	b, _ := numbers(than)
	return ok && slices.Compare(a[:], b[:]) < 0
}

func (l *linter) notes() {
	for _, n := range l.outline.Unread {
		l.add(NotUnderstood, n.Line, "", "%s", n.Text)
	}
}

func (l *linter) switches() {
	for name, code := range map[string]Code{
		"allow_dump_stacks": DumpStacks, "allow_runtime_logging": RuntimeLogging, "allow_unencrypted_scratch": UnencryptedScratch,
	} {
		if on, line := l.outline.Switch(name); on {
			l.add(code, line, name, "%s is true", name)
		}
	}
}

// points asks the engine about every enforcement point.
func (l *linter) points(ctx context.Context) error {
	if _, err := engine.New(l.outline.Text, engine.Options{}); err != nil {
		l.add(Refused, 0, "", "%v", err)
	}
	e, err := engine.New(l.outline.Text, engine.Options{MinimumAPI: "0.0.0"})
	if err != nil {
		return nil // said above
	}
	for _, p := range probes {
		rule, has := l.outline.Rules[string(p.point)]
		if has && !rule.Framework {
			l.add(CustomRule, rule.Line, string(p.point), "%s is decided by a rule of the policy itself", p.point)
		}
		d, err := e.Decide(ctx, p.point, p.input)
		on, _ := l.outline.Switch(p.unless)
		switch {
		case err != nil && ctx.Err() != nil:
			return fmt.Errorf("asking the policy: %w", ctx.Err())
		case err != nil:
		case d.Allowed && !on:
			l.add(OpenPoint, rule.Line, string(p.point), "%s allows %s", p.point, p.what)
		case !has && slices.Contains(d.Reasons, fmt.Sprintf("rule for %s is missing from policy", p.point)):
			l.add(MissingRule, 0, string(p.point), "%s has no rule", p.point)
		}
	}
	l.unknownRules()
	return nil
}

// known are the names that somebody asks for, besides enforcement points.
var known = []string{
	"api_version", "api_svn", "framework_version", "framework_svn", "fragments", "containers", "external_processes",
	"platform_rules", "transparency_trust_lists", "reason", "allow_properties_access", "allow_dump_stacks",
	"allow_runtime_logging", "allow_environment_variable_dropping", "allow_unencrypted_scratch",
	"allow_capability_dropping", "allow_host_network", policy.EgressRuleName,
}

func (l *linter) unknownRules() {
	for name, r := range l.outline.Rules {
		point := slices.ContainsFunc(probes, func(p probe) bool { return string(p.point) == name })
		if point || slices.Contains(known, name) || slices.Contains(windowsPoints, name) {
			continue
		}
		// Helpers of rules that the policy has of its own are called by them, not by the guest.
		if !strings.Contains(strings.ReplaceAll(string(l.outline.Text), "data.framework."+name, ""), name+"(") {
			l.add(UnknownRule, r.Line, name, "no request is ever decided by %s", name)
		}
	}
}
