// SPDX-License-Identifier: Apache-2.0

package diff

import (
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"cofferdam.dev/policy"
	"cofferdam.dev/policy/outline"
)

// Effect says what a change of the text does by itself.
type Effect string

// The effects, of going from the first policy to the second.
const (
	Widens  Effect = "widens"
	Narrows Effect = "narrows"
	Differs Effect = "differs" // something else is admitted
	Nothing Effect = "nothing" // it does not decide anything
)

// Change is one difference of the texts.
type Change struct {
	Path   string `json:"path"`
	First  string `json:"first,omitempty"` // JSON; empty where there is nothing
	Second string `json:"second,omitempty"`
	Effect Effect `json:"effect"`

	// Risk is high where the guest, the host's view or programs of other origin are concerned; medium where it widens
	// otherwise; low in all other cases.
	Risk string `json:"risk"`
}

// The risks of a change.
const (
	riskHigh   = "high"
	riskMedium = "medium"
	riskLow    = "low"
)

// dangerous are keys whose widening concerns more than a container's own behaviour.
var dangerous = []string{
	"allow_elevated", "capabilities.", "exec_processes", "layers", "command", "allow_dump_stacks", "allow_runtime_logging",
	"allow_unencrypted_scratch", "allow_host_network", policy.EgressRuleName, "fragments", "containers[",
}

func change(path, first, second string, effect Effect) Change {
	c := Change{Path: path, First: first, Second: second, Effect: effect, Risk: riskLow}
	if effect == Widens || effect == Differs {
		c.Risk = riskMedium
		key := path[strings.Index(path, "].")+1:]
		if slices.ContainsFunc(dangerous, func(d string) bool { return strings.HasPrefix(strings.TrimPrefix(key, "."), d) }) {
			c.Risk = riskHigh
		}
	}
	return c
}

func changes(a, b *outline.Outline) []Change {
	var out []Change
	out = append(out, ruleChanges(a, b)...)
	out = append(out, listChanges("fragments", raws(a.Fragments, func(f outline.Fragment) json.RawMessage { return f.Raw }),
		raws(b.Fragments, func(f outline.Fragment) json.RawMessage { return f.Raw }))...)
	out = append(out, listChanges("transparency_trust_lists", raws(a.TrustLists, func(l outline.TrustList) json.RawMessage { return l.Raw }),
		raws(b.TrustLists, func(l outline.TrustList) json.RawMessage { return l.Raw }))...)
	out = append(out, egressChanges(a, b)...)
	matched := map[int]bool{}
	for i, c := range a.Containers {
		j := partner(c, i, b.Containers, matched)
		if j < 0 {
			out = append(out, change(fmt.Sprintf("containers[%d]", i), describe(c), "", Narrows))
			continue
		}
		matched[j] = true
		out = append(out, containerChanges(fmt.Sprintf("containers[%d]", i), c.Raw, b.Containers[j].Raw)...)
	}
	for j, c := range b.Containers {
		if !matched[j] {
			out = append(out, change(fmt.Sprintf("containers[%d]", j), "", describe(c), Widens))
		}
	}
	return out
}

func describe(c outline.Container) string {
	return strings.TrimSpace(c.Name + " " + c.ID + " " + canonicalValue(c.Command))
}

func raws[T any](list []T, raw func(T) json.RawMessage) []json.RawMessage {
	var out []json.RawMessage
	for _, x := range list {
		out = append(out, raw(x))
	}
	return out
}

// partner finds the container that most likely was the same: by its text, its name, its image, its place.
func partner(c outline.Container, at int, list []outline.Container, taken map[int]bool) int {
	for _, same := range []func(outline.Container, int) bool{
		func(d outline.Container, _ int) bool { return canonical(c.Raw) == canonical(d.Raw) },
		func(d outline.Container, _ int) bool { return c.Name != "" && c.Name == d.Name },
		func(d outline.Container, _ int) bool { return c.ID != "" && c.ID == d.ID },
		func(_ outline.Container, j int) bool { return at == j },
	} {
		for j, d := range list {
			if !taken[j] && same(d, j) {
				return j
			}
		}
	}
	return -1
}

