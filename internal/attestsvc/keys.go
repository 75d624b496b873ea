// SPDX-License-Identifier: Apache-2.0

package attestsvc

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"time"

	"cofferdam.dev/internal/store"
	"cofferdam.dev/internal/token"
)

const keyPrefix = "keys/"

// publish stores a public key for all instances and relying parties.
func (s *Service) publish(ctx context.Context, k token.PublicKey) error {
	b, err := json.Marshal(k)
	if err != nil {
		return err
	}
	return s.opts.Store.Update(ctx, func(tx store.Tx) error { return tx.Put(keyPrefix+k.ID, b) })
}

// Keys returns the public keys of all instances that may still have valid tokens.
func (s *Service) Keys(ctx context.Context) ([]token.PublicKey, error) {
	keys, _, err := s.listKeys(ctx)
	return keys, err
}

// spareKeys are kept for the instances that run, whose keys are replaced.
const spareKeys = 100

// keysLeft refuses to start when the key set is nearly as large as relying parties take it: an instance that fails and is
// started again for days would make it grow until nobody can read it.
func (s *Service) keysLeft(ctx context.Context) error {
	keys, _, err := s.listKeys(ctx)
	if err != nil {
		return err
	}
	if len(keys) <= token.MaxKeys-spareKeys {
		return nil
	}
	first := slices.MinFunc(keys, func(a, b token.PublicKey) int { return a.Expires.Compare(b.Expires) })
	return fmt.Errorf("attestation service: %d keys of earlier starts are in the store, and their tokens may still be valid: the first of them expires at %s",
		len(keys), first.Expires.Format(time.RFC3339))
}

// OwnKeys returns the IDs of the keys with which this instance signs, and of those with which it will next.
func (s *Service) OwnKeys() []string {
	var ids []string
	for _, k := range s.ring.Keys() {
		ids = append(ids, k.ID)
	}
	return ids
}

// listKeys returns the keys that have not expired, and the names of those that have.
func (s *Service) listKeys(ctx context.Context) (keys []token.PublicKey, expired []string, err error) {
	now := s.opts.Now()
	err = s.opts.Store.View(ctx, func(r store.Reader) error {
		keys, expired = nil, nil
		for after := ""; ; {
			list, err := r.List(keyPrefix, after, store.MaxList)
			if err != nil || len(list) == 0 {
				return err
			}
			for _, e := range list {
				var k token.PublicKey
				if err := json.Unmarshal(e.Value, &k); err != nil {
					return fmt.Errorf("key %q in the store: %w", e.Key, err)
				}
				if now.Before(k.Expires) {
					keys = append(keys, k)
				} else {
					expired = append(expired, e.Key)
				}
			}
			after = list[len(list)-1].Key
		}
	})
	return keys, expired, err
}

// sweepKeys removes keys that have expired.
func (s *Service) sweepKeys(ctx context.Context) error {
	_, expired, err := s.listKeys(ctx)
	if err != nil {
		return err
	}
	for _, name := range expired {
		if err := s.opts.Store.Update(ctx, func(tx store.Tx) error { return tx.Delete(name) }); err != nil {
			return err
		}
	}
	return nil
}

// Simulated reports whether the service takes simulated evidence at all.
func (s *Service) Simulated() bool { return s.opts.Baseline.AllowSimulated }

// statementLife is how long what the service says about its own state is valid.
const statementLife = time.Hour

// Statement signs what the service says about its own state, such as a policy, for one of a tenant's two issuers.
func (s *Service) Statement(tenant string, simulated bool, claims map[string]any) (string, error) {
	now := s.opts.Now()
	issuer := s.Issuer(tenant, simulated)
	all := maps.Clone(claims)
	maps.Copy(all, map[string]any{
		"iss": issuer, "iat": now.Unix(), "nbf": now.Unix(), "exp": now.Add(statementLife).Unix(), "jti": rand.Text(), "x-ms-ver": "1.0",
	})
	return s.ring.Sign(token.RS256, all, issuer+"/certs")
}

// JWKS returns the key set that relying parties fetch.
func (s *Service) JWKS(ctx context.Context) ([]byte, error) {
	keys, err := s.Keys(ctx)
	if err != nil {
		return nil, err
	}
	return token.JWKS(keys, s.opts.Now())
}
