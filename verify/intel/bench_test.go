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
		measure := func(name string, cache *Cache) {
			b.Run(c.name+"/"+name, func(b *testing.B) {
				in := in
				in.Cache = cache
				began := cpuTime(b)
				for b.Loop() {
					var rec check.Record
					if res := Appraise(context.Background(), &rec, in, p); res.TCB.Status != c.status {
						b.Fatal(res.TCB.Status)
					}
				}
				perSecond(b, began)
			})
		}
		measure("cold", nil)
		measure("warm", newCache())
	}
	b.Run("P-256", func(b *testing.B) {
		verify, began := signature(b, elliptic.P256(), 32), cpuTime(b)
		for b.Loop() {
			verify()
			verify()
		}
		perSecond(b, began)
	})
	b.Run("P-384", func(b *testing.B) {
		verify, began := signature(b, elliptic.P384(), 48), cpuTime(b)
		for b.Loop() {
			verify()
		}
		perSecond(b, began)
	})
	b.Run("oracle", func(b *testing.B) {
		v := named(b, "t1")
		in, began := v.input(b), cpuTime(b)
		for b.Loop() {
			if err := askOracle(in); err != nil {
				b.Fatal(err)
			}
		}
		perSecond(b, began)
	})
}

// cpuTime is the time that this process has spent on processors, which other processes of a busy machine do not change.
func cpuTime(b *testing.B) time.Duration {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// perSecond reports the rounds per second of processor time.
func perSecond(b *testing.B, began time.Duration) {
	b.Helper()
	b.ReportMetric(float64(b.N)/(cpuTime(b)-began).Seconds(), "1/cpu-s")
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
