// SPDX-License-Identifier: Apache-2.0

package ratls

import (
	"context"
	"crypto/sha256"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"cofferdam.dev/attest"
	"cofferdam.dev/evidence"
	"cofferdam.dev/evidence/snp"
	"cofferdam.dev/internal/simsp"
	"cofferdam.dev/verify"
	"cofferdam.dev/verify/amd"
	"cofferdam.dev/verify/anchor"
)

// world is a simulated machine with two guests. Its keys take seconds, so that the tests share it.
var world struct {
	once sync.Once
	dir  string
	err  error
	root anchor.Root
	a, b *guest
}

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "ratls")
	if err != nil {
		panic(err)
	}
	world.dir = dir
	code := m.Run()
	_ = os.RemoveAll(dir) // of no use any more
	os.Exit(code)
}

// guest is a guest of the simulated machine as an attester.
type guest struct {
	provider attest.Provider
	measured [48]byte
	hostData [32]byte
}

func guests(t testing.TB) (a, b *guest) {
	t.Helper()
	world.once.Do(func() { world.err = makeWorld(world.dir) })
	if world.err != nil {
		t.Fatal(world.err)
	}
	return world.a, world.b
}

func makeWorld(dir string) error {
	p, err := simsp.Open(filepath.Join(dir, "simsp"))
	if err != nil {
		return err
	}
	ark, _ := p.Chain()
	if world.root, err = anchor.NewRoot(anchor.Simulated, "test", ark); err != nil {
		return err
	}
	if world.a, err = launch(p, dir, "a"); err != nil {
		return err
	}
	world.b, err = launch(p, dir, "b")
	return err
}

func launch(p *simsp.Processor, dir, name string) (*guest, error) {
	file := filepath.Join(dir, name)
	if err := os.WriteFile(file, []byte("\x7fELF"+name), 0o600); err != nil {
		return nil, err
	}
	l := simsp.Launch{
		KernelPath: file, InitrdPath: file, VCPUs: 1, HostData: sha256.Sum256([]byte(name)), Policy: snp.PolicyReservedOne | snp.PolicySMT,
	}
	g, err := p.Launch(l)
	if err != nil {
		return nil, err
	}
	ours, theirs := net.Pipe()
	go func() { _ = g.Serve(context.Background(), theirs) }() // ends with the process
	return &guest{attest.OpenSimulated(ours), g.Measurement(), l.HostData}, nil
}

// Evidence implements Attester.
func (g *guest) Evidence(ctx context.Context, nonce, runtimeData []byte) (*evidence.Document, error) {
	return g.evidence(ctx, evidence.SourceWorkload, nonce, runtimeData)
}

func (g *guest) evidence(ctx context.Context, src evidence.Source, nonce, runtimeData []byte) (*evidence.Document, error) {
	r, err := g.provider.Report(ctx, evidence.ReportData(src, nonce, runtimeData))
	if err != nil {
		return nil, err
	}
	return r.Document(src, nonce, runtimeData)
}

// trusts returns options that accept these guests alone.
func trusts(list ...*guest) PeersOptions {
	o := verify.Options{
		Roots: []anchor.Root{world.root}, AllowSimulated: true, SNP: amd.Policy{MinimumTCB: amd.DefaultMinimumTCB()},
	}
	for _, g := range list {
		o.Measurements = append(o.Measurements, g.measured[:])
		o.HostData = append(o.HostData, g.hostData)
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
