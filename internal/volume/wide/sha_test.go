// SPDX-License-Identifier: Apache-2.0

package wide

import (
	"crypto/sha256"
	"math/rand/v2"
	"testing"

	"pgregory.net/rapid"
)

// TestPair compares with crypto/sha256.
func TestPair(t *testing.T) {
	t.Parallel()
	if NewPair(make([]byte, saltSize)) == nil {
		t.Skip("this processor has no SHA extensions")
	}
	rapid.Check(t, func(r *rapid.T) {
		var seed [32]byte
		copy(seed[:], rapid.SliceOfN(rapid.Byte(), 32, 32).Draw(r, "seed"))
		random := rand.NewChaCha8(seed)
		n := PairUnit * rapid.IntRange(1, 66).Draw(r, "units")
		salt, a, b := make([]byte, saltSize), make([]byte, n), make([]byte, n)
		for _, p := range [][]byte{salt, a, b} {
			_, _ = random.Read(p) // never fails
		}
		var got [2][sha256.Size]byte
		NewPair(salt).Sum(&got, a, b)
		want := [2][sha256.Size]byte{sha256.Sum256(append(salt[:saltSize:saltSize], a...)), sha256.Sum256(append(salt[:saltSize:saltSize], b...))}
		if got != want {
			r.Fatalf("%x, want %x", got, want)
		}
	})
	for _, n := range []int{0, 31, 33, 64} {
		if NewPair(make([]byte, n)) != nil {
			t.Errorf("a salt of %d bytes was taken", n)
		}
	}
}

func BenchmarkPair(b *testing.B) {
	h := NewPair(make([]byte, saltSize))
	if h == nil {
		b.Skip("this processor has no SHA extensions")
	}
	p := make([]byte, 8192)
	var sums [2][sha256.Size]byte
	b.Run("wide", func(b *testing.B) {
		b.SetBytes(8192)
		for b.Loop() {
			h.Sum(&sums, p[:4096], p[4096:])
		}
	})
	b.Run("crypto-sha256", func(b *testing.B) {
		b.SetBytes(8192)
		for b.Loop() {
			_, _ = sha256.Sum256(p[:4096]), sha256.Sum256(p[4096:])
		}
	})
}
