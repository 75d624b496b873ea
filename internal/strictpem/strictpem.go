// SPDX-License-Identifier: Apache-2.0

// Package strictpem reads certificates in PEM of which every reader must see the same: whole blocks, with white space
// around them and nothing else.
//
// The decoder of encoding/pem passes over whatever is no block. The package trusts nothing, and does not look into the
// certificates.
package strictpem

import (
	"bytes"
	"encoding/pem"
	"errors"
	"fmt"
)

const begin = "-----BEGIN CERTIFICATE-----"

// Certificates returns the certificates in the text, in DER and in its order: at least one and at most limit.
func Certificates(text []byte, limit int) ([][]byte, error) {
	var list [][]byte
	for rest := bytes.TrimSpace(text); len(rest) > 0; {
		if len(list) == limit {
			return nil, fmt.Errorf("after %d certificates in PEM there is something else", limit)
		}
		block, after := pem.Decode(rest)
		// A block that has no end makes the decoder go on to the next one.
		if !bytes.HasPrefix(rest, []byte(begin)) || block == nil || bytes.Count(rest[:len(rest)-len(after)], []byte(begin)) != 1 {
			return nil, fmt.Errorf("after %d certificates in PEM there is something that is none", len(list))
		}
		if len(block.Headers) != 0 || len(block.Bytes) == 0 {
			return nil, fmt.Errorf("certificate %d in PEM has headers, or no bytes", len(list))
		}
		list = append(list, block.Bytes)
		rest = bytes.TrimSpace(after)
	}
	if list == nil {
		return nil, errors.New("there is no certificate in PEM")
	}
	return list, nil
}

// Certificate returns the one certificate in the text, in DER.
func Certificate(text []byte) ([]byte, error) {
	list, err := Certificates(text, 1)
	if err != nil {
		return nil, err
	}
	return list[0], nil
}
