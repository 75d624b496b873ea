// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"fmt"

	guestv1 "cofferdam.dev/api/guest/v1"
)

// denialOf finds the guest's refusal in an error that came over a channel, nil if there is none.
func denialOf(err error) error {
	d := guestv1.DenialFrom(err)
	if d == nil {
		return nil
	}
	return refusal(d)
}

// refusal shows a denial: what was asked, why it was refused, the field at fault, what to change.
func refusal(d *guestv1.Denial) *failure {
	f := &failure{code: exitRefused, fix: printable(d.GetFix())}
	f.err = fmt.Errorf("the guest refused %s (%s)", printable(d.GetPoint()), printable(d.GetCode()))
	switch d.GetCode() {
	case guestv1.CodeFailed, guestv1.CodeNotFound, guestv1.CodeWrongState, guestv1.CodeTooMany, guestv1.CodeBroken:
		// No policy said no: it did not work.
		f.code = exitError
		f.err = fmt.Errorf("%s failed in the guest (%s)", printable(d.GetPoint()), printable(d.GetCode()))
	}
	for _, r := range d.GetReasons() {
		f.details = append(f.details, "reason: "+printable(r))
	}
	if d.GetField() != "" {
		f.details = append(f.details, "field: "+printable(d.GetField()))
	}
	if d.GetExpected() != "" {
		f.details = append(f.details, "expected: "+printable(d.GetExpected()))
	}
	if d.GetActual() != "" {
		f.details = append(f.details, "actual: "+printable(d.GetActual()))
	}
	return f
}

// printable replaces control characters: what a guest says may hold anything, and it goes to a terminal.
func printable(s string) string {
	out := make([]rune, 0, len(s))
	for _, r := range s {
		if r < ' ' || r == 0x7f || r >= 0x80 && r < 0xa0 {
			r = '?'
		}
		out = append(out, r)
	}
	return string(out)
}
