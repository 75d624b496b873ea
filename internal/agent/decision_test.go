// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	guestv1 "cofferdam.dev/api/guest/v1"
	"cofferdam.dev/internal/testchain"
	encoding "cofferdam.dev/policy/denial"
)

// TestDenialCarriesTheRequest has the real engine refuse: what was asked for can be read out of the denial by whoever
// has only a log, and no value of a variable is in it.
func TestDenialCarriesTheRequest(t *testing.T) {
	t.Parallel()
	message := sign(t, testchain.New(t, "Publisher", nil), "registry/app", fragmentText(t, "3"), nil)
	r := enforced(t, importing(t, message, "2"))
	_, err := r.LoadFragment(t.Context(), &guestv1.LoadFragmentRequest{Message: message})
	if err != nil {
		t.Fatal(err)
	}
	mounted(t, r)
	other := createRequest(idA)
	other.Command, other.Env = []string{"/bin/false"}, []string{"TOKEN=s3cret"}
	_, err = r.CreateContainer(t.Context(), other)
	d := guestv1.DenialFrom(err)
	if d.GetCode() != guestv1.CodePolicyDenied {
		t.Fatalf("got %v, want %s", err, guestv1.CodePolicyDenied)
	}
	got, err := encoding.Decode("rpc error: " + d.GetDecision() + ": unknown")
	if err != nil {
		t.Fatalf("%q: %v", d.GetDecision(), err)
	}
	if diff := cmp.Diff(d.GetReasons(), got.Errors); diff != "" {
		t.Errorf("reasons (-denial +decision):\n%s", diff)
	}
	want := map[string]any{
		"rule": "create_container", "containerID": idA, "argList": []any{"/bin/false"},
		"envList": []any{"TOKEN=" + encoding.Redacted}, "umask": "0022",
	}
	for key, value := range want {
		if diff := cmp.Diff(value, got.Input[key]); diff != "" {
			t.Errorf("%s (-want +got):\n%s", key, diff)
		}
	}
	if all := fmt.Sprint(got, err); strings.Contains(all, "s3cret") {
		t.Errorf("the decision tells a secret: %s", all)
	}
	if got.Input["user"] == nil || strings.Contains(d.Error(), "policyDecision") {
		t.Errorf("user is %v, text is %q", got.Input["user"], d.Error())
	}
}

// TestLongDenial keeps the decision within what error channels carry: the input is left out, the reasons stay.
func TestLongDenial(t *testing.T) {
	t.Parallel()
	message := sign(t, testchain.New(t, "Publisher", nil), "registry/app", fragmentText(t, "3"), nil)
	r := enforced(t, importing(t, message, "2"))
	_, err := r.LoadFragment(t.Context(), &guestv1.LoadFragmentRequest{Message: message})
	if err != nil {
		t.Fatal(err)
	}
	mounted(t, r)
	other := createRequest(idA)
	other.Command = []string{"/bin/false", strings.Repeat("x", encoding.MaxMessage)}
	_, err = r.CreateContainer(t.Context(), other)
	text := guestv1.DenialFrom(err).GetDecision()
	got, err := encoding.Decode(text)
	if err != nil || len(text) > encoding.MaxMessage {
		t.Fatalf("%d bytes, %v", len(text), err)
	}
	if got.Input != nil || len(got.Errors) == 0 || !cmp.Equal(got.Truncated, []string{encoding.TruncatedInput}) {
		t.Errorf("got %+v", got)
	}
}
