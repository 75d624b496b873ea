// SPDX-License-Identifier: Apache-2.0

package vault

import (
	"context"
	"slices"

	"cofferdam.dev/internal/store"
)

// CreateKey makes a key, or a new version of one.
func (v *Vault) CreateKey(ctx context.Context, name string, r KeyRequest) (*Key, error) {
	if err := checkName(name); err != nil {
		return nil, v.refused(ctx, "key.create", "key/"+name, err)
	}
	m, err := Generate(r.Type, r.Bits, r.Curve)
	if err != nil {
		return nil, v.refused(ctx, "key.create", "key/"+name, err)
	}
	defer m.Destroy()
	return v.addKey(ctx, "key.create", name, m, r)
}

// ImportKey makes a key, or a new version of one, of material that exists. The caller destroys the material.
func (v *Vault) ImportKey(ctx context.Context, name string, m *Material, r KeyRequest) (*Key, error) {
	if err := checkName(name); err != nil {
		return nil, v.refused(ctx, "key.import", "key/"+name, err)
	}
	r.Type = m.kind
	if r.HSM {
		r.Type += "-HSM"
	}
	if r.Operations == nil {
		r.Operations = m.Operations()
	}
	return v.addKey(ctx, "key.import", name, m, r)
}

func (v *Vault) addKey(ctx context.Context, kind, name string, m *Material, r KeyRequest) (*Key, error) {
	return v.addKeyIf(ctx, kind, name, m, r, func(*object, *record) error { return nil })
}

// addKeyIf adds a version, unless the last check refuses it; the check sees the object as it stands and may finish the record.
func (v *Vault) addKeyIf(ctx context.Context, kind, name string, m *Material, r KeyRequest, last func(*object, *record) error) (*Key, error) {
	if len(r.Operations) == 0 {
		r.Operations = r.Type.defaultOperations()
	}
	policy, err := v.newPolicy(r.Policy)
	if err == nil {
		err = checkOperations(r.Operations)
	}
	if err == nil {
		err = checkTags(r.Tags)
	}
	if err != nil {
		return nil, v.refused(ctx, kind, "key/"+name, err)
	}
	var k *Key
	err = v.audited(ctx, kind, "key/"+name, func() error {
		o, rec, err := v.add(ctx, keys, name, m.secret, func(o *object) (record, error) {
			rec := record{
				Type: r.Type, Curve: m.curve, Bits: m.bits, Operations: slices.Clone(r.Operations), Public: m.public, Tags: r.Tags,
			}
			var err error
			rec.Attributes, err = newAttributes(r.Attributes, v.opts.Now())
			if err == nil {
				err = last(o, &rec)
			}
			if err != nil {
				return rec, err
			}
			return rec, o.setPolicy(policy, rec)
		})
		if err != nil {
			return err
		}
		k, err = newKey(o, rec)
		return err
	})
	return k, err
}

// setPolicy gives an object a new policy, or keeps the one it has when policy is nil, and requires what a version with
// this record needs.
func (o *object) setPolicy(policy *ReleasePolicy, rec record) error {
	exportable := rec.Attributes.Exportable
	switch old := o.head.Policy; {
	case exportable && o.class == keys && !rec.Type.HSM():
		return ErrExportableSoftware
	case policy != nil && !exportable:
		return ErrPolicyUnexpected
	case policy != nil && old != nil && old.Immutable:
		return ErrPolicyImmutable
	case exportable && policy == nil && old == nil:
		return ErrPolicyMissing
	}
	if policy != nil {
		o.head.Policy = policy
	}
	return nil
}

// Key returns a version of a key; an empty version is the current one.
func (v *Vault) Key(ctx context.Context, name, version string) (*Key, error) {
	o, rec, material, err := v.read(ctx, keys, name, version)
	if err != nil {
		return nil, err
	}
	material.Destroy()
	return newKey(o, rec)
}

// Keys returns a page of keys, each with its current version, in the order of their names in lower case. It begins after
// the name after; next is what to continue after, and empty at the end.
func (v *Vault) Keys(ctx context.Context, after string, limit int) (page []*Key, next string, err error) {
	return v.keyPage(ctx, live, after, limit)
}

// DeletedKeys is Keys for those that are deleted and can be recovered.
func (v *Vault) DeletedKeys(ctx context.Context, after string, limit int) (page []*Key, next string, err error) {
	return v.keyPage(ctx, deleted, after, limit)
}

func (v *Vault) keyPage(ctx context.Context, s state, after string, limit int) ([]*Key, string, error) {
	list, next, err := v.list(ctx, keys, s, after, limit)
	if err != nil {
		return nil, "", err
	}
	page, err := newKeys(list)
	return page, next, err
}

// KeyVersions returns a page of the versions of a key in the order of their names.
func (v *Vault) KeyVersions(ctx context.Context, name, after string, limit int) (page []*Key, next string, err error) {
	o, list, next, err := v.versions(ctx, keys, name, after, limit)
	if err != nil {
		return nil, "", err
	}
	for _, rec := range list {
		k, err := newKey(o, rec)
		if err != nil {
			return nil, "", err
		}
		page = append(page, k)
	}
	return page, next, nil
}

