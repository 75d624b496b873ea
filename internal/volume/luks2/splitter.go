// SPDX-License-Identifier: Apache-2.0

package luks2

import (
	"crypto/rand"
	"crypto/subtle"
	"encoding/binary"
	"hash"
)

// split spreads a key over many stripes of its size, all of which are needed to get it back: what overwrites a part of them
// destroys the key (LUKS1 On-Disk Format Specification section 2.4, to which LUKS2 refers).
func split(key []byte, newHash func() hash.Hash) []byte {
	n := len(key)
	out := make([]byte, n*stripes)
	_, _ = rand.Read(out[:n*(stripes-1)]) // never fails
	d := make([]byte, n)
	mix(d, out[:n*(stripes-1)], newHash)
	subtle.XORBytes(out[n*(stripes-1):], d, key)
	clear(d)
	return out
}

// merge undoes split.
func merge(material []byte, newHash func() hash.Hash) []byte {
	n := len(material) / stripes
	key := make([]byte, n)
	mix(key, material[:n*(stripes-1)], newHash)
	subtle.XORBytes(key, key, material[n*(stripes-1):])
	return key
}

// mix folds all stripes but the last into d.
func mix(d, material []byte, newHash func() hash.Hash) {
	h := newHash()
	sum, index := make([]byte, 0, h.Size()), make([]byte, 4)
	for ; len(material) > 0; material = material[len(d):] {
		subtle.XORBytes(d, d, material[:len(d)])
		for i, at := uint32(0), 0; at < len(d); i, at = i+1, at+h.Size() {
			part := d[at:min(at+h.Size(), len(d))]
			h.Reset()
			binary.BigEndian.PutUint32(index, i)
			_, _ = h.Write(index) // a hash takes all
			_, _ = h.Write(part)
			sum = h.Sum(sum[:0])
			copy(part, sum)
		}
	}
	clear(sum[:cap(sum)])
}
