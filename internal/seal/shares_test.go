// SPDX-License-Identifier: Apache-2.0

package seal

import (
	"bytes"
	"errors"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"pgregory.net/rapid"
)

// TestField compares multiplication with tables of powers of a generator, another way to do it, and checks all inverses.
func TestField(t *testing.T) {
	t.Parallel()
	var power [255]byte
	logarithm := map[byte]int{}
	x := byte(1)
	for i := range power {
		power[i], logarithm[x] = x, i
		double := x << 1
		if x&0x80 != 0 {
			double ^= 0x1b
		}
		x ^= double // times three, which generates all but zero
	}
	if len(logarithm) != 255 {
		t.Fatalf("three generates %d elements", len(logarithm))
	}
	for a := range 256 {
		for b := range 256 {
			want := byte(0)
			if a != 0 && b != 0 {
				want = power[(logarithm[byte(a)]+logarithm[byte(b)])%255]
			}
			if got := gfMul(byte(a), byte(b)); got != want {
				t.Fatalf("%#x · %#x = %#x, want %#x", a, b, got, want)
			}
		}
		if got := gfMul(byte(a), gfInverse(byte(a))); a != 0 && got != 1 {
			t.Fatalf("%#x · its inverse = %#x", a, got)
		}
	}
	if got := gfMul(0x57, 0x83); got != 0xc1 { // FIPS 197 section 4.2
		t.Errorf("0x57 · 0x83 = %#x", got)
	}
}

func TestSplitProperties(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		secret := rapid.SliceOfN(rapid.Byte(), 1, 40).Draw(t, "secret")
		n := rapid.IntRange(2, 20).Draw(t, "n")
		k := rapid.IntRange(2, n).Draw(t, "k")
		shares, err := splitSecret(secret, n, k)
		if err != nil {
			t.Fatal(err)
		}
		order := rapid.Permutation(numbers(n)).Draw(t, "order")
		take := rapid.IntRange(k, n).Draw(t, "take")
		pick := func(count int) (x []byte, list [][]byte) {
			for _, i := range order[:count] {
				x, list = append(x, byte(i)), append(list, shares[i-1])
			}
			return x, list
		}
		got, err := joinShares(pick(take))
		if err != nil || !bytes.Equal(got, secret) {
			t.Fatalf("%d of %d (%d needed) give %x (%v), not %x", take, n, k, got, err, secret)
		}
		// Too few say nothing: whatever the secret, there is a polynomial through them. With one point more, chosen freely,
		// they give a secret that is chosen as freely.
		x, list := pick(k - 1)
		seen := map[byte]bool{}
		spare := byte(order[k-1])
		for y := range 256 {
			forged := bytes.Repeat([]byte{byte(y)}, len(secret))
			out, err := joinShares(append(slices.Clone(x), spare), append(slices.Clone(list), forged))
			if err != nil {
				t.Fatal(err)
			}
			seen[out[0]] = true
		}
		if len(seen) != 256 {
			t.Fatalf("%d shares leave %d secrets open", k-1, len(seen))
		}
	})
}

func numbers(n int) []int {
	out := make([]int, n)
	for i := range out {
		out[i] = i + 1
	}
	return out
}

func TestSplitRefuses(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ n, k, size int }{{1, 1, 8}, {3, 1, 8}, {2, 3, 8}, {256, 2, 8}, {3, 2, 0}, {0, 0, 8}, {-1, -2, 8}} {
		if _, err := splitSecret(make([]byte, c.size), c.n, c.k); err == nil {
			t.Errorf("%+v was split", c)
		}
	}
	for name, c := range map[string]struct {
		x      []byte
		shares [][]byte
	}{
		"none": {nil, nil}, "zero": {[]byte{0, 1}, [][]byte{{1}, {2}}}, "twice": {[]byte{1, 1}, [][]byte{{1}, {2}}},
		"sizes": {[]byte{1, 2}, [][]byte{{1}, {2, 3}}}, "count": {[]byte{1, 2}, [][]byte{{1}}},
	} {
		if _, err := joinShares(c.x, c.shares); err == nil {
			t.Errorf("%s: joined", name)
		}
	}
}

func TestShares(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "root.json")
	r, shares, err := CreateShares(path, 5, 3)
	if err != nil || len(shares) != 5 {
		t.Fatalf("%d shares, %v", len(shares), err)
	}
	wrapped := mustWrap(t, r)
	_, others, err := CreateShares(path+"2", 5, 3)
	if err != nil {
		t.Fatal(err)
	}
	u, err := OpenShares(path)
	if err != nil {
		t.Fatal(err)
	}
	add := func(what string, share string, missing int, good bool) {
		t.Helper()
		got, err := u.Add(NewSecret([]byte(share)))
		if got != missing || (err == nil) != good || !good && !errors.Is(err, ErrShare) {
			t.Errorf("%s: %d missing, %v", what, got, err)
		}
		if _, err := u.Root(); (err == nil) != (missing == 0) {
			t.Errorf("%s: the root: %v", what, err)
		}
	}
	text := func(i int) string { return string(shares[i].Expose()) }
	add("another root's", string(others[0].Expose()), 3, false)
	add("nothing", "", 3, false)
	add("a changed one", flipLast(text(0)), 3, false)
	add("renumbered", strings.Replace(text(0), ".1.", ".2.", 1), 3, false)
	add("number zero", strings.Replace(text(0), ".1.", ".0.", 1), 3, false)
	add("number 257", strings.Replace(text(0), ".1.", ".257.", 1), 3, false)
	add("first", text(4), 2, true)
	add("again", text(4), 2, true)
	add("second, with an end of line", text(0)+"\n", 1, true)
	add("a wrong one in between", flipLast(text(1)), 1, false)
	add("third", text(2), 0, true)
	add("too many", text(3), 0, true)
	root, err := u.Root()
	if err != nil || !opens(t, root, wrapped) || root.Kind() != KindShares {
		t.Errorf("the root is %v, %v", root, err)
	}
	if missing, threshold := u.Progress(); missing != 0 || threshold != 3 {
		t.Errorf("progress %d of %d", missing, threshold)
	}
	if _, err := OpenPassphrase(path, passphrase); err == nil {
		t.Error("opened by a passphrase")
	}
}

// flipLast changes a share's bytes and leaves it a text of its form.
func flipLast(text string) string {
	i := strings.LastIndex(text, ".") + 1
	c := byte('A')
	if text[i] == 'A' {
		c = 'B'
	}
	return text[:i] + string(c) + text[i+1:]
}

func TestSharesTogether(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "root.json")
	_, shares, err := CreateShares(path, 9, 9)
	if err != nil {
		t.Fatal(err)
	}
	u, err := OpenShares(path)
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for _, s := range shares {
		for range 2 {
			wg.Go(func() {
				if _, err := u.Add(NewSecret(bytes.Clone(s.Expose()))); err != nil {
					t.Error(err)
				}
			})
		}
	}
	wg.Wait()
	if _, err := u.Root(); err != nil {
		t.Error(err)
	}
}
