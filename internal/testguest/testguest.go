// SPDX-License-Identifier: Apache-2.0

// Package testguest is a machine with guests for tests of whatever takes evidence: a simulated processor whose guests are
// launched on files that are no programs, and whose reports are as good as those of a booted one. It trusts nothing, and is
// never part of a program.
package testguest

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"cofferdam.dev/attest"
	"cofferdam.dev/evidence/snp"
	"cofferdam.dev/internal/simsp"
	"cofferdam.dev/verify/anchor"
)

// Machine is a simulated machine.
type Machine struct {
	// Dir has its keys and settings.
	Dir string
	// Root is its root, under the name "test".
	Root anchor.Root

	processor *simsp.Processor
	mu        sync.Mutex
	guests    map[string]*Guest
}

// Guest is a guest of the machine: reports come from it, and say this of it. It lives as long as the process.
type Guest struct {
	attest.Provider

	Measurement [48]byte
	HostData    [32]byte
}

// shared is the one machine of a test binary: to make its keys takes seconds.
var shared struct {
	once sync.Once
	dir  string
	m    *Machine
	err  error
}

// Main runs the tests of a package that use Shared, and removes the machine afterwards. It is for TestMain, and returns the
// exit code.
func Main(m *testing.M) int {
	dir, err := os.MkdirTemp("", "testguest")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer func() { _ = os.RemoveAll(dir) }() // of no use any more
	shared.dir = dir
	return m.Run()
}

// Shared returns the machine that all tests of the package share. It is made when it is asked for first.
func Shared(t testing.TB) *Machine {
	t.Helper()
	if shared.dir == "" {
		t.Fatal("TestMain of the package does not call testguest.Main")
	}
	shared.once.Do(func() { shared.m, shared.err = open(filepath.Join(shared.dir, "simsp")) })
	if shared.err != nil {
		t.Fatal(shared.err)
	}
	return shared.m
}

func open(dir string) (*Machine, error) {
	p, err := simsp.Open(dir)
	if err != nil {
		return nil, err
	}
	ark, _ := p.Chain()
	root, err := anchor.NewRoot(anchor.Simulated, "test", ark)
	if err != nil {
		return nil, err
	}
	return &Machine{Dir: dir, Root: root, processor: p, guests: map[string]*Guest{}}, nil
}

// Guest returns the guest whose host data are the SHA-256 of the text, and whose measurement differs from that of others.
func (m *Machine) Guest(t testing.TB, text string) *Guest {
	t.Helper()
	m.mu.Lock()
	defer m.mu.Unlock()
	if g := m.guests[text]; g != nil {
		return g
	}
	g, err := m.launch(text)
	if err != nil {
		t.Fatal(err)
	}
	m.guests[text] = g
	return g
}

func (m *Machine) launch(text string) (*Guest, error) {
	l := simsp.Launch{HostData: sha256.Sum256([]byte(text)), VCPUs: 1, Policy: snp.PolicyReservedOne | snp.PolicySMT}
	l.KernelPath = m.Dir + "-" + hex.EncodeToString(l.HostData[:8])
	l.InitrdPath = l.KernelPath
	if err := os.WriteFile(l.KernelPath, []byte("\x7fELF"+text), 0o600); err != nil {
		return nil, err
	}
	g, err := m.processor.Launch(l)
	if err != nil {
		return nil, err
	}
	ours, theirs := net.Pipe()
	go func() { _ = g.Serve(context.Background(), theirs) }() // ends with the process
	return &Guest{attest.OpenSimulated(ours), g.Measurement(), l.HostData}, nil
}
