// SPDX-License-Identifier: Apache-2.0

package armexpr

import (
	"crypto/sha1" //nolint:gosec // UUID version 5 is defined over it
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"math/bits"
	"strings"

	"cofferdam.dev/internal/spec/doc"
)

// uniqueString is a 64-bit hash of the arguments, joined by hyphens, in 13 digits of base 32.
func uniqueString(a []*doc.Value) (*doc.Value, error) {
	list, err := stringsOf(a)
	if err != nil {
		return nil, err
	}
	const digits = "abcdefghijklmnopqrstuvwxyz234567"
	h := hash64([]byte(strings.Join(list, "-")))
	var out [13]byte
	for i := range out {
		out[i] = digits[h>>59]
		h <<= 5
	}
	return doc.Str(string(out[:])), nil
}

// The multipliers of the hash.
const (
	hashC1 = 0x239b961b
	hashC2 = 0xab0e9789
)

func scramble(k, c1 uint32, turn int, c2 uint32) uint32 { return bits.RotateLeft32(k*c1, turn) * c2 }

// hash64 is a MurmurHash3 with two 32-bit lanes, as the service has it.
func hash64(data []byte) uint64 {
	var h1, h2 uint32
	size := uint32(len(data))
	for ; len(data) >= 8; data = data[8:] {
		h1 ^= scramble(binary.LittleEndian.Uint32(data), hashC1, 15, hashC2)
		h1 = (bits.RotateLeft32(h1, 19)+h2)*5 + 0x561ccd1b
		h2 ^= scramble(binary.LittleEndian.Uint32(data[4:]), hashC2, 17, hashC1)
		h2 = (bits.RotateLeft32(h2, 13)+h1)*5 + 0x0bcaa747
	}
	if len(data) > 0 {
		var tail [8]byte
		copy(tail[:], data)
		h1 ^= scramble(binary.LittleEndian.Uint32(tail[:]), hashC1, 15, hashC2)
		h2 ^= scramble(binary.LittleEndian.Uint32(tail[4:]), hashC2, 17, hashC1)
	}
	h1 ^= size
	h2 ^= size
	h1 += h2
	h2 += h1
	h1, h2 = finish(h1), finish(h2)
	h1 += h2
	h2 += h1
	return uint64(h2)<<32 | uint64(h1)
}

// finish is the finalizer of MurmurHash3.
func finish(h uint32) uint32 {
	h = (h ^ h>>16) * 0x85ebca6b
	h = (h ^ h>>13) * 0xc2b2ae35
	return h ^ h>>16
}

// guidNamespace is the one in which guid() makes its names.
var guidNamespace = [16]byte{0x11, 0xfb, 0x06, 0xfb, 0x71, 0x2d, 0x4d, 0xdd, 0x98, 0xc7, 0xe7, 0x1b, 0xbd, 0x58, 0x88, 0x30}

// guid is a UUID of version 5 (RFC 9562 §5.5) over the arguments, joined by hyphens.
func guid(a []*doc.Value) (*doc.Value, error) {
	list, err := stringsOf(a)
	if err != nil {
		return nil, err
	}
	sum := sha1.Sum(append(guidNamespace[:], strings.Join(list, "-")...)) //nolint:gosec // see above
	u := sum[:16]
	u[6] = u[6]&0x0f | 0x50
	u[8] = u[8]&0x3f | 0x80
	x := hex.EncodeToString(u)
	return doc.Str(x[:8] + "-" + x[8:12] + "-" + x[12:16] + "-" + x[16:20] + "-" + x[20:]), nil
}

func tenantResourceID(a []*doc.Value) (*doc.Value, error) {
	list, err := stringsOf(a)
	if err != nil {
		return nil, err
	}
	path, err := providerPath(list[0], list[1:])
	return doc.Str(path), err
}

func extensionResourceID(a []*doc.Value) (*doc.Value, error) {
	list, err := stringsOf(a)
	if err != nil {
		return nil, err
	}
	path, err := providerPath(list[1], list[2:])
	if err != nil {
		return nil, fmt.Errorf("extension of %q: %w", list[0], err)
	}
	return doc.Str(list[0] + path), nil
}
