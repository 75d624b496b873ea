// SPDX-License-Identifier: Apache-2.0

package wrap

import (
	"crypto/aes"
	"crypto/subtle"
	"fmt"
)

// defaultIV is the initial value of RFC 3394 section 2.2.3.1.
const defaultIV = "\xa6\xa6\xa6\xa6\xa6\xa6\xa6\xa6"

// SealPlain encrypts a key by AES key wrap without padding (RFC 3394): 16 to MaxPayload bytes, in units of 8.
func SealPlain(kek, key []byte) ([]byte, error) {
	block, err := aes.NewCipher(kek)
	if err != nil {
		return nil, err
	}
	if len(key) < 2*semiblock || len(key)%semiblock != 0 || len(key) > MaxPayload {
		return nil, fmt.Errorf("key has %d bytes, not %d to %d in units of %d", len(key), 2*semiblock, MaxPayload, semiblock)
	}
	out := append([]byte(defaultIV), key...)
	forward(block, out)
	return out, nil
}

// OpenPlain decrypts what SealPlain made. Its only error for what is wrapped is ErrOpen.
func OpenPlain(kek, wrapped []byte) ([]byte, error) {
	block, err := aes.NewCipher(kek)
	if err != nil {
		return nil, err
	}
	if len(wrapped) < 3*semiblock || len(wrapped)%semiblock != 0 || len(wrapped) > MaxPayload+semiblock {
		return nil, ErrOpen
	}
	out := append([]byte{}, wrapped...)
	backward(block, out)
	if subtle.ConstantTimeCompare(out[:semiblock], []byte(defaultIV)) != 1 {
		clear(out)
		return nil, ErrOpen
	}
	return out[semiblock:], nil
}
