// SPDX-License-Identifier: Apache-2.0

package explain

import (
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"cofferdam.dev/policy/denial"
	"cofferdam.dev/policy/engine"
	"cofferdam.dev/policy/replay"
)

// change is a fault with the change of the container that would remove it, if there is one.
type change struct {
	Fault
	apply func(container map[string]any)
}

// changes turns the engine's reasons into changes of the container. There may be more than are needed.
func (t *trial) changes(reasons []string) []change {
	var out []change
	for _, r := range reasons {
		what, detail, _ := strings.Cut(r, ": ")
		switch what {
		case "invalid command":
			out = append(out, t.command(r))
		case "invalid working directory":
			out = append(out, t.scalar(r, "workingDir", "working_dir"))
		case "privileged escalation not allowed":
			out = append(out, t.set(r, "privileged", "allow_elevated", true))
		case "invalid noNewPrivileges":
			out = append(out, t.set(r, "noNewPrivileges", "no_new_privileges", false))
		case "invalid seccomp":
			out = append(out, t.scalar(r, "seccompProfileSHA256", "seccomp_profile_sha256"))
		case "invalid user":
			out = append(out, t.user(r)...)
		case "invalid mount list":
			out = append(out, t.mounts(r, strings.Split(detail, ","))...)
		case "invalid env list":
			if detail != "" {
				out = append(out, t.variables(r, strings.Split(detail, ","))...)
			}
		case "missing required environment variable":
			out = append(out, t.required(r)...)
		case "capabilities don't match":
			out = append(out, t.capabilities(r)...)
		case "target isn't allowed to receive the signal":
			out = append(out, t.signal(r))
		default:
			if f, ok := advise(r, t.step); ok {
				out = append(out, change{Fault: f})
			}
		}
	}
	return out
}

func (t *trial) rule(key string) string { return fmt.Sprintf("containers[%d].%s", t.index, key) }

// set is a change of one key to a value.
func (t *trial) set(reason, field, key string, value any) change {
	return change{Fault{
		Reason: reason, Field: field, Rule: t.rule(key), Expected: show(t.raw[key]), Actual: show(t.step.Input[field]),
		Fix: fmt.Sprintf("%s = %s", t.rule(key), show(value)),
	}, func(c map[string]any) { c[key] = value }}
}

func (t *trial) scalar(reason, field, key string) change {
	return t.set(reason, field, key, t.step.Input[field])
}

// add is a change that appends to a list.
func (t *trial) add(reason, field, key string, expected any, actual any, element any) change {
	return change{Fault{
		Reason: reason, Field: field, Rule: t.rule(key), Expected: show(expected), Actual: show(actual),
		Fix: fmt.Sprintf("add to %s: %s", t.rule(key), show(element)),
	}, func(c map[string]any) {
		have, _ := c[key].([]any)
		c[key] = append(slices.Clone(have), element)
	}}
}

func (t *trial) command(reason string) change {
	if t.step.Name == engine.PointCreateContainer {
		return t.scalar(reason, "argList", "command")
	}
	var commands []any
	for _, p := range t.objects("exec_processes") {
		commands = append(commands, p["command"])
	}
	element := map[string]any{"command": t.step.Input["argList"], "signals": []any{}}
	return t.add(reason, "argList", "exec_processes", commands, t.step.Input["argList"], element)
}

func (t *trial) user(reason string) []change {
	user, _ := t.raw["user"].(map[string]any)
	sub := func(key, field string, value any) change {
		return change{Fault{
			Reason: reason, Field: field, Rule: t.rule("user." + key), Expected: show(user[key]), Actual: show(t.step.Input[field]),
			Fix: fmt.Sprintf("%s = %s", t.rule("user."+key), show(value)),
		}, func(c map[string]any) {
			u, _ := c["user"].(map[string]any)
			if u == nil {
				u = map[string]any{}
			}
			u[key] = value
			c["user"] = u
		}}
	}
	byID := func(v any) map[string]any {
		who, _ := v.(map[string]any)
		return map[string]any{"pattern": who["id"], "strategy": "id"}
	}
	rules, _ := user["group_idnames"].([]any)
	groups := slices.Clone(rules)
	asked, _ := t.step.Input["groups"].([]any)
	for _, g := range asked {
		groups = append(groups, byID(g))
	}
	return []change{
		sub("umask", "umask", t.step.Input["umask"]),
		sub("user_idname", "user", byID(t.step.Input["user"])),
		sub("group_idnames", "groups", groups),
	}
}

func (t *trial) mounts(reason string, destinations []string) []change {
	var out []change
	asked, _ := t.step.Input["mounts"].([]any)
	for i, m := range asked {
		mount, _ := m.(map[string]any)
		d, _ := mount["destination"].(string)
		if !slices.Contains(destinations, d) {
			continue
		}
		var same []any
		for _, r := range t.objects("mounts") {
			if r["destination"] == d {
				same = append(same, r)
			}
		}
		element := map[string]any{
			"destination": d, "options": mount["options"], "type": mount["type"], "source": t.source(mount["source"]),
		}
		var expected any = same
		if same == nil {
			expected = "no mount at " + d
		}
		out = append(out, t.add(reason, fmt.Sprintf("mounts[%d]", i), "mounts", expected, mount, element))
	}
	return out
}

