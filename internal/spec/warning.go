// SPDX-License-Identifier: Apache-2.0

package spec

import (
	"fmt"
	"regexp"
	"regexp/syntax"
	"strings"
)

// Warning is something that a person should know about a description that was read.
type Warning struct {
	Code WarningCode
	Path string
	Text string
}

// WarningCode is the kind of a warning.
type WarningCode string

// The kinds of warnings.
const (
	// WarnWildcard: a variable may have any value.
	WarnWildcard WarningCode = "WILDCARD"
	// WarnSecret: a secret value will stand in the policy, which is public.
	WarnSecret WarningCode = "SECRET"
	// WarnIgnored: a part of the description has no influence on the policy.
	WarnIgnored WarningCode = "IGNORED"
	// WarnFragment: a fragment is named whose import is not in the description.
	WarnFragment WarningCode = "FRAGMENT"
	// WarnExpression: something looks like an expression and is none.
	WarnExpression WarningCode = "EXPRESSION"
	// WarnUnknown: a part that no policy depends on is known to a deployment alone.
	WarnUnknown WarningCode = "UNKNOWN"
	// WarnChanged: something was made stricter or clearer than it is written.
	WarnChanged WarningCode = "CHANGED"
)

// String is the warning in one line.
func (w Warning) String() string { return w.Path + ": " + w.Text }

// Warnings collects warnings.
type Warnings []Warning

// Add appends a warning.
func (w *Warnings) Add(code WarningCode, path, format string, args ...any) {
	*w = append(*w, Warning{Code: code, Path: path, Text: fmt.Sprintf(format, args...)})
}

// WildcardError says that the value of an environment variable is not known in advance, so that only a rule that admits
// any value would let the container start, and that nobody approved of such a rule.
type WildcardError struct {
	Variable string
	Cause    error
}

// Error names the variable and the cause.
func (e *WildcardError) Error() string {
	return fmt.Sprintf("the value of %s is not known in advance (%v), and wildcard rules are not approved", e.Variable, e.Cause)
}

// Unwrap returns the cause.
func (e *WildcardError) Unwrap() error { return e.Cause }

// Wildcard is a variable that may have any value.
func Wildcard(name string) EnvVar {
	return EnvVar{Name: regexp.QuoteMeta(name), Value: ".*", Regexp: true}
}

// Matching is a variable whose name and value are regular expressions. An alternation is kept within its part:
// enforcers anchor a rule by text, and A=x|y would become ^A=x|y$, which admits far more than either.
func Matching(name, value string) EnvVar {
	return EnvVar{Name: contained(name), Value: contained(value), Regexp: true}
}

func contained(part string) string {
	re, err := syntax.Parse(part, syntax.Perl)
	if err != nil || !strings.Contains(part, "|") || re.Op == syntax.OpLiteral {
		return part
	}
	return "(?:" + part + ")"
}
