// SPDX-License-Identifier: Apache-2.0

package vault

import "testing"

func TestSmoke(t *testing.T) {
	w := newWorld(t, nil)
	k, err := w.CreateKey(t.Context(), "Alpha", KeyRequest{Type: EC})
	if err != nil {
		t.Fatal(err)
	}
	k2, err := w.RotateKey(t.Context(), "alpha")
	if err != nil {
		t.Fatal(err)
	}
	got, err := w.Key(t.Context(), "alpha", k.Version)
	if err != nil || got.Version != k.Version || k2.Version == k.Version {
		t.Fatal(got, err)
	}
	if _, err := w.DeleteKey(t.Context(), "ALPHA"); err != nil {
		t.Fatal(err)
	}
	if _, err := w.CreateKey(t.Context(), "alpha", KeyRequest{Type: EC}); err == nil {
		t.Fatal("made")
	}
	if err := w.PurgeKey(t.Context(), "alpha"); err != nil {
		t.Fatal(err)
	}
	if _, err := w.CreateKey(t.Context(), "alpha", KeyRequest{Type: EC}); err != nil {
		t.Fatal(err)
	}
}
