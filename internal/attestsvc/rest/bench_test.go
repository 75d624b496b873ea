// SPDX-License-Identifier: Apache-2.0

package rest

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"errors"
	"net/http"
	"net/http/httptest"
	"runtime/debug"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"cofferdam.dev/internal/attestsvc"
	"cofferdam.dev/internal/serve"
	"cofferdam.dev/internal/simsp"
)

// measure runs f from several clients at once, so that the audit log commits in groups as it does in use, and reports how
// many a processor core does in a second: on a shared machine that is what can be compared.
func measure(b *testing.B, f func()) {
	b.Helper()
	defer debug.SetGCPercent(debug.SetGCPercent(GCPercent))
	begin := processorTime(b)
	b.SetParallelism(16)
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			f()
		}
	})
	took := processorTime(b) - begin
	b.ReportMetric(float64(took)/float64(b.N), "cpu-ns/op")
	b.ReportMetric(float64(b.N)/took.Seconds(), "ops/cpu-s")
}

func processorTime(b *testing.B) time.Duration {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// machines are requests of as many machines, each with a key and a certificate of its own.
func machines(b *testing.B, n int) [][]byte {
	b.Helper()
	w := theWorld(b)
	bodies := make([][]byte, n)
	for i := range bodies {
		// The key is derived of the chip and its firmware: other firmware is another machine to a verifier.
		_, err := simsp.ChangeMachine(w.dir, func(m *simsp.Machine) error {
			next := m.Current
			next.Microcode++
			return errors.Join(m.Update(next, m.CurrentVersion), m.Commit())
		})
		if err != nil {
			b.Fatal(err)
		}
		bodies[i] = asJSON(b, w.body(b, runtimeJSON))
	}
	return bodies
}

// BenchmarkAttest answers requests, with an audit log that is synced to disk. Cold is for machines that were not seen
// before, or so long ago that they were forgotten; warm is for one that was.
func BenchmarkAttest(b *testing.B) {
	const known = 24 // facts that are remembered; each machine has several
	bodies := machines(b, 32)
	for _, temperature := range []string{"cold", "warm"} {
		var next atomic.Uint64
		f := newFixture(b, func(o *attestsvc.Options, _ *Options) {
			if temperature == "cold" {
				o.CacheSize = known
			}
		})
		for alg, form := range map[string]string{"RS256": "maa", "ES256": "maa-es256"} {
			b.Run(temperature+"/"+alg, func(b *testing.B) {
				measure(b, func() {
					body := bodies[0]
					if temperature == "cold" {
						body = bodies[next.Add(1)%uint64(len(bodies))]
					}
					r := httptest.NewRequestWithContext(context.Background(), http.MethodPost, attestSNP+"&form="+form, bytes.NewReader(body))
					w := httptest.NewRecorder()
					if f.ServeHTTP(w, r); w.Code != http.StatusOK {
						b.Error(w.Body)
					}
				})
			})
		}
	}
}

// BenchmarkAttestHTTP has clients on the same machine, whose part of the work counts, too.
func BenchmarkAttestHTTP(b *testing.B) {
	body := asJSON(b, theWorld(b).body(b, runtimeJSON))
	srv, err := serve.New(b.Context(), serve.Options{Name: "attestation", Address: "127.0.0.1:0", Handler: newFixture(b, nil)})
	if err != nil {
		b.Fatal(err)
	}
	go func() { _ = srv.Run(b.Context()) }() // ends with the benchmark
	measure(b, func() {
		if _, err := send(b.Context(), http.MethodPost, "http://"+srv.Addr()+attestSNP+"&form=maa-es256", body); err != nil {
			b.Error(err)
		}
	})
}

// BenchmarkSignature is the floor: the signatures of which an appraisal is made.
func BenchmarkSignature(b *testing.B) {
	digest := sha256.Sum256(nil)
	chip, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		b.Fatal(err)
	}
	sig, err := ecdsa.SignASN1(rand.Reader, chip, digest[:])
	if err != nil {
		b.Fatal(err)
	}
	b.Run("P384-verify", func(b *testing.B) {
		measure(b, func() {
			if !ecdsa.VerifyASN1(&chip.PublicKey, digest[:], sig) {
				b.Error("invalid")
			}
		})
	})
	own, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		b.Fatal(err)
	}
	root, err := rsa.GenerateKey(rand.Reader, 4096)
	if err != nil {
		b.Fatal(err)
	}
	a, _ := twoSigners(b)
	pss, err := rsa.SignPSS(rand.Reader, root, crypto.SHA256, digest[:], nil)
	if err != nil {
		b.Fatal(err)
	}
	for name, f := range map[string]func() error{
		"P256-sign":      func() error { _, err := ecdsa.SignASN1(rand.Reader, own, digest[:]); return err },
		"RSA2048-sign":   func() error { _, err := rsa.SignPKCS1v15(nil, a.key, crypto.SHA256, digest[:]); return err },
		"RSA4096-verify": func() error { return rsa.VerifyPSS(&root.PublicKey, crypto.SHA256, digest[:], pss, nil) },
	} {
		b.Run(name, func(b *testing.B) {
			measure(b, func() {
				if err := f(); err != nil {
					b.Error(err)
				}
			})
		})
	}
}
