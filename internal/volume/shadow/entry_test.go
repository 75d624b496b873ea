// SPDX-License-Identifier: Apache-2.0

package shadow

import (
	"bytes"
	"testing"

	"pgregory.net/rapid"
)

// TestOpenBothWays opens items with bytes behind them and without: they agree on what is good, and what is behind stays.
func TestOpenBothWays(t *testing.T) {
	t.Parallel()
	k, err := newKeys(testKey, [16]byte{1})
	if err != nil {
		t.Fatal(err)
	}
	c, err := k.cipher(1)
	if err != nil {
		t.Fatal(err)
	}
	rapid.Check(t, func(r *rapid.T) {
		var e entry
		e.set(0, 1)
		copy(e.nonce(), rapid.SliceOfN(rapid.Byte(), nonceSize, nonceSize).Draw(r, "nonce"))
		plain := bytes.Repeat(rapid.SliceOfN(rapid.Byte(), 64, 64).Draw(r, "plain"), BlockSize/64)
		l := k.label(rapid.IntRange(0, maxLevels).Draw(r, "level"), rapid.Uint64().Draw(r, "index"))
		out := make([]byte, BlockSize+tagSize)
		seal(c, &e, out, plain, &l)
		good := true
		if rapid.Bool().Draw(r, "moved") {
			l[len(l)-1]++
			good = false
		}
		if bit := rapid.IntRange(0, 16*BlockSize).Draw(r, "damage"); bit < 8*BlockSize {
			out[bit/8] ^= 1 << (bit % 8)
			good = false
		}
		for _, buf := range [][]byte{bytes.Clone(out), bytes.Clone(out[:BlockSize])} {
			behind := bytes.Clone(buf[BlockSize:])
			err := open(c, &e, buf, &l)
			if (err == nil) != good || good && !bytes.Equal(buf[:BlockSize], plain) || !bytes.Equal(behind, buf[BlockSize:]) {
				r.Fatalf("with %d bytes behind it, good %v: %v", len(behind), good, err)
			}
		}
	})
}
