// SPDX-License-Identifier: Apache-2.0

package seal

import (
	"crypto/rand"
	"errors"
	"fmt"
)

// Shamir's secret sharing over GF(2⁸), with the polynomial of AES. Nothing here branches on or looks up by a secret.

// maxShares is the number of points other than zero.
const maxShares = 255

// gfMul multiplies modulo x⁸+x⁴+x³+x+1.
func gfMul(a, b byte) byte {
	var out byte
	for range 8 {
		out ^= a & -(b & 1)
		a = a<<1 ^ 0x1b&-(a>>7)
		b >>= 1
	}
	return out
}

// gfInverse returns a²⁵⁴, which is 1/a, and zero for zero.
func gfInverse(a byte) byte {
	out := byte(1)
	for range 7 { // 254 = 2 + 4 + … + 128
		a = gfMul(a, a)
		out = gfMul(out, a)
	}
	return out
}

// splitSecret returns n points of polynomials of degree k-1, one for each byte of the secret, at 1 to n: any k of them give
// the secret, and fewer nothing.
func splitSecret(secret []byte, n, k int) ([][]byte, error) {
	if k < 2 || n < k || n > maxShares || len(secret) == 0 {
		return nil, fmt.Errorf("splitting %d bytes among %d, of whom %d are needed: want 2 to all of at most %d", len(secret), n, k, maxShares)
	}
	shares := make([][]byte, n)
	for i := range shares {
		shares[i] = make([]byte, len(secret))
	}
	coefficients := make([]byte, k)
	defer clear(coefficients)
	for at, b := range secret {
		_, _ = rand.Read(coefficients) // never fails
		coefficients[0] = b
		for i := range shares {
			x, y := byte(i+1), byte(0)
			for c := k - 1; c >= 0; c-- {
				y = gfMul(y, x) ^ coefficients[c]
			}
			shares[i][at] = y
		}
	}
	return shares, nil
}

// joinShares returns the value at zero of the polynomials through the points: x has no zero and nothing twice.
func joinShares(x []byte, shares [][]byte) ([]byte, error) {
	if len(x) == 0 || len(x) != len(shares) {
		return nil, errors.New("joining shares: there are none")
	}
	seen := [maxShares + 1]bool{}
	for i := range x {
		if x[i] == 0 || seen[x[i]] || len(shares[i]) != len(shares[0]) {
			return nil, errors.New("joining shares: they do not belong together")
		}
		seen[x[i]] = true
	}
	out := make([]byte, len(shares[0]))
	for i := range x {
		weight := byte(1) // Lagrange's, at zero
		for j := range x {
			if j != i {
				weight = gfMul(weight, gfMul(x[j], gfInverse(x[i]^x[j])))
			}
		}
		for at := range out {
			out[at] ^= gfMul(weight, shares[i][at])
		}
	}
	return out, nil
}
