// SPDX-License-Identifier: Apache-2.0

package verify

import (
	"bytes"
	"context"
	"testing"

	"cofferdam.dev/evidence"
	"cofferdam.dev/verify/amd"
	"cofferdam.dev/verify/anchor"
	"cofferdam.dev/verify/intel"
)

// FuzzAppraise looks for evidence that makes the appraisal panic, or that is accepted without being genuine.
func FuzzAppraise(f *testing.F) {
	f.Add(make([]byte, 1184), []byte{0x30, 0}, []byte("nonce-nonce"))
	opts := Options{Roots: anchor.AMDRoots(), Now: vectorTime, Source: evidence.SourceHost, SNP: amd.Policy{MinimumTCB: anyTCB,
		AllowDebug: true, Providers: []string{"p"}, AllowMigrationAgent: true, AllowProvisionalTCB: true, MaxVMPL: 1<<32 - 1}}
	f.Fuzz(func(t *testing.T, report, cert, nonce []byte) {
		doc := &evidence.Document{Type: evidence.TypeSEVSNP, Report: report, Certificates: [][]byte{cert},
			Source: evidence.SourceHost, Nonce: nonce}
		o := opts
		o.Nonce = nonce
		if len(report) == 1184 {
			o.Measurements = [][]byte{report[0x90:0xc0]}
			o.HostData = [][32]byte{[32]byte(report[0xc0:0xe0])}
		}
		v := Appraise(context.Background(), doc, o)
		if v.Outcome != Refused && v.Outcome != Undecided {
			t.Errorf("outcome is %q", v.Outcome)
		}
	})
}

// FuzzDocument looks for documents of any kind that make the appraisal or the picture panic, or that are accepted without
// being genuine: every rule is as open as can be, and the nonce is one that no genuine evidence answers.
func FuzzDocument(f *testing.F) {
	for _, kind := range []string{evidence.TypeSEVSNP, evidence.TypeTDX, evidence.TypeSGX, evidence.TypeAzureVTPM} {
		doc := &evidence.Document{
			Type: kind, Report: make([]byte, 1184), Certificates: [][]byte{{0x30, 0}}, Source: evidence.SourceHost, Nonce: []byte("nonce-nonce"),
			Endorsements: [][]byte{{0xd2, 0x84}}, EventLog: []byte{1}, Collateral: map[string]evidence.Item{"amd/crl/Milan": {Body: []byte{0x30, 0}}},
		}
		b, err := doc.Marshal()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	td, enclave := intel.DefaultTDX(), intel.DefaultSGX()
	td.AllowDebug, enclave.AllowDebug = true, true
	opts := Options{
		Roots: append(anchor.AMDRoots(), anchor.IntelRoot()), Now: vectorTime, Source: evidence.SourceHost, Nonce: []byte("nonce-nonce"),
		HostData: [][32]byte{{}}, Measurements: [][]byte{make([]byte, 48), make([]byte, 32)}, Intel: intel.Policy{TDX: &td, SGX: &enclave},
		SNP: amd.Policy{MinimumTCB: anyTCB, AllowDebug: true, AllowProvisionalTCB: true, AllowMaskedChip: true},
	}
	verifier := NewVerifier(100)
	f.Fuzz(func(t *testing.T, b []byte) {
		doc, err := evidence.ParseDocument(b)
		if err != nil {
			return
		}
		v := verifier.Appraise(context.Background(), doc, opts)
		if v.Outcome != Refused && v.Outcome != Undecided {
			t.Errorf("outcome is %q", v.Outcome)
		}
		var picture bytes.Buffer
		if err := Render(&picture, v, true); err != nil {
			t.Fatal(err)
		}
	})
}
