// SPDX-License-Identifier: Apache-2.0

package vault

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"cofferdam.dev/internal/seal"
	"cofferdam.dev/internal/store"
)

// How objects lie in the store. An object has a key of its own, wrapped by the root, under which its versions' material is
// encrypted. What is stored in the clear beside it, such as the release policy, is authenticated under the same key and
// bound to the place where it lies:
//
//	vault/NAME/CLASS/live/OBJECT              shelved
//	vault/NAME/CLASS/deleted/OBJECT           shelved
//	vault/NAME/CLASS/purging/OBJECT           nothing: its versions are being removed
//	vault/NAME/CLASS/version/OBJECT/VERSION   shelvedVersion
//
// OBJECT is the name in lower case: names differ by more than case.

// state is where an object stands.
type state string

const (
	live    state = "live"
	deleted state = "deleted"
	purging state = "purging"
)

// shelved is a head in the store.
type shelved struct {
	Head json.RawMessage `json:"head"`
	// Key is the object's key, wrapped by the root.
	Key []byte `json:"key"`
	// Tag authenticates Head under the object's key.
	Tag []byte `json:"tag"`
}

// shelvedVersion is a version in the store.
type shelvedVersion struct {
	Record json.RawMessage `json:"record"`
	// Material is encrypted under the object's key, with Record as associated data.
	Material []byte `json:"material"`
}

// object is a head that was read and found genuine, or a new one.
type object struct {
	v       *Vault
	class   class
	id      string
	head    head
	wrapped []byte
	box     *seal.Box
}

func (v *Vault) path(c class, s state, name string) string {
	return "vault/" + v.opts.Name + "/" + string(c) + "/" + string(s) + "/" + strings.ToLower(name)
}

func (v *Vault) versionPath(c class, name, version string) string {
	return "vault/" + v.opts.Name + "/" + string(c) + "/version/" + strings.ToLower(name) + "/" + version
}

// bind returns the associated data of something at a path.
func bind(what, path string, content []byte) []byte {
	return append([]byte("cofferdam.dev/vault/v1\x00"+what+"\x00"+path+"\x00"), content...)
}

// newObject makes an object with a key of its own.
func (v *Vault) newObject(ctx context.Context, c class, name string) (*object, error) {
	key := seal.NewRootKey()
	defer key.Destroy()
	o := &object{v: v, class: c, id: strings.ToLower(name), head: head{Name: name, Created: *seconds(v.opts.Now())}}
	var err error
	o.wrapped, err = v.opts.Root.Wrap(ctx, key.Expose(), v.keyBinding(c, name))
	if err != nil {
		return nil, fmt.Errorf("wrapping the key of %s %s: %w", c, name, err)
	}
	o.box, err = seal.NewBox(key)
	return o, err
}

// keyBinding is the same for all states: an object keeps its key when it is deleted and recovered.
func (v *Vault) keyBinding(c class, name string) []byte {
	return bind("key", v.path(c, "", name), nil)
}

// load reads an object that stands at a state. A missing one is store.ErrNotFound.
func (v *Vault) load(ctx context.Context, r store.Reader, c class, s state, name string) (*object, error) {
	b, err := r.Get(v.path(c, s, name))
	if err != nil {
		return nil, err
	}
	return v.open(ctx, c, s, name, b)
}

func (v *Vault) open(ctx context.Context, c class, s state, name string, b []byte) (*object, error) {
	fail := func(err error) (*object, error) {
		return nil, fmt.Errorf("the store's entry of %s %s: %w", c, name, err)
	}
	var sh shelved
	if err := json.Unmarshal(b, &sh); err != nil {
		return fail(err)
	}
	key, err := v.opts.Root.Unwrap(ctx, sh.Key, v.keyBinding(c, name))
	if err != nil {
		return fail(err)
	}
	defer clear(key)
	box, err := seal.NewBox(seal.NewSecret(key))
	if err != nil {
		return fail(err)
	}
	if _, err := box.Open(sh.Tag, bind("head", v.path(c, s, name), sh.Head)); err != nil {
		return fail(err)
	}
	o := &object{v: v, class: c, id: strings.ToLower(name), wrapped: sh.Key, box: box}
	if err := json.Unmarshal(sh.Head, &o.head); err != nil {
		return fail(err)
	}
	return o, nil
}

// find is load with the refusal for an object that is not there.
func (v *Vault) find(ctx context.Context, r store.Reader, c class, s state, name string) (*object, error) {
	if err := checkName(name); err != nil {
		return nil, err
	}
	o, err := v.load(ctx, r, c, s, name)
	if errors.Is(err, store.ErrNotFound) {
		return nil, c.notFound(name, "")
	}
	return o, err
}

