// SPDX-License-Identifier: Apache-2.0

package vault

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"cofferdam.dev/internal/seal"
	"cofferdam.dev/internal/store"
)

// TestTamperedStore changes what lies in the store in every way that helps an attacker who has it: nothing of it is taken.
func TestTamperedStore(t *testing.T) {
	t.Parallel()
	open := strings.Replace(policyText, hostData, strings.Repeat("0", 64), 1)
	type entries = map[string][]byte
	replace := func(was, is string) func([]byte) []byte {
		return func(b []byte) []byte {
			out := bytes.Replace(b, []byte(was), []byte(is), 1)
			if bytes.Equal(out, b) {
				panic("nothing was replaced: " + was)
			}
			return out
		}
	}
	const headA, headB = "vault/test/key/live/a", "vault/test/key/live/b"
	for name, attack := range map[string]func(e entries, a, b string){
		"exportable":           func(e entries, a, _ string) { e[a] = replace(`"enabled":false`, `"enabled":true`)(e[a]) },
		"head: time":           func(e entries, _, _ string) { e[headA] = replace(`"created":"2026`, `"created":"2025`)(e[headA]) },
		"head: policy":         func(e entries, _, _ string) { setPolicy(e, headA, open) },
		"head of another":      func(e entries, _, _ string) { e[headA] = e[headB] },
		"policy of another":    func(e entries, _, _ string) { mix(e, headA, headB) },
		"version of another":   func(e entries, a, b string) { e[a] = e[b] },
		"material of another":  func(e entries, a, b string) { mixMaterial(e, a, b) },
		"tag cut":              func(e entries, _, _ string) { e[headA] = replace(`"tag":"`, `"tag":"AAAA`)(e[headA]) },
		"no tag":               func(e entries, _, _ string) { e[headA] = replace(`"tag":`, `"gat":`)(e[headA]) },
		"no JSON":              func(e entries, _, _ string) { e[headA] = []byte("x") },
		"empty":                func(e entries, a, _ string) { e[a] = []byte("{}") },
		"deleted brought back": func(e entries, _, _ string) { e[headA] = e["vault/test/key/deleted/c"] },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w, g := releaseWorld(t, nil)
			ctx := t.Context()
			r := exportable()
			r.Type, r.Attributes.Enabled = ECHSM, ptr(false)
			makeKeys(t, w, map[string]KeyRequest{"a": r, "b": r, "c": r})
			ka, err := w.Key(ctx, "a", "")
			if err != nil {
				t.Fatal(err)
			}
			kb, err := w.Key(ctx, "b", "")
			if err != nil {
				t.Fatal(err)
			}
			if _, err := w.DeleteKey(ctx, "c"); err != nil {
				t.Fatal(err)
			}
			err = w.store.Update(ctx, func(tx store.Tx) error {
				e := entries{}
				list, err := tx.List("vault/", "", store.MaxList)
				for _, entry := range list {
					e[entry.Key] = entry.Value
				}
				attack(e, "vault/test/key/version/a/"+ka.Version, "vault/test/key/version/b/"+kb.Version)
				for key, value := range e {
					err = errors.Join(err, tx.Put(key, value))
				}
				return err
			})
			if err != nil {
				t.Fatal(err)
			}
			out, err := w.Release(ctx, ReleaseRequest{Name: "a", Target: g.token(t, nil)})
			var refusal *Error
			if err == nil || errors.As(err, &refusal) {
				t.Errorf("released %+v: %v", out, err)
			}
			_, err = w.UpdateKey(ctx, "a", "", KeyUpdate{Attributes: AttributeChange{Enabled: ptr(true)}})
			if err == nil || errors.As(err, &refusal) {
				t.Errorf("updated: %v", err)
			}
		})
	}
}

func decode[T any](b []byte) T {
	var v T
	if err := json.Unmarshal(b, &v); err != nil {
		panic(err)
	}
	return v
}

func encode(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return b
}

func setPolicy(e map[string][]byte, key, text string) {
	sh := decode[shelved](e[key])
	h := decode[head](sh.Head)
	h.Policy.Data = []byte(text)
	sh.Head = encode(h)
	e[key] = encode(sh)
}

// mix keeps the key and tag of one head with what another says.
func mix(e map[string][]byte, a, b string) {
	sh, other := decode[shelved](e[a]), decode[shelved](e[b])
	sh.Head = bytes.Replace(other.Head, []byte(`"name":"b"`), []byte(`"name":"a"`), 1)
	e[a] = encode(sh)
}

func mixMaterial(e map[string][]byte, a, b string) {
	sh, other := decode[shelvedVersion](e[a]), decode[shelvedVersion](e[b])
	sh.Material = other.Material
	e[a] = encode(sh)
}

// TestOtherRoot opens a vault with another root key: nothing can be read, and nothing is overwritten.
func TestOtherRoot(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	ctx := t.Context()
	makeKeys(t, w, map[string]KeyRequest{"a": {Type: EC}})
	other := newWorldOn(t, w.store, nil)
	for name, f := range map[string]func() error{
		"get":    func() error { _, err := other.Key(ctx, "a", ""); return err },
		"list":   func() error { _, _, err := other.Keys(ctx, "", 1); return err },
		"create": func() error { _, err := other.CreateKey(ctx, "a", KeyRequest{Type: EC}); return err },
		"delete": func() error { _, err := other.DeleteKey(ctx, "a"); return err },
	} {
		if err := f(); !errors.Is(err, seal.ErrSealed) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := w.Key(ctx, "a", ""); err != nil {
		t.Error(err)
	}
}

// TestTwoVaults keeps two vaults in one store apart, even under one root.
func TestTwoVaults(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	ctx := t.Context()
	makeKeys(t, w, map[string]KeyRequest{"a": {Type: EC}})
	opts := w.opts
	opts.Name = "other"
	v, err := New(opts)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := v.Key(ctx, "a", ""); codeOf(err) != KeyNotFound {
		t.Errorf("the other vault's key: %v", err)
	}
	err = w.store.Update(ctx, func(tx store.Tx) error {
		list, err := tx.List("vault/test/key/", "", store.MaxList)
		for _, e := range list {
			err = errors.Join(err, tx.Put(strings.Replace(e.Key, "/test/", "/other/", 1), e.Value))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := v.Key(ctx, "a", ""); !errors.Is(err, seal.ErrSealed) {
		t.Errorf("a copy of the other vault's key: %v", err)
	}
}
