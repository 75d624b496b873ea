// SPDX-License-Identifier: Apache-2.0

package vault

import (
	"encoding/json"
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"

	"cofferdam.dev/internal/seal"
)

// TestObjectBackup brings a key with two versions back after it is gone for good, and a secret.
func TestObjectBackup(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	ctx := t.Context()
	policy := &ReleasePolicy{Data: []byte(`{"version":"1.0.0","anyOf":[{"authority":"https://a.test","allOf":[{"claim":"x","equals":"y"}]}]}`), Immutable: true}
	if _, err := w.CreateKey(ctx, "K-1", KeyRequest{Type: ECHSM, Policy: policy, Attributes: AttributeChange{Exportable: ptr(true)}}); err != nil {
		t.Fatal(err)
	}
	if _, err := w.RotateKey(ctx, "K-1"); err != nil {
		t.Fatal(err)
	}
	value := seal.NewSecret([]byte("hunter2"))
	if _, err := w.SetSecret(ctx, "s", SecretRequest{Value: value}); err != nil {
		t.Fatal(err)
	}
	before := w.entries(t, "vault/test/")
	key, err := w.BackupKey(ctx, "K-1")
	if err != nil {
		t.Fatal(err)
	}
	secret, err := w.BackupSecret(ctx, "s")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.RestoreKey(ctx, key); codeOf(err) != Conflict {
		t.Errorf("over a key that is there: %v", err)
	}
	if _, err := w.DeleteKey(ctx, "K-1"); err != nil {
		t.Fatal(err)
	}
	if _, err := w.RestoreKey(ctx, key); codeOf(err) != Conflict {
		t.Errorf("over a key that is deleted: %v", err)
	}
	if _, err := w.DeleteSecret(ctx, "s"); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(w.PurgeKey(ctx, "K-1"), w.PurgeSecret(ctx, "s")); err != nil {
		t.Fatal(err)
	}
	if k, err := w.RestoreKey(ctx, key); err != nil || k.Name != "K-1" || k.Policy == nil || !k.Policy.Immutable {
		t.Fatalf("restored %+v, %v", k, err)
	}
	if s, err := w.RestoreSecret(ctx, secret); err != nil || s.Name != "s" {
		t.Fatalf("restored %+v, %v", s, err)
	}
	if diff := cmp.Diff(before, w.entries(t, "vault/test/")); diff != "" {
		t.Errorf("the store differs (-before +after):\n%s", diff)
	}
	if _, got, err := w.SecretValue(ctx, "s", ""); err != nil || string(got.Expose()) != "hunter2" {
		t.Errorf("the secret can not be read: %v", err)
	}
	if _, _, err := w.Sign(ctx, "K-1", "", ES256, make([]byte, 32)); err != nil {
		t.Errorf("the key can not be used: %v", err)
	}
}

// TestObjectBackupIsForOneVault refuses what another vault made, and what was changed.
func TestObjectBackupIsForOneVault(t *testing.T) {
	t.Parallel()
	w, stranger := newWorld(t, nil), newWorld(t, nil)
	ctx := t.Context()
	if _, err := w.CreateKey(ctx, "k", KeyRequest{Type: EC}); err != nil {
		t.Fatal(err)
	}
	backup, err := w.BackupKey(ctx, "k")
	if err != nil {
		t.Fatal(err)
	}
	renamed := w.another(t, func(o *Options) { o.Name = "other" })
	if _, err := stranger.RestoreKey(ctx, backup); codeOf(err) != BadParameter {
		t.Errorf("a vault with another root: %v", err)
	}
	if _, err := renamed.RestoreKey(ctx, backup); codeOf(err) != BadParameter {
		t.Errorf("a vault of another name: %v", err)
	}
	if _, err := w.DeleteKey(ctx, "k"); err != nil {
		t.Fatal(err)
	}
	if err := w.PurgeKey(ctx, "k"); err != nil {
		t.Fatal(err)
	}
	if _, err := w.RestoreSecret(ctx, backup); codeOf(err) != BadParameter {
		t.Errorf("as a secret: %v", err)
	}
	var b sealedBackup
	if err := json.Unmarshal(backup, &b); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(){
		"another name":  func() { b.Object = append([]byte(`{"name":"x",`), b.Object[1:]...) },
		"another digit": func() { b.Object = flip(b.Object) },
		"another seal":  func() { b.Seal = flip(b.Seal) },
		"no seal":       func() { b.Seal = nil },
	} {
		was := b
		change()
		text, err := json.Marshal(b)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.RestoreKey(ctx, text); codeOf(err) != BadParameter {
			t.Errorf("%s: %v", name, err)
		}
		b = was
	}
	for _, text := range []string{"", "{}", "null", "x"} {
		if _, err := w.RestoreKey(ctx, []byte(text)); codeOf(err) != BadParameter {
			t.Errorf("%q: %v", text, err)
		}
	}
	if got := w.entries(t, "vault/test/key/"); len(got) != 0 {
		t.Errorf("something was written: %v", got)
	}
}

// TestObjectBackupHasBounds refuses objects with more versions than come back in one step.
func TestObjectBackupHasBounds(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	ctx := t.Context()
	for range maxBackupVersions {
		if _, err := w.CreateKey(ctx, "k", KeyRequest{Type: Oct}); err != nil {
			t.Fatal(err)
		}
	}
	backup, err := w.BackupKey(ctx, "k")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.CreateKey(ctx, "k", KeyRequest{Type: Oct}); err != nil {
		t.Fatal(err)
	}
	if _, err := w.BackupKey(ctx, "k"); codeOf(err) != BadParameter {
		t.Errorf("with one more: %v", err)
	}
	if _, err := w.DeleteKey(ctx, "k"); err != nil {
		t.Fatal(err)
	}
	if err := w.PurgeKey(ctx, "k"); err != nil {
		t.Fatal(err)
	}
	if _, err := w.RestoreKey(ctx, backup); err != nil {
		t.Errorf("with as many as there may be: %v", err)
	}
}
