// SPDX-License-Identifier: Apache-2.0

package xts

import (
	"crypto/aes"
	"encoding/hex"
	"testing"
)

// TestRoundKeys holds the first and the last round keys to FIPS 197, appendix A.3, and the inverse ones to what they must undo.
func TestRoundKeys(t *testing.T) {
	t.Parallel()
	k := newWide(unhex(t, "603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4"))
	if k == nil {
		t.Skip("this processor has no VAES with registers of 512 bits")
	}
	for i, want := range map[int]string{
		0: "603deb1015ca71be2b73aef0857d7781", 1: "1f352c073b6108d72d9810a30914dff4", 2: "9ba354118e6925afa51a8b5f2067fcde",
		3: "a8b09c1a93d194cdbe49846eb75d5b9a", rounds: "fe4890d1e6188d0b046df344706c631e",
	} {
		if got := hex.EncodeToString(k.enc[i][:]); got != want {
			t.Errorf("round key %d is %s, want %s", i, got, want)
		}
	}
	if k.dec[0] != k.enc[rounds] || k.dec[rounds] != k.enc[0] {
		t.Error("the outer round keys of decryption are not those of encryption")
	}
}

// TestWideIsUsed fails when a processor that can do 32 blocks at a time does not.
func TestWideIsUsed(t *testing.T) {
	t.Parallel()
	key := make([]byte, 64)
	key[0] = 1
	c, err := New(key)
	if err != nil {
		t.Fatal(err)
	}
	if (c.wide != nil) != hasWide {
		t.Errorf("the processor can: %v; it does: %v", hasWide, c.wide != nil)
	}
	if newWide(make([]byte, aes.BlockSize)) != nil {
		t.Error("a key of AES-128 is not for it")
	}
}
