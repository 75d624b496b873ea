// SPDX-License-Identifier: Apache-2.0

package snp

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha512"
	"encoding/binary"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

func TestIDBlockLayout(t *testing.T) {
	t.Parallel()
	i := &IDBlock{Measurement: [48]byte{1}, FamilyID: [16]byte{2}, ImageID: [16]byte{3}, GuestSVN: 4, Policy: 0x30000}
	b := i.Marshal()
	want := make([]byte, 96)
	want[0], want[48], want[64], want[80], want[84], want[90] = 1, 2, 3, 1, 4, 3
	if diff := cmp.Diff(want, b); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	got, err := ParseIDBlock(b)
	if err != nil || *got != *i {
		t.Errorf("%+v, %v", got, err)
	}
	b[80] = 2
	for name, bad := range map[string][]byte{"other version": b, "short": b[:95], "empty": nil} {
		if got, err := ParseIDBlock(bad); err == nil {
			t.Errorf("%s: parsed as %+v", name, got)
		}
	}
}

// signedAuth makes ID authentication information over a message.
func signedAuth(t testing.TB, message []byte) (*IDAuth, *ecdsa.PrivateKey) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	digest := sha512.Sum384(message)
	r, s, err := ecdsa.Sign(rand.Reader, key, digest[:])
	if err != nil {
		t.Fatal(err)
	}
	a := &IDAuth{}
	if a.BlockSignature, err = NewIDSignature(r, s); err != nil {
		t.Fatal(err)
	}
	if a.Key, err = NewIDKey(&key.PublicKey); err != nil {
		t.Fatal(err)
	}
	return a, key
}

// TestIDAuthLayout holds the offsets against the ABI's table and the key against its format: curve 2, then x and y in 72
// bytes each, little-endian.
func TestIDAuthLayout(t *testing.T) {
	t.Parallel()
	message := []byte("block")
	a, key := signedAuth(t, message)
	b := a.Marshal()
	if len(b) != 4096 || binary.LittleEndian.Uint32(b) != 1 || binary.LittleEndian.Uint32(b[4:]) != 0 {
		t.Errorf("%d bytes, starting with %x", len(b), b[:8])
	}
	if !bytes.Equal(b[0x40:0x240], a.BlockSignature[:]) || !bytes.Equal(b[0x240:0x644], a.Key[:]) {
		t.Error("signature or key are not at their offsets")
	}
	if binary.LittleEndian.Uint32(b[0x240:]) != 2 {
		t.Errorf("curve is %x", b[0x240:0x244])
	}
	x := key.X.FillBytes(make([]byte, 48))
	if b[0x244] != x[47] || b[0x244+47] != x[0] || b[0x244+48] != 0 {
		t.Errorf("x lies there as %x, not %x reversed", b[0x244:0x244+49], x)
	}
	got, err := ParseIDAuth(b)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(a, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	pub, err := got.Key.Public()
	if err != nil || !pub.Equal(&key.PublicKey) {
		t.Errorf("key is %v, %v", pub, err)
	}
	if !got.BlockSignature.Verify(pub, message) || got.BlockSignature.Verify(pub, []byte("other")) {
		t.Error("the signature is not one of the block alone")
	}
	if got.Key.Digest() != sha512.Sum384(b[0x240:0x644]) {
		t.Error("the digest is not that of the 1028 bytes")
	}
}

func TestIDAuthIsParsedStrictly(t *testing.T) {
	t.Parallel()
	a, _ := signedAuth(t, nil)
	good := a.Marshal()
	a.AuthorKey = a.Key
	authored := a.Marshal()
	set := func(b []byte, off int, v byte) []byte {
		b = bytes.Clone(b)
		b[off] = v
		return b
	}
	for name, b := range map[string][]byte{
		"short": good[:4095], "long": append(bytes.Clone(good), 0), "other algorithm": set(good, 0, 2),
		"author algorithm without author": set(good, 4, 1), "author without algorithm": set(authored, 4, 0),
		"reserved": set(good, 8, 1), "between the parts": set(good, 0x644, 1), "tail": set(good, 4095, 1),
		"signed by nobody": set(good, 0x680, 1),
	} {
		if _, err := ParseIDAuth(b); err == nil {
			t.Errorf("%s: parsed", name)
		}
	}
	if _, err := ParseIDAuth(authored); err != nil {
		t.Errorf("with an author key: %v", err)
	}
	for name, k := range map[string]IDKey{
		"empty": {}, "other curve": IDKey(set(a.Key[:], 0, 1)), "reserved in x": IDKey(set(a.Key[:], 4+50, 1)),
		"reserved": IDKey(set(a.Key[:], IDKeySize-1, 1)), "not on the curve": IDKey(set(a.Key[:], 4, a.Key[4]^1)),
	} {
		if _, err := k.Public(); err == nil {
			t.Errorf("key, %s: parsed", name)
		}
	}
	p256, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := NewIDKey(&p256.PublicKey); err == nil {
		t.Error("a key of another curve was encoded")
	}
}

func TestIDAuthRoundTrips(t *testing.T) {
	t.Parallel()
	a, _ := signedAuth(t, nil)
	good := a.Marshal()
	rapid.Check(t, func(t *rapid.T) {
		b := bytes.Clone(good)
		off := rapid.IntRange(0, len(b)-1).Draw(t, "offset")
		b[off] ^= rapid.Byte().Draw(t, "bits")
		got, err := ParseIDAuth(b)
		if err == nil && !bytes.Equal(got.Marshal(), b) {
			t.Fatalf("offset %#x: what was parsed encodes to other bytes", off)
		}
	})
}

func FuzzIDAuth(f *testing.F) {
	a, _ := signedAuth(f, nil)
	f.Add(a.Marshal())
	f.Add(make([]byte, IDAuthSize))
	f.Fuzz(func(t *testing.T, b []byte) {
		a, err := ParseIDAuth(b)
		if err != nil {
			return
		}
		if !bytes.Equal(a.Marshal(), b) {
			t.Fatal("what was parsed encodes to other bytes")
		}
		if key, err := a.Key.Public(); err == nil {
			_ = a.BlockSignature.Verify(key, b)
			if back, err := NewIDKey(key); err != nil || back != a.Key {
				t.Fatalf("a key became another one: %v", err)
			}
		}
	})
}
