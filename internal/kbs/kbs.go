// SPDX-License-Identifier: Apache-2.0

// Package kbs is the key broker: it gives secrets to guests of Confidential Containers that prove what they are. A guest
// asks for a challenge, answers it with evidence that is bound to the challenge and to a key born inside the guest, and gets
// a token; with it, or with the session in which it got it, it asks for resources. Each is encrypted to the guest's key.
//
// Evidence is judged by the attestation service, by its baseline and its policy. Resources are secrets of a vault: one that
// has a release policy of its own is released by that, and any other by the rules that an administrator set, over the
// claims of the token. Without a policy and a rule it is released to nobody.
//
// The package trusts the attestation service, the vault, its root key and its clock. It trusts the store to keep what was written, but
// not to keep it secret or unchanged; everything in a request is hostile. What it does is in the audit log before it is
// done. A guest that is refused does not learn why: the audit log says it, under the ID of the request.
package kbs

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"cofferdam.dev/internal/attestsvc"
	"cofferdam.dev/internal/audit"
	"cofferdam.dev/internal/seal"
	"cofferdam.dev/internal/store/sealedstore"
	"cofferdam.dev/internal/vault"
	"cofferdam.dev/internal/vault/authority"
)

// TokenLife is how long tokens and sessions are good for.
const TokenLife = 5 * time.Minute

// Options are what a broker is made of.
type Options struct {
	// Service appraises evidence and signs tokens, and Tenant is whose policy it asks; empty is the default one.
	Service *attestsvc.Service
	Tenant  string
	// Authorities are whose tokens are taken: the service's issuers.
	Authorities *authority.Set
	// Vault has the resources. It must believe the same authorities.
	Vault *vault.Vault
	// Store has sessions and rules: what OpenStore returns, and what the service was given.
	Store *sealedstore.Store
	// Audit is written before anything is done.
	Audit *audit.Log
	// Log gets what operators need to know, and nothing of guests or secrets.
	Log *slog.Logger
	// Now is the clock; nil is the machine's.
	Now func() time.Time
}

// Broker is the key broker. It is safe for concurrent use.
type Broker struct {
	opts       Options
	sessionKey *seal.Secret

	mu    sync.Mutex // guards rules
	rules *Rules     // as they were last parsed
}

// New returns a broker on what the store has.
func New(ctx context.Context, opts Options) (*Broker, error) {
	if opts.Service == nil || opts.Authorities == nil || opts.Vault == nil || opts.Store == nil || opts.Audit == nil {
		return nil, errors.New("key broker: attestation service, authorities, vault, store and audit log must be given")
	}
	if opts.Tenant == "" {
		opts.Tenant = attestsvc.DefaultTenant
	}
	if err := attestsvc.CheckTenant(opts.Tenant); err != nil {
		return nil, fmt.Errorf("key broker: %w", err)
	}
	if opts.Now == nil {
		opts.Now = time.Now
	}
	if opts.Log == nil {
		opts.Log = slog.New(slog.DiscardHandler)
	}
	b := &Broker{opts: opts}
	var err error
	if b.sessionKey, err = b.loadSessionKey(ctx); err != nil {
		return nil, fmt.Errorf("key broker: %w", err)
	}
	return b, nil
}

// Run forgets sessions that are over, until ctx ends.
func (b *Broker) Run(ctx context.Context) {
	tick := time.NewTicker(time.Minute)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			if err := b.sweep(ctx); err != nil && ctx.Err() == nil {
				b.opts.Log.Warn("removing sessions that are over", slog.Any("error", err))
			}
		}
	}
}
