// SPDX-License-Identifier: Apache-2.0

// Package storetest is what every driver of package store must do, as tests, and a real etcd for those that need one. It
// is for tests alone.
package storetest

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"cofferdam.dev/internal/store"
)

// Run tests a driver. Open returns an empty store; it is called several times.
func Run(t *testing.T, open func(t *testing.T) store.Store) {
	t.Helper()
	RunWithin(t, store.MaxValueSize, open)
}

// RunWithin tests a store whose values may have maxValue bytes.
func RunWithin(t *testing.T, maxValue int, open func(t *testing.T) store.Store) {
	t.Helper()
	for name, test := range map[string]func(*testing.T, store.Store){
		"values": values, "lists": lists, "own writes": ownWrites, "failing writes nothing": failing,
		"limits":              func(t *testing.T, s store.Store) { limits(t, s, maxValue) },
		"concurrent counters": counters, "no phantom": phantoms, "write skew": writeSkew, "ended context": ended,
		"sweep": sweep, "list twice": listTwice,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, open(t))
		})
	}
}

func put(t *testing.T, s store.Store, pairs ...string) {
	t.Helper()
	err := s.Update(t.Context(), func(tx store.Tx) error {
		for i := 0; i < len(pairs); i += 2 {
			if err := tx.Put(pairs[i], []byte(pairs[i+1])); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func get(t *testing.T, s store.Store, key string) (value string, found bool) {
	t.Helper()
	err := s.View(t.Context(), func(r store.Reader) error {
		v, err := r.Get(key)
		value = string(v)
		return err
	})
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		t.Fatal(err)
	}
	return value, err == nil
}

func values(t *testing.T, s store.Store) {
	if _, found := get(t, s, "a"); found {
		t.Error("an empty store has a key")
	}
	put(t, s, "a", "1", "b", "")
	put(t, s, "a", "2")
	for key, want := range map[string]string{"a": "2", "b": ""} {
		if v, found := get(t, s, key); !found || v != want {
			t.Errorf("%s is %q, %v; want %q", key, v, found, want)
		}
	}
	err := s.Update(t.Context(), func(tx store.Tx) error { return errors.Join(tx.Delete("a"), tx.Delete("never")) })
	if _, found := get(t, s, "a"); found || err != nil {
		t.Errorf("a deleted key is found: %v, %v", found, err)
	}
}

func lists(t *testing.T, s store.Store) {
	put(t, s, "a", "0", "p/", "1", "p/a", "2", "p/b", "3", "p/b/c", "4", "p0", "5", "q", "6")
	for name, c := range map[string]struct {
		prefix, after string
		limit         int
		want          string
	}{
		"prefix":           {"p/", "", 10, "p/ p/a p/b p/b/c"},
		"limit":            {"p/", "", 2, "p/ p/a"},
		"after":            {"p/", "p/a", 10, "p/b p/b/c"},
		"after, limited":   {"p/", "p/a", 1, "p/b"},
		"after what isn't": {"p/", "p/az", 10, "p/b p/b/c"},
		"after the last":   {"p/", "p/b/c", 10, ""},
		"after all":        {"p/", "z", 10, ""},
		"after before":     {"p/", "a", 10, "p/ p/a p/b p/b/c"},
		"nothing":          {"x", "", 10, ""},
		"everything":       {"", "", 10, "a p/ p/a p/b p/b/c p0 q"},
	} {
		var keys []string
		err := s.View(t.Context(), func(r store.Reader) error {
			keys = nil
			list, err := r.List(c.prefix, c.after, c.limit)
			for _, e := range list {
				keys = append(keys, e.Key)
			}
			return err
		})
		if err != nil || strings.Join(keys, " ") != c.want {
			t.Errorf("%s: %q, %v; want %q", name, keys, err, c.want)
		}
	}
}

func ownWrites(t *testing.T, s store.Store) {
	put(t, s, "old", "1")
	err := s.Update(t.Context(), func(tx store.Tx) error {
		if err := errors.Join(tx.Put("new", []byte("2")), tx.Delete("old")); err != nil {
			return err
		}
		v, err := tx.Get("new")
		if string(v) != "2" || err != nil {
			return fmt.Errorf("own write reads as %q, %w", v, err)
		}
		if _, err = tx.Get("old"); !errors.Is(err, store.ErrNotFound) {
			return fmt.Errorf("own deletion reads as %w", err)
		}
		list, err := tx.List("", "", 10)
		if diff := cmp.Diff([]store.Entry{{Key: "old", Value: []byte("1")}}, list); diff != "" || err != nil {
			return fmt.Errorf("a list does not show the state before: %s, %w", diff, err)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

func failing(t *testing.T, s store.Store) {
	put(t, s, "a", "1")
	sentinel := errors.New("no")
	err := s.Update(t.Context(), func(tx store.Tx) error {
		return errors.Join(tx.Put("a", []byte("2")), tx.Put("b", []byte("2")), sentinel)
	})
	_, found := get(t, s, "b")
	if v, _ := get(t, s, "a"); v != "1" || found || !errors.Is(err, sentinel) {
		t.Errorf("a failed transaction left a=%q, b found: %v; error %v", v, found, err)
	}
}

func limits(t *testing.T, s store.Store, maxValue int) {
	long := strings.Repeat("k", store.MaxKeySize+1)
	for name, fn := range map[string]func(store.Tx) error{
		"long key":     func(tx store.Tx) error { return tx.Put(long, nil) },
		"empty key":    func(tx store.Tx) error { return tx.Put("", nil) },
		"get long key": func(tx store.Tx) error { _, err := tx.Get(long); return err },
		"big value":    func(tx store.Tx) error { return tx.Put("a", make([]byte, maxValue+1)) },
		"big list":     func(tx store.Tx) error { _, err := tx.List("", "", store.MaxList+1); return err },
		"empty list":   func(tx store.Tx) error { _, err := tx.List("", "", 0); return err },
		"many writes": func(tx store.Tx) error {
			for i := range store.MaxTracked + 1 {
				if err := tx.Put(fmt.Sprint("k", i), nil); err != nil {
					return err
				}
			}
			return nil
		},
	} {
		if err := s.Update(t.Context(), fn); !errors.Is(err, store.ErrTooLarge) {
			t.Errorf("%s: %v", name, err)
		}
	}
	put(t, s, "most", strings.Repeat("v", maxValue))
}

// counters has many writers add one each: nothing is lost.
func counters(t *testing.T, s store.Store) {
	const writers, each = 8, 5
	put(t, s, "n", "")
	var wg sync.WaitGroup
	for range writers {
		wg.Go(func() {
			for range each {
				err := s.Update(t.Context(), func(tx store.Tx) error {
					v, err := tx.Get("n")
					if err != nil {
						return err
					}
					return tx.Put("n", append(v, 'x'))
				})
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if v, _ := get(t, s, "n"); len(v) != writers*each {
		t.Errorf("%d of %d increments were kept", len(v), writers*each)
	}
}

// phantoms has writers each add a key only while there are fewer than three: there never are more.
func phantoms(t *testing.T, s store.Store) {
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			err := s.Update(t.Context(), func(tx store.Tx) error {
				list, err := tx.List("seat/", "", 10)
				if err != nil || len(list) >= 3 {
					return err
				}
				return tx.Put(fmt.Sprint("seat/", i), nil)
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	err := s.View(t.Context(), func(r store.Reader) error {
		list, err := r.List("seat/", "", 10)
		if len(list) != 3 {
			return fmt.Errorf("%d seats are taken: %w", len(list), err)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

// writeSkew has two keys of which at least one must stay: each writer deletes one if the other is there.
func writeSkew(t *testing.T, s store.Store) {
	for round := range 10 {
		put(t, s, "a", "1", "b", "1")
		var wg sync.WaitGroup
		for _, pair := range [][2]string{{"a", "b"}, {"b", "a"}} {
			wg.Go(func() {
				err := s.Update(t.Context(), func(tx store.Tx) error {
					_, err := tx.Get(pair[1])
					if errors.Is(err, store.ErrNotFound) {
						return nil
					}
					return errors.Join(err, tx.Delete(pair[0]))
				})
				if err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		_, a := get(t, s, "a")
		if _, b := get(t, s, "b"); !a && !b {
			t.Fatalf("round %d: both are gone", round)
		}
	}
}

// sweep removes what is over below a prefix, over several rounds, and keeps what was written again meanwhile.
func sweep(t *testing.T, s store.Store) {
	const n = 2*store.MaxTracked + 7
	for i := range n {
		put(t, s, fmt.Sprintf("p/%04d", i), []string{"over", "stays"}[i%2])
	}
	put(t, s, "q/1", "over")
	asked := 0
	err := store.Sweep(t.Context(), s, "p/", func(e store.Entry) bool {
		if asked++; asked == 1 && e.Key == "p/0000" {
			put(t, s, "p/0000", "again") // as another writer does between list and removal
		}
		return string(e.Value) == "over"
	})
	if err != nil {
		t.Fatal(err)
	}
	for key, there := range map[string]bool{"p/0000": true, "p/0001": true, "p/0002": false, fmt.Sprintf("p/%04d", n-1): n%2 == 0, "q/1": true} {
		if _, found := get(t, s, key); found != there {
			t.Errorf("%s is there: %v, want %v", key, found, there)
		}
	}
}

func ended(t *testing.T, s store.Store) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	err := s.Update(ctx, func(tx store.Tx) error { return tx.Put("a", nil) })
	if err == nil {
		t.Error("a transaction whose context has ended was made")
	}
	if _, found := get(t, s, "a"); found {
		t.Error("its write is there")
	}
}

// listTwice has a transaction read a range again, and keys of it, which are tracked once.
func listTwice(t *testing.T, s store.Store) {
	const keys = store.MaxTracked * 3 / 4
	for i := range keys {
		put(t, s, fmt.Sprintf("l/%03d", i), "1")
	}
	err := s.Update(t.Context(), func(tx store.Tx) error {
		for range 3 {
			if list, err := tx.List("l/", "", keys); err != nil || len(list) != keys {
				return fmt.Errorf("%d entries, %w", len(list), err)
			}
		}
		if _, err := tx.Get("l/001"); err != nil {
			return err
		}
		return tx.Delete("l/001")
	})
	if _, found := get(t, s, "l/001"); err != nil || found {
		t.Errorf("deleted: %v, %v", !found, err)
	}
}
