// SPDX-License-Identifier: Apache-2.0

package wrap

import (
	"crypto/aes"
	"crypto/cipher"
	"encoding/binary"
	"fmt"
)

// Parts of AES key wrap with padding (RFC 5649 §3). It works on semiblocks of eight bytes.
const (
	semiblock = 8
	// paddedIV is the constant half of the initial value; the payload's length is the other.
	paddedIV = 0xa65959a6
	// rounds is how often the wrapping passes over all semiblocks (RFC 3394 §2.2.1).
	rounds = 6
)

// SealPadded encrypts a payload of 1 to MaxPayload bytes by AES key wrap with padding (RFC 5649).
func SealPadded(kek, payload []byte) ([]byte, error) {
	block, err := aes.NewCipher(kek)
	if err != nil {
		return nil, err
	}
	if len(payload) == 0 || len(payload) > MaxPayload {
		return nil, fmt.Errorf("payload has %d bytes, not 1 to %d", len(payload), MaxPayload)
	}
	padded := (len(payload) + semiblock - 1) / semiblock * semiblock
	out := make([]byte, semiblock+padded)
	binary.BigEndian.PutUint32(out, paddedIV)
	binary.BigEndian.PutUint32(out[4:], uint32(len(payload)))
	copy(out[semiblock:], payload)
	if padded == semiblock {
		block.Encrypt(out, out)
		return out, nil
	}
	forward(block, out)
	return out, nil
}

// OpenPadded decrypts what SealPadded made. Its only error for what is wrapped is ErrOpen.
func OpenPadded(kek, wrapped []byte) ([]byte, error) {
	block, err := aes.NewCipher(kek)
	if err != nil {
		return nil, err
	}
	n := len(wrapped)
	if n%semiblock != 0 || n < 2*semiblock || n > MaxPayload+2*semiblock {
		return nil, ErrOpen
	}
	out := make([]byte, n)
	copy(out, wrapped)
	if n == 2*semiblock {
		block.Decrypt(out, out)
	} else {
		backward(block, out)
	}
	payload, ok := unpad(out)
	if !ok {
		clear(out)
		return nil, ErrOpen
	}
	return payload, nil
}

// unpad takes the payload out of decrypted semiblocks. Every bit of them depends on every bit that was wrapped, so that
// it tells nobody anything at which check a changed one fails.
func unpad(b []byte) ([]byte, bool) {
	payload := b[semiblock:]
	iv, length := binary.BigEndian.Uint32(b), uint64(binary.BigEndian.Uint32(b[4:]))
	if iv != paddedIV || length > uint64(len(payload)) || length+semiblock <= uint64(len(payload)) {
		return nil, false
	}
	var pad byte
	for _, p := range payload[length:] {
		pad |= p
	}
	return payload[:length:length], pad == 0
}

// forward is the wrapping process over semiblocks of which the first is the initial value (RFC 3394 §2.2.1, index based).
func forward(block cipher.Block, b []byte) {
	var buf [aes.BlockSize]byte
	copy(buf[:semiblock], b)
	n := len(b)/semiblock - 1
	for j := range rounds {
		for i := 1; i <= n; i++ {
			copy(buf[semiblock:], b[i*semiblock:])
			block.Encrypt(buf[:], buf[:])
			step(buf[:], n*j+i)
			copy(b[i*semiblock:(i+1)*semiblock], buf[semiblock:])
		}
	}
	copy(b, buf[:semiblock])
}

// backward is the inverse of forward (RFC 3394 §2.2.2).
func backward(block cipher.Block, b []byte) {
	var buf [aes.BlockSize]byte
	copy(buf[:semiblock], b)
	n := len(b)/semiblock - 1
	for j := rounds - 1; j >= 0; j-- {
		for i := n; i >= 1; i-- {
			step(buf[:], n*j+i)
			copy(buf[semiblock:], b[i*semiblock:])
			block.Decrypt(buf[:], buf[:])
			copy(b[i*semiblock:(i+1)*semiblock], buf[semiblock:])
		}
	}
	copy(b, buf[:semiblock])
}

// step adds the number of a step to the integrity register.
func step(register []byte, t int) {
	binary.BigEndian.PutUint64(register, binary.BigEndian.Uint64(register)^uint64(t))
}
