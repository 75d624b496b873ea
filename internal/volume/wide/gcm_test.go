// SPDX-License-Identifier: Apache-2.0

package wide

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"math/rand/v2"
	"testing"

	"pgregory.net/rapid"
)

func oracle(t testing.TB, key []byte) cipher.AEAD {
	t.Helper()
	b, err := aes.NewCipher(key)
	if err != nil {
		t.Fatal(err)
	}
	g, err := cipher.NewGCM(b)
	if err != nil {
		t.Fatal(err)
	}
	return g
}

func needs(t testing.TB) {
	t.Helper()
	if !Available() {
		t.Skip("this processor has no VAES with registers of 512 bits")
	}
}

// TestOpen opens what crypto/cipher sealed, and nothing of which one bit is another.
func TestOpen(t *testing.T) {
	t.Parallel()
	needs(t)
	rapid.Check(t, func(r *rapid.T) {
		var seed [32]byte
		copy(seed[:], rapid.SliceOfN(rapid.Byte(), 32, 32).Draw(r, "seed"))
		random := rand.NewChaCha8(seed)
		key, plain := make([]byte, KeySize), make([]byte, Step*rapid.IntRange(1, 17).Draw(r, "steps"))
		data := make([]byte, rapid.IntRange(0, 70).Draw(r, "additional"))
		var nonce [NonceSize]byte
		for _, p := range [][]byte{key, plain, data, nonce[:]} {
			_, _ = random.Read(p) // never fails
		}
		sealed := oracle(t, key).Seal(nil, nonce[:], plain, data)
		g := NewGCM(key)
		message, tag := bytes.Clone(sealed[:len(plain)]), [TagSize]byte(sealed[len(plain):])
		if !g.Open(message, &nonce, &tag, data) || !bytes.Equal(message, plain) {
			r.Fatal("it was not opened, or to something else")
		}
		damaged := bytes.Clone(sealed)
		bit := rapid.IntRange(0, 8*len(damaged)-1).Draw(r, "bit")
		damaged[bit/8] ^= 1 << (bit % 8)
		message, tag = damaged[:len(plain)], [TagSize]byte(damaged[len(plain):])
		if g.Open(message, &nonce, &tag, data) || !bytes.Equal(message, make([]byte, len(message))) {
			r.Fatal("it was opened, or something was left of it")
		}
	})
}

// TestEveryBit changes each bit of a message, of its tag, its nonce and its additional data.
func TestEveryBit(t *testing.T) {
	t.Parallel()
	needs(t)
	key := make([]byte, KeySize)
	var nonce [NonceSize]byte
	data := make([]byte, 37)
	sealed := oracle(t, key).Seal(nil, nonce[:], make([]byte, Step), data)
	g, tag := NewGCM(key), [TagSize]byte(sealed[Step:])
	for name, p := range map[string][]byte{"message": sealed[:Step], "tag": tag[:], "nonce": nonce[:], "additional data": data} {
		for bit := range 8 * len(p) {
			p[bit/8] ^= 1 << (bit % 8)
			message := bytes.Clone(sealed[:Step])
			if g.Open(message, &nonce, &tag, data) || !bytes.Equal(message, make([]byte, Step)) {
				t.Fatalf("bit %d of the %s: it was opened, or something was left of it", bit, name)
			}
			p[bit/8] ^= 1 << (bit % 8)
		}
	}
	if !g.Open(sealed[:Step], &nonce, &tag, data) {
		t.Error("with nothing changed it was not opened")
	}
}

func BenchmarkOpen(b *testing.B) {
	needs(b)
	key := make([]byte, KeySize)
	g, o := NewGCM(key), oracle(b, key)
	var nonce [NonceSize]byte
	label := make([]byte, 48)
	sealed := o.Seal(nil, nonce[:], make([]byte, 4096), label)
	tag := [TagSize]byte(sealed[4096:])
	p := make([]byte, 4096)
	b.Run("wide", func(b *testing.B) {
		b.SetBytes(4096)
		b.ReportAllocs()
		for b.Loop() {
			copy(p, sealed)
			if !g.Open(p, &nonce, &tag, label) {
				b.Fatal("not opened")
			}
		}
	})
	b.Run("crypto-cipher", func(b *testing.B) {
		b.SetBytes(4096)
		buf := make([]byte, len(sealed))
		for b.Loop() {
			copy(buf, sealed)
			if _, err := o.Open(buf[:0], nonce[:], buf, label); err != nil {
				b.Fatal(err)
			}
		}
	})
}
