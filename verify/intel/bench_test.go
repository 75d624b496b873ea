// SPDX-License-Identifier: Apache-2.0

package intel

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"syscall"
	"testing"
	"time"

	"cofferdam.dev/evidence/pcs"
	"cofferdam.dev/verify/anchor"
	"cofferdam.dev/verify/check"
)

// BenchmarkDCAP appraises real quotes: cold, with everything parsed and verified anew, and warm, when machine and
// collateral are known and the quote's own two signatures are left. BenchmarkDCAP/P-256 is what those two cost by
// themselves.
func BenchmarkDCAP(b *testing.B) {
	for _, c := range []struct {
		name, vector string
		status       pcs.Status
	}{{"tdx", "t1", pcs.UpToDate}, {"sgx", "g1", pcs.ConfigurationAndSWHardeningNeeded}} {
		v, p := named(b, c.vector), lenient()
		p.AcceptedStatuses = []pcs.Status{c.status}
		in := v.input(b)
		if _, outcome, codes := judge(b, in, p); outcome != "accepted" {
			b.Fatal(codes)
		}
		for name, cache := range map[string]*Cache{"cold": nil, "warm": newCache()} {
			b.Run(c.name+"/"+name, func(b *testing.B) {
				in := in
				in.Cache = cache
				measure(b, func() {
					var rec check.Record
					if res := Appraise(context.Background(), &rec, in, p); res.TCB.Status != c.status {
						b.Fatal(res.TCB.Status)
					}
				})
			})
		}
	}
	b.Run("P256x2", func(b *testing.B) {
		verify := signature(b, elliptic.P256(), 32)
		measure(b, func() { verify(); verify() })
	})
	b.Run("P384", func(b *testing.B) { measure(b, signature(b, elliptic.P384(), 48)) })
	b.Run("oracle", func(b *testing.B) {
		v := named(b, "t1")
		in := v.input(b)
		measure(b, func() {
			if err := askOracle(in); err != nil {
				b.Fatal(err)
			}
		})
	})
}

// measure runs what is measured, and reports the processor time that it took besides the time by the clock: on a shared
// machine that is what can be compared.
func measure(b *testing.B, f func()) {
	b.Helper()
	start := processorTime(b)
	for b.Loop() {
		f()
	}
	b.ReportMetric(float64(processorTime(b)-start)/float64(b.N), "cpu-ns/op")
}

func processorTime(b *testing.B) time.Duration {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// signature returns a function that verifies one signature.
func signature(b *testing.B, curve elliptic.Curve, size int) func() {
	b.Helper()
	key, err := ecdsa.GenerateKey(curve, rand.Reader)
	if err != nil {
		b.Fatal(err)
	}
	digest := make([]byte, size)
	r, s, err := ecdsa.Sign(rand.Reader, key, digest)
	if err != nil {
		b.Fatal(err)
	}
	return func() {
		if !ecdsa.Verify(&key.PublicKey, digest, r, s) {
			b.Fatal("invalid")
		}
	}
}

// FuzzAppraise looks for a quote that makes the appraisal panic, or that is accepted without being genuine. Its seed is
// made of zeros only: what the vectors are worth, the sweeps show.
func FuzzAppraise(f *testing.F) {
	f.Add(make([]byte, 1024), []byte("log"))
	f.Fuzz(func(t *testing.T, quote, log []byte) {
		in := Input{TEE: td, Quote: quote, EventLog: log, Now: at(t, "2025-06-21T00:00:00Z"), Roots: []anchor.Root{anchor.IntelRoot()}}
		if _, outcome, codes := judge(t, in, lenient()); outcome == "accepted" {
			t.Errorf("accepted: %v", codes)
		}
	})
}