// ruleChanges compares everything but the lists.
func ruleChanges(a, b *outline.Outline) []Change {
	var out []Change
	names := map[string]bool{}
	for n := range a.Rules {
		names[n] = true
	}
	for n := range b.Rules {
		names[n] = true
	}
	delete(names, "containers")
	delete(names, "fragments")
	delete(names, policy.EgressRuleName)
	delete(names, "reason") // it decides nothing
	sorted := make([]string, 0, len(names))
	for n := range names {
		sorted = append(sorted, n)
	}
	slices.Sort(sorted)
	for _, n := range sorted {
		x, y := ruleText(a, n), ruleText(b, n)
		if x == y {
			continue
		}
		effect := Differs
		switch {
		case strings.HasSuffix(n, "_dropping"):
			effect = Nothing
		case strings.HasPrefix(n, "allow_") && y == "true":
			effect = Widens
		case strings.HasPrefix(n, "allow_"):
			effect = Narrows
		}
		out = append(out, change(n, x, y, effect))
	}
	return out
}

func ruleText(o *outline.Outline, name string) string {
	r, ok := o.Rules[name]
	switch {
	case !ok:
		return ""
	case r.Constant != nil:
		return canonical(r.Constant)
	case r.Framework:
		return "data.framework." + name
	}
	return fmt.Sprintf("a rule of its own, line %d", r.Line)
}

// containerChanges compares two objects key by key.
func containerChanges(path string, first, second json.RawMessage) []Change {
	var a, b map[string]json.RawMessage
	if json.Unmarshal(first, &a) != nil || json.Unmarshal(second, &b) != nil {
		return []Change{change(path, canonical(first), canonical(second), Differs)}
	}
	keys := map[string]bool{}
	for k := range a {
		keys[k] = true
	}
	for k := range b {
		keys[k] = true
	}
	sorted := make([]string, 0, len(keys))
	for k := range keys {
		sorted = append(sorted, k)
	}
	slices.Sort(sorted)
	var out []Change
	for _, k := range sorted {
		at := path + "." + k
		x, y := canonical(a[k]), canonical(b[k])
		var listA, listB []json.RawMessage
		switch {
		case x == y:
		case k == "capabilities" || k == "user":
			out = append(out, containerChanges(at, a[k], b[k])...)
		case unordered(k) && json.Unmarshal(a[k], &listA) == nil && json.Unmarshal(b[k], &listB) == nil:
			out = append(out, listChanges(at, listA, listB)...)
		default:
			out = append(out, change(at, x, y, scalarEffect(k, y)))
		}
	}
	return out
}

func unordered(key string) bool {
	return slices.Contains([]string{"env_rules", "mounts", "exec_processes", "signals", "group_idnames"}, key)
}

func scalarEffect(key, second string) Effect {
	switch key {
	case "id", "name":
		return Nothing
	case "allow_elevated", "allow_stdio_access":
		if second == "true" {
			return Widens
		}
		return Narrows
	case "no_new_privileges":
		if second == "true" {
			return Narrows
		}
		return Widens
	case "user_idname":
		if strings.Contains(second, `"any"`) {
			return Widens
		}
	}
	return Differs
}

// listChanges compares lists whose order does not matter.
func listChanges(path string, first, second []json.RawMessage) []Change {
	var out []Change
	one := func(list []json.RawMessage, x json.RawMessage) bool {
		return slices.ContainsFunc(list, func(y json.RawMessage) bool { return canonical(x) == canonical(y) })
	}
	for _, x := range first {
		if !one(second, x) {
			out = append(out, change(path, canonical(x), "", required(x, Narrows)))
		}
	}
	for _, y := range second {
		if !one(first, y) {
			out = append(out, change(path, "", canonical(y), required(y, Widens)))
		}
	}
	return out
}

// required makes the effect of a rule that demands something as well as it admits something uncertain.
func required(rule json.RawMessage, otherwise Effect) Effect {
	var r struct{ Required bool }
	if json.Unmarshal(rule, &r) == nil && r.Required {
		return Differs
	}
	return otherwise
}

// canonical writes JSON in one way.
func canonical(raw json.RawMessage) string {
	var v any
	if len(raw) == 0 || json.Unmarshal(raw, &v) != nil {
		return string(raw)
	}
	return canonicalValue(v)
}

func canonicalValue(v any) string {
	var b strings.Builder
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if e.Encode(v) != nil {
		return ""
	}
	return strings.TrimSuffix(b.String(), "\n")
}

// matches says whether a pattern, as it is enforced, matches a text.
func matches(pattern, text string) bool {
	if !strings.HasPrefix(pattern, "^") {
		pattern = "^" + pattern
	}
	if !strings.HasSuffix(pattern, "$") {
		pattern += "$"
	}
	re, err := regexp.Compile(pattern)
	return err == nil && re.MatchString(text)
}
