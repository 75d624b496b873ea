// SPDX-License-Identifier: Apache-2.0

package receipt

import (
	"bytes"
	"fmt"

	"cofferdam.dev/evidence/cose1"
	"cofferdam.dev/internal/cbor"
)

// Attach returns a signed statement (COSE_Sign1) with further receipts in its unprotected header, after those that it
// carries. Everything else stays as it is, and so does what the receipts are about. Each must parse as a receipt, be about
// the statement, and not be there already; whether a trusted ledger signed it is for whoever verifies it.
func Attach(statement []byte, receipts ...[]byte) ([]byte, error) {
	out, err := attach(statement, receipts)
	if err != nil {
		return nil, fmt.Errorf("attaching receipts: %w", err)
	}
	return out, nil
}

func attach(statement []byte, receipts [][]byte) ([]byte, error) {
	s, err := takeApart(statement, cose1.MaxSize)
	if err != nil {
		return nil, err
	}
	want, err := StatementDigest(statement)
	if err != nil {
		return nil, err
	}
	have, ok := s.unprotected.Lookup(labelReceipts)
	if ok && have.Kind != cbor.Array {
		return nil, fmt.Errorf("the statement's receipts are %s, want an array", have.Kind)
	}
	for i, data := range receipts {
		r, err := Parse(data)
		if err != nil {
			return nil, fmt.Errorf("receipt %d: %w", i, err)
		}
		for _, p := range r.Proofs {
			if p.Leaf.Claims != want {
				return nil, fmt.Errorf("receipt %d: %w: claims digest is %x, the statement's %x", i, ErrOtherStatement, p.Leaf.Claims, want)
			}
		}
		for _, it := range have.Items {
			if bytes.Equal(it.Bytes, data) {
				return nil, fmt.Errorf("receipt %d is there already", i)
			}
		}
		have.Items = append(have.Items, cbor.Item{Bytes: data, Raw: cbor.AppendBytes(nil, data)})
	}
	if len(have.Items) > maxReceipts {
		return nil, fmt.Errorf("there would be %d receipts, at most %d are allowed", len(have.Items), maxReceipts)
	}
	list := cbor.AppendArray(nil, len(have.Items))
	for _, it := range have.Items {
		list = append(list, it.Raw...)
	}
	entries := []cbor.Entry{{Key: cbor.AppendInt(nil, labelReceipts), Value: list}}
	for _, p := range s.unprotected.Pairs {
		if p.Key.Kind != cbor.Int || p.Key.Int != labelReceipts {
			entries = append(entries, cbor.Entry{Key: p.Key.Raw, Value: p.Value.Raw})
		}
	}
	b := append(cbor.AppendArray(cbor.AppendTag(nil, tagSign1), 4), s.protected.Raw...)
	b = cbor.AppendMap(b, entries)
	return append(append(b, s.payload.Raw...), s.signature.Raw...), nil
}
