// SPDX-License-Identifier: Apache-2.0

package diff

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"cofferdam.dev/policy"
	"cofferdam.dev/policy/engine"
	"cofferdam.dev/policy/outline"
)

// within concludes from the texts that t admits every sequence of requests that s admits. If it cannot, it says why; that
// does not mean that t does not.
//
// The conclusion rests on this. A container ID stands for the entries with its layers, and each request on it keeps
// those entries that agree with it: so a sequence is admitted if one entry agrees with all of it, and more entries can
// only help. The exception are entries that agree and differ in allow_stdio_access, which have a request denied: they
// must not occur in t. Dropping plays no part, since only requests that lose nothing count.
func (s *side) within(t *side) string {
	for _, x := range []*side{s, t} {
		if why := x.readable(); why != "" {
			return why
		}
	}
	for _, step := range []func(*side) string{s.pointsWithin, s.switchesWithin, s.fragmentsWithin, s.trustListsWithin, s.egressWithin, s.containersWithin} {
		if why := step(t); why != "" {
			return why
		}
	}
	return ""
}

// readable says what of a policy is not plain enough to conclude anything from.
func (s *side) readable() string {
	o := s.outline
	if len(o.Unread) > 0 {
		return fmt.Sprintf("line %d cannot be read without evaluating it: %s", o.Unread[0].Line, o.Unread[0].Text)
	}
	for _, name := range slices.Sorted(maps.Keys(o.Rules)) {
		r := o.Rules[name]
		if !r.Framework && r.Constant == nil && name != "reason" {
			return fmt.Sprintf("line %d: %s is decided by a rule of the policy itself", r.Line, name)
		}
		if r.Constant != nil && !slices.Contains(constants, name) {
			return fmt.Sprintf("line %d: %s is a constant", r.Line, name)
		}
	}
	for _, name := range []string{"api_version", "framework_version"} {
		if _, ok := number(version(o, name)); !ok {
			return name + " is missing, or no version"
		}
	}
	if newest, _ := number(engine.FrameworkVersion); less(newest, mustNumber(version(o, "framework_version"))) {
		return "framework_version is newer than what is known here"
	}
	for i, c := range o.Containers {
		if !known(c.Raw, containerKeys) {
			return fmt.Sprintf("containers[%d] has keys that are not known", i)
		}
	}
	return ""
}

// constants are the names whose values are compared here, or decide nothing.
var constants = []string{
	"api_version", "api_svn", "framework_version", "framework_svn", "fragments", "containers", "external_processes",
	"platform_rules", "transparency_trust_lists", "allow_properties_access", "allow_dump_stacks", "allow_runtime_logging",
	"allow_host_network", "allow_unencrypted_scratch", "allow_environment_variable_dropping", "allow_capability_dropping",
	"reason", policy.EgressRuleName,
}

var containerKeys = []string{
	"allow_elevated", "allow_stdio_access", "capabilities", "command", "env_rules", "exec_processes", "id", "layers",
	"mounts", "name", "no_new_privileges", "seccomp_profile_sha256", "signals", "user", "working_dir",
}

// known says whether an object has the given keys, all that decide and no others.
// optionalKeys may be missing: without them a container has no name, and a fragment needs no receipts.
var optionalKeys = []string{"id", "name", "required_receipts"}

func known(raw json.RawMessage, keys []string) bool {
	var m map[string]json.RawMessage
	if json.Unmarshal(raw, &m) != nil {
		return false
	}
	for k := range m {
		if !slices.Contains(keys, k) {
			return false
		}
	}
	for _, k := range keys {
		if _, ok := m[k]; !ok && !slices.Contains(optionalKeys, k) {
			return false
		}
	}
	return true
}

// standing is what becomes of a point: denied always, decided by the framework, allowed always.
type standing int

const (
	closed standing = iota
	byFramework
	open
)

var points = func() []string {
	var out []string
	for _, s := range strangers() {
		out = append(out, string(s.Name))
	}
	for _, x := range switched() {
		out = append(out, string(x.step.Name))
	}
	return append(out, string(engine.PointScratchMount))
}()

