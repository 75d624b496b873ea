// SPDX-License-Identifier: Apache-2.0

package policygen

import (
	"cmp"
	"fmt"
	"path"
	"slices"
	"strings"
	"unicode/utf8"

	"cofferdam.dev/internal/spec"
	"cofferdam.dev/policy"
)

// envRules lists the description's variables, those of the image that it does not override, and the platform's.
func envRules(vars []spec.EnvVar, image []string, o Options) ([]policy.EnvRule, error) {
	var rules []policy.EnvRule
	named := map[string]bool{}
	for _, v := range vars {
		named[v.Name] = true
		rules = append(rules, fixed(v.Name+"="+v.Value))
	}
	for _, text := range image {
		name, _, ok := strings.Cut(text, "=")
		if !ok || !utf8.ValidString(text) {
			return nil, fmt.Errorf("its variable %q is not NAME=VALUE in UTF-8", text)
		}
		if !named[name] {
			rules = append(rules, fixed(text))
		}
	}
	rules = append(rules, fixed(terminal))
	for _, pattern := range platformVariables {
		rules = append(rules, policy.EnvRule{Pattern: pattern, Strategy: policy.StrategyRegexp})
	}
	if o.SortEnv {
		slices.SortStableFunc(rules, func(a, b policy.EnvRule) int { return cmp.Compare(a.Pattern, b.Pattern) })
	}
	return rules, nil
}

func fixed(text string) policy.EnvRule {
	return policy.EnvRule{Pattern: text, Strategy: policy.StrategyString}
}

// mounts lists the description's mounts and the image's volumes, and the resolver's configuration that every container
// gets.
func mounts(list []spec.Mount, volumes []string) []policy.Mount {
	var out []policy.Mount
	for _, m := range list {
		out = append(out, mount(m))
	}
	for _, volume := range slices.Sorted(slices.Values(volumes)) {
		path := path.Clean("/" + volume)
		taken := func(m policy.Mount) bool { return m.Destination == path }
		if !slices.ContainsFunc(out, taken) {
			out = append(out, mount(spec.Mount{Kind: spec.MountEmptyDir, Path: path}))
		}
	}
	return append(out, policy.Mount{
		Destination: "/etc/resolv.conf", Options: []string{"rbind", "rshared", "rw"},
		Source: sandboxDirectory + "resolvconf/.+", Type: "bind",
	})
}

func mount(m spec.Mount) policy.Mount {
	access := "rw"
	if m.ReadOnly {
		access = "ro"
	}
	return policy.Mount{
		Destination: m.Path, Options: []string{"rbind", "rshared", access},
		Source: sandboxDirectory + string(m.Kind) + "/.+", Type: "bind",
	}
}
