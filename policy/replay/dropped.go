// SPDX-License-Identifier: Apache-2.0

package replay

import (
	"fmt"
	"slices"
	"strings"

	"cofferdam.dev/policy/engine"
)

// dropped compares what was asked for with what was kept.
func dropped(s Step, d engine.Decision) []string {
	var out []string
	kept := slices.Clone(d.EnvList)
	for _, e := range Strings(s.Input["envList"]) {
		if i := slices.Index(kept, e); i >= 0 {
			kept = slices.Delete(kept, i, i+1)
			continue
		}
		name, _, _ := strings.Cut(e, "=")
		out = append(out, name)
	}
	asked, _ := s.Input["capabilities"].(map[string]any)
	if d.Capabilities == nil || asked == nil {
		return out
	}
	for _, set := range []struct {
		name string
		kept []string
	}{
		{"ambient", d.Capabilities.Ambient}, {"bounding", d.Capabilities.Bounding},
		{"effective", d.Capabilities.Effective}, {"inheritable", d.Capabilities.Inheritable},
		{"permitted", d.Capabilities.Permitted},
	} {
		for _, c := range Strings(asked[set.name]) {
			if !slices.Contains(set.kept, c) {
				out = append(out, fmt.Sprintf("%s (%s)", c, set.name))
			}
		}
	}
	return out
}

// Strings reads the strings of a list in an input.
func Strings(v any) []string {
	switch v := v.(type) {
	case []string:
		return v
	case []any:
		out := make([]string, 0, len(v))
		for _, x := range v {
			if s, ok := x.(string); ok {
				out = append(out, s)
			}
		}
		return out
	}
	return nil
}
