// SPDX-License-Identifier: Apache-2.0

// Package vault keeps keys and secrets, and gives an exportable one only to a guest whose attestation satisfies its release
// policy, wrapped to a key that was born inside that guest.
//
// It trusts its root key, its clock, and the issuers that it was configured with. It trusts the store to keep what was
// written, but not to keep it secret or unchanged: what the store holds of an object is encrypted and authenticated, its
// release policy included. A store that brings back an old state of an object, or of one of its versions, is not noticed:
// what was disabled or purged, or a policy that was replaced, comes back with it.
//
// It decides who may do what with key material by the key's own rules: operations, times, policy. Who may call it at all
// is its callers' business. What it does is in the audit log before it is done, and nothing secret is in logs or errors.
package vault

import (
	"context"
	"errors"
	"log/slog"
	"regexp"
	"time"

	"cofferdam.dev/internal/audit"
	"cofferdam.dev/internal/auth"
	"cofferdam.dev/internal/seal"
	"cofferdam.dev/internal/store"
	"cofferdam.dev/internal/vault/authority"
)

const (
	// DefaultRecoverableDays is how long a deleted object can be recovered.
	DefaultRecoverableDays = 90
	// MinRecoverableDays is the least that may be configured.
	MinRecoverableDays = 7
	// MaxPage bounds the entries of one page of a list.
	MaxPage = 25
	// MaxVersions bounds the versions of an object.
	MaxVersions = 500
	// MaxTags bounds the tags of an object.
	MaxTags = 15
	// MaxTagSize bounds names and values of tags in bytes.
	MaxTagSize = 256
)

// Options are what a vault is made of.
type Options struct {
	// Name tells vaults in one store apart: lower-case letters, digits and hyphens.
	Name string
	// Managed makes release policies and answers those of a managed HSM, where otherwise they are those of a vault.
	Managed bool
	// Store has all objects. It may be shared with other instances that have the same root.
	Store store.Store
	// Root wraps the keys of all objects.
	Root seal.Root
	// Audit is written before anything is done.
	Audit *audit.Log
	// Authorities are the attestation services whose tokens are believed; nil releases nothing.
	Authorities *authority.Set
	// RecoverableDays is how long deleted objects can be recovered: 7 to 90, and zero is 90.
	RecoverableDays int
	// PurgeProtected refuses to remove deleted objects before their time.
	PurgeProtected bool
	// DecisionBytes bounds what is stored of the reasons of releases; zero is DefaultDecisionBytes. The oldest go first.
	DecisionBytes int64
	// Log gets what operators need to know, and nothing of tenants.
	Log *slog.Logger
	// Now is the clock; nil is the machine's.
	Now func() time.Time
}

// Vault is a vault. It is safe for concurrent use.
type Vault struct {
	opts    Options
	records recordKey
	batch   batch
	kept    kept
}

var vaultName = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)

// New returns a vault on what the store has.
func New(opts Options) (*Vault, error) {
	if !vaultName.MatchString(opts.Name) || opts.Store == nil || opts.Root == nil || opts.Audit == nil {
		return nil, errors.New("vault: name (lower-case letters, digits, hyphens), store, root key and audit log must be given")
	}
	if opts.RecoverableDays == 0 {
		opts.RecoverableDays = DefaultRecoverableDays
	}
	if opts.RecoverableDays < MinRecoverableDays || opts.RecoverableDays > DefaultRecoverableDays {
		return nil, errors.New("vault: deleted objects are recoverable for 7 to 90 days")
	}
	if opts.DecisionBytes == 0 {
		opts.DecisionBytes = DefaultDecisionBytes
	}
	if opts.Now == nil {
		opts.Now = time.Now
	}
	if opts.Log == nil {
		opts.Log = slog.New(slog.DiscardHandler)
	}
	return &Vault{opts: opts, kept: kept{full: make(chan struct{}, 1)}}, nil
}

// Name returns the vault's name.
func (v *Vault) Name() string { return v.opts.Name }

// Managed reports whether the vault acts as a managed HSM.
func (v *Vault) Managed() bool { return v.opts.Managed }

// RecoveryLevel says in the words of Azure Key Vault what becomes of deleted objects.
func (v *Vault) RecoveryLevel() string {
	level := "Recoverable"
	if v.opts.RecoverableDays < DefaultRecoverableDays {
		level = "CustomizedRecoverable"
	}
	if !v.opts.PurgeProtected {
		level += "+Purgeable"
	}
	return level
}

// RecoverableDays is how long a deleted object can be recovered.
func (v *Vault) RecoverableDays() int { return v.opts.RecoverableDays }

// event is what the audit log gets.
type event struct {
	Vault string `json:"vault"`
	// Object is class/name or class/name/version.
	Object string `json:"object"`
	// By is who asked, when a caller established that.
	By string `json:"by,omitempty"`
	// Outcome is "allow" or "deny".
	Outcome string `json:"outcome"`
	// Detail says why, or what.
	Detail string `json:"detail,omitempty"`
}

// Record writes to the audit log that somebody was allowed or refused something, for decisions that callers make. Object is
// class/name, and kind something like "key.sign".
func (v *Vault) Record(ctx context.Context, kind, object string, allowed bool, detail string) (audit.Receipt, error) {
	e := event{Vault: v.opts.Name, Object: object, Outcome: "deny", Detail: detail}
	if allowed {
		e.Outcome = "allow"
	}
	if id := auth.From(ctx); id != nil {
		e.By = id.String()
	}
	return v.opts.Audit.Append(ctx, kind, e)
}

// refused records a refusal, and returns its reason. Other errors are returned as they are.
func (v *Vault) refused(ctx context.Context, kind, object string, err error) error {
	var refusal *Error
	if err == nil || !errors.As(err, &refusal) {
		return err
	}
	_, auditErr := v.Record(ctx, kind, object, false, refusal.Error())
	return errors.Join(err, auditErr)
}
