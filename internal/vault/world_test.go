// SPDX-License-Identifier: Apache-2.0

package vault

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"cofferdam.dev/internal/audit"
	"cofferdam.dev/internal/seal"
	"cofferdam.dev/internal/store"
	"cofferdam.dev/internal/store/boltstore"
)

// clock is a clock that a test turns.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) Advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// world is a vault with what it stands on.
type world struct {
	*Vault

	store store.Store
	audit string // its directory
	clock *clock
}

func newRoot(t testing.TB) seal.Root {
	t.Helper()
	key := seal.NewRootKey()
	defer key.Destroy()
	root, err := seal.NewMemory(key, "memory")
	if err != nil {
		t.Fatal(err)
	}
	return root
}

func newAuditKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func newAudit(t testing.TB, dir string) *audit.Log {
	t.Helper()
	log, err := audit.Open(dir, audit.Options{Instance: "test", Key: newAuditKey(t)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = log.Close() })
	return log
}

func newWorld(t testing.TB, change func(*Options)) *world {
	t.Helper()
	s, err := boltstore.Open(filepath.Join(t.TempDir(), "vault.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return newWorldOn(t, s, change)
}

func newWorldOn(t testing.TB, s store.Store, change func(*Options)) *world {
	t.Helper()
	w := &world{store: s, audit: filepath.Join(t.TempDir(), "audit"), clock: &clock{now: time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)}}
	opts := Options{Name: "test", Store: s, Root: newRoot(t), Audit: newAudit(t, w.audit), Now: w.clock.Now}
	if change != nil {
		change(&opts)
	}
	v, err := New(opts)
	if err != nil {
		t.Fatal(err)
	}
	w.Vault = v
	return w
}

func ptr[T any](v T) *T { return &v }

// codeOf is the code of a refusal, "" of no error, and "other" of another.
func codeOf(err error) Code {
	var refusal *Error
	switch {
	case err == nil:
		return ""
	case errors.As(err, &refusal):
		return refusal.Code
	}
	return "other: " + Code(err.Error())
}

func flip(b []byte) []byte {
	out := bytes.Clone(b)
	if len(out) > 0 {
		out[len(out)/2] ^= 1
	}
	return out
}

func encodeJSON(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return base64.RawURLEncoding.EncodeToString(b)
}
