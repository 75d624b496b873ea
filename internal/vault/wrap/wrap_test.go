// SPDX-License-Identifier: Apache-2.0

package wrap

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/rsa"
	"encoding/hex"
	"errors"
	"testing"

	"pgregory.net/rapid"
)

func unhex(t *testing.T, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestRFC5649 has the two examples of RFC 5649 §6.
func TestRFC5649(t *testing.T) {
	t.Parallel()
	kek := unhex(t, "5840df6e29b02af1ab493b705bf16ea1ae8338f4dcc176a8")
	for name, c := range map[string]struct{ payload, wrapped string }{
		"twenty octets": {"c37b7e6492584340bed12207808941155068f738", "138bdeaa9b8fa7fc61f97742e72248ee5ae6ae5360d1ae6a5f54f373fa543b6a"},
		"seven octets":  {"466f7250617369", "afbeb0f07dfbf5419200f2ccb50bb24f"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := SealPadded(kek, unhex(t, c.payload))
			if err != nil || hex.EncodeToString(got) != c.wrapped {
				t.Errorf("wrapped %x, %v; want %s", got, err, c.wrapped)
			}
			back, err := OpenPadded(kek, unhex(t, c.wrapped))
			if err != nil || hex.EncodeToString(back) != c.payload {
				t.Errorf("unwrapped %x, %v; want %s", back, err, c.payload)
			}
		})
	}
}

func TestPaddedRoundTrip(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		kek := rapid.SliceOfN(rapid.Byte(), 32, 32).Draw(t, "kek")
		payload := rapid.SliceOfN(rapid.Byte(), 1, 200).Draw(t, "payload")
		wrapped, err := SealPadded(kek, payload)
		if err != nil {
			t.Fatal(err)
		}
		back, err := OpenPadded(kek, wrapped)
		if err != nil || !bytes.Equal(back, payload) {
			t.Fatalf("%x came back as %x, %v", payload, back, err)
		}
		i := rapid.IntRange(0, len(wrapped)-1).Draw(t, "changed byte")
		wrapped[i] ^= byte(rapid.IntRange(1, 255).Draw(t, "change"))
		if back, err = OpenPadded(kek, wrapped); !errors.Is(err, ErrOpen) {
			t.Fatalf("a changed one was opened: %x, %v", back, err)
		}
	})
}

// TestPaddedForms refuses what decrypts to something else than the one form of a payload.
func TestPaddedForms(t *testing.T) {
	t.Parallel()
	kek := make([]byte, 32)
	for name, plain := range map[string]string{
		"other initial value": "a65959a500000008" + "0102030405060708" + "0000000000000000",
		"length too short":    "a65959a600000008" + "0102030405060708" + "0000000000000000",
		"length too long":     "a65959a600000011" + "0102030405060708" + "0102030405060708",
		"length zero":         "a65959a600000000" + "0000000000000000" + "0000000000000000",
		"huge length":         "a65959a6ffffffff" + "0102030405060708" + "0102030405060708",
		"length above 2^30":   "a65959a64000000c" + "0102030405060708" + "0102030400000000",
		"padding not zero":    "a65959a60000000c" + "0102030405060708" + "0102030400000001",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := unhex(t, plain)
			forward(mustAES(t, kek), b)
			if got, err := OpenPadded(kek, b); !errors.Is(err, ErrOpen) {
				t.Errorf("opened: %x, %v", got, err)
			}
		})
	}
	for _, n := range []int{0, 7, 8, 15, 17, MaxPayload + 24} {
		if _, err := OpenPadded(kek, make([]byte, n)); !errors.Is(err, ErrOpen) {
			t.Errorf("%d bytes: %v", n, err)
		}
	}
	for _, n := range []int{0, MaxPayload + 1} {
		if _, err := SealPadded(kek, make([]byte, n)); err == nil {
			t.Errorf("a payload of %d bytes was wrapped", n)
		}
	}
}

func TestRSA(t *testing.T) {
	t.Parallel()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	formats := []Enc{CKMRSAAESKeyWrap, RSAAESKeyWrap256, RSAAESKeyWrap384}
	for _, e := range formats {
		sealed, err := SealRSA(e, &key.PublicKey, []byte("secret"))
		if err != nil {
			t.Fatal(err)
		}
		for _, as := range formats {
			got, err := OpenRSA(as, key, sealed)
			if opened := err == nil && string(got) == "secret"; opened != (as == e) || err != nil && !errors.Is(err, ErrOpen) {
				t.Errorf("%s opened as %s: %q, %v", e, as, got, err)
			}
		}
		for _, n := range []int{0, 255, 256, 263} {
			if _, err := OpenRSA(e, key, sealed[:n]); !errors.Is(err, ErrOpen) {
				t.Errorf("%s cut to %d bytes: %v", e, n, err)
			}
		}
	}
	if _, err := SealRSA("RSA-OAEP", &key.PublicKey, []byte("x")); err == nil {
		t.Error("an unknown format was sealed")
	}
	if _, err := OpenRSA("", key, make([]byte, 300)); err == nil || errors.Is(err, ErrOpen) {
		t.Errorf("no format: %v", err)
	}
}

func FuzzOpenPadded(f *testing.F) {
	kek := make([]byte, 32)
	good, err := SealPadded(kek, []byte("a payload"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		payload, err := OpenPadded(kek, b)
		if err != nil {
			return
		}
		again, err := SealPadded(kek, payload)
		if err != nil || !bytes.Equal(again, b) {
			t.Errorf("%x has a second form: %x, %v", b, again, err)
		}
	})
}

func mustAES(t *testing.T, key []byte) cipher.Block {
	t.Helper()
	b, err := aes.NewCipher(key)
	if err != nil {
		t.Fatal(err)
	}
	return b
}
