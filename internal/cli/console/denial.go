// SPDX-License-Identifier: Apache-2.0

package console

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
	return Refusal(d)
}

// Refusal shows a denial: what was asked, why it was refused, the field at fault, what to change.
func Refusal(d *guestv1.Denial) *Failure {
	f := &Failure{Code: ExitRefused, Fix: OneLine(d.GetFix()), decision: OneLine(d.GetDecision())}
	f.Err = fmt.Errorf("the guest refused %s (%s)", OneLine(d.GetPoint()), OneLine(d.GetCode()))
	switch d.GetCode() {
	case guestv1.CodeFailed, guestv1.CodeNotFound, guestv1.CodeWrongState, guestv1.CodeTooMany, guestv1.CodeBroken, guestv1.CodeBadRequest:
		// No policy said no: it did not work, or makes no sense.
		f.Code = ExitError
		f.Err = fmt.Errorf("%s failed in the guest (%s)", OneLine(d.GetPoint()), OneLine(d.GetCode()))
	}
	for _, r := range d.GetReasons() {
		f.Details = append(f.Details, "reason: "+OneLine(r))
	}
	if d.GetField() != "" {
		f.Details = append(f.Details, "field: "+OneLine(d.GetField()))
	}
	if d.GetExpected() != "" {
		f.Details = append(f.Details, "expected: "+OneLine(d.GetExpected()))
	}
	if d.GetActual() != "" {
		f.Details = append(f.Details, "actual: "+OneLine(d.GetActual()))
	}
	return f
}
