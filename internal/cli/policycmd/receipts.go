// SPDX-License-Identifier: Apache-2.0

package policycmd

import (
	"fmt"
	"strings"
	"time"

	"cofferdam.dev/evidence/receipt"
	"cofferdam.dev/internal/cli/console"
	"cofferdam.dev/policy/fragment"
)

// receiptFacts is what a person needs to know about one receipt.
type receiptFacts struct {
	Ledger      string `json:"ledger,omitempty"`
	Transaction string `json:"transaction,omitempty"`
	SignedAt    string `json:"signed_at,omitempty"`
	Key         string `json:"key,omitempty"`
	Verified    bool   `json:"verified"`
	Problem     string `json:"problem,omitempty"`
}

// ledgerKeys are the keys that a person trusts, and of which ledger; "" stands for any.
type ledgerKeys map[string]receipt.KeySet

// readLedgerKeys reads arguments of the form [LEDGER=]FILE.
func readLedgerKeys(args []string) (ledgerKeys, error) {
	all := ledgerKeys{}
	for _, arg := range args {
		ledger, name, ok := strings.Cut(arg, "=")
		if !ok {
			ledger, name = "", arg
		}
		data, err := console.ReadLimited(name, nil, receipt.MaxKeysSize)
		if err != nil {
			return nil, fmt.Errorf("reading the keys of a ledger: %w", err)
		}
		keys, err := receipt.ParseKeys(data)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		if all[ledger] == nil {
			all[ledger] = receipt.KeySet{}
		}
		for id, key := range keys {
			all[ledger][id] = key
		}
	}
	return all, nil
}

// receiptsOf judges the receipts of a fragment. Without keys none is verified, and that is no problem of theirs.
func (k ledgerKeys) receiptsOf(message []byte, s *fragment.Signed) []receiptFacts {
	var out []receiptFacts
	for _, data := range s.Receipts {
		r, err := receipt.Parse(data)
		if err != nil {
			out = append(out, receiptFacts{Problem: err.Error()})
			continue
		}
		f := receiptFacts{Ledger: r.Ledger, Transaction: r.TransactionID, Key: r.KeyID}
		if !r.IssuedAt.IsZero() {
			f.SignedAt = r.IssuedAt.Format(time.RFC3339)
		}
		if len(k) > 0 {
			keys := k[r.Ledger]
			if keys[r.KeyID] == nil {
				keys = k[""]
			}
			err = r.Verify(message, keys)
			f.Verified = err == nil
			if err != nil {
				f.Problem = err.Error()
			}
		}
		out = append(out, f)
	}
	return out
}

// String is the receipt in one line.
func (f receiptFacts) String() string {
	parts := []string{f.Ledger}
	for _, p := range []struct{ name, value string }{{"transaction", f.Transaction}, {"signed", f.SignedAt}} {
		if p.value != "" {
			parts = append(parts, p.name+" "+p.value)
		}
	}
	switch {
	case f.Ledger == "":
		parts = []string{f.Problem}
	case f.Verified:
		parts = append(parts, "verified")
	case f.Problem != "":
		parts = append(parts, "refused: "+f.Problem)
	default:
		parts = append(parts, "not verified")
	}
	return strings.Join(parts, ", ")
}
