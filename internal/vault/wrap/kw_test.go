// SPDX-License-Identifier: Apache-2.0

package wrap

import (
	"encoding/hex"
	"errors"
	"testing"
)

// TestRFC3394 has examples of RFC 3394 section 4.
func TestRFC3394(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ kek, key, wrapped string }{
		"4.1": {"000102030405060708090a0b0c0d0e0f", "00112233445566778899aabbccddeeff", "1fa68b0a8112b447aef34bd8fb5a7b829d3e862371d2cfe5"},
		"4.6": {
			"000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f", "00112233445566778899aabbccddeeff000102030405060708090a0b0c0d0e0f",
			"28c9f404c4b810f4cbccb35cfb87f8263f5786e2d80ed326cbc7f0e71a99f43bfb988b9b7a02dd21",
		},
	} {
		got, err := SealPlain(unhex(t, c.kek), unhex(t, c.key))
		if err != nil || hex.EncodeToString(got) != c.wrapped {
			t.Errorf("%s: wrapped %x, %v", name, got, err)
		}
		back, err := OpenPlain(unhex(t, c.kek), unhex(t, c.wrapped))
		if err != nil || hex.EncodeToString(back) != c.key {
			t.Errorf("%s: unwrapped %x, %v", name, back, err)
		}
		for i := range len(got) {
			got[i] ^= 1
			if _, err := OpenPlain(unhex(t, c.kek), got); !errors.Is(err, ErrOpen) {
				t.Errorf("%s: changed at %d: %v", name, i, err)
			}
			got[i] ^= 1
			if _, err := OpenPlain(unhex(t, c.kek), got[:i]); !errors.Is(err, ErrOpen) {
				t.Errorf("%s: cut at %d: %v", name, i, err)
			}
		}
	}
	for _, n := range []int{0, 8, 15, 17, MaxPayload + 8} {
		if _, err := SealPlain(make([]byte, 32), make([]byte, n)); err == nil {
			t.Errorf("a key of %d bytes was wrapped", n)
		}
	}
}
