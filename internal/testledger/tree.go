// SPDX-License-Identifier: Apache-2.0

package testledger

import (
	"crypto/sha256"
	"crypto/sha512"
	"encoding/binary"
)

func sum384(b []byte) [sha512.Size384]byte { return sha512.Sum384(b) }

type hash = [sha256.Size]byte

// step is one hash of a path; side is CBOR's true where it lies to the left.
type step struct {
	side byte
	hash hash
}

// grow makes a tree of n leaves with the given one last but one, and returns its root and the leaf's path. Level by
// level two neighbours make one, and an odd one out moves up as it is. The first leaf of every ledger is all zeros.
func grow(n int, leaf hash) (hash, []step) {
	level := make([]hash, n)
	for i := 1; i < n; i++ {
		level[i] = sha256.Sum256(binary.BigEndian.AppendUint64([]byte("another transaction"), uint64(i)))
	}
	at := max(n-2, 0)
	level[at] = leaf
	var path []step
	for len(level) > 1 {
		var above []hash
		for i := 0; i < len(level); i += 2 {
			if i+1 == len(level) {
				above = append(above, level[i])
				continue
			}
			above = append(above, sha256.Sum256(append(level[i][:], level[i+1][:]...)))
		}
		switch {
		case at%2 == 1:
			path = append(path, step{0xf5, level[at-1]})
		case at+1 < len(level):
			path = append(path, step{0xf4, level[at+1]})
		}
		level, at = above, at/2
	}
	return level[0], path
}
