// SPDX-License-Identifier: Apache-2.0

package vault

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"cofferdam.dev/internal/store"
)

// A backup of one object is what the store has of it, as encrypted as there, with a digest that the root key authenticates. It
// is for this vault alone, and for nobody to look into.

const objectBackupSchema = "cofferdam.dev/vault-object-backup/v1"

const (
	// MaxObjectBackup bounds the backup of one object in bytes: it comes back in one request.
	MaxObjectBackup = 512 << 10
	// maxBackupVersions bounds its versions: it is restored in one step.
	maxBackupVersions = store.MaxTracked - 10
)

// objectBackup is a backup of one object.
type objectBackup struct {
	Schema string `json:"schema"`
	Vault  string `json:"vault"`
	Class  class  `json:"class"`
	Name   string `json:"name"`
	Head   []byte `json:"head"`
	// Versions are by their names.
	Versions map[string][]byte `json:"versions"`
}

// sealedBackup is how it travels.
type sealedBackup struct {
	Object []byte `json:"object"`
	// Seal is the SHA-256 of Object, under the root key.
	Seal []byte `json:"seal"`
}

// errBackup is all that is said of a backup that is none: whoever made it up learns nothing.
func errBackup() *Error {
	return bad("The value is no backup that this vault made, or it was changed.")
}

func (v *Vault) objectBackupBinding() []byte { return bind("object-backup", v.prefix(), nil) }

// BackupKey returns a key with all its versions, for RestoreKey of this vault alone.
func (v *Vault) BackupKey(ctx context.Context, name string) ([]byte, error) {
	return v.backupObject(ctx, keys, name)
}

// BackupSecret does the same with a secret.
func (v *Vault) BackupSecret(ctx context.Context, name string) ([]byte, error) {
	return v.backupObject(ctx, secrets, name)
}

func (v *Vault) backupObject(ctx context.Context, c class, name string) ([]byte, error) {
	var b *objectBackup
	err := v.audited(ctx, string(c)+".backup", string(c)+"/"+name, func() error {
		return v.opts.Store.View(ctx, func(r store.Reader) error {
			var err error
			b, err = v.collect(ctx, r, c, name)
			return err
		})
	})
	if err != nil {
		return nil, err
	}
	inner, err := json.Marshal(b)
	if err != nil {
		return nil, fmt.Errorf("writing the backup of %s %s: %w", c, name, err)
	}
	sum := sha256.Sum256(inner)
	out := sealedBackup{Object: inner}
	if out.Seal, err = v.opts.Root.Wrap(ctx, sum[:], v.objectBackupBinding()); err != nil {
		return nil, fmt.Errorf("writing the backup of %s %s: %w", c, name, err)
	}
	text, err := json.Marshal(out)
	if err == nil && len(text) > MaxObjectBackup {
		err = tooMany(c, name)
	}
	return text, err
}

func tooMany(c class, name string) *Error {
	return bad("The %s %s has too many versions for a backup of its own: back up the whole vault.", c, name)
}

// collect reads what the store has of a live object.
func (v *Vault) collect(ctx context.Context, r store.Reader, c class, name string) (*objectBackup, error) {
	o, err := v.find(ctx, r, c, live, name)
	if err != nil {
		return nil, err
	}
	head, err := r.Get(v.path(c, live, name))
	if err != nil {
		return nil, err
	}
	entries, err := r.List(v.versionPath(c, name, ""), "", maxBackupVersions+1)
	if err != nil {
		return nil, err
	}
	if len(entries) > maxBackupVersions {
		return nil, tooMany(c, name)
	}
	b := &objectBackup{Schema: objectBackupSchema, Vault: v.opts.Name, Class: c, Name: o.head.Name, Head: head, Versions: map[string][]byte{}}
	for _, e := range entries {
		b.Versions[strings.TrimPrefix(e.Key, v.versionPath(c, name, ""))] = e.Value
	}
	return b, nil
}

// RestoreKey brings back a key that is not there, as it was when it was backed up: with its policy, and with what was disabled
// since enabled.
func (v *Vault) RestoreKey(ctx context.Context, backup []byte) (*Key, error) {
	return headKey(v.restoreObject(ctx, keys, backup))
}

// RestoreSecret does the same with a secret.
func (v *Vault) RestoreSecret(ctx context.Context, backup []byte) (*Secret, error) {
	o, err := v.restoreObject(ctx, secrets, backup)
	if err != nil {
		return nil, err
	}
	return newSecret(o, o.head.Current), nil
}

func (v *Vault) restoreObject(ctx context.Context, c class, backup []byte) (*object, error) {
	b, err := v.openBackup(ctx, c, backup)
	if err != nil {
		return nil, v.refused(ctx, string(c)+".restore", string(c), err)
	}
	var o *object
	err = v.audited(ctx, string(c)+".restore", string(c)+"/"+b.Name, func() error {
		if o, err = v.genuine(ctx, b); err != nil {
			return err
		}
		return v.opts.Store.Update(ctx, func(tx store.Tx) error { return v.putBackup(tx, b) })
	})
	return o, err
}

// openBackup reads a backup, and establishes that this vault made it.
func (v *Vault) openBackup(ctx context.Context, c class, backup []byte) (*objectBackup, error) {
	var outer sealedBackup
	if len(backup) > MaxObjectBackup || json.Unmarshal(backup, &outer) != nil {
		return nil, errBackup()
	}
	sum, err := v.opts.Root.Unwrap(ctx, outer.Seal, v.objectBackupBinding())
	if err != nil {
		return nil, errBackup()
	}
	var b objectBackup
	own := sha256.Sum256(outer.Object)
	if !bytes.Equal(sum, own[:]) || json.Unmarshal(outer.Object, &b) != nil || b.Schema != objectBackupSchema || b.Vault != v.opts.Name || b.Class != c {
		return nil, errBackup()
	}
	return &b, checkName(b.Name)
}

// genuine opens all of a backup: what can not be read by this root is not written.
func (v *Vault) genuine(ctx context.Context, b *objectBackup) (*object, error) {
	o, err := v.open(ctx, b.Class, live, b.Name, b.Head)
	if err != nil {
		return nil, err
	}
	for version, value := range b.Versions {
		if !objectVersion.MatchString(version) {
			return nil, errBackup()
		}
		_, material, err := o.openVersion(v.versionPath(b.Class, b.Name, version), value)
		if err != nil {
			return nil, err
		}
		material.Destroy()
	}
	if _, ok := b.Versions[o.head.Current.Version]; !ok {
		return nil, errBackup()
	}
	return o, nil
}

func (v *Vault) putBackup(tx store.Tx, b *objectBackup) error {
	for _, s := range []state{live, deleted, purging} {
		_, err := tx.Get(v.path(b.Class, s, b.Name))
		switch {
		case err == nil && s == live:
			return &Error{Code: Conflict, Message: fmt.Sprintf("The %s %s already exists: a backup replaces nothing.", b.Class, b.Name)}
		case err == nil:
			return b.Class.deleted(b.Name)
		case !errors.Is(err, store.ErrNotFound):
			return err
		}
	}
	for version, value := range b.Versions {
		if err := tx.Put(v.versionPath(b.Class, b.Name, version), value); err != nil {
			return err
		}
	}
	return tx.Put(v.path(b.Class, live, b.Name), b.Head)
}
