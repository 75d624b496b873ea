// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"cofferdam.dev/policy"
)

// narrowed is what a policy keeps of an environment, written down anew from its description: containers that require
// what nobody asked for are out; without dropping everything must be admitted, with it the containers that keep most
// decide, if they agree.
func narrowed(rules [][]policy.EnvRule, env []string, dropping bool) (kept []string, ok bool) {
	var best []string // sorted
	for _, list := range rules {
		admitted := func(e string) bool {
			return slices.ContainsFunc(list, func(r policy.EnvRule) bool { return matches(r, e) })
		}
		if slices.ContainsFunc(list, func(r policy.EnvRule) bool {
			return r.Required && !slices.ContainsFunc(env, func(e string) bool { return matches(r, e) })
		}) {
			continue
		}
		keeps := slices.DeleteFunc(slices.Compact(slices.Sorted(slices.Values(env))), func(e string) bool { return !admitted(e) })
		all := !slices.ContainsFunc(env, func(e string) bool { return !admitted(e) })
		switch {
		case !dropping && all:
			return env, true
		case !dropping:
		case !ok || len(keeps) > len(best):
			best, ok = keeps, true
			kept = best
		case len(keeps) == len(best) && !slices.Equal(keeps, best):
			kept = nil // nobody decides between two that keep equally much, unless somebody keeps more
		}
	}
	if !ok || kept == nil && best != nil {
		return nil, false
	}
	return slices.DeleteFunc(slices.Clone(env), func(e string) bool { return !slices.Contains(best, e) }), true
}

func matches(r policy.EnvRule, e string) bool {
	if r.Strategy == policy.StrategyString {
		return r.Pattern == e
	}
	return regexp.MustCompile("^(?:" + r.Pattern + ")$").MatchString(e)
}

// TestNarrowing holds the engine against that, for environments and rules of a few letters, so that they meet.
func TestNarrowing(t *testing.T) {
	if testing.Short() {
		t.Skip("loads a hundred policies")
	}
	t.Parallel()
	variable := rapid.Custom(func(t *rapid.T) string {
		return rapid.SampledFrom([]string{"A", "B", "AB", ""}).Draw(t, "name") + "=" + rapid.SampledFrom([]string{"", "1", "2", "1=2", "x y"}).Draw(t, "value")
	})
	rule := rapid.Custom(func(t *rapid.T) policy.EnvRule {
		r := policy.EnvRule{Pattern: variable.Draw(t, "text"), Strategy: policy.StrategyString, Required: rapid.IntRange(0, 5).Draw(t, "required") == 0}
		if rapid.Bool().Draw(t, "pattern") {
			r.Strategy, r.Pattern = policy.StrategyRegexp, rapid.SampledFrom([]string{"A=.+", "A?B=[0-9]", ".*=", "(?i)(ab)=.*"}).Draw(t, "regexp")
		}
		return r
	})
	rapid.Check(t, func(rt *rapid.T) {
		rules := rapid.SliceOfN(rapid.SliceOfN(rule, 0, 5), 1, 3).Draw(rt, "containers")
		dropping := rapid.Bool().Draw(rt, "dropping")
		p := groupPolicy(1)
		p.AllowEnvironmentVariableDropping = dropping
		one := p.Containers[0]
		p.Containers = nil
		for _, list := range rules {
			c := one
			c.EnvRules = list
			p.Containers = append(p.Containers, c)
		}
		e := mustLoad(t, p)
		mountAll(t, e, 0)
		for range 6 {
			env := rapid.SliceOfN(variable, 0, 6).Draw(rt, "env")
			want, ok := narrowed(rules, env, dropping)
			tx, err := e.Begin(t.Context())
			if err != nil {
				rt.Fatal(err)
			}
			in := testCreate(testID2(0), 0)
			in.Env = env
			d, err := tx.CreateContainer(t.Context(), in)
			tx.Rollback()
			if err != nil || d.Allowed != ok {
				rt.Fatalf("allowed: %v (%s), %v; want %v", d.Allowed, strings.Join(d.Reasons, "; "), err, ok)
			}
			if diff := cmp.Diff(append([]string{}, want...), append([]string{}, d.EnvList...)); ok && diff != "" {
				rt.Fatalf("kept (-want +got):\n%s", diff)
			}
			if !ok && len(d.Reasons) == 0 {
				rt.Fatal("denied without a reason")
			}
		}
	})
}
