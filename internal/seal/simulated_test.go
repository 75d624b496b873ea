// SPDX-License-Identifier: Apache-2.0

package seal

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"cofferdam.dev/attest"
	"cofferdam.dev/evidence/snp"
	"cofferdam.dev/internal/testguest"
)

var _ Deriver = (*attest.SEVGuest)(nil)

func TestMain(m *testing.M) { os.Exit(testguest.Main(m)) }

// TestSimulatedTEE seals in a guest of the simulated processor: that guest opens it, and another does not.
func TestSimulatedTEE(t *testing.T) {
	if testing.Short() {
		t.Skip("makes a machine")
	}
	t.Parallel()
	m := testguest.Shared(t)
	tee := func(text string) Deriver {
		d, ok := m.Guest(t, text).Provider.(*attest.Simulated)
		if !ok {
			t.Fatal("the guest's provider is no simulated one")
		}
		return d
	}
	one, other := tee("one"), tee("other")
	path := filepath.Join(t.TempDir(), "root.json")
	r, err := CreateTEE(t.Context(), path, one, TEEOptions{})
	if err != nil {
		t.Fatal(err)
	}
	again, err := OpenTEE(t.Context(), path, one)
	if err != nil || !opens(t, again, mustWrap(t, r)) {
		t.Errorf("the same guest: %v", err)
	}
	if _, err := OpenTEE(t.Context(), path, other); !errors.Is(err, ErrSealed) {
		t.Errorf("another guest: %v", err)
	}
	if _, err := CreateTEE(t.Context(), path+"2", one, TEEOptions{TCB: snp.TCB{255}}); err == nil {
		t.Error("sealed to firmware that is not there yet")
	}
}
