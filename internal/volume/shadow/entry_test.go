// SPDX-License-Identifier: Apache-2.0

package shadow

import (
	"bytes"
	"testing"

	"pgregory.net/rapid"
)

// TestOpenBothWays opens items by crypto/cipher alone, and by what is faster: they agree on what is good and what is not.
func TestOpenBothWays(t *testing.T) {
	t.Parallel()
	k, err := newKeys(testKey, [16]byte{1})
	if err != nil {
		t.Fatal(err)
	}
	fast, err := k.cipher(1)
	if err != nil {
		t.Fatal(err)
	}
	if fast.wide == nil {
		t.Skip("this processor has no faster way")
	}
	slow := &itemCipher{AEAD: fast.AEAD}
	rapid.Check(t, func(r *rapid.T) {
		var e entry
		e.set(0, 1)
		copy(e.nonce(), rapid.SliceOfN(rapid.Byte(), nonceSize, nonceSize).Draw(r, "nonce"))
		plain := bytes.Repeat(rapid.SliceOfN(rapid.Byte(), 64, 64).Draw(r, "plain"), BlockSize/64)
		l := k.label(rapid.IntRange(0, maxLevels).Draw(r, "level"), rapid.Uint64().Draw(r, "index"))
		out := make([]byte, BlockSize+tagSize)
		seal(fast, &e, out, plain, &l)
		other := l
		if rapid.Bool().Draw(r, "moved") {
			other[len(other)-1]++
		}
		if bit := rapid.IntRange(0, 16*BlockSize).Draw(r, "damage"); bit < 8*BlockSize {
			out[bit/8] ^= 1 << (bit % 8)
		}
		again, short := bytes.Clone(out), bytes.Clone(out[:BlockSize])
		errFast := open(fast, &e, out, &other)
		for _, buf := range [][]byte{again, short} {
			behind := bytes.Clone(buf[BlockSize:])
			errSlow := open(slow, &e, buf, &other)
			if (errFast == nil) != (errSlow == nil) || !bytes.Equal(out[:BlockSize], buf[:BlockSize]) || !bytes.Equal(behind, buf[BlockSize:]) {
				r.Fatalf("with %d bytes behind it: %v and %v, the same content: %v", len(behind), errFast, errSlow, bytes.Equal(out[:BlockSize], buf[:BlockSize]))
			}
		}
		if errFast == nil && !bytes.Equal(out[:BlockSize], plain) {
			r.Fatal("it was opened to something else")
		}
	})
}
