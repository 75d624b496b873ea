// SPDX-License-Identifier: Apache-2.0

package appraisal

import (
	"slices"

	"cofferdam.dev/verify"
	"cofferdam.dev/verify/check"
)

// Change is how two verdicts about the same evidence differ.
type Change struct {
	// Before and After are the outcomes.
	Before verify.Outcome `json:"before"`
	After  verify.Outcome `json:"after"`
	// Worse are the checks of the second verdict that did not pass and did not fail so in the first, Better those of the
	// first that did not pass and are not so in the second.
	Worse  []check.Check `json:"worse,omitempty"`
	Better []check.Check `json:"better,omitempty"`
}

// Changed reports whether the outcome differs.
func (c Change) Changed() bool { return c.Before != c.After }

// Compare says how the second verdict differs from the first. Checks count as the same when name, code and result are.
func Compare(before, after *verify.Verdict) Change {
	return Change{
		Before: before.Outcome, After: after.Outcome, Worse: without(after.Failures(), before.Failures()),
		Better: without(before.Failures(), after.Failures()),
	}
}

// without returns the checks of a list that the other does not have.
func without(list, other []check.Check) []check.Check {
	return slices.DeleteFunc(slices.Clone(list), func(c check.Check) bool {
		return slices.ContainsFunc(other, func(o check.Check) bool { return Same(c, o) })
	})
}

// Same reports whether two checks have the same name, code and result. Words and values may differ.
func Same(a, b check.Check) bool { return a.Name == b.Name && a.Code == b.Code && a.Result == b.Result }
