// SPDX-License-Identifier: Apache-2.0

package vault

import (
	"context"
	"maps"

	"cofferdam.dev/internal/seal"
)

// MaxSecretSize bounds a secret in bytes.
const MaxSecretSize = 25 << 10

// Secret is what may be known of a version of a secret.
type Secret struct {
	Name        string
	Version     string
	ContentType string
	Attributes  Attributes
	Tags        map[string]string
	// Policy is that of all versions of the secret.
	Policy *ReleasePolicy
	// Deleted is set for deleted secrets.
	Deleted *Deletion
}

// SecretRequest says what a new secret shall be.
type SecretRequest struct {
	// Value is 1 to MaxSecretSize bytes. The caller destroys it.
	Value       *seal.Secret
	ContentType string
	// Attributes may be exportable, for secrets that are released by their policy as keys are.
	Attributes AttributeChange
	Tags       map[string]string
	// Policy replaces that of the secret; nil keeps it.
	Policy *ReleasePolicy
}

// SecretUpdate says what of a secret changes. Nil fields stay as they are.
type SecretUpdate struct {
	ContentType *string
	Attributes  AttributeChange
	Tags        map[string]string
	Policy      *ReleasePolicy
}

func newSecret(o *object, rec record) *Secret {
	return &Secret{
		Name: o.head.Name, Version: rec.Version, ContentType: rec.ContentType, Attributes: rec.Attributes, Tags: maps.Clone(rec.Tags),
		Policy: o.head.Policy.clone(), Deleted: o.head.Deleted.export(),
	}
}

// maxContentType bounds the content type of a secret in bytes.
const maxContentType = 255

func checkContentType(s string) error {
	if len(s) > maxContentType {
		return bad("The content type of a secret has at most %d bytes.", maxContentType)
	}
	return nil
}

// SetSecret makes a secret, or a new version of one.
func (v *Vault) SetSecret(ctx context.Context, name string, r SecretRequest) (*Secret, error) {
	err := checkName(name)
	if n := len(r.Value.Expose()); err == nil && (n == 0 || n > MaxSecretSize) {
		err = bad("A secret has 1 to %d bytes.", MaxSecretSize)
	}
	if err == nil {
		err = checkContentType(r.ContentType)
	}
	policy, policyErr := v.newPolicy(r.Policy)
	if err == nil {
		err = policyErr
	}
	if err == nil {
		err = checkTags(r.Tags)
	}
	if err != nil {
		return nil, v.refused(ctx, "secret.set", "secret/"+name, err)
	}
	var s *Secret
	err = v.audited(ctx, "secret.set", "secret/"+name, func() error {
		o, rec, err := v.add(ctx, secrets, name, r.Value, func(o *object) (record, error) {
			rec := record{ContentType: r.ContentType, Tags: r.Tags}
			var err error
			rec.Attributes, err = newAttributes(r.Attributes, v.opts.Now())
			if err != nil {
				return rec, err
			}
			return rec, o.setPolicy(policy, rec)
		})
		if err != nil {
			return err
		}
		s = newSecret(o, rec)
		return nil
	})
	return s, err
}

// Secret returns a version of a secret without its value; an empty version is the current one.
func (v *Vault) Secret(ctx context.Context, name, version string) (*Secret, error) {
	o, rec, material, err := v.read(ctx, secrets, name, version)
	if err != nil {
		return nil, err
	}
	material.Destroy()
	return newSecret(o, rec), nil
}

// SecretValue returns a version of a secret with its value, which the caller destroys. What may be released by its policy
// leaves the vault by that alone: no role takes the policy's place.
func (v *Vault) SecretValue(ctx context.Context, name, version string) (*Secret, *seal.Secret, error) {
	o, rec, material, err := v.read(ctx, secrets, name, version)
	if err != nil {
		return nil, nil, v.refused(ctx, "secret.get", "secret/"+name, err)
	}
	path := "secret/" + o.head.Name + "/" + rec.Version
	err = rec.usable(secrets, name, v.opts.Now())
	if err == nil && rec.Attributes.Exportable {
		err = &Error{Code: Denied, Message: "The secret has a release policy, and is released by that alone."}
	}
	if err == nil {
		_, err = v.Record(ctx, "secret.get", path, true, "")
	} else {
		err = v.refused(ctx, "secret.get", path, err)
	}
	if err != nil {
		material.Destroy()
		return nil, nil, err
	}
	return newSecret(o, rec), material, nil
}

// Secrets returns a page of secrets, each with its current version, in the order of their names in lower case. It begins
// after the name after; next is what to continue after, and empty at the end.
func (v *Vault) Secrets(ctx context.Context, after string, limit int) (page []*Secret, next string, err error) {
	return v.secretPage(ctx, live, after, limit)
}

// DeletedSecrets is Secrets for those that are deleted and can be recovered.
func (v *Vault) DeletedSecrets(ctx context.Context, after string, limit int) (page []*Secret, next string, err error) {
	return v.secretPage(ctx, deleted, after, limit)
}

func (v *Vault) secretPage(ctx context.Context, s state, after string, limit int) (page []*Secret, next string, err error) {
	list, next, err := v.list(ctx, secrets, s, after, limit)
	for _, o := range list {
		page = append(page, newSecret(o, o.head.Current))
	}
	return page, next, err
}

// SecretVersions returns a page of the versions of a secret in the order of their names.
func (v *Vault) SecretVersions(ctx context.Context, name, after string, limit int) (page []*Secret, next string, err error) {
	o, list, next, err := v.versions(ctx, secrets, name, after, limit)
	for _, rec := range list {
		page = append(page, newSecret(o, rec))
	}
	return page, next, err
}

// UpdateSecret changes a version of a secret; an empty version is the current one, and the only one with which the policy
// can be changed.
func (v *Vault) UpdateSecret(ctx context.Context, name, version string, u SecretUpdate) (*Secret, error) {
	policy, err := v.newPolicy(u.Policy)
	if err == nil && u.ContentType != nil {
		err = checkContentType(*u.ContentType)
	}
	if err == nil {
		err = checkTags(u.Tags)
	}
	if err == nil && policy != nil && version != "" {
		err = ErrPolicyVersioned
	}
	if err != nil {
		return nil, v.refused(ctx, "secret.update", "secret/"+name, err)
	}
	var s *Secret
	err = v.audited(ctx, "secret.update", "secret/"+name, func() error {
		o, rec, err := v.update(ctx, secrets, name, version, u.Attributes, func(o *object, rec *record) error {
			if u.ContentType != nil {
				rec.ContentType = *u.ContentType
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
		s = newSecret(o, rec)
		return nil
	})
	return s, err
}

// DeleteSecret deletes a secret with all its versions. Until it is purged it can be recovered.
func (v *Vault) DeleteSecret(ctx context.Context, name string) (*Secret, error) {
	return headSecret(v.remove(ctx, secrets, name))
}

// DeletedSecret returns a secret that is deleted.
func (v *Vault) DeletedSecret(ctx context.Context, name string) (*Secret, error) {
	return headSecret(v.headOf(ctx, secrets, deleted, name))
}

// RecoverSecret brings a deleted secret back as it was.
func (v *Vault) RecoverSecret(ctx context.Context, name string) (*Secret, error) {
	return headSecret(v.recover(ctx, secrets, name))
}

// PurgeSecret removes a deleted secret for good.
func (v *Vault) PurgeSecret(ctx context.Context, name string) error {
	return v.purge(ctx, secrets, name)
}

func headSecret(o *object, err error) (*Secret, error) {
	if err != nil {
		return nil, err
	}
	return newSecret(o, o.head.Current), nil
}
