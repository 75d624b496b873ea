// SPDX-License-Identifier: Apache-2.0

package uvm

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha512"
	"testing"
	"time"

	"cofferdam.dev/internal/cbor"
	"cofferdam.dev/internal/testchain"
)

func number(n int64) []byte { return cbor.AppendInt(nil, n) }

func text(s string) []byte { return cbor.AppendText(nil, s) }

func certificates(c *testchain.Chain) []byte {
	b := cbor.AppendArray(nil, len(c.Certificates))
	for _, cert := range c.Certificates {
		b = cbor.AppendBytes(b, cert.Raw)
	}
	return b
}

// unchecked signs an endorsement of the newer form at any time. It shares no code with package cose1 but CBOR.
func unchecked(t testing.TB, c *testchain.Chain, did string, at time.Time, measurement []byte) []byte {
	t.Helper()
	protected := cbor.AppendMap(nil, []cbor.Entry{
		{Key: number(1), Value: number(-35)}, // ES384
		{Key: number(15), Value: cbor.AppendMap(nil, []cbor.Entry{
			{Key: number(1), Value: text(did)}, {Key: number(2), Value: text("images")}, {Key: number(6), Value: number(at.Unix())},
			{Key: text("svn"), Value: number(1)},
		})},
		{Key: number(33), Value: certificates(c)},
		{Key: number(258), Value: number(-43)},
	})
	signed := cbor.AppendBytes(cbor.AppendText(cbor.AppendArray(nil, 4), "Signature1"), protected)
	signed = cbor.AppendBytes(cbor.AppendBytes(signed, nil), measurement)
	digest := sha512.Sum384(signed)
	key, ok := c.Key.(*ecdsa.PrivateKey)
	if !ok {
		t.Fatalf("key is %T", c.Key)
	}
	r, s, err := ecdsa.Sign(rand.Reader, key, digest[:])
	if err != nil {
		t.Fatal(err)
	}
	signature := make([]byte, 96)
	r.FillBytes(signature[:48])
	s.FillBytes(signature[48:])
	b := cbor.AppendMap(cbor.AppendBytes(cbor.AppendArray(cbor.AppendTag(nil, 18), 4), protected), nil)
	return cbor.AppendBytes(cbor.AppendBytes(b, measurement), signature)
}

// swap puts other certificates into a signed message.
func swap(t testing.TB, b []byte, old, with *testchain.Chain) []byte {
	t.Helper()
	outer, err := cbor.Decode(b)
	if err != nil {
		t.Fatal(err)
	}
	parts := outer.Items[0].Items
	header, err := cbor.Decode(parts[0].Bytes)
	if err != nil {
		t.Fatal(err)
	}
	var entries []cbor.Entry
	for _, p := range header.Pairs {
		e := cbor.Entry{Key: p.Key.Raw, Value: p.Value.Raw}
		if p.Key.Int == 33 {
			if string(e.Value) != string(certificates(old)) {
				t.Fatal("the message has not the certificates that it should")
			}
			e.Value = certificates(with)
		}
		entries = append(entries, e)
	}
	out := cbor.AppendBytes(cbor.AppendArray(cbor.AppendTag(nil, 18), 4), cbor.AppendMap(nil, entries))
	for _, p := range parts[1:] {
		out = append(out, p.Raw...)
	}
	return out
}

// unprotected returns where the unprotected header of a message begins and ends.
func unprotected(t testing.TB, b []byte) (from, until int) {
	t.Helper()
	outer, err := cbor.Decode(b)
	if err != nil {
		t.Fatal(err)
	}
	if outer.Kind == cbor.Tag {
		outer = outer.Items[0]
	}
	from = bytes.Index(b, outer.Items[1].Raw)
	return from, from + len(outer.Items[1].Raw)
}
