// SPDX-License-Identifier: Apache-2.0

package receipt

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"cofferdam.dev/evidence/cose1"
	"cofferdam.dev/internal/cbor"
	"cofferdam.dev/internal/testcap"
	"cofferdam.dev/internal/testledger"

	"github.com/google/go-cmp/cmp"
)

func vector(t testing.TB, name string) []byte {
	t.Helper()
	data, err := os.ReadFile(testcap.Vectors(t, name))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func keysOf(t testing.TB, data []byte) KeySet {
	t.Helper()
	keys, err := ParseKeys(data)
	if err != nil {
		t.Fatal(err)
	}
	return keys
}

// TestTransparentStatements verifies what Microsoft's ledger said about two endorsements.
func TestTransparentStatements(t *testing.T) {
	t.Parallel()
	jwks, scitt := vector(t, "uvm/esrp_db_ledger_pub_keys.json"), vector(t, "ledger/scitt/esrp-cts-db.json")
	for name, c := range map[string]struct{ txid, leaf, at string }{
		"uvm/u2-esrp_transparent_hash_envelop.cose": {"685.17239", "ce:685.17238:", "2026-03-26"},
		"ledger/scitt/uvm_0.2.10.cose":              {"458.12441", "ce:458.12440:", "2025-12-22"},
	} {
		statement := vector(t, name)
		list, err := FromStatement(statement)
		if err != nil || len(list) != 1 {
			t.Fatalf("%s: %d receipts, %v", name, len(list), err)
		}
		r := list[0]
		if r.Ledger != "esrp-cts-db.confidential-ledger.azure.com" || r.Subject != "scitt.ccf.signature.v1" ||
			r.TransactionID != c.txid || r.Algorithm != cose1.ES384 || !strings.HasPrefix(r.KeyID, "da7694f1") ||
			!strings.HasPrefix(r.Proofs[0].Leaf.CommitEvidence, c.leaf) || r.IssuedAt.Format("2006-01-02") != c.at {
			t.Errorf("%s: %+v", name, r)
		}
		for kind, keys := range map[string][]byte{"keys": jwks, "certificates": scitt} {
			err = r.Verify(statement, keysOf(t, keys))
			if err != nil {
				t.Errorf("%s by %s: %v", name, kind, err)
			}
		}
		err = r.Verify(statement, keysOf(t, vector(t, "uvm/esrp_cp_ledger_pub_keys.json")))
		if !errors.Is(err, ErrUnknownKey) {
			t.Errorf("%s by another ledger's keys: %v", name, err)
		}
		err = r.Verify(statement, nil)
		if !errors.Is(err, ErrUnknownKey) {
			t.Errorf("%s by no keys: %v", name, err)
		}
	}
}

// made is a statement, and the same with a receipt.
func made(t testing.TB, l *testledger.Ledger, payload string) (plain, transparent []byte) {
	t.Helper()
	plain = cbor.AppendArray(cbor.AppendTag(nil, tagSign1), 4)
	plain = cbor.AppendMap(cbor.AppendBytes(plain, cbor.AppendMap(nil, nil)), nil)
	plain = cbor.AppendBytes(cbor.AppendBytes(plain, []byte(payload)), []byte("signature"))
	transparent, err := l.Attach(plain)
	if err != nil {
		t.Fatal(err)
	}
	return plain, transparent
}

func ledgerKeys(t testing.TB, l *testledger.Ledger) KeySet {
	t.Helper()
	data, err := l.JWKS()
	if err != nil {
		t.Fatal(err)
	}
	return keysOf(t, data)
}

// TestOwnLedger verifies receipts from trees of every small size, on both curves.
func TestOwnLedger(t *testing.T) {
	t.Parallel()
	for _, curve := range []elliptic.Curve{elliptic.P256(), elliptic.P384()} {
		key, err := ecdsa.GenerateKey(curve, rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		for n := 2; n < 40; n++ {
			l := &testledger.Ledger{Name: "ledger", Key: key, Entries: n}
			plain, transparent := made(t, l, "payload")
			r, err := FromStatement(transparent)
			if err != nil || len(r) != 1 {
				t.Fatalf("%d entries: %v", n, err)
			}
			for _, statement := range [][]byte{plain, transparent, plain[1:]} { // with the tag and without
				err = r[0].Verify(statement, ledgerKeys(t, l))
				if err != nil {
					t.Errorf("%d entries: %v", n, err)
				}
			}
		}
	}
}

// TestTwoReceipts takes the receipts of two ledgers over one statement, each verified with its own ledger's keys alone.
func TestTwoReceipts(t *testing.T) {
	t.Parallel()
	one, two := testledger.New(t, "one"), testledger.New(t, "two")
	_, statement := made(t, one, "payload")
	statement, err := two.Attach(statement)
	if err != nil {
		t.Fatal(err)
	}
	list, err := FromStatement(statement)
	if err != nil || len(list) != 2 {
		t.Fatal(len(list), err)
	}
	for i, l := range []*testledger.Ledger{one, two} {
		for j, r := range list {
			err = r.Verify(statement, ledgerKeys(t, l))
			if (err == nil) != (i == j) || i != j && !errors.Is(err, ErrUnknownKey) {
				t.Errorf("receipt of %s by the keys of %s: %v", r.Ledger, l.Name, err)
			}
		}
	}
}

func TestOtherStatement(t *testing.T) {
	t.Parallel()
	l := testledger.New(t, "ledger")
	_, statement := made(t, l, "payload")
	other, _ := made(t, l, "another payload")
	list, err := FromStatement(statement)
	if err != nil {
		t.Fatal(err)
	}
	err = list[0].Verify(other, ledgerKeys(t, l))
	if !errors.Is(err, ErrOtherStatement) {
		t.Errorf("another statement: %v", err)
	}
	err = list[0].Verify([]byte("no statement"), ledgerKeys(t, l))
	if err == nil {
		t.Error("verified over what is no statement")
	}
	list[0].Proofs = nil
	err = list[0].Verify(statement, ledgerKeys(t, l))
	if err == nil {
		t.Error("verified without a proof")
	}
}

// TestSweep changes every single byte of a real receipt, one at a time: no change is accepted.
func TestSweep(t *testing.T) {
	t.Parallel()
	statement := vector(t, "ledger/scitt/uvm_0.2.10.cose")
	keys := keysOf(t, vector(t, "uvm/esrp_db_ledger_pub_keys.json"))
	it, err := cbor.Decode(statement)
	if err != nil {
		t.Fatal(err)
	}
	receipts, _ := it.Items[0].Items[1].Lookup(labelReceipts)
	data := receipts.Items[0].Bytes
	at := bytes.Index(statement, data)
	changes := []byte{0x01}
	if !testing.Short() {
		changes = []byte{0x01, 0x10, 0x80, 0xff}
	}
	for i := range data {
		for _, x := range changes {
			changed := slices.Clone(statement)
			changed[at+i] ^= x
			list, err := FromStatement(changed)
			if err != nil {
				continue
			}
			if len(list) != 1 {
				t.Fatalf("byte %d: %d receipts", i, len(list))
			}
			if same(list[0], data) {
				continue
			}
			err = list[0].Verify(changed, keys)
			if err == nil {
				t.Errorf("byte %d changed by %#x: verified", i, x)
			}
		}
	}
	for i := range statement {
		if i >= at && i < at+len(data) {
			continue
		}
		changed := slices.Clone(statement)
		changed[i] ^= 1
		list, err := FromStatement(changed)
		if err == nil && len(list) == 1 && list[0].Verify(changed, keys) == nil && !unsigned(it, statement, i) {
			t.Errorf("byte %d of the statement changed: verified", i)
		}
	}
}

// same says that a change of the encoding left everything as it was: the tag that a receipt may have or not.
func same(r *Receipt, original []byte) bool {
	was, err := Parse(original)
	return err == nil && cmp.Equal(*r, *was, cmp.AllowUnexported(Receipt{}))
}

// unsigned says whether a byte lies in the unprotected header, which nobody signs, or is the tag of the whole.
func unsigned(it cbor.Item, statement []byte, i int) bool {
	unprotected := it.Items[0].Items[1].Raw
	start := bytes.Index(statement, unprotected)
	return i == 0 || i >= start && i < start+len(unprotected)
}

// TestParseRefusals breaks one thing of a good receipt at a time.
func TestParseRefusals(t *testing.T) {
	t.Parallel()
	l := testledger.New(t, "ledger")
	statement, _ := made(t, l, "payload")
	good, err := l.Receipt(statement)
	if err != nil {
		t.Fatal(err)
	}
	swap := func(from, to string) []byte {
		if !bytes.Contains(good, []byte(from)) {
			t.Fatalf("receipt has no %x", from)
		}
		return bytes.Replace(good, []byte(from), []byte(to), 1)
	}
	for name, c := range map[string]struct {
		data []byte
		want string
	}{
		"nothing":             {nil, "decoding CBOR"},
		"too large":           {make([]byte, MaxSize+1), "at most"},
		"no array":            {[]byte{0xa0}, "array of four"},
		"statement":           {statement, "payload is a byte string"},
		"RSA":                 {swap("\x01\x38\x22", "\x01\x38\x25"), "algorithm is PS384"},
		"other algorithm":     {swap("\x01\x38\x22", "\x01\x38\x23"), "algorithm is ES512"},
		"other tree":          {swap("\x19\x01\x8b\x02", "\x19\x01\x8b\x01"), "kind of tree"},
		"short key name":      {swap(l.KeyID(), strings.Repeat("z", 64)), "key identifier"},
		"upper-case key name": {swap(l.KeyID(), strings.Repeat("A", 64)), "key identifier"},
		"no ledger":           {swap("\x01\x66ledger", "\x08\x66ledger"), "names no ledger"},
		"no key name":         {swap("\x04\x58\x40", "\x05\x58\x40"), "key identifier"},
		"critical":            {critical(t, good), "critical"},
		"time as text":        {swap("\x06\x1a", "\x06\x3a"), "time of signing"},
		"no proofs":           {swap("\x19\x01\x8c", "\x19\x01\x8d"), "proofs of inclusion"},
		"consistency":         {swap("\xa1\x20\x81", "\xa1\x21\x81"), "proofs of inclusion"},
		"short digest":        {swap("\x83\x58\x20", "\x83\x78\x20"), "proof 0"},
	} {
		_, err := Parse(c.data)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error is %v, want %q", name, err, c.want)
		}
	}
	if _, err := Parse(good); err != nil {
		t.Errorf("unchanged: %v", err)
	}
}

// critical returns the receipt with its algorithm marked critical, which would be understood, if anything were.
func critical(t *testing.T, receipt []byte) []byte {
	t.Helper()
	s, err := takeApart(receipt, MaxSize)
	if err != nil {
		t.Fatal(err)
	}
	header := append([]byte{s.protected.Bytes[0] + 1}, s.protected.Bytes[1:]...)
	b := cbor.AppendBytes(cbor.AppendArray(nil, 4), append(header, labelCritical, 0x81, labelAlgorithm))
	return slices.Concat(b, s.unprotected.Raw, s.payload.Raw, s.signature.Raw)
}

func FuzzParse(f *testing.F) {
	l := testledger.New(f, "ledger")
	plain, statement := made(f, l, "payload")
	r, err := l.Receipt(plain)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(r)
	f.Add(statement)
	keys := ledgerKeys(f, l)
	f.Fuzz(func(t *testing.T, data []byte) {
		list, err := FromStatement(data)
		if err == nil {
			for _, r := range list {
				if r.Verify(data, keys) == nil && digestOf(t, data) != digestOf(t, plain) {
					t.Error("a receipt verifies over another statement")
				}
			}
		}
		one, err := Parse(data)
		if err == nil && (one.Ledger == "" || len(one.Proofs) == 0 || !isKeyID(one.KeyID)) {
			t.Errorf("parsed %+v", one)
		}
	})
}

func digestOf(t *testing.T, data []byte) string {
	d, err := StatementDigest(data)
	if err != nil {
		t.Fatal(err)
	}
	return hex.EncodeToString(d[:])
}

func FuzzParseKeys(f *testing.F) {
	files, _ := filepath.Glob(filepath.Join("testdata", "keys", "*"))
	for _, name := range files {
		data, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Add([]byte(`{"keys":[{"kty":"EC","crv":"P-256","x":"","y":""}]}`))
	f.Add([]byte(`{"parameters":[{"serviceCertificate":"MAA="}]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		keys, err := ParseKeys(data)
		if err != nil {
			return
		}
		b, err := keys.AppendCOSE(nil)
		if err != nil {
			t.Fatal(err)
		}
		it, err := cbor.Decode(b)
		if err != nil {
			t.Fatal(err)
		}
		back, err := KeysFromCOSE(it)
		if err != nil || !slices.Equal(back.IDs(), keys.IDs()) || len(keys) == 0 {
			t.Errorf("%v became %v: %v", keys.IDs(), back.IDs(), err)
		}
	})
}
