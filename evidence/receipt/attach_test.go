// SPDX-License-Identifier: Apache-2.0

package receipt

import (
	"bytes"
	"errors"
	"slices"
	"strings"
	"testing"

	"cofferdam.dev/internal/cbor"
	"cofferdam.dev/internal/testledger"
)

// TestAttach takes a real receipt off its statement and puts it back, and adds another ledger's.
func TestAttach(t *testing.T) {
	t.Parallel()
	whole := vector(t, "ledger/scitt/uvm_0.2.10.cose")
	s, err := takeApart(whole, len(whole))
	if err != nil {
		t.Fatal(err)
	}
	receipts, _ := s.unprotected.Lookup(labelReceipts)
	plain := cbor.AppendMap(append(cbor.AppendArray(cbor.AppendTag(nil, tagSign1), 4), s.protected.Raw...), nil)
	plain = slices.Concat(plain, s.payload.Raw, s.signature.Raw)
	again, err := Attach(plain, receipts.Items[0].Bytes)
	if err != nil || !bytes.Equal(again, whole) {
		t.Errorf("put back: %v, %d bytes of %d", err, len(again), len(whole))
	}
	l := testledger.New(t, "ledger")
	own, err := l.Receipt(plain)
	if err != nil {
		t.Fatal(err)
	}
	two, err := Attach(again, own)
	if err != nil {
		t.Fatal(err)
	}
	list, err := FromStatement(two)
	if err != nil || len(list) != 2 {
		t.Fatalf("%d receipts, %v", len(list), err)
	}
	for i, keys := range []KeySet{keysOf(t, vector(t, "uvm/esrp_db_ledger_pub_keys.json")), ledgerKeys(t, l)} {
		if err = list[i].Verify(two, keys); err != nil {
			t.Errorf("receipt %d: %v", i, err)
		}
	}
	other, _ := made(t, l, "another")
	for name, c := range map[string]struct {
		statement, receipt []byte
		want               string
	}{
		"twice":              {two, own, "there already"},
		"another statement":  {other, own, "about another statement"},
		"no receipt":         {plain, plain, "payload is"},
		"no statement":       {nil, own, "decoding CBOR"},
		"odd header":         {bytes.Replace(two, []byte("\x19\x01\x8a\x82"), []byte("\x19\x01\x8a\xa1"), 1), own, ""},
		"receipts elsewhere": {append([]byte{0x84, 0x40, 0xa1, 0x19, 0x01, 0x8a}, 0x00, 0x40, 0x40), own, "want an array"},
	} {
		_, err := Attach(c.statement, c.receipt)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error is %v, want %q", name, err, c.want)
		}
	}
	if _, err = Attach(other, own); !errors.Is(err, ErrOtherStatement) {
		t.Errorf("another statement: %v", err)
	}
	many := plain
	for range maxReceipts + 1 {
		r, makeErr := l.Receipt(plain)
		if makeErr != nil {
			t.Fatal(makeErr)
		}
		many, err = Attach(many, r)
		if err != nil {
			break
		}
	}
	if err == nil || !strings.Contains(err.Error(), "at most") {
		t.Errorf("too many receipts: %v", err)
	}
}

// TestAttachKeepsOtherHeaders has something else in the unprotected header, on both sides of the receipts.
func TestAttachKeepsOtherHeaders(t *testing.T) {
	t.Parallel()
	l := testledger.New(t, "ledger")
	header := cbor.AppendMap(nil, []cbor.Entry{
		{Key: cbor.AppendInt(nil, 4), Value: cbor.AppendText(nil, "low")}, {Key: cbor.AppendText(nil, "z"), Value: cbor.AppendInt(nil, 1)},
	})
	statement := slices.Concat([]byte{0xd2, 0x84, 0x41, 0xa0}, header, []byte{0x40, 0x40})
	r, err := l.Receipt(statement)
	if err != nil {
		t.Fatal(err)
	}
	out, err := Attach(statement, r)
	if err != nil {
		t.Fatal(err)
	}
	s, err := takeApart(out, len(out))
	if err != nil {
		t.Fatal(err)
	}
	low, _ := s.unprotected.Lookup(4)
	z, _ := s.unprotected.LookupText("z")
	if low.Text != "low" || z.Int != 1 || len(s.unprotected.Pairs) != 3 {
		t.Errorf("header is %+v", s.unprotected)
	}
	list, err := FromStatement(out)
	if err != nil || len(list) != 1 || list[0].Verify(out, ledgerKeys(t, l)) != nil {
		t.Errorf("%d receipts, %v", len(list), err)
	}
}
