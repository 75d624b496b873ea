// SPDX-License-Identifier: Apache-2.0

package kbs

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"regexp"
	"strings"

	"cofferdam.dev/internal/seal"
	"cofferdam.dev/internal/vault"
)

// MaxResource bounds a resource in bytes.
const MaxResource = vault.MaxSecretSize

// Path names a resource.
type Path struct{ Repository, Type, Tag string }

// pathPart is the protocol's, with a bound on its length.
var pathPart = regexp.MustCompile(`^[a-zA-Z0-9_-][a-zA-Z0-9_.-]{0,79}$`)

// ParsePath returns the path of three parts.
func ParsePath(parts ...string) (Path, error) {
	if len(parts) != 3 {
		return Path{}, refuse(InvalidRequestPath, "a resource is named by repository, type and tag")
	}
	for _, p := range parts {
		if !pathPart.MatchString(p) {
			return Path{}, refuse(InvalidRequestPath, "a part of a resource's path is 1 to 80 letters, digits, dots, hyphens and underscores, and begins with no dot")
		}
	}
	return Path{parts[0], parts[1], parts[2]}, nil
}

// String returns the path as the protocol spells it.
func (p Path) String() string { return p.Repository + "/" + p.Type + "/" + p.Tag }

// plain is a part of a path that can stand in the name of a secret.
var plain = regexp.MustCompile(`^[a-z0-9]+(-[a-z0-9]+)*$`)

// SecretName is the name of the vault's secret that a resource is. Names of secrets have fewer characters and no case, so
// that only paths of lower-case letters, digits and single hyphens are spelt out, as repository--type--tag; others are
// named by their SHA-256. No two resources have one name.
func (p Path) SecretName() string {
	parts := []string{p.Repository, p.Type, p.Tag}
	name := strings.Join(parts, "--")
	for _, part := range parts {
		if !plain.MatchString(part) || len(name) > maxSecretName {
			sum := sha256.Sum256([]byte(p.String()))
			return "resource-" + hex.EncodeToString(sum[:])
		}
	}
	return name
}

// maxSecretName is the vault's.
const maxSecretName = 127

// resourceTag is the tag of a secret that has the path of its resource.
const resourceTag = "resource"

// find returns the secret that a resource is, or nil when there is none.
func (b *Broker) find(ctx context.Context, p Path) (*vault.Secret, error) {
	s, err := b.opts.Vault.Secret(ctx, p.SecretName(), "")
	if isVault(err, vault.SecretNotFound) {
		return nil, nil //nolint:nilnil // none is no error
	}
	return s, err
}

func isVault(err error, code vault.Code) bool {
	var e *vault.Error
	return errors.As(err, &e) && e.Code == code
}

// PutResource sets a resource. A release policy that its secret has stays; one that was deleted comes back.
func (b *Broker) PutResource(ctx context.Context, p Path, value *seal.Secret) error {
	err := b.put(ctx, p, value)
	if isVault(err, vault.Conflict) {
		if _, err = b.opts.Vault.RecoverSecret(ctx, p.SecretName()); err == nil {
			err = b.put(ctx, p, value)
		}
	}
	var refusal *vault.Error
	if errors.As(err, &refusal) {
		kind := Invalid
		if refusal.Code != vault.BadParameter {
			kind = Conflict
		}
		return refuse(kind, "%s", refusal.Message)
	}
	return err
}

func (b *Broker) put(ctx context.Context, p Path, value *seal.Secret) error {
	old, err := b.find(ctx, p)
	if err != nil {
		return err
	}
	own := old != nil && old.Policy != nil
	_, err = b.opts.Vault.SetSecret(ctx, p.SecretName(), vault.SecretRequest{
		Value: value, Attributes: vault.AttributeChange{Exportable: &own}, Tags: map[string]string{resourceTag: p.String()},
	})
	return err
}

// DeleteResource removes a resource. Its secret can be recovered, as any of the vault's can.
func (b *Broker) DeleteResource(ctx context.Context, p Path) error {
	_, err := b.opts.Vault.DeleteSecret(ctx, p.SecretName())
	if isVault(err, vault.SecretNotFound) {
		return refuse(ResourceNotFound, "there is no resource %s", p)
	}
	return err
}
