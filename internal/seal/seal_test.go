// SPDX-License-Identifier: Apache-2.0

package seal

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"cofferdam.dev/evidence/snp"
)

var passphrase = NewSecret([]byte("correct horse battery"))

func mustWrap(t *testing.T, r Root) []byte {
	t.Helper()
	b, err := r.Wrap(t.Context(), []byte("key"), []byte("aad"))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// opens reports whether a root is the one that wrapped.
func opens(t *testing.T, r Root, wrapped []byte) bool {
	t.Helper()
	b, err := r.Unwrap(t.Context(), wrapped, []byte("aad"))
	if err != nil && !errors.Is(err, ErrSealed) {
		t.Fatal(err)
	}
	return err == nil && string(b) == "key"
}

func TestMemory(t *testing.T) {
	t.Parallel()
	key := NewRootKey()
	r, err := NewMemory(key, "memory")
	if err != nil {
		t.Fatal(err)
	}
	key.Destroy()
	wrapped := mustWrap(t, r)
	if !opens(t, r, wrapped) || bytes.Equal(wrapped, mustWrap(t, r)) {
		t.Error("it does not open, or is the same twice")
	}
	for i := range wrapped {
		bad := bytes.Clone(wrapped)
		bad[i] ^= 1
		if opens(t, r, bad) || opens(t, r, wrapped[:i]) {
			t.Errorf("opened though changed at %d", i)
		}
	}
	if _, err := r.Unwrap(t.Context(), wrapped, []byte("other")); !errors.Is(err, ErrSealed) {
		t.Errorf("with other data: %v", err)
	}
	for _, n := range []int{0, 16, 31, 33} {
		if _, err := NewMemory(NewSecret(make([]byte, n)), "memory"); err == nil {
			t.Errorf("a key of %d bytes was taken", n)
		}
	}
}

func TestSecretIsNotShown(t *testing.T) {
	t.Parallel()
	s := NewSecret([]byte("hunter2hunter2"))
	j, err := json.Marshal(map[string]any{"s": s})
	if err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	slog.New(slog.NewJSONHandler(&log, nil)).Info("x", slog.Any("s", s))
	all := fmt.Sprintf("%v %+v %#v %s %q %x %d %v", s, s, s, s, s, s, s, struct{ S *Secret }{s}) + string(j) + log.String() + s.String()
	if strings.Contains(all, "hunter2") || strings.Contains(all, "68756e746572") || strings.Contains(all, "104 117") {
		t.Errorf("the secret is shown: %s", all)
	}
	b := s.Expose()
	s.Destroy()
	if !bytes.Equal(b, make([]byte, len(b))) || s.Expose() != nil {
		t.Error("the secret is still there")
	}
	var none *Secret
	none.Destroy()
	if none.Expose() != nil {
		t.Error("a secret from nothing")
	}
}

func TestPassphrase(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "root.json")
	r, err := CreatePassphrase(path, passphrase)
	if err != nil {
		t.Fatal(err)
	}
	wrapped := mustWrap(t, r)
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	if _, err := CreatePassphrase(path, passphrase); !errors.Is(err, fs.ErrExist) {
		t.Errorf("made twice: %v", err)
	}
	again, err := OpenPassphrase(path, passphrase)
	if err != nil || !opens(t, again, wrapped) || again.Kind() != KindPassphrase {
		t.Errorf("opened %v, %v", again, err)
	}
	other := NewSecret([]byte("another passphrase"))
	if _, err := OpenPassphrase(path, other); !errors.Is(err, ErrSealed) {
		t.Errorf("with another passphrase: %v", err)
	}
	if err := ChangePassphrase(path, other, passphrase); !errors.Is(err, ErrSealed) {
		t.Errorf("changed with another passphrase: %v", err)
	}
	if err := ChangePassphrase(path, passphrase, NewSecret([]byte("short"))); err == nil {
		t.Error("changed to a short one")
	}
	if err := ChangePassphrase(path, passphrase, other); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenPassphrase(path, passphrase); !errors.Is(err, ErrSealed) {
		t.Errorf("with the old passphrase: %v", err)
	}
	again, err = OpenPassphrase(path, other)
	if err != nil || !opens(t, again, wrapped) {
		t.Errorf("opened %v, %v", again, err)
	}
	if _, err := CreatePassphrase(path+"2", NewSecret([]byte("short"))); err == nil {
		t.Error("made with a short passphrase")
	}
	if kind, err := FileKind(path); err != nil || kind != KindPassphrase {
		t.Errorf("kind %q, %v", kind, err)
	}
}

