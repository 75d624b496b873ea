// SPDX-License-Identifier: Apache-2.0

package policygen

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"cofferdam.dev/internal/spec"
	"cofferdam.dev/policy"
)

// envRules lists the description's variables, those of the image that it does not override, and the platform's.
func envRules(g *spec.Group, vars []spec.EnvVar, image []string, o Options) ([]policy.EnvRule, error) {
	var rules []policy.EnvRule
	named := map[string]bool{}
	identity := g.Platform == spec.PlatformVirtualNode && g.WorkloadIdentity
	if identity && o.ConfcomJSON {
		rules = append(rules, patterns(workloadIdentityVariables)...)
	}
	for _, v := range vars {
		named[v.Name] = true
		rule := fixed(v.Name + "=" + v.Value)
		if v.Regexp {
			rule.Strategy = policy.StrategyRegexp
		}
		rules = append(rules, rule)
	}
	if identity && !o.ConfcomJSON {
		rules = append(rules, patterns(workloadIdentityVariables)...)
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
	rules = append(rules, platformRules(g, rules)...)
	if o.SortEnv {
		slices.SortStableFunc(rules, func(a, b policy.EnvRule) int { return cmp.Compare(a.Pattern, b.Pattern) })
	}
	return rules, nil
}

// platformRules are those that the platform needs. The service's tool leaves one out where a variable has its name.
func platformRules(g *spec.Group, given []policy.EnvRule) []policy.EnvRule {
	rules := append([]policy.EnvRule{fixed(terminal)}, patterns(platformVariables)...)
	if g.Platform == spec.PlatformVirtualNode {
		rules = append(rules, patterns(serviceVariables)...)
	}
	if g.Platform == spec.PlatformOwn {
		return rules
	}
	return slices.DeleteFunc(rules, func(r policy.EnvRule) bool {
		name, _, _ := strings.Cut(r.Pattern, "=")
		return slices.ContainsFunc(given, func(g policy.EnvRule) bool { return strings.HasPrefix(g.Pattern, name+"=") })
	})
}

func patterns(list []string) []policy.EnvRule {
	rules := make([]policy.EnvRule, 0, len(list))
	for _, pattern := range list {
		rules = append(rules, policy.EnvRule{Pattern: pattern, Strategy: policy.StrategyRegexp})
	}
	return rules
}

func fixed(text string) policy.EnvRule {
	return policy.EnvRule{Pattern: text, Strategy: policy.StrategyString}
}
