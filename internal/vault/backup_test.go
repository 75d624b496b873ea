// SPDX-License-Identifier: Apache-2.0

package vault

import (
	"bytes"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"cofferdam.dev/internal/seal"
	"cofferdam.dev/internal/store"
	"cofferdam.dev/internal/store/boltstore"
)

// another is a vault on another store, with the root, the clock and the authorities of w.
func (w *world) another(t testing.TB, change func(*Options)) *world {
	t.Helper()
	s, err := boltstore.Open(filepath.Join(t.TempDir(), "vault.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return newWorldOn(t, s, func(o *Options) {
		o.Root, o.Now, o.Authorities = w.opts.Root, w.opts.Now, w.opts.Authorities
		if change != nil {
			change(o)
		}
	})
}

func (w *world) dump(t testing.TB) map[string]string {
	t.Helper()
	out := map[string]string{}
	err := w.store.View(t.Context(), func(r store.Reader) error {
		list, err := r.List("", "", store.MaxList)
		for _, e := range list {
			out[e.Key] = string(e.Value)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestBackup(t *testing.T) {
	t.Parallel()
	w, g := releaseWorld(t, nil)
	ctx := t.Context()
	r := exportable()
	r.Type = ECHSM
	requests := map[string]KeyRequest{"deleted": r}
	for i := range 60 {
		requests[fmt.Sprint("k", i)] = r
	}
	makeKeys(t, w, requests)
	if _, err := w.DeleteKey(ctx, "deleted"); err != nil {
		t.Fatal(err)
	}
	for range 5 {
		if _, err := w.SetSecret(ctx, "s", SecretRequest{Value: seal.NewSecret(bytes.Repeat([]byte("x"), MaxSecretSize))}); err != nil {
			t.Fatal(err)
		}
	}
	released, err := w.Release(ctx, ReleaseRequest{Name: "k7", Target: g.token(t, nil)})
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	summary, err := w.Backup(ctx, &b)
	if err != nil {
		t.Fatal(err)
	}
	if want := len(w.dump(t)); summary.Entries != want || summary.Vault != "test" {
		t.Errorf("summary %+v, want %d entries", summary, want)
	}
	if bytes.Contains(b.Bytes(), []byte("xxxxxxxx")) {
		t.Error("the secret is in the backup")
	}
	to := w.another(t, nil)
	got, err := to.Restore(ctx, bytes.NewReader(b.Bytes()))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(summary, got); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(w.dump(t), to.dump(t)); diff != "" {
		t.Error(diff)
	}
	if _, err := to.Release(ctx, ReleaseRequest{Name: "k7", Target: g.token(t, nil)}); err != nil {
		t.Error(err)
	}
	if d, err := to.Explain(ctx, released.ID); err != nil || !d.Allowed {
		t.Errorf("%+v, %v", d, err)
	}
	if _, err := to.Restore(ctx, bytes.NewReader(b.Bytes())); err == nil {
		t.Error("restored over something")
	}
}

// TestBadBackup has backups that are not restored, and of which nothing is written.
func TestBadBackup(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	ctx := t.Context()
	makeKeys(t, w, map[string]KeyRequest{"a": {Type: EC}, "b": {Type: EC}})
	var b bytes.Buffer
	if _, err := w.Backup(ctx, &b); err != nil {
		t.Fatal(err)
	}
	good := b.String()
	lines := strings.SplitAfter(strings.TrimSuffix(good, "\n"), "\n")
	last := len(lines) - 1
	join := func(list ...string) string { return strings.Join(list, "") }
	for name, c := range map[string]struct {
		text   string
		change func(*Options)
	}{
		"nothing":       {"", nil},
		"no JSON":       {"x\n", nil},
		"other schema":  {strings.Replace(good, "backup/v1", "backup/v2", 1), nil},
		"no end":        {join(lines[:last]...), nil},
		"cut":           {good[:len(good)/2], nil},
		"a line less":   {join(lines[0], join(lines[2:]...)), nil},
		"order":         {join(lines[0], lines[2], lines[1], join(lines[3:]...)), nil},
		"changed":       {strings.Replace(good, `"key":"key/live/a"`, `"key":"key/live/c"`, 1), nil},
		"changed time":  {strings.Replace(good, `"time":"2026`, `"time":"2027`, 1), nil},
		"after the end": {good + lines[1], nil},
		"other root":    {good, func(o *Options) { o.Root = newRoot(t) }},
		"other vault":   {good, func(o *Options) { o.Name = "other" }},
		"renamed":       {strings.Replace(good, `"vault":"test"`, `"vault":"other"`, 1), func(o *Options) { o.Name = "other" }},
		"long line":     {join(lines[0], strings.Repeat("x", maxBackupLine+1)), nil},
	} {
		to := w.another(t, c.change)
		if s, err := to.Restore(ctx, strings.NewReader(c.text)); err == nil {
			t.Errorf("%s: restored %+v", name, s)
		}
		if left := to.dump(t); len(left) != 0 {
			t.Errorf("%s: %d entries were written", name, len(left))
		}
	}
	to := w.another(t, nil)
	if _, err := to.Restore(ctx, strings.NewReader(good)); err != nil {
		t.Error(err)
	}
}

type failing struct{ after int }

func (f *failing) Write(b []byte) (int, error) {
	if f.after -= len(b); f.after < 0 {
		return 0, errors.New("disk full")
	}
	return len(b), nil
}

func TestBackupDiskFull(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	makeKeys(t, w, map[string]KeyRequest{"a": {Type: EC}})
	for _, n := range []int{0, 100, 500} {
		if s, err := w.Backup(t.Context(), &failing{n}); err == nil {
			t.Errorf("a full disk after %d bytes: %+v", n, s)
		}
	}
}
