// SPDX-License-Identifier: Apache-2.0

package wide

import (
	"bytes"
	"crypto/aes"
	"encoding/binary"
	"encoding/hex"
	"math/rand/v2"
	"testing"

	"golang.org/x/crypto/xts"
	"pgregory.net/rapid"
)

// TestRoundKeys holds round keys to FIPS 197, appendix A.3.
func TestRoundKeys(t *testing.T) {
	t.Parallel()
	needs(t)
	key, err := hex.DecodeString("603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4")
	if err != nil {
		t.Fatal(err)
	}
	s := NewSectors(key)
	for i, want := range map[int]string{
		0: "603deb1015ca71be2b73aef0857d7781", 1: "1f352c073b6108d72d9810a30914dff4", 2: "9ba354118e6925afa51a8b5f2067fcde",
		3: "a8b09c1a93d194cdbe49846eb75d5b9a", rounds: "fe4890d1e6188d0b046df344706c631e",
	} {
		if got := hex.EncodeToString(s.enc[i][:]); got != want {
			t.Errorf("round key %d is %s, want %s", i, got, want)
		}
	}
}

// TestSectors compares with golang.org/x/crypto/xts, in place and beside it.
func TestSectors(t *testing.T) {
	t.Parallel()
	needs(t)
	rapid.Check(t, func(r *rapid.T) {
		var seed [32]byte
		copy(seed[:], rapid.SliceOfN(rapid.Byte(), 32, 32).Draw(r, "seed"))
		random := rand.NewChaCha8(seed)
		key, plain := make([]byte, 2*KeySize), make([]byte, Unit*rapid.IntRange(1, 16).Draw(r, "units"))
		for _, p := range [][]byte{key, plain} {
			_, _ = random.Read(p) // never fails
		}
		number := rapid.Uint64().Draw(r, "number")
		oracle, err := xts.NewCipher(aes.NewCipher, key)
		if err != nil {
			r.Fatal(err)
		}
		want := make([]byte, len(plain))
		oracle.Encrypt(want, plain, number)

		var tweak [blockSize]byte
		binary.LittleEndian.PutUint64(tweak[:], number)
		second, err := aes.NewCipher(key[KeySize:])
		if err != nil {
			r.Fatal(err)
		}
		second.Encrypt(tweak[:], tweak[:])
		s := NewSectors(key[:KeySize])
		beside, inPlace := make([]byte, len(plain)+1), bytes.Clone(plain)
		s.Encrypt(beside[1:], plain, &tweak) // at any address
		s.Encrypt(inPlace, inPlace, &tweak)
		if !bytes.Equal(beside[1:], want) || !bytes.Equal(inPlace, want) {
			r.Fatal("encrypted differently")
		}
		s.Decrypt(beside[1:], want, &tweak)
		s.Decrypt(inPlace, inPlace, &tweak)
		if !bytes.Equal(beside[1:], plain) || !bytes.Equal(inPlace, plain) {
			r.Fatal("decrypted differently")
		}
	})
}

// TestRefused has keys and messages of other sizes refused.
func TestRefused(t *testing.T) {
	t.Parallel()
	for _, n := range []int{0, 16, 24, 31, 33, 64} {
		if NewSectors(make([]byte, n)) != nil || NewGCM(make([]byte, n)) != nil {
			t.Errorf("a key of %d bytes was taken", n)
		}
	}
	needs(t)
	g := NewGCM(make([]byte, KeySize))
	for _, n := range []int{0, 1, 16, Step - 1, Step + 16} {
		var nonce [NonceSize]byte
		sealed := oracle(t, make([]byte, KeySize)).Seal(nil, nonce[:], make([]byte, n), nil)
		tag := [TagSize]byte(sealed[n:])
		if g.Open(sealed[:n], &nonce, &tag, nil) {
			t.Errorf("a message of %d bytes was opened", n)
		}
	}
}