func (s *side) standing(point string) standing {
	r, has := s.outline.Rules[point]
	switch {
	case s.open[engine.Point(point)]:
		return open
	case has && r.Framework, point == string(engine.PointRWUnmountDevice):
		return byFramework
	case point == string(engine.PointRWMountDevice) && less(mustNumber(version(s.outline, "api_version")), [3]int{0, 11, 0}):
		return byFramework
	}
	return closed
}

func (s *side) pointsWithin(t *side) string {
	for _, p := range points {
		if a, b := s.standing(p), t.standing(p); a > b {
			return p + " is open to more requests"
		}
	}
	return ""
}

func (s *side) switchesWithin(t *side) string {
	for _, x := range switched() {
		mine, _ := s.outline.Switch(x.name)
		theirs, _ := t.outline.Switch(x.name)
		if mine && !theirs {
			return x.name + " is true in one only"
		}
	}
	return ""
}

func (s *side) fragmentsWithin(t *side) string {
	keys := []string{"feed", "includes", "issuer", "minimum_svn", "required_receipts"}
	for i, f := range s.outline.Fragments {
		covered := slices.ContainsFunc(t.outline.Fragments, func(g outline.Fragment) bool {
			if canonical(f.Raw) == canonical(g.Raw) {
				return true
			}
			a, errA := strconv.Atoi(f.MinimumSVN)
			b, errB := strconv.Atoi(g.MinimumSVN)
			return known(f.Raw, keys) && known(g.Raw, keys) && f.Issuer == g.Issuer && f.Feed == g.Feed &&
				errA == nil && errB == nil && b <= a && subset(f.Includes, g.Includes) &&
				subset(g.RequiredReceipts, f.RequiredReceipts)
		})
		if !covered {
			return fmt.Sprintf("no fragment of the other policy covers fragments[%d]", i)
		}
	}
	return ""
}

// trustListsWithin looks for lists that bring the same keys: with more keys, more receipts count.
func (s *side) trustListsWithin(t *side) string {
	if len(s.outline.TrustLists) > 0 && (less(mustNumber(version(t.outline, "framework_version")), [3]int{0, 5, 0}) ||
		less(mustNumber(version(t.outline, "api_version")), [3]int{0, 12, 0})) {
		return "the other policy's versions know no trust lists"
	}
	keys := []string{"allowed_ledgers", "issuer", "minimum_svn", "subject"}
	for i, l := range s.outline.TrustLists {
		covered := slices.ContainsFunc(t.outline.TrustLists, func(m outline.TrustList) bool {
			a, errA := strconv.Atoi(l.MinimumSVN)
			b, errB := strconv.Atoi(m.MinimumSVN)
			return known(l.Raw, keys) && known(m.Raw, keys) && l.Issuer == m.Issuer && l.Subject == m.Subject &&
				errA == nil && errB == nil && b <= a && (subset(l.AllowedLedgers, m.AllowedLedgers) || slices.Contains(m.AllowedLedgers, "*"))
		})
		if !covered {
			return fmt.Sprintf("no trust list of the other policy covers transparency_trust_lists[%d]", i)
		}
	}
	return ""
}

func (s *side) containersWithin(t *side) string {
	mine, theirs := version(s.outline, "framework_version"), version(t.outline, "framework_version")
	full := [3]int{0, 2, 3}
	if mine != theirs && (less(mustNumber(mine), full) || less(mustNumber(theirs), full)) {
		return "framework versions before 0.2.3 differ in what they enforce"
	}
	for i, c := range s.outline.Containers {
		covered := false
		stdio := map[bool]bool{}
		for _, d := range t.outline.Containers {
			if strings.Join(c.Layers, "/") != strings.Join(d.Layers, "/") { // as the engine groups them
				continue
			}
			stdio[d.AllowStdioAccess] = true
			covered = covered || covers(signals(d.Container, theirs), signals(c.Container, mine))
		}
		switch {
		case !covered:
			return fmt.Sprintf("no container of the other policy covers containers[%d]", i)
		case len(stdio) > 1:
			return fmt.Sprintf("containers with the layers of containers[%d] differ in allow_stdio_access", i)
		}
	}
	return ""
}

