// SPDX-License-Identifier: Apache-2.0

package sealedstore_test

import (
	"bytes"
	"path/filepath"
	"testing"

	"cofferdam.dev/internal/seal"
	"cofferdam.dev/internal/store"
	"cofferdam.dev/internal/store/boltstore"
	"cofferdam.dev/internal/store/sealedstore"
	"cofferdam.dev/internal/store/storetest"
)

func openInner(t *testing.T) store.Store {
	t.Helper()
	s, err := boltstore.Open(filepath.Join(t.TempDir(), "store"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func over(t *testing.T, inner store.Store, key *seal.Secret) store.Store {
	t.Helper()
	s, err := sealedstore.New(inner, key)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestConformance(t *testing.T) {
	storetest.RunWithin(t, sealedstore.MaxValueSize, func(t *testing.T) store.Store {
		return over(t, openInner(t), seal.NewRootKey())
	})
}

// TestTampering has somebody with access to the store, and without its key, do what they can.
func TestTampering(t *testing.T) {
	t.Parallel()
	inner := openInner(t)
	key := bytes.Repeat([]byte{7}, seal.RootKeySize)
	s := over(t, inner, seal.NewSecret(bytes.Clone(key)))
	put := func(s store.Store, name string, value []byte) {
		t.Helper()
		if err := s.Update(t.Context(), func(tx store.Tx) error { return tx.Put(name, value) }); err != nil {
			t.Fatal(err)
		}
	}
	get := func(s store.Store, name string) (v []byte, err error) {
		err = s.View(t.Context(), func(r store.Reader) error {
			v, err = r.Get(name)
			return err
		})
		return v, err
	}
	put(s, "policy", []byte("deny"))
	sealed, err := get(inner, "policy")
	if err != nil || bytes.Contains(sealed, []byte("deny")) {
		t.Fatalf("%q, %v", sealed, err)
	}
	for name, c := range map[string][]byte{
		"moved": sealed, "clear": []byte("permit"), "empty": {}, "version alone": {1}, "other version": append([]byte{2}, sealed[1:]...),
	} {
		put(inner, "other", c)
		if v, err := get(s, "other"); err == nil {
			t.Errorf("%s: it reads as %q", name, v)
		}
		err := s.View(t.Context(), func(r store.Reader) error {
			_, err := r.List("", "", 10)
			return err
		})
		if err == nil {
			t.Errorf("%s: it is listed", name)
		}
	}
	for i := range sealed {
		changed := bytes.Clone(sealed)
		changed[i] ^= 1
		put(inner, "policy", changed)
		if v, err := get(s, "policy"); err == nil {
			t.Errorf("byte %d changed: it reads as %q", i, v)
		}
	}
	put(inner, "policy", sealed)
	if v, err := get(s, "policy"); err != nil || string(v) != "deny" {
		t.Errorf("%q, %v", v, err)
	}
	if v, err := get(over(t, inner, seal.NewRootKey()), "policy"); err == nil {
		t.Errorf("with another key it reads as %q", v)
	}
	if _, err := sealedstore.New(inner, seal.NewSecret([]byte("short"))); err == nil {
		t.Error("a short key is taken")
	}
}
