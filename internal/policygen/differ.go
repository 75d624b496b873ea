// SPDX-License-Identifier: Apache-2.0

package policygen

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"

	"cofferdam.dev/policy"
)

// Difference is one field in which two policies differ. An empty side has no such field, or no such container.
type Difference struct {
	Container string `json:"container,omitempty"` // empty: a field of the policy itself
	Field     string `json:"field"`
	Have      string `json:"have"`
	Want      string `json:"want"`
}

// sets are the fields of a container whose order means nothing.
var sets = []string{"env_rules", "mounts", "signals", "exec_processes", "capabilities", "user"}

// Differences compares two policies field by field and lists what have says otherwise than want. Containers are paired
// by name, then by image reference. Lists whose order has no meaning are compared as sets, except for the texts' hash,
// which is not compared at all.
func Differences(have, want *policy.Policy) []Difference {
	var out []Difference
	top := func(field, h, w string) {
		if h != w {
			out = append(out, Difference{Field: field, Have: h, Want: w})
		}
	}
	top("api_version", have.APIVersion, want.APIVersion)
	top("framework_version", have.FrameworkVersion, want.FrameworkVersion)
	top("fragments", canonical(have.Fragments, true), canonical(want.Fragments, true))
	top("transparency_trust_lists", canonical(have.TrustLists, true), canonical(want.TrustLists, true))
	top(policy.EgressRuleName, canonical(have.Egress, true), canonical(want.Egress, true))
	for _, s := range []struct {
		name       string
		have, want bool
	}{
		{"allow_properties_access", have.AllowPropertiesAccess, want.AllowPropertiesAccess},
		{"allow_dump_stacks", have.AllowDumpStacks, want.AllowDumpStacks},
		{"allow_runtime_logging", have.AllowRuntimeLogging, want.AllowRuntimeLogging},
		{"allow_environment_variable_dropping", have.AllowEnvironmentVariableDropping, want.AllowEnvironmentVariableDropping},
		{"allow_unencrypted_scratch", have.AllowUnencryptedScratch, want.AllowUnencryptedScratch},
		{"allow_capability_dropping", have.AllowCapabilityDropping, want.AllowCapabilityDropping},
		{"allow_host_network", have.AllowHostNetwork, want.AllowHostNetwork},
	} {
		top(s.name, strconv.FormatBool(s.have), strconv.FormatBool(s.want))
	}
	top("rw_mount_device", strconv.FormatBool(!have.OmitRWMountDevice), strconv.FormatBool(!want.OmitRWMountDevice))
	return append(out, containerDifferences(have.Containers, want.Containers)...)
}

func containerDifferences(have, want []policy.Container) []Difference {
	var out []Difference
	left := slices.Clone(have)
	for i, w := range want {
		name := label(w, i)
		j := slices.IndexFunc(left, func(h policy.Container) bool { return h.Name == w.Name && w.Name != "" })
		if j < 0 {
			j = slices.IndexFunc(left, func(h policy.Container) bool { return h.ID == w.ID && w.ID != "" })
		}
		if j < 0 {
			out = append(out, Difference{Container: name, Field: "container", Want: w.ID})
			continue
		}
		out = append(out, fieldDifferences(name, left[j], w)...)
		left = slices.Delete(left, j, j+1)
	}
	for i, h := range left {
		out = append(out, Difference{Container: label(h, i), Field: "container", Have: h.ID})
	}
	return out
}

// label is what people call a container.
func label(c policy.Container, i int) string {
	return cmp.Or(c.Name, c.ID, fmt.Sprintf("number %d", i+1))
}

func fieldDifferences(name string, have, want policy.Container) []Difference {
	h, w := fields(have), fields(want)
	var out []Difference
	for _, field := range slices.Sorted(maps.Keys(w)) {
		set := slices.Contains(sets, field)
		if canonical(h[field], set) == canonical(w[field], set) {
			continue
		}
		hs, hok := h[field].([]any)
		ws, wok := w[field].([]any)
		if set && hok && wok {
			out = append(out, elementDifferences(name, field, hs, ws)...)
			continue
		}
		out = append(out, Difference{Container: name, Field: field, Have: canonical(h[field], false), Want: canonical(w[field], false)})
	}
	return out
}