// source makes a rule's source of a request's: below a directory of the sandbox, where it lies in one.
func (t *trial) source(v any) string {
	s, _ := v.(string)
	for field, prefix := range map[string]string{"sandboxDir": "sandbox://", "hugePagesDir": "hugepages://"} {
		dir, _ := t.step.Input[field].(string)
		if rest, ok := strings.CutPrefix(s, dir); ok && dir != "" {
			return prefix + regexp.QuoteMeta(rest)
		}
	}
	return s
}

func (t *trial) variables(reason string, names []string) []change {
	var out []change
	for i, e := range replay.Strings(t.step.Input["envList"]) {
		name, value, _ := strings.Cut(e, "=")
		if !slices.Contains(names, name) {
			continue
		}
		var same []any
		for _, r := range t.objects("env_rules") {
			if p, _ := r["pattern"].(string); strings.HasPrefix(p, name+"=") || r["name"] == name {
				same = append(same, r)
			}
		}
		var expected any = same
		if same == nil {
			expected = "no rule for " + name
		}
		element := map[string]any{"pattern": e, "strategy": "string", "required": false}
		c := t.add(reason, fmt.Sprintf("envList[%d]", i), "env_rules", expected, e, element)
		if value == denial.Redacted {
			c.Fix = fmt.Sprintf("add to %s a rule for %s with its value, which the denial does not tell", t.rule("env_rules"), name)
		}
		out = append(out, c)
	}
	return out
}

func (t *trial) required(reason string) []change {
	var out []change
	for i, r := range t.objects("env_rules") {
		if r["required"] != true {
			continue
		}
		rule := t.rule(fmt.Sprintf("env_rules[%d]", i))
		out = append(out, change{Fault{
			Reason: reason, Field: "envList", Rule: rule, Expected: show(r), Actual: "no variable that it admits",
			Fix: "set the variable, or " + rule + ".required = false",
		}, func(c map[string]any) {
			list, _ := c["env_rules"].([]any)
			if rule, ok := list[i].(map[string]any); ok {
				rule["required"] = false
			}
		}})
	}
	return out
}

func (t *trial) capabilities(reason string) []change {
	want, _ := t.raw["capabilities"].(map[string]any)
	have, _ := t.step.Input["capabilities"].(map[string]any)
	var out []change
	for _, set := range []string{"ambient", "bounding", "effective", "inheritable", "permitted"} {
		w, h := replay.Strings(want[set]), replay.Strings(have[set])
		missing, extra := minus(w, h), minus(h, w)
		if len(missing)+len(extra) == 0 {
			continue
		}
		out = append(out, change{Fault{
			Reason: reason, Field: "capabilities." + set, Rule: t.rule("capabilities." + set), Expected: show(w),
			Actual: fmt.Sprintf("missing %s, not listed %s", list(missing), list(extra)),
			Fix:    fmt.Sprintf("%s = %s", t.rule("capabilities."+set), show(h)),
		}, func(c map[string]any) {
			caps, _ := c["capabilities"].(map[string]any)
			if caps != nil {
				caps[set] = anys(h)
			}
		}})
	}
	return out
}

func (t *trial) signal(reason string) change {
	n := t.step.Input["signal"]
	if t.step.Input["isInitProcess"] == true {
		return t.add(reason, "signal", "signals", t.raw["signals"], n, n)
	}
	for i, p := range t.objects("exec_processes") {
		if show(p["command"]) != show(t.step.Input["argList"]) {
			continue
		}
		rule := t.rule(fmt.Sprintf("exec_processes[%d].signals", i))
		return change{Fault{
			Reason: reason, Field: "signal", Rule: rule, Expected: show(p["signals"]), Actual: show(n), Fix: fmt.Sprintf("add to %s: %s", rule, show(n)),
		}, func(c map[string]any) {
			list, _ := c["exec_processes"].([]any)
			if p, ok := list[i].(map[string]any); ok {
				have, _ := p["signals"].([]any)
				p["signals"] = append(slices.Clone(have), n)
			}
		}}
	}
	element := map[string]any{"command": t.step.Input["argList"], "signals": []any{n}}
	return t.add(reason, "argList", "exec_processes", t.raw["exec_processes"], t.step.Input["argList"], element)
}

func (t *trial) objects(key string) []map[string]any {
	list, _ := t.raw[key].([]any)
	var out []map[string]any
	for _, x := range list {
		if m, ok := x.(map[string]any); ok {
			out = append(out, m)
		}
	}
	return out
}

func minus(a, b []string) []string {
	return slices.DeleteFunc(slices.Clone(a), func(s string) bool { return slices.Contains(b, s) })
}

func show(v any) string {
	if s, ok := v.(string); ok && strings.HasPrefix(s, "no ") {
		return s
	}
	data, err := json.Marshal(v)
	if err != nil {
		return fmt.Sprint(v)
	}
	s := string(data)
	for code, c := range map[string]string{`\u003c`: "<", `\u003e`: ">", `\u0026`: "&"} {
		s = strings.ReplaceAll(s, code, c)
	}
	return s
}

func list(s []string) string {
	if len(s) == 0 {
		return "nothing"
	}
	return strings.Join(s, ", ")
}
