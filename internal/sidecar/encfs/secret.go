// SPDX-License-Identifier: Apache-2.0

package encfs

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"

	"cofferdam.dev/release"
)

// Releaser has secrets released that open volumes. The caller destroys them.
type Releaser interface {
	Secret(ctx context.Context, r *release.Request, d Derivation) ([]byte, error)
}

// FromClient is a Releaser that asks a vault.
func FromClient(c *release.Client) Releaser { return client{c} }

type client struct{ c *release.Client }

// Secret has a key released.
func (c client) Secret(ctx context.Context, r *release.Request, d Derivation) ([]byte, error) {
	k, err := c.c.Release(ctx, r)
	if err != nil {
		return nil, err
	}
	return secretOf(k, d)
}

// symmetricSize is the size of symmetric keys that open volumes, in bytes.
const symmetricSize = 32

// request is what is asked of the vault, and how the secret follows from its answer: what the configuration says, or else
// the descriptor.
func (f *Filesystem) request() (*release.Request, Derivation, error) {
	key, d := f.Key, f.Derivation
	if key.ID == "" {
		v := f.vaultSlot().Vault
		key = Key{ID: v.Kid, Authority: Endpoint{Endpoint: v.Authority}, Vault: Endpoint{Endpoint: v.Vault}}
		d = Derivation{v.Salt, v.Label}
	}
	if key.Authority.Endpoint == "" {
		return nil, d, errors.New("no attestation service is named: neither in the configuration nor in the descriptor")
	}
	name, err := release.ParseKeyName(key.ID)
	if err != nil {
		return nil, d, err
	}
	return &release.Request{Attestation: key.Authority.Endpoint, Vault: key.Vault.Endpoint, Key: name, AccessToken: key.Vault.BearerToken}, d, nil
}

// secret has the key released that opens the volume. The caller destroys it.
func (f *Filesystem) secret(ctx context.Context, r Releaser) ([]byte, error) {
	request, d, err := f.request()
	if err != nil {
		return nil, err
	}
	return r.Secret(ctx, request, d)
}

// secretOf is what opens a volume: a symmetric key of 32 bytes itself, or what follows from an RSA key.
func secretOf(k *release.Key, d Derivation) ([]byte, error) {
	switch k.Kind() {
	case release.KindOct:
		b := k.Symmetric()
		if len(b) < symmetricSize {
			return nil, fmt.Errorf("the key %s has %d bytes; want %d or more", k.ID(), len(b), symmetricSize)
		}
		return append([]byte(nil), b...), nil
	case release.KindRSA:
		salt, err := hex.DecodeString(d.Salt)
		if err != nil || len(salt) == 0 {
			return nil, fmt.Errorf("the key %s is an RSA key: key_derivation.salt must be hexadecimal, and not empty", k.ID())
		}
		return k.Derive(salt, d.Label)
	}
	return nil, fmt.Errorf("the key %s is of kind %s; want a symmetric or an RSA key", k.ID(), k.Kind())
}
