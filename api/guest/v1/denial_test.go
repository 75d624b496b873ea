// SPDX-License-Identifier: Apache-2.0

package guestv1

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/testing/protocmp"
)

func TestDenialSurvivesRPC(t *testing.T) {
	t.Parallel()
	want := &Denial{
		Code: CodePolicyDenied, Point: "create_container", Reasons: []string{"invalid command"},
		Field: "command", Expected: "a", Actual: "b", Fix: "change it",
	}
	st, ok := status.FromError(fmt.Errorf("handling: %w", want))
	if !ok || st.Code() != codes.PermissionDenied {
		t.Fatalf("status of a denial: %v, %v", st, ok)
	}
	overTheWire := status.ErrorProto(st.Proto())
	got := DenialFrom(fmt.Errorf("creating: %w", overTheWire))
	if diff := cmp.Diff(want, got, protocmp.Transform()); diff != "" {
		t.Errorf("denial after RPC (-want +got):\n%s", diff)
	}
	text := "create_container: invalid command [command: want a, have b]; change it (POLICY_DENIED)"
	if got.Error() != text {
		t.Errorf("text is %q, want %q", got.Error(), text)
	}
}

func TestDenialFromOthers(t *testing.T) {
	t.Parallel()
	for _, err := range []error{nil, errors.New("plain"), status.Error(codes.Internal, "no details")} {
		if d := DenialFrom(err); d != nil {
			t.Errorf("DenialFrom(%v) = %v, want nil", err, d)
		}
	}
}

func TestEveryCodeHasAStatus(t *testing.T) {
	t.Parallel()
	tests := map[string]codes.Code{
		CodeBadRequest: codes.InvalidArgument, CodePolicyInvalid: codes.InvalidArgument,
		CodePolicyDenied: codes.PermissionDenied, CodePolicyMismatch: codes.PermissionDenied,
		CodeNoPolicy: codes.FailedPrecondition, CodePolicyAlreadySet: codes.FailedPrecondition,
		CodeWrongState: codes.FailedPrecondition, CodeBroken: codes.FailedPrecondition,
		CodeNotFound: codes.NotFound, CodeTooMany: codes.ResourceExhausted,
		CodeFailed: codes.Internal, "": codes.Internal,
	}
	for code, want := range tests {
		if got := (&Denial{Code: code}).GRPCStatus().Code(); got != want {
			t.Errorf("status of %q is %v, want %v", code, got, want)
		}
	}
}

func TestRedact(t *testing.T) {
	t.Parallel()
	d := &Denial{Code: CodePolicyDenied, Reasons: []string{"invalid env list: TOKEN=s3cret,TOKEN=s3cretlonger,PATH=/bin"}}
	d.Redact([]string{"TOKEN=s3cret", "TOKEN=s3cretlonger", "EMPTY="})
	if text := d.Error(); strings.Contains(text, "s3cret") || !strings.Contains(text, "PATH=/bin") {
		t.Errorf("after redaction: %s", text)
	}
}
