// SPDX-License-Identifier: Apache-2.0

package verify

import (
	"testing"

	"cofferdam.dev/verify/amd"
	"cofferdam.dev/verify/check"
)

// TestNothingIsAcceptedWithoutEveryCheck takes away one mandatory check at a time.
func TestNothingIsAcceptedWithoutEveryCheck(t *testing.T) {
	t.Parallel()
	mandatory := append(amd.Mandatory(), shared...)
	all := func() *Verdict {
		v := &Verdict{}
		for _, n := range mandatory {
			v.Checks = append(v.Checks, check.Check{Name: n, Code: check.CodeOK, Result: check.Pass})
		}
		return v
	}
	v := all()
	if v.conclude(mandatory); v.Outcome != Accepted {
		t.Fatalf("all checks passed and the outcome is %q", v.Outcome)
	}
	if v.conclude(nil); v.Outcome == Accepted {
		t.Error("it is accepted when nothing is mandatory")
	}
	for i, n := range mandatory {
		for name, change := range map[string]func(*Verdict){
			"missing":         func(v *Verdict) { v.Checks = append(v.Checks[:i], v.Checks[i+1:]...) },
			"failed":          func(v *Verdict) { v.Checks[i].Result = check.Fail },
			"undecided":       func(v *Verdict) { v.Checks[i].Result = check.NotDecided },
			"without result":  func(v *Verdict) { v.Checks[i].Result = "" },
			"failed besides":  func(v *Verdict) { v.Checks = append(v.Checks, check.Check{Name: n, Result: check.Fail}) },
			"unknown results": func(v *Verdict) { v.Checks[i].Result = "passed" },
		} {
			v := all()
			change(v)
			if v.conclude(mandatory); v.Outcome == Accepted {
				t.Errorf("%s %s: it is accepted", n, name)
			}
		}
		if n.Title() == "" {
			t.Errorf("%s has no title", n)
		}
	}
	drawn := map[check.Name]bool{check.Time: true}
	for _, n := range picture {
		for _, c := range n.checks {
			drawn[c] = true
		}
	}
	for _, n := range check.Names() {
		if !drawn[n] {
			t.Errorf("%s is in no station of the picture", n)
		}
	}
}
