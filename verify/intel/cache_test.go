// SPDX-License-Identifier: Apache-2.0

package intel

import (
	"maps"
	"math/big"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"cofferdam.dev/collateral"
	"cofferdam.dev/verify/anchor"
	"cofferdam.dev/verify/check"
)

func newCache() *Cache { return NewCache(anchor.NewCache(anchor.DefaultCacheSize)) }

// TestCacheChangesNothing appraises all vectors cold, with an empty cache, and again with the full one.
func TestCacheChangesNothing(t *testing.T) {
	t.Parallel()
	cache := newCache()
	for _, v := range vectors {
		var want []check.Check
		for i, c := range []*Cache{nil, cache, cache, NewCache(nil)} {
			in := v.input(t)
			in.Cache = c
			var rec check.Record
			Appraise(t.Context(), &rec, in, lenient())
			if i == 0 {
				want = rec.Checks()
			}
			if d := cmp.Diff(want, rec.Checks()); d != "" {
				t.Errorf("%s, round %d (-cold +cached):\n%s", v.name, i, d)
			}
		}
	}
	if cache.Len() < 8 {
		t.Errorf("the cache has %d documents", cache.Len())
	}
	cache.Forget()
	if cache.Len() != 0 {
		t.Error("the cache forgot nothing")
	}
}

// TestCacheDecidesNothing accepts a machine, and then changes everything around the cache.
func TestCacheDecidesNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t, td)
	in := w.input()
	in.Cache = newCache()
	if _, outcome, codes := judge(t, in, strict()); outcome != "accepted" {
		t.Fatal(codes)
	}
	w.pckRevoked = []*big.Int{w.pck.cert.SerialNumber}
	revoked := w.input()
	revoked.Cache = in.Cache
	late, other, none := in, in, in
	late.Now = w.now.AddDate(1, 0, 0)
	other.Roots = []anchor.Root{anchor.IntelRoot()}
	none.Roots = nil
	floor := strict()
	floor.MinimumEvaluationNumber = 99
	for _, c := range []struct {
		name string
		in   Input
		p    Policy
		want string
	}{
		{"revoked since", revoked, strict(), "refused"}, {"a year later", late, strict(), "undecided"}, {"other root", other, strict(), "refused"},
		{"no root", none, strict(), "refused"}, {"other policy", in, floor, "refused"}, {"as before", in, strict(), "accepted"},
	} {
		if _, outcome, codes := judge(t, c.in, c.p); outcome != c.want {
			t.Errorf("%s: %s %v", c.name, outcome, codes)
		}
	}
}

// TestCacheTellsSignersApart gives a document that is known by one signer the chain of another.
func TestCacheTellsSignersApart(t *testing.T) {
	t.Parallel()
	w := newWorld(t, sg)
	in := w.input()
	in.Cache = newCache()
	judge(t, in, strict())
	name := collateral.TCBInfo(collateral.SGX, w.machine.FMSPC).Name()
	items := maps.Clone(in.Collateral.(collateral.Embedded))
	other := w.issue(w.root, tcbSigningName, false, nil)
	items[name] = collateral.Item{Body: items[name].Body, IssuerChain: chainPEM(other.cert, w.root.cert)}
	in.Collateral = items
	if _, outcome, codes := judge(t, in, strict()); outcome != "refused" || !slices.Contains(codes, "tcb-info=COLLATERAL_SIGNATURE_INVALID") {
		t.Errorf("%s %v", outcome, codes)
	}
}

// TestCacheKeepsStrangersOut holds that what no root vouches for is not remembered.
func TestCacheKeepsStrangersOut(t *testing.T) {
	t.Parallel()
	in := newWorld(t, td).input()
	in.Cache = newCache()
	in.Roots = []anchor.Root{anchor.IntelRoot()}
	judge(t, in, strict())
	if in.Cache.Len() != 0 || in.Cache.facts().Len() != 0 {
		t.Errorf("the cache has %d documents and %d facts", in.Cache.Len(), in.Cache.facts().Len())
	}
}

func TestCacheConcurrently(t *testing.T) {
	t.Parallel()
	in := newWorld(t, td).input()
	in.Cache = newCache()
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 5 {
				var rec check.Record
				if res := Appraise(t.Context(), &rec, in, strict()); res.TCB.Status != "UpToDate" {
					t.Errorf("status is %q", res.TCB.Status)
				}
			}
		})
	}
	wg.Wait()
}

// TestWindow holds that the verdict is the same at both ends of the window that it names, and another one outside of it.
func TestWindow(t *testing.T) {
	t.Parallel()
	for name, p := range map[string]func(*Policy){
		"documents": func(*Policy) {}, "age": func(p *Policy) { p.MaxCollateralAge = 5 * 24 * time.Hour },
		"grace": func(p *Policy) { p.Grace = 525 * 24 * time.Hour },
	} {
		w, policy := newWorld(t, td), strict()
		if name == "grace" {
			oldMachine(w)
		}
		p(&policy)
		in := w.input()
		res, outcome, codes := judge(t, in, policy)
		if outcome != "accepted" {
			t.Fatalf("%s: %v", name, codes)
		}
		for _, c := range []struct {
			at   time.Time
			want bool
		}{{res.From, true}, {res.Until, true}, {res.From.Add(-time.Second), false}, {res.Until.Add(time.Second), false}} {
			in.Now = c.at
			if _, outcome, codes := judge(t, in, policy); (outcome == "accepted") != c.want {
				t.Errorf("%s: at %s, of %s to %s: %s %v", name, c.at, res.From, res.Until, outcome, codes)
			}
		}
	}
}