// save writes the head at a state.
func (o *object) save(tx store.Tx, s state) error {
	raw, err := json.Marshal(&o.head)
	if err != nil {
		return fmt.Errorf("encoding %s %s: %w", o.class, o.head.Name, err)
	}
	path := o.v.path(o.class, s, o.id)
	b, err := json.Marshal(shelved{raw, o.wrapped, o.box.Seal(nil, bind("head", path, raw))})
	if err != nil {
		return fmt.Errorf("encoding %s %s: %w", o.class, o.head.Name, err)
	}
	return tx.Put(path, b)
}

// saveVersion writes a version.
func (o *object) saveVersion(tx store.Tx, rec record, material *seal.Secret) error {
	raw, err := json.Marshal(rec)
	if err != nil {
		return fmt.Errorf("encoding %s %s: %w", o.class, o.head.Name, err)
	}
	path := o.v.versionPath(o.class, o.id, rec.Version)
	b, err := json.Marshal(shelvedVersion{raw, o.box.Seal(material.Expose(), bind("version", path, raw))})
	if err != nil {
		return fmt.Errorf("encoding %s %s: %w", o.class, o.head.Name, err)
	}
	return tx.Put(path, b)
}

// version reads a version of the object, and its material, which the caller destroys. An empty one is the current.
func (o *object) version(r store.Reader, version string) (record, *seal.Secret, error) {
	if version == "" {
		version = o.head.Current.Version
	}
	if !objectVersion.MatchString(version) {
		return record{}, nil, o.class.notFound(o.head.Name, version)
	}
	path := o.v.versionPath(o.class, o.id, version)
	b, err := r.Get(path)
	if errors.Is(err, store.ErrNotFound) {
		return record{}, nil, o.class.notFound(o.head.Name, version)
	}
	if err != nil {
		return record{}, nil, err
	}
	return o.openVersion(path, b)
}

func (o *object) openVersion(path string, b []byte) (record, *seal.Secret, error) {
	var sh shelvedVersion
	if err := json.Unmarshal(b, &sh); err != nil {
		return record{}, nil, fmt.Errorf("the store's entry %s: %w", path, err)
	}
	material, err := o.box.Open(sh.Material, bind("version", path, sh.Record))
	if err != nil {
		return record{}, nil, fmt.Errorf("the store's entry %s: %w", path, err)
	}
	var rec record
	if err := json.Unmarshal(sh.Record, &rec); err != nil {
		return record{}, nil, fmt.Errorf("the store's entry %s: %w", path, err)
	}
	return rec, seal.NewSecret(material), nil
}

// read returns a version of a live object with its material.
func (v *Vault) read(ctx context.Context, c class, name, version string) (o *object, rec record, material *seal.Secret, err error) {
	err = v.opts.Store.View(ctx, func(r store.Reader) error {
		o, err = v.find(ctx, r, c, live, name)
		if err == nil {
			rec, material, err = o.version(r, version)
		}
		return err
	})
	return o, rec, material, err
}

// add adds a version to an object, which it makes when it is new. Rules says what the record is, given the object as it
// stands, and may change its head; it may be called again.
func (v *Vault) add(ctx context.Context, c class, name string, material *seal.Secret, rules func(*object) (record, error)) (*object, record, error) {
	version := newVersion()
	var o *object
	var rec record
	err := v.opts.Store.Update(ctx, func(tx store.Tx) error {
		for _, s := range []state{deleted, purging} {
			if _, err := tx.Get(v.path(c, s, name)); err == nil {
				return c.deleted(name)
			} else if !errors.Is(err, store.ErrNotFound) {
				return err
			}
		}
		var err error
		o, err = v.load(ctx, tx, c, live, name)
		if errors.Is(err, store.ErrNotFound) {
			o, err = v.newObject(ctx, c, name)
		}
		if err != nil {
			return err
		}
		if o.head.Versions >= MaxVersions {
			return bad("The %s %s has %d versions, and can not have more.", c, name, MaxVersions)
		}
		rec, err = rules(o)
		if err != nil {
			return err
		}
		rec.Version = version
		o.head.Current = rec
		o.head.Versions++
		if err := o.save(tx, live); err != nil {
			return err
		}
		return o.saveVersion(tx, rec, material)
	})
	return o, rec, err
}

// newVersion returns a name for a version: 128 random bits in hexadecimal.
func newVersion() string {
	b := make([]byte, 16)
	_, _ = rand.Read(b) // never fails
	return hex.EncodeToString(b)
}
