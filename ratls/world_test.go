// SPDX-License-Identifier: Apache-2.0

package ratls

import (
	"context"
	"os"
	"testing"

	"cofferdam.dev/evidence"
	"cofferdam.dev/internal/testguest"
	"cofferdam.dev/verify"
	"cofferdam.dev/verify/amd"
	"cofferdam.dev/verify/anchor"
)

func TestMain(m *testing.M) { os.Exit(testguest.Main(m)) }

// guest is a guest of the simulated machine as an attester.
type guest struct {
	*testguest.Guest

	root anchor.Root
}

func guests(t testing.TB) (a, b *guest) {
	t.Helper()
	m := testguest.Shared(t)
	return &guest{m.Guest(t, "a"), m.Root}, &guest{m.Guest(t, "b"), m.Root}
}

// Evidence implements Attester.
func (g *guest) Evidence(ctx context.Context, nonce, runtimeData []byte) (*evidence.Document, error) {
	return g.evidence(ctx, evidence.SourceWorkload, nonce, runtimeData)
}

func (g *guest) evidence(ctx context.Context, src evidence.Source, nonce, runtimeData []byte) (*evidence.Document, error) {
	r, err := g.Report(ctx, evidence.ReportData(src, nonce, runtimeData))
	if err != nil {
		return nil, err
	}
	return r.Document(src, nonce, runtimeData)
}

// trusts returns options that accept these guests alone.
func trusts(list ...*guest) PeersOptions {
	o := verify.Options{
		AllowSimulated: true, SNP: amd.Policy{MinimumTCB: amd.DefaultMinimumTCB()},
	}
	for _, g := range list {
		o.Roots = []anchor.Root{g.root}
		o.Measurements = append(o.Measurements, g.Measurement[:])
		o.HostData = append(o.HostData, g.HostData)
	}
	return PeersOptions{Verify: o}
}

func identity(t testing.TB, g Attester) *Identity {
	t.Helper()
	i, err := NewIdentity(t.Context(), IdentityOptions{Attester: g, Name: "test"})
	if err != nil {
		t.Fatal(err)
	}
	return i
}
