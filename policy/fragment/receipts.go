// SPDX-License-Identifier: Apache-2.0

package fragment

import (
	"maps"
	"slices"

	"cofferdam.dev/evidence/receipt"
)

// Receipt is one verified receipt of a ledger over a fragment.
type Receipt struct {
	Ledger   string
	Subjects []string // of the trust lists that named the signing key as this ledger's
}

// Ledgers are the keys of ledgers whose receipts count, and which trust lists brought each. Its zero value has none. A
// value never changes: With makes another.
type Ledgers struct {
	keys map[string]map[string]ledgerKey // by ledger, by key
}

type ledgerKey struct {
	keys     receipt.KeySet // this one alone
	subjects []string
}

// With returns the keys with those that a list names for some of its ledgers. The caller has asked whether the list may.
// Keys are added and never replaced, since their names are their hashes; a list that names a key no more takes nothing
// away.
func (l Ledgers) With(list *TrustList, allowed []string) Ledgers {
	out := Ledgers{keys: map[string]map[string]ledgerKey{}}
	for name, keys := range l.keys {
		out.keys[name] = maps.Clone(keys)
	}
	for _, name := range allowed {
		for id, key := range list.Ledgers[name] {
			if out.keys[name] == nil {
				out.keys[name] = map[string]ledgerKey{}
			}
			subjects := slices.Clone(out.keys[name][id].subjects)
			if !slices.Contains(subjects, list.Subject) {
				subjects = append(subjects, list.Subject)
			}
			out.keys[name][id] = ledgerKey{receipt.KeySet{id: key}, subjects}
		}
	}
	return out
}

// Size is how many keys there are.
func (l Ledgers) Size() (n int) {
	for _, keys := range l.keys {
		n += len(keys)
	}
	return n
}

// Verified returns the receipts of a fragment that verify with a key of the ledger that they name. The others are as if
// they were not there: whoever delivers a message can leave receipts out, and can add any.
func (l Ledgers) Verified(s *Signed) []Receipt {
	if len(l.keys) == 0 {
		return nil
	}
	var out []Receipt
	for _, data := range s.Receipts {
		r, err := receipt.Parse(data)
		if err != nil {
			continue
		}
		key, ok := l.keys[r.Ledger][r.KeyID]
		if ok && r.Verify(s.message, key.keys) == nil {
			out = append(out, Receipt{Ledger: r.Ledger, Subjects: slices.Clone(key.subjects)})
		}
	}
	return out
}
