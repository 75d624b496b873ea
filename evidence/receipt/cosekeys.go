// SPDX-License-Identifier: Apache-2.0

package receipt

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"

	"cofferdam.dev/internal/cbor"
)

// Labels of a COSE_Key (RFC 9052, 7.1; RFC 9053, 7.1.1).
const (
	keyType  = 1
	keyID    = 2
	keyCurve = -1
	keyX     = -2
	keyY     = -3

	typeEC2   = 2
	curveP256 = 1
	curveP384 = 2
)

// KeysFromCOSE reads a COSE_KeySet that was decoded as a part of something else. A key of a kind that is not known here is
// left out, as RFC 9052 wants it; one that is named by something else than its hash is an error.
func KeysFromCOSE(set cbor.Item) (KeySet, error) {
	if set.Kind != cbor.Array {
		return nil, fmt.Errorf("reading a COSE_KeySet: it is %s, want an array", set.Kind)
	}
	keys := KeySet{}
	for i, k := range set.Items {
		key, ok, err := keyFromCOSE(k)
		if err == nil && ok {
			err = keys.add(key, nameFromCOSE(k))
		}
		if err != nil {
			return nil, fmt.Errorf("reading a COSE_KeySet: key %d: %w", i, err)
		}
	}
	if len(keys) == 0 {
		return nil, errors.New("reading a COSE_KeySet: it has no key on P-256 or P-384")
	}
	return keys, nil
}

func keyFromCOSE(k cbor.Item) (*ecdsa.PublicKey, bool, error) {
	kind, _ := k.Lookup(keyType)
	curve, _ := k.Lookup(keyCurve)
	x, _ := k.Lookup(keyX)
	y, _ := k.Lookup(keyY)
	known := map[int64]elliptic.Curve{curveP256: elliptic.P256(), curveP384: elliptic.P384()}[curve.Int]
	if kind.Kind != cbor.Int || kind.Int != typeEC2 || curve.Kind != cbor.Int || known == nil {
		return nil, false, nil
	}
	key, err := point(known, x.Bytes, y.Bytes)
	return key, true, err
}

// nameFromCOSE is the key's identifier: hexadecimal text as receipts have it, or the 32 bytes that it stands for.
func nameFromCOSE(k cbor.Item) string {
	id, ok := k.Lookup(keyID)
	switch {
	case !ok:
		return ""
	case len(id.Bytes) == sha256.Size:
		return hex.EncodeToString(id.Bytes)
	}
	return strings.ToLower(string(id.Bytes))
}

// AppendCOSE appends the keys as a COSE_KeySet, in the order of their KeyIDs, each named by it.
func (s KeySet) AppendCOSE(b []byte) ([]byte, error) {
	b = cbor.AppendArray(b, len(s))
	for _, id := range s.IDs() {
		raw, err := s[id].Bytes()
		if err != nil {
			return nil, fmt.Errorf("writing key %s: %w", id, err)
		}
		curve, n := int64(curveP256), (len(raw)-1)/2
		if s[id].Curve == elliptic.P384() {
			curve = curveP384
		}
		number := func(n int64) []byte { return cbor.AppendInt(nil, n) }
		b = cbor.AppendMap(b, []cbor.Entry{
			{Key: number(keyType), Value: number(typeEC2)},
			{Key: number(keyID), Value: cbor.AppendBytes(nil, []byte(id))},
			{Key: number(keyCurve), Value: number(curve)},
			{Key: number(keyX), Value: cbor.AppendBytes(nil, raw[1:1+n])},
			{Key: number(keyY), Value: cbor.AppendBytes(nil, raw[1+n:])},
		})
	}
	return b, nil
}
