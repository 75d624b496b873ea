// SPDX-License-Identifier: Apache-2.0

package vault

import (
	"context"
	"testing"
	"time"
)

// deny has a release denied, and returns its ID.
func deny(t *testing.T, w *world) string {
	t.Helper()
	_, err := w.Release(t.Context(), ReleaseRequest{Name: "k", Target: "no token at all"})
	refusal, ok := err.(*Error) //nolint:errorlint // nothing wraps it
	if !ok || refusal.Release == "" {
		t.Fatalf("error is %v, want a denial with an ID", err)
	}
	return refusal.Release
}

// TestDecisionsAreBounded has many more releases denied than are kept: the oldest go, and that is recorded.
func TestDecisionsAreBounded(t *testing.T) {
	t.Parallel()
	const bound = 64 << 10
	w, _ := releaseWorld(t, func(o *Options) { o.DecisionBytes = bound })
	ctx := t.Context()
	if _, err := w.CreateKey(ctx, "k", exportable()); err != nil {
		t.Fatal(err)
	}
	var ids []string
	for range 300 {
		w.clock.Advance(time.Second) // so that their order is known
		ids = append(ids, deny(t, w))
	}
	total, err := w.countDecisions(ctx)
	if err != nil || total <= bound || total != w.kept.bytes.Load() {
		t.Fatalf("%d bytes are kept (%d by the vault's own count), %v; want more than %d", total, w.kept.bytes.Load(), err, bound)
	}
	if err := w.Sweep(ctx); err != nil {
		t.Fatal(err)
	}
	total, err = w.countDecisions(ctx)
	if err != nil || total > bound || total < bound/2 || total != w.kept.bytes.Load() {
		t.Errorf("%d bytes are kept (%d by the vault's own count), %v; want a little less than %d", total, w.kept.bytes.Load(), err, bound)
	}
	if _, err := w.Explain(ctx, ids[0]); codeOf(err) != KeyNotFound {
		t.Errorf("the oldest: %v", err)
	}
	if d, err := w.Explain(ctx, ids[len(ids)-1]); err != nil || d.Allowed {
		t.Errorf("the newest: %+v, %v", d, err)
	}
	if n := w.count(t, "release.forget"); n != 1 {
		t.Errorf("it was recorded %d times", n)
	}
	if err := w.Sweep(ctx); err != nil {
		t.Fatal(err)
	}
	if n := w.count(t, "release.forget"); n != 1 {
		t.Errorf("something was forgotten below the bound: recorded %d times", n)
	}
}

// TestDecisionsAreForgottenInTime forgets as soon as there are too many, not when the next round comes.
func TestDecisionsAreForgottenInTime(t *testing.T) {
	t.Parallel()
	const bound = 8 << 10
	w, _ := releaseWorld(t, func(o *Options) { o.DecisionBytes = bound })
	if _, err := w.CreateKey(t.Context(), "k", exportable()); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		w.Run(ctx)
	}()
	// What is known of the store while it is counted is about right: a bound that seems passed may not be. So there are more,
	// until it surely is.
	for limit := time.Now().Add(time.Minute); w.count(t, "release.forget") == 0; deny(t, w) {
		if time.Now().After(limit) {
			t.Fatal("nothing was forgotten")
		}
	}
	stop()
	<-ended
}
