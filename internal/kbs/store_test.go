// SPDX-License-Identifier: Apache-2.0

package kbs

import (
	"errors"
	"fmt"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"cofferdam.dev/internal/seal"
	"cofferdam.dev/internal/store"
	"cofferdam.dev/internal/store/boltstore"
)

// TestPart has others in the same store, whose keys are before, after and like the broker's.
func TestPart(t *testing.T) {
	t.Parallel()
	st, err := boltstore.Open(filepath.Join(t.TempDir(), "store"))
	if err != nil {
		t.Fatal(err)
	}
	root := newRoot(t)
	p, err := OpenStore(t.Context(), st, root)
	if err != nil {
		t.Fatal(err)
	}
	again, err := OpenStore(t.Context(), st, root)
	if err != nil {
		t.Fatal(err)
	}
	others := []string{"k", "kbr/a", "kbs", "kbs0", "kbt/a", "keys/a", "a/1"}
	if err := st.Update(t.Context(), func(tx store.Tx) error {
		for _, k := range others {
			if err := tx.Put(k, []byte("another's")); err != nil {
				return err
			}
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	var want []string
	if err := p.Update(t.Context(), func(tx store.Tx) error {
		for i := range 7 {
			want = append(want, fmt.Sprintf("a/%d", i))
			if err := tx.Put(want[i], []byte{byte(i)}); err != nil {
				return err
			}
		}
		return tx.Put("b/1", []byte("b"))
	}); err != nil {
		t.Fatal(err)
	}
	var got []string
	if err := again.View(t.Context(), func(r store.Reader) error {
		for after := ""; ; {
			list, err := r.List("a/", after, 3)
			if err != nil || len(list) == 0 {
				return err
			}
			for i, e := range list {
				if int(e.Value[0]) != len(got) || i > 2 {
					t.Errorf("%v", e)
				}
				got = append(got, e.Key)
			}
			after = got[len(got)-1]
		}
	}); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if err := p.Update(t.Context(), func(tx store.Tx) error {
		if _, err := tx.Get("keys/a"); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("another's key: %v", err)
		}
		return tx.Delete("a/1")
	}); err != nil {
		t.Fatal(err)
	}
	if err := st.View(t.Context(), func(r store.Reader) error {
		for _, k := range others {
			if v, err := r.Get(k); err != nil || string(v) != "another's" {
				t.Errorf("%s: %q, %v", k, v, err)
			}
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if err := p.Close(); err != nil {
		t.Error(err)
	}
}

// BenchmarkHandshake is a whole handshake but for the guest's evidence, and BenchmarkRelease a resource of it.
func BenchmarkHandshake(b *testing.B) {
	w := newWorld(b, nil)
	g := w.newGuest("P-256")
	for b.Loop() {
		b.StopTimer()
		g.request()
		body := asJSON(b, g.attestation(theMachine(b)))
		session := g.cookie()
		b.StartTimer()
		if _, err := w.Attest(b.Context(), session, body); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkRelease(b *testing.B) {
	for _, kind := range []string{"P-256", "RSA"} {
		b.Run(kind, func(b *testing.B) {
			w := newWorld(b, nil)
			w.allow("*/*/*")
			if err := w.PutResource(b.Context(), Path{"a", "b", "c"}, seal.NewSecret(make([]byte, 32))); err != nil {
				b.Fatal(err)
			}
			g := w.newGuest(kind)
			g.handshake()
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					if _, err := w.Release(b.Context(), "", g.token, Path{"a", "b", "c"}); err != nil {
						b.Error(err)
					}
				}
			})
		})
	}
}
