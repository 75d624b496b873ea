// SPDX-License-Identifier: Apache-2.0

package lint

import (
	"regexp"
	"slices"
	"strings"

	"cofferdam.dev/policy"
)

// anchored is what the engine makes of a pattern.
func anchored(p string) string {
	if !strings.HasPrefix(p, "^") {
		p = "^" + p
	}
	if !strings.HasSuffix(p, "$") {
		p += "$"
	}
	return p
}

// pattern judges a regular expression by itself. It returns the expression that is enforced, nil if there is none.
func (l *linter) pattern(p string, line int, at string) *regexp.Regexp {
	re, err := regexp.Compile(anchored(p))
	if err != nil {
		l.add(BadPattern, line, at, "%q: %v", p, err)
		return nil
	}
	if topLevelBar(p) {
		l.add(Alternation, line, at, "%q is anchored as %q: its first alternative matches with anything behind it", p, anchored(p))
	}
	if strings.HasSuffix(p, `\$`) {
		l.add(EscapedAnchor, line, at, "%q has no anchor at its end", p)
	}
	return re
}

// topLevelBar finds a | outside of groups and classes.
func topLevelBar(p string) bool {
	depth, class := 0, 0 // class counts the bytes since its [, 0 outside
	for i := 0; i < len(p); i++ {
		switch c := p[i]; {
		case c == '\\' && strings.HasPrefix(p[i:], `\Q`):
			end := strings.Index(p[i:], `\E`)
			if end < 0 {
				return false
			}
			i += end + 1
		case c == '\\':
			i++
			class += sign(class)
		case class > 0:
			first := class == 1 || class == 2 && p[i-1] == '^'
			class++
			if c == '[' && strings.HasPrefix(p[i:], "[:") {
				if end := strings.Index(p[i:], ":]"); end > 0 {
					i += end + 1
				}
			} else if c == ']' && !first {
				class = 0
			}
		case c == '[':
			class = 1
		case c == '(':
			depth++
		case c == ')':
			depth--
		case c == '|' && depth == 0:
			return true
		}
	}
	return false
}

func sign(n int) int { return min(n, 1) }

// platformRules admit what the platform sets in every container; generated policies have them all.
var platformRules = []string{
	"(?i)(FABRIC)_.+=.+", "HOSTNAME=.+", "T(E)?MP=.+", "FabricPackageFileName=.+", "HostedServiceName=.+",
	"IDENTITY_API_VERSION=.+", "IDENTITY_HEADER=.+", "IDENTITY_SERVER_THUMBPRINT=.+",
	"azurecontainerinstance_restarted_by=.+", "AZURE_CLIENT_ID=.+", "AZURE_TENANT_ID=.+",
	"AZURE_FEDERATED_TOKEN_FILE=.+", "AZURE_AUTHORITY_HOST=.+",
}

// Values and a variable that nobody would list.
const (
	anyName   = "LD_PRELOAD"
	anyValue1 = "/cofferdam/lint;probe 1"
	anyValue2 = "~"
)

func (l *linter) envRule(r policy.EnvRule, line int, at string) {
	if r.NameStrategy != "" {
		l.pairRule(r, line, at)
		return
	}
	if r.Strategy != policy.StrategyRegexp {
		return
	}
	re := l.pattern(r.Pattern, line, at)
	if re == nil {
		return
	}
	name, value, _ := strings.Cut(r.Pattern, "=")
	switch {
	case re.MatchString(anyName + "=" + anyValue1):
		l.add(AnyVariable, line, at, "%q admits %s", r.Pattern, anyName)
	case slices.Contains(platformRules, r.Pattern), strings.HasPrefix(r.Pattern, "[A-Z0-9_]+_"):
	case matchesAll(value):
		l.add(AnyValue, line, at, "%s may have any value", name)
	}
}

func (l *linter) pairRule(r policy.EnvRule, line int, at string) {
	if r.NameStrategy == policy.StrategyRegexp {
		re := l.pattern(r.Name, line, at+".name")
		if re != nil && re.MatchString(anyName) {
			l.add(AnyVariable, line, at, "%q admits %s", r.Name, anyName)
		}
	}
	if r.ValueStrategy == policy.StrategyRegexp {
		re := l.pattern(r.Value, line, at+".value")
		if re != nil && matchesAll(r.Value) && !slices.Contains(platformRules, r.Name+"="+r.Value) {
			l.add(AnyValue, line, at, "%s may have any value", r.Name)
		}
	}
}

// matchesAll says whether a pattern takes values that have nothing in common.
func matchesAll(p string) bool {
	re, err := regexp.Compile(anchored(p))
	return err == nil && re.MatchString(anyValue1) && re.MatchString(anyValue2)
}