// elementDifferences lists what only one of two sets has: nobody wants to search for it in two lists.
func elementDifferences(name, field string, have, want []any) []Difference {
	var out []Difference
	left := slices.Clone(want)
	for _, x := range have {
		i := slices.IndexFunc(left, func(y any) bool { return canonical(x, true) == canonical(y, true) })
		if i < 0 {
			out = append(out, Difference{Container: name, Field: field, Have: canonical(x, false)})
			continue
		}
		left = slices.Delete(left, i, i+1)
	}
	for _, y := range left {
		out = append(out, Difference{Container: name, Field: field, Want: canonical(y, false)})
	}
	return out
}

// fields are a container's, as in the text.
func fields(c policy.Container) map[string]any {
	var out map[string]any
	p := policy.Policy{Containers: []policy.Container{c}}
	_, text, _ := bytes.Cut(p.Text(), []byte("\ncontainers := ["))
	if err := json.NewDecoder(bytes.NewReader(text)).Decode(&out); err != nil {
		return map[string]any{} // the model holds only what encodes
	}
	for _, optional := range []string{"id", "name"} {
		if _, ok := out[optional]; !ok {
			out[optional] = ""
		}
	}
	return out
}

// canonical is a value as JSON, in a set with its lists sorted, at every depth.
func canonical(v any, set bool) string {
	data, err := json.Marshal(v)
	if err != nil || json.Unmarshal(data, &v) != nil {
		return ""
	}
	if set {
		v = sortLists(v)
	}
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if e.Encode(v) != nil {
		return ""
	}
	return string(bytes.TrimSpace(b.Bytes()))
}

func sortLists(v any) any {
	switch v := v.(type) {
	case map[string]any:
		for k, x := range v {
			if k != "command" { // its order is its meaning
				v[k] = sortLists(x)
			}
		}
	case []any:
		for i := range v {
			v[i] = sortLists(v[i])
		}
		slices.SortFunc(v, func(a, b any) int { return bytes.Compare([]byte(canonical(a, false)), []byte(canonical(b, false))) })
	}
	return v
}

// Admits lists what a container's rule would deny of a container that is started as bare says: the rule may allow more,
// but nothing of bare may be missing from it.
func Admits(rule, bare policy.Container) []Difference {
	name := label(rule, 0)
	var out []Difference
	for _, d := range fieldDifferences(name, rule, bare) {
		switch d.Field {
		case "id", "name", "env_rules", "mounts", "signals", "exec_processes":
		default:
			out = append(out, d)
		}
	}
	for _, e := range bare.EnvRules {
		if !slices.ContainsFunc(rule.EnvRules, func(r policy.EnvRule) bool { return r == e || admitsVariable(r, e) }) {
			out = append(out, Difference{Container: name, Field: "env_rules", Want: e.Pattern})
		}
	}
	for _, m := range bare.Mounts {
		same := func(r policy.Mount) bool { return canonical(r, true) == canonical(m, true) }
		if !slices.ContainsFunc(rule.Mounts, same) {
			out = append(out, Difference{Container: name, Field: "mounts", Want: canonical(m, false)})
		}
	}
	for _, s := range bare.Signals {
		if !slices.Contains(rule.Signals, s) {
			out = append(out, Difference{Container: name, Field: "signals", Want: strconv.Itoa(s)})
		}
	}
	return out
}

func admitsVariable(rule, fixed policy.EnvRule) bool {
	if rule.Strategy != policy.StrategyRegexp || fixed.Strategy != policy.StrategyString {
		return false
	}
	re, err := regexp.Compile("^(?:" + rule.Pattern + ")$")
	return err == nil && re.MatchString(fixed.Pattern)
}