// TestChangedFile changes every field of a root file.
func TestChangedFile(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, "root.json")
	if _, err := CreatePassphrase(path, passphrase); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct{ was, is string }{
		"schema": {"vault-root/v1", "vault-root/v2"}, "kind": {`"passphrase"`, `"shares"`}, "time": {`"time": 3`, `"time": 1`}, "no time": {`"time": 3`, `"time": 0`},
		"much time": {`"time": 3`, `"time": 4000000000`}, "memory": {`"memoryKiB": 65536`, `"memoryKiB": 1024`},
		"much memory": {`"memoryKiB": 65536`, `"memoryKiB": 4294967295`}, "threads": {`"threads": 4`, `"threads": 0`},
		"salt": {`"salt": "`, `"salt": "AAAA`}, "no salt": {`"salt"`, `"sald"`}, "sealed": {`"sealed": "`, `"sealed": "AAAA`},
		"no cost": {`"argon2id"`, `"argon2i"`}, "end": {"}\n", ""}, "large": {"{", "{" + strings.Repeat(" ", maxFile)},
	} {
		bad := strings.Replace(string(b), c.was, c.is, 1)
		if bad == string(b) {
			t.Fatalf("%s: nothing was changed in %s", name, b)
		}
		file := filepath.Join(dir, "bad.json")
		if err := os.WriteFile(file, []byte(bad), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := OpenPassphrase(file, passphrase); err == nil {
			t.Errorf("%s: opened", name)
		}
	}
}

// fakeTEE derives keys as a processor does: from the chip, the guest, and what the request selects.
type fakeTEE struct {
	kind, chip, measurement string
	tcb                     snp.TCB
}

func (f *fakeTEE) Kind() string { return f.kind }

func (f *fakeTEE) DeriveKey(_ context.Context, r snp.KeyRequest) (k snp.DerivedKey, err error) {
	if r.Fields&snp.FieldTCB != 0 && bytes.Compare(r.TCB[:], f.tcb[:]) > 0 {
		return k, errors.New("the version is newer than the firmware")
	}
	h := hashShare(int(r.GuestSVN), fmt.Appendf(nil, "%s %s %x %d %s", f.chip, f.measurement, r.Fields, r.VMPL, r.TCB))
	return snp.DerivedKey(h), nil
}

func TestTEE(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	path := filepath.Join(t.TempDir(), "root.json")
	tee := fakeTEE{"sev-guest", "chip", "guest", snp.TCB{3}}
	r, err := CreateTEE(ctx, path, &tee, TEEOptions{VMPL: 1, TCB: snp.TCB{2}, GuestSVN: 7})
	if err != nil {
		t.Fatal(err)
	}
	wrapped := mustWrap(t, r)
	again, err := OpenTEE(ctx, path, &tee)
	if err != nil || !opens(t, again, wrapped) || again.Kind() != KindTEE {
		t.Errorf("opened %v, %v", again, err)
	}
	for name, c := range map[string]struct {
		tee    fakeTEE
		sealed bool
	}{
		"newer firmware":    {fakeTEE{"sev-guest", "chip", "guest", snp.TCB{4}}, false},
		"another chip":      {fakeTEE{"sev-guest", "other", "guest", snp.TCB{3}}, true},
		"another guest":     {fakeTEE{"sev-guest", "chip", "other", snp.TCB{3}}, true},
		"older firmware":    {fakeTEE{"sev-guest", "chip", "guest", snp.TCB{1}}, false},
		"simulated, so far": {fakeTEE{"simulated", "chip", "guest", snp.TCB{3}}, false},
	} {
		_, err := OpenTEE(ctx, path, &c.tee)
		if (err == nil) != (name == "newer firmware") || c.sealed && !errors.Is(err, ErrSealed) {
			t.Errorf("%s: %v", name, err)
		}
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct{ was, is string }{
		"not bound to the guest": {`"fields": 57`, `"fields": 0`}, "unknown fields": {`"fields": 57`, `"fields": 121`}, "other fields": {`"fields": 57`, `"fields": 59`},
		"level": {`"vmpl": 1`, `"vmpl": 0`}, "version": {`"guestSvn": 7`, `"guestSvn": 6`}, "salt": {`"salt": "`, `"salt": "AAAA`}, "firmware": {`"tcb": "Ag`, `"tcb": "AQ`},
		"firmware's size": {`"tcb": "`, `"tcb": "AAAA`},
	} {
		bad := strings.Replace(string(b), c.was, c.is, 1)
		if bad == string(b) {
			t.Fatalf("%s: nothing was changed in %s", name, b)
		}
		if err := os.WriteFile(path, []byte(bad), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := OpenTEE(ctx, path, &tee); err == nil {
			t.Errorf("%s: opened", name)
		}
	}
}