// UpdateKey changes a version of a key; an empty version is the current one, and the only one with which the policy can be
// changed.
func (v *Vault) UpdateKey(ctx context.Context, name, version string, u KeyUpdate) (*Key, error) {
	policy, err := v.newPolicy(u.Policy)
	if err == nil {
		err = checkOperations(u.Operations)
	}
	if err == nil {
		err = checkTags(u.Tags)
	}
	if err == nil && policy != nil && version != "" {
		err = ErrPolicyVersioned
	}
	if err != nil {
		return nil, v.refused(ctx, "key.update", "key/"+name, err)
	}
	var k *Key
	err = v.audited(ctx, "key.update", "key/"+name, func() error {
		o, rec, err := v.update(ctx, keys, name, version, u.Attributes, func(o *object, rec *record) error {
			if u.Operations != nil {
				rec.Operations = slices.Clone(u.Operations)
			}
			if u.Tags != nil {
				rec.Tags = u.Tags
			}
			if policy == nil {
				return nil
			}
			return o.setPolicy(policy, *rec)
		})
		if err != nil {
			return err
		}
		k, err = newKey(o, rec)
		return err
	})
	return k, err
}

// update changes a version, and the object's head when it is the current one.
func (v *Vault) update(ctx context.Context, c class, name, version string, a AttributeChange, change func(*object, *record) error) (o *object, rec record, err error) {
	err = v.opts.Store.Update(ctx, func(tx store.Tx) error {
		o, err = v.find(ctx, tx, c, live, name)
		if err != nil {
			return err
		}
		r, material, err := o.version(tx, version)
		if err != nil {
			return err
		}
		defer material.Destroy()
		rec = r
		if a.Exportable != nil && *a.Exportable != rec.Attributes.Exportable {
			return ErrExportableFixed
		}
		rec.Attributes, err = a.apply(rec.Attributes, v.opts.Now())
		if err != nil {
			return err
		}
		if err := change(o, &rec); err != nil {
			return err
		}
		if err := o.saveVersion(tx, rec, material); err != nil {
			return err
		}
		if rec.Version == o.head.Current.Version {
			o.head.Current = rec
		}
		return o.save(tx, live)
	})
	return o, rec, err
}

// DeleteKey deletes a key with all its versions. Until it is purged it can be recovered.
func (v *Vault) DeleteKey(ctx context.Context, name string) (*Key, error) {
	return headKey(v.remove(ctx, keys, name))
}

// DeletedKey returns a key that is deleted.
func (v *Vault) DeletedKey(ctx context.Context, name string) (*Key, error) {
	return headKey(v.headOf(ctx, keys, deleted, name))
}

// RecoverKey brings a deleted key back as it was.
func (v *Vault) RecoverKey(ctx context.Context, name string) (*Key, error) {
	return headKey(v.recover(ctx, keys, name))
}

// PurgeKey removes a deleted key for good.
func (v *Vault) PurgeKey(ctx context.Context, name string) error { return v.purge(ctx, keys, name) }

func headKey(o *object, err error) (*Key, error) {
	if err != nil {
		return nil, err
	}
	return newKey(o, o.head.Current)
}

// RotateKey makes a new version of a key, of the same kind as the current one, under the same policy. A disabled key stays
// disabled: rotating it would put it into use again. The new version expires as the key's rotation policy says.
func (v *Vault) RotateKey(ctx context.Context, name string) (*Key, error) {
	was, err := v.Key(ctx, name, "")
	if err == nil && !was.Attributes.Enabled {
		err = &Error{Code: Disabled, Message: "Operation is not allowed on a disabled key."}
	}
	if err != nil {
		return nil, v.refused(ctx, "key.rotate", "key/"+name, err)
	}
	return v.rotate(ctx, "key.rotate", was, false)
}

// rotate makes a new version of a key as it was read. It is refused when the key is gone or disabled by now, and with still
// also when that is not the newest version any more.
func (v *Vault) rotate(ctx context.Context, kind string, was *Key, still bool) (*Key, error) {
	m, err := Generate(was.Type, was.Bits, was.Curve)
	if err != nil {
		return nil, v.refused(ctx, kind, "key/"+was.Name, err)
	}
	defer m.Destroy()
	r := KeyRequest{
		Type: was.Type, Operations: was.Operations, Tags: was.Tags, Attributes: AttributeChange{Exportable: &was.Attributes.Exportable},
	}
	return v.addKeyIf(ctx, kind, was.Name, m, r, func(o *object, rec *record) error {
		if now := o.head.Current; now.Version == "" || !now.Attributes.Enabled || still && now.Version != was.Version {
			return &Error{Code: Conflict, Message: "The key " + was.Name + " was changed meanwhile."}
		}
		if o.head.Rotation != nil && !o.head.Rotation.Expiry.IsZero() {
			rec.Attributes.Expires = seconds(o.head.Rotation.Expiry.after(rec.Attributes.Created))
		}
		return nil
	})
}
