// SPDX-License-Identifier: Apache-2.0

package intel

import (
	"maps"
	"slices"
	"testing"

	"cofferdam.dev/collateral"
	"cofferdam.dev/evidence/dcap"
	"cofferdam.dev/evidence/pcs"
	"cofferdam.dev/verify/anchor"
)

// damage flips a bit of every byte, and appends; at every seventh place, it inverts a byte and cuts.
func damage(b []byte, step int, try func(what string, at int, b []byte)) {
	for i := 0; i < len(b); i += step {
		d := slices.Clone(b)
		d[i] ^= 1 << (i % 8)
		try("flip", i, d)
	}
	for i := 0; i < len(b); i += 7 * step {
		d := slices.Clone(b)
		d[i] = ^b[i]
		try("inversion", i, d)
		try("cut", i, b[:i])
	}
	for _, tail := range [][]byte{{1}, {0, 1}, []byte("\n{}"), make([]byte, dcap.MaxQuoteSize)} {
		try("tail", len(tail), slices.Concat(b, tail))
	}
}

// TestNoDamagedVectorIsAccepted damages quotes that are accepted, and each piece of their collateral. Nothing but the
// signatures can notice, because nothing of the guest is pinned. All share a cache, which no damaged piece may enter.
func TestNoDamagedVectorIsAccepted(t *testing.T) {
	t.Parallel()
	for _, v := range []vector{vectors[0], vectors[7]} { // t1 and g1
		t.Run(v.name, func(t *testing.T) {
			t.Parallel()
			in, p := v.input(t), lenient()
			in.Cache = NewCache(anchor.NewCache(anchor.DefaultCacheSize))
			p.AcceptedStatuses = []pcs.Status{v.status}
			p.TDX.AllowDebug, p.TDX.AllowMigration, p.SGX.AllowDebug = true, true, true
			if _, outcome, codes := judge(t, in, p); outcome != "accepted" {
				t.Fatalf("the untouched vector is not accepted: %v", codes)
			}
			step := 1
			if testing.Short() {
				step = 17
			}
			documents := in.Cache.Len()
			damage(in.Quote, step, func(what string, at int, b []byte) {
				in := in
				in.Quote = b
				_, outcome, _ := judge(t, in, p)
				whole := what == "cut" && at >= quoteSize(t, v) // zeros behind the quote may be missing
				if outcome == "accepted" && !whole {
					t.Errorf("quote with %s at %d is accepted", what, at)
				}
			})
			for name, item := range in.Collateral.(collateral.Embedded) {
				damage(item.Body, step, func(what string, at int, b []byte) {
					in := in
					e := maps.Clone(in.Collateral.(collateral.Embedded))
					e[name] = collateral.Item{Body: b, IssuerChain: item.IssuerChain}
					in.Collateral = e
					if _, outcome, _ := judge(t, in, p); outcome == "accepted" {
						t.Errorf("%s with %s at %d is accepted", name, what, at)
					}
				})
				damage(item.IssuerChain, 7*step, func(what string, at int, b []byte) {
					in := in
					e := maps.Clone(in.Collateral.(collateral.Embedded))
					e[name] = collateral.Item{Body: item.Body, IssuerChain: b}
					in.Collateral = e
					judge(t, in, p) // PEM has spellings that are as good; it must not panic
				})
			}
			if n := in.Cache.Len(); n != documents {
				t.Errorf("the cache has %d documents, not %d", n, documents)
			}
		})
	}
}

// quoteSize is the size of a vector's quote without what follows it.
func quoteSize(t *testing.T, v vector) int {
	t.Helper()
	b := load(t, v.quote)[v.offset:]
	q, err := dcap.ParseQuote(b)
	if err != nil {
		t.Fatal(err)
	}
	return len(b) - len(q.Trailing)
}

// TestNoVectorPanics cuts and damages all other vectors; none of them may be accepted in any form.
func TestNoVectorPanics(t *testing.T) {
	t.Parallel()
	for _, v := range vectors {
		t.Run(v.name, func(t *testing.T) {
			t.Parallel()
			in := v.input(t)
			in.Cache = NewCache(anchor.NewCache(anchor.DefaultCacheSize))
			in.EventLog = nil
			step := 7
			if testing.Short() {
				step = 97
			}
			damage(in.Quote, step, func(what string, at int, b []byte) {
				in := in
				in.Quote = b
				if _, outcome, _ := judge(t, in, lenient()); outcome == "accepted" && v.outcome != "accepted" {
					t.Errorf("quote with %s at %d is accepted", what, at)
				}
			})
		})
	}
}
