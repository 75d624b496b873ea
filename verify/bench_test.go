// SPDX-License-Identifier: Apache-2.0

package verify

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"syscall"
	"testing"
	"time"

	"cofferdam.dev/evidence"
	"cofferdam.dev/verify/anchor"
)

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

// BenchmarkAppraise appraises real evidence of a machine that was not seen before.
func BenchmarkAppraise(b *testing.B) {
	doc := byName("s6-milan").document(b)
	opts := pinned(b, doc)
	measure(b, func() {
		if v := Appraise(context.Background(), doc, opts); !v.Accepted() {
			b.Fatal(codes(v))
		}
	})
}

// BenchmarkAppraiseAgain appraises the same evidence with a verifier that remembers the machine's certificates.
func BenchmarkAppraiseAgain(b *testing.B) {
	doc := byName("s6-milan").document(b)
	opts := pinned(b, doc)
	f := NewVerifier(anchor.DefaultCacheSize)
	f.Appraise(context.Background(), doc, opts)
	measure(b, func() {
		if v := f.Appraise(context.Background(), doc, opts); !v.Accepted() {
			b.Fatal(codes(v))
		}
	})
}

// BenchmarkParseAndAppraise begins with the JSON text.
func BenchmarkParseAndAppraise(b *testing.B) {
	doc := byName("s6-milan").document(b)
	opts := pinned(b, doc)
	text, err := doc.Marshal()
	if err != nil {
		b.Fatal(err)
	}
	measure(b, func() {
		d, err := evidence.ParseDocument(text)
		if err != nil {
			b.Fatal(err)
		}
		if v := Appraise(context.Background(), d, opts); !v.Accepted() {
			b.Fatal(codes(v))
		}
	})
}

// BenchmarkOracle is the same evidence in the hands of the other implementation.
func BenchmarkOracle(b *testing.B) {
	doc := byName("s6-milan").document(b)
	measure(b, func() {
		if err := oracle(b, doc, vectorTime); err != nil {
			b.Fatal(err)
		}
	})
}

// BenchmarkP384 is the floor: one signature verification.
func BenchmarkP384(b *testing.B) {
	key, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		b.Fatal(err)
	}
	digest := make([]byte, 48)
	r, s, err := ecdsa.Sign(rand.Reader, key, digest)
	if err != nil {
		b.Fatal(err)
	}
	measure(b, func() {
		if !ecdsa.Verify(&key.PublicKey, digest, r, s) {
			b.Fatal("invalid")
		}
	})
}
