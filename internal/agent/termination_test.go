// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"testing"

	guestv1 "cofferdam.dev/api/guest/v1"
	"cofferdam.dev/internal/agent/container"
)

func terminationLog(q *guestv1.CreateContainerRequest) {
	q.Mounts = append(q.Mounts, &guestv1.Mount{
		Destination: "/dev/termination-log", Source: "sandbox:///tmp/atlas/terminationLog/a", Type: "bind", Options: []string{"rbind", "rw"},
	})
}

func TestTerminationMessage(t *testing.T) {
	t.Parallel()
	ask := func(ctx context.Context, r *rig) (string, string) {
		m, err := r.TerminationMessage(ctx, &guestv1.TerminationMessageRequest{ContainerId: idA})
		return string(m.GetMessage()), guestv1.DenialFrom(err).GetCode()
	}
	r := ready(t)
	mounted(t, r)
	if _, code := ask(t.Context(), r); code != guestv1.CodeNotFound {
		t.Errorf("without a container: %s", code)
	}
	if err := create(terminationLog)(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	if _, code := ask(t.Context(), r); code != guestv1.CodeWrongState {
		t.Errorf("before the end: %s", code)
	}
	r.runtime.handles[idA].End(container.Exit{Message: []byte("out of cheese")})
	for range 2 {
		if m, code := ask(t.Context(), r); code != "" || m != "out of cheese" {
			t.Errorf("after the end: %q, %s", m, code)
		}
		_ = shutdown(t.Context(), r) // it stays until the root filesystem goes
	}
	if err := unmountOverlay(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	if _, code := ask(t.Context(), r); code != guestv1.CodeNotFound {
		t.Errorf("after the root filesystem is gone: %s", code)
	}
}

// TestNoTerminationLog asks for the message of a container that has none of these mounts.
func TestNoTerminationLog(t *testing.T) {
	t.Parallel()
	r := running(t)
	r.runtime.handles[idA].End(container.Exit{Message: []byte("not to be seen")})
	_, err := r.TerminationMessage(t.Context(), &guestv1.TerminationMessageRequest{ContainerId: idA})
	if d := guestv1.DenialFrom(err); d.GetCode() != guestv1.CodeNotFound {
		t.Errorf("got %v, want %s", err, guestv1.CodeNotFound)
	}
	r = ready(t)
	mounted(t, r)
	err = create(func(q *guestv1.CreateContainerRequest) {
		terminationLog(q)
		terminationLog(q)
		q.Mounts[1].Destination = "/other"
	})(t.Context(), r)
	if d := guestv1.DenialFrom(err); d.GetCode() != guestv1.CodeBadRequest || d.GetField() != "mounts[1].source" {
		t.Errorf("two termination logs: %v, want %s", err, guestv1.CodeBadRequest)
	}
	err = done(r.TerminationMessage(t.Context(), &guestv1.TerminationMessageRequest{ContainerId: "x"}))
	if d := guestv1.DenialFrom(err); d.GetCode() != guestv1.CodeBadRequest {
		t.Errorf("an identifier that is none: %v, want %s", err, guestv1.CodeBadRequest)
	}
}
