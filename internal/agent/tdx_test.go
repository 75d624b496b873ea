// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"errors"
	"strings"
	"testing"

	"cofferdam.dev/attest"
	"cofferdam.dev/evidence/tdx"
	"cofferdam.dev/policy"
)

// fakeTD plays the TDX module for local reports, and a host's service that lies in quotes.
type fakeTD struct {
	configID [48]byte
	stale    bool
	err      error
}

func (*fakeTD) Kind() string { return "fake TD" }

func (p *fakeTD) Report(context.Context, [64]byte) (*attest.Result, error) {
	return nil, errors.New("a quote was asked for, which the guest must not rely on")
}

func (p *fakeTD) LocalReport(_ context.Context, data [64]byte) (*tdx.Report, error) {
	if p.stale {
		data[0] ^= 1
	}
	return &tdx.Report{ReportData: data, TD: tdx.Info{MRConfigID: p.configID}}, p.err
}

// TestPolicyHashOfATD takes the hash from MRCONFIGID of the local report, and from nothing else.
func TestPolicyHashOfATD(t *testing.T) {
	t.Parallel()
	hash := policy.Hash([]byte("package policy"))
	var id [48]byte
	copy(id[:], hash[:])
	got, err := ownHostData(t.Context(), &fakeTD{configID: id})
	if err != nil || got != hash {
		t.Errorf("host data is %x, %v; want %x", got, err, hash)
	}
	longer := id
	longer[47] = 1
	for name, c := range map[string]struct {
		td   *fakeTD
		want string
	}{
		"a longer digest": {&fakeTD{configID: longer}, "MRCONFIGID"},
		"stale report":    {&fakeTD{configID: id, stale: true}, "report data"},
		"no report":       {&fakeTD{configID: id, err: errors.New("broken")}, "broken"},
	} {
		got, err := ownHostData(t.Context(), c.td)
		if err == nil || got != [32]byte{} || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %x, %v", name, got, err)
		}
	}
}
