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
	f := &failure{code: exitRefused, fix: oneLine(d.GetFix()), decision: oneLine(d.GetDecision())}
	f.err = fmt.Errorf("the guest refused %s (%s)", oneLine(d.GetPoint()), oneLine(d.GetCode()))
	switch d.GetCode() {
	case guestv1.CodeFailed, guestv1.CodeNotFound, guestv1.CodeWrongState, guestv1.CodeTooMany, guestv1.CodeBroken, guestv1.CodeBadRequest:
		// No policy said no: it did not work, or makes no sense.
		f.code = exitError
		f.err = fmt.Errorf("%s failed in the guest (%s)", oneLine(d.GetPoint()), oneLine(d.GetCode()))
	}
	for _, r := range d.GetReasons() {
		f.details = append(f.details, "reason: "+oneLine(r))
	}
	if d.GetField() != "" {
		f.details = append(f.details, "field: "+oneLine(d.GetField()))
	}
	if d.GetExpected() != "" {
		f.details = append(f.details, "expected: "+oneLine(d.GetExpected()))
	}
	if d.GetActual() != "" {
		f.details = append(f.details, "actual: "+oneLine(d.GetActual()))
	}
	return f
}