// signals adds what frameworks before 0.4.1 let everybody send.
func signals(c policy.Container, framework string) policy.Container {
	if less(mustNumber(framework), [3]int{0, 4, 1}) {
		c.Signals = append(slices.Clone(c.Signals), 9, 15)
	}
	return c
}

// covers says that big agrees with every request that small agrees with, and gives it no less.
func covers(big, small policy.Container) bool {
	if !slices.Equal(small.Layers, big.Layers) {
		return false
	}
	if small.Command == nil {
		return true // it can be mounted, and never created
	}
	return big.Command != nil && slices.Equal(small.Command, big.Command) && small.WorkingDir == big.WorkingDir &&
		small.SeccompProfileSHA256 == big.SeccompProfileSHA256 &&
		(!small.AllowElevated || big.AllowElevated) && (!small.AllowStdioAccess || big.AllowStdioAccess) &&
		(small.NoNewPrivileges || !big.NoNewPrivileges) &&
		coversUser(big.User, small.User) && sameSets(big.Capabilities, small.Capabilities) &&
		subset(small.Signals, big.Signals) && each(small.Mounts, big.Mounts, coversMount) &&
		each(small.EnvRules, big.EnvRules, coversVariable) && requiredByBoth(big, small) &&
		each(small.ExecProcesses, big.ExecProcesses, func(b, a policy.ExecProcess) bool {
			return slices.Equal(a.Command, b.Command) && subset(a.Signals, b.Signals)
		})
}

// each says that every element of small is covered by one of big.
func each[T any](small, big []T, covers func(big, small T) bool) bool {
	for _, a := range small {
		if !slices.ContainsFunc(big, func(b T) bool { return covers(b, a) }) {
			return false
		}
	}
	return true
}

func coversUser(big, small policy.User) bool {
	who := func(b, a policy.IDName) bool { return b.Strategy == policy.StrategyAny || a == b }
	return big.Umask == small.Umask && who(big.UserIDName, small.UserIDName) && each(small.GroupIDNames, big.GroupIDNames, who)
}

func coversMount(big, small policy.Mount) bool {
	return big.Destination == small.Destination && big.Source == small.Source && big.Type == small.Type &&
		subset(big.Options, small.Options) && subset(small.Options, big.Options)
}

func coversVariable(big, small policy.EnvRule) bool {
	big.Required, small.Required = false, false
	if big == small {
		return true
	}
	return small.NameStrategy == "" && big.NameStrategy == "" && small.Strategy == policy.StrategyString &&
		big.Strategy == policy.StrategyRegexp && matches(big.Pattern, small.Pattern)
}

// requiredByBoth says that whoever meets small's requirements meets big's.
func requiredByBoth(big, small policy.Container) bool {
	for _, b := range big.EnvRules {
		if b.Required && !slices.ContainsFunc(small.EnvRules, func(a policy.EnvRule) bool { return a.Required && coversVariable(b, a) }) {
			return false
		}
	}
	return true
}

func sameSets(a, b policy.Capabilities) bool {
	same := func(x, y []string) bool { return subset(x, y) && subset(y, x) }
	return same(a.Ambient, b.Ambient) && same(a.Bounding, b.Bounding) && same(a.Effective, b.Effective) &&
		same(a.Inheritable, b.Inheritable) && same(a.Permitted, b.Permitted)
}

func subset[T comparable](a, b []T) bool {
	return !slices.ContainsFunc(a, func(x T) bool { return !slices.Contains(b, x) })
}

func version(o *outline.Outline, name string) string {
	v, _ := o.Version(name)
	return v
}

func number(v string) (out [3]int, ok bool) {
	parts := strings.Split(v, ".")
	if len(parts) != len(out) {
		return out, false
	}
	for i, p := range parts {
		n, err := strconv.Atoi(p)
		if err != nil || n < 0 {
			return out, false
		}
		out[i] = n
	}
	return out, true
}

// mustNumber is for versions that have been found readable; anything else is as new as can be.
func mustNumber(v string) [3]int {
	n, ok := number(v)
	if !ok {
		return [3]int{1 << 30}
	}
	return n
}

func less(a, b [3]int) bool { return slices.Compare(a[:], b[:]) < 0 }
