// SPDX-License-Identifier: Apache-2.0

package guestv1

import (
	"errors"
	"slices"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// Codes of a Denial. They are stable: programs may compare them.
const (
	// CodeBadRequest says that a field does not have the form it must have; no policy was asked.
	CodeBadRequest = "BAD_REQUEST"
	// CodeNoPolicy says that SetPolicy must come first.
	CodeNoPolicy = "NO_POLICY"
	// CodePolicyAlreadySet says that SetPolicy came a second time.
	CodePolicyAlreadySet = "POLICY_ALREADY_SET"
	// CodePolicyMismatch says that the policy's hash is not the one that the launch fixed.
	CodePolicyMismatch = "POLICY_MISMATCH"
	// CodePolicyInvalid says that the policy is the right one and can not be enforced.
	CodePolicyInvalid = "POLICY_INVALID"
	// CodeFragmentInvalid says that a fragment is not one, or that its signature does not verify.
	CodeFragmentInvalid = "FRAGMENT_INVALID"
	// CodeTrustListInvalid says that a trust list is not one, or that its signature does not verify.
	CodeTrustListInvalid = "TRUST_LIST_INVALID"
	// CodePolicyDenied says that the policy was asked and said no.
	CodePolicyDenied = "POLICY_DENIED"
	// CodeWrongState says that the request does not fit what was done before, e.g. a second start.
	CodeWrongState = "WRONG_STATE"
	// CodeNotFound says that the request names something that does not exist.
	CodeNotFound = "NOT_FOUND"
	// CodeTooMany says that a bound of the guest is reached.
	CodeTooMany = "TOO_MANY"
	// CodeBroken says that an earlier operation could not be undone, and that the guest does nothing but power off.
	CodeBroken = "BROKEN"
	// CodeFailed says that the request was allowed and did not succeed; its effects were undone.
	CodeFailed = "OPERATION_FAILED"
)

// Error implements the error interface: one line with everything the denial says.
func (x *Denial) Error() string {
	var b strings.Builder
	if x.GetPoint() != "" {
		b.WriteString(x.GetPoint() + ": ")
	}
	b.WriteString(strings.Join(x.GetReasons(), "; "))
	if x.GetField() != "" {
		b.WriteString(" [" + x.GetField())
		if x.GetExpected() != "" {
			b.WriteString(": want " + x.GetExpected())
		}
		if x.GetActual() != "" {
			b.WriteString(", have " + x.GetActual())
		}
		b.WriteString("]")
	}
	if x.GetFix() != "" {
		b.WriteString("; " + x.GetFix())
	}
	return b.String() + " (" + x.GetCode() + ")"
}

// GRPCStatus returns the status that carries the denial over RPC; package status finds it.
func (x *Denial) GRPCStatus() *status.Status {
	s := status.New(x.statusCode(), x.Error())
	with, err := s.WithDetails(x)
	if err != nil {
		return s // the text says it all too
	}
	return with
}

func (x *Denial) statusCode() codes.Code {
	switch x.GetCode() {
	case CodeBadRequest, CodePolicyInvalid:
		return codes.InvalidArgument
	case CodePolicyDenied, CodePolicyMismatch:
		return codes.PermissionDenied
	case CodeNoPolicy, CodePolicyAlreadySet, CodeWrongState, CodeBroken:
		return codes.FailedPrecondition
	case CodeNotFound:
		return codes.NotFound
	case CodeTooMany:
		return codes.ResourceExhausted
	}
	return codes.Internal
}

// DenialFrom returns the denial that err carries, as a value or as the detail of an RPC status; nil if it carries none.
func DenialFrom(err error) *Denial {
	if err == nil {
		return nil
	}
	var d *Denial
	if errors.As(err, &d) {
		return d
	}
	s, ok := status.FromError(err)
	if !ok {
		return nil
	}
	for _, detail := range s.Details() {
		d, ok := detail.(*Denial)
		if ok {
			return d
		}
	}
	return nil
}

// Redact replaces the values of the environment variables env (NAME=VALUE) wherever a reason quotes such a variable
// whole, so that a denial can be logged.
func (x *Denial) Redact(env []string) {
	byLength := slices.Clone(env) // longest first: one variable may be the beginning of another
	slices.SortFunc(byLength, func(a, b string) int { return len(b) - len(a) })
	for i, r := range x.GetReasons() {
		for _, kv := range byLength {
			name, value, ok := strings.Cut(kv, "=")
			if ok && value != "" {
				r = strings.ReplaceAll(r, kv, name+"=[redacted]")
			}
		}
		x.Reasons[i] = r
	}
}
