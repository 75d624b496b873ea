// SPDX-License-Identifier: Apache-2.0

package receipt

import (
	"testing"

	"cofferdam.dev/internal/testledger"

	oracle "github.com/fxamacker/cbor/v2"
	"github.com/google/go-cmp/cmp"
	"github.com/veraison/go-cose"
)

// TestOracle has another implementation verify the signatures over our roots, with the keys that we wrote down.
func TestOracle(t *testing.T) {
	t.Parallel()
	real := vector(t, "ledger/scitt/uvm_0.2.10.cose")
	l := testledger.New(t, "ledger")
	_, own := made(t, l, "payload")
	for name, c := range map[string]struct {
		statement []byte
		keys      KeySet
	}{
		"Microsoft's ledger": {real, keysOf(t, vector(t, "ledger/scitt/esrp-cts-db.json"))},
		"the test's ledger":  {own, ledgerKeys(t, l)},
	} {
		b, err := c.keys.AppendCOSE(nil)
		if err != nil {
			t.Fatal(err)
		}
		var set []oracle.RawMessage
		err = oracle.Unmarshal(b, &set)
		if err != nil {
			t.Fatal(err)
		}
		var message struct {
			_           struct{} `cbor:",toarray"`
			Protected   []byte
			Unprotected map[int64][][]byte
			Payload     []byte
			Signature   []byte
		}
		err = oracle.Unmarshal(c.statement, &message)
		if err != nil {
			t.Fatal(err)
		}
		var theirs cose.Sign1Message
		err = theirs.UnmarshalCBOR(message.Unprotected[labelReceipts][0])
		if err != nil {
			t.Fatal(err)
		}
		ours, err := Parse(message.Unprotected[labelReceipts][0])
		if err != nil {
			t.Fatal(err)
		}
		verified := 0
		for _, raw := range set {
			var key cose.Key
			err = key.UnmarshalCBOR(raw)
			if err != nil {
				t.Fatal(err)
			}
			public, err := key.PublicKey()
			if err != nil {
				t.Fatal(err)
			}
			if !cmp.Equal(public, any(c.keys[string(key.ID)])) {
				t.Errorf("%s: key %s is another one", name, key.ID)
			}
			verifier, err := cose.NewVerifier(cose.Algorithm(ours.Algorithm), public)
			if err != nil {
				t.Fatal(err)
			}
			root := ours.Proofs[0].Root()
			theirs.Payload = root[:]
			if theirs.Verify(nil, verifier) == nil && string(key.ID) == ours.KeyID {
				verified++
			}
		}
		if verified != 1 {
			t.Errorf("%s: %d keys verify the receipt, want 1", name, verified)
		}
	}
}

func BenchmarkVerify(b *testing.B) {
	l := testledger.New(b, "ledger")
	l.Entries = 1 << 16
	_, statement := made(b, l, "payload")
	keys := ledgerKeys(b, l)
	for b.Loop() {
		list, err := FromStatement(statement)
		if err != nil || list[0].Verify(statement, keys) != nil {
			b.Fatal("a good receipt is refused")
		}
	}
}
