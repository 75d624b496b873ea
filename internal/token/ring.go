// SPDX-License-Identifier: Apache-2.0

package token

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/go-jose/go-jose/v4"
)

// RingOptions say how a ring's keys live.
type RingOptions struct {
	// Algorithms are those for which the ring has a key at all times.
	Algorithms []Algorithm
	// Name is put into the keys' certificates.
	Name string
	// Signs is how long a key signs, and TokenLife how long its tokens live at most.
	Signs, TokenLife time.Duration
	// Ahead is how long before its first use a key is published, so that who caches the key set knows it in time. The very
	// first key of a ring has no such time.
	Ahead time.Duration
	// Publish makes a public key known to relying parties. A key whose publication fails does not sign.
	Publish func(context.Context, PublicKey) error
	// Now is the clock; nil is the machine's.
	Now func() time.Time
}

// Ring signs with keys that replace each other. It is safe for concurrent use.
type Ring struct {
	opts RingOptions

	mu    sync.RWMutex
	slots map[Algorithm]*slot
}

// slot is the key of one algorithm that signs now, and the one that will.
type slot struct {
	current, next *Key
	since         time.Time // when next was published
	signers       map[string]jose.Signer
}

// NewRing makes and publishes the first keys.
func NewRing(ctx context.Context, opts RingOptions) (*Ring, error) {
	if len(opts.Algorithms) == 0 || opts.Publish == nil || opts.Signs <= 0 || opts.TokenLife <= 0 || opts.Ahead < 0 || opts.Ahead >= opts.Signs {
		return nil, errors.New("making signing keys: algorithms, publication and times must be given")
	}
	if opts.Now == nil {
		opts.Now = time.Now
	}
	r := &Ring{opts: opts, slots: map[Algorithm]*slot{}}
	for _, alg := range opts.Algorithms {
		k, err := r.make(ctx, alg, opts.Now())
		if err != nil {
			return nil, err
		}
		r.slots[alg] = &slot{current: k, signers: map[string]jose.Signer{}}
	}
	return r, nil
}

// make generates a key that begins to sign at the time, and publishes it.
func (r *Ring) make(ctx context.Context, alg Algorithm, begins time.Time) (*Key, error) {
	ends := begins.Add(r.opts.Signs)
	k, err := Generate(alg, r.opts.Name, r.opts.Now(), ends, ends.Add(r.opts.TokenLife))
	if err != nil {
		return nil, err
	}
	if err := r.opts.Publish(ctx, k.Public()); err != nil {
		return nil, fmt.Errorf("publishing %s: %w", k, err)
	}
	return k, nil
}

// Keys returns the public halves of the keys that the ring holds, those that will sign next included, sorted by ID.
func (r *Ring) Keys() []PublicKey {
	var keys []PublicKey
	for _, sl := range r.snapshot() {
		for _, k := range []*Key{sl.current, sl.next} {
			if k != nil {
				keys = append(keys, k.public)
			}
		}
	}
	slices.SortFunc(keys, func(a, b PublicKey) int { return strings.Compare(a.ID, b.ID) })
	return keys
}

// Sign returns a token by the current key of the algorithm. Header is as in Key.Sign; jku is the only member that is
// usual.
func (r *Ring) Sign(alg Algorithm, claims any, jku string) (string, error) {
	s, err := r.signer(alg, jku)
	if err != nil {
		return "", err
	}
	return sign(s, claims)
}

func (r *Ring) signer(alg Algorithm, jku string) (jose.Signer, error) {
	now := r.opts.Now()
	r.mu.RLock()
	sl := r.slots[alg]
	if sl == nil {
		r.mu.RUnlock()
		return nil, fmt.Errorf("signing a token: there is no key for %q", alg)
	}
	s, k := sl.signers[jku], sl.current
	r.mu.RUnlock()
	if now.After(k.public.SignsUntil) {
		return nil, fmt.Errorf("signing a token: %s stopped signing at %s, and the next could not be published", k,
			k.public.SignsUntil.Format(time.RFC3339))
	}
	if s != nil {
		return s, nil
	}
	var header map[string]any
	if jku != "" {
		header = map[string]any{"jku": jku}
	}
	s, err := k.newSigner(header)
	if err != nil {
		return nil, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	const most = 100 // tenants' jku; more are made anew each time
	if sl.current == k && len(sl.signers) < most {
		sl.signers[jku] = s
	}
	return s, nil
}

// Rotate makes the next keys when it is time to publish them, and begins to use them when they were known long enough.
func (r *Ring) Rotate(ctx context.Context) error {
	var errs []error
	for alg := range r.snapshot() {
		errs = append(errs, r.rotate(ctx, alg))
	}
	return errors.Join(errs...)
}

func (r *Ring) snapshot() map[Algorithm]*slot {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return maps.Clone(r.slots)
}

func (r *Ring) rotate(ctx context.Context, alg Algorithm) error {
	now := r.opts.Now()
	r.mu.RLock()
	sl := *r.slots[alg]
	r.mu.RUnlock()
	ends := sl.current.public.SignsUntil
	switch {
	case sl.next == nil && !now.Before(ends.Add(-2*r.opts.Ahead-r.opts.Signs/10)):
		k, err := r.make(ctx, alg, latest(now, ends.Add(-r.opts.Signs/10)))
		if err != nil {
			return err
		}
		sl.next, sl.since = k, now
	case sl.next != nil && !now.Before(sl.since.Add(r.opts.Ahead)):
		sl = slot{current: sl.next, signers: map[string]jose.Signer{}}
	default:
		return nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.slots[alg] = &sl
	return nil
}

func latest(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// Run rotates until ctx ends.
func (r *Ring) Run(ctx context.Context, log *slog.Logger) {
	const most = time.Minute
	tick := time.NewTicker(min(most, max(time.Second, r.opts.Signs/100)))
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			if err := r.Rotate(ctx); err != nil && ctx.Err() == nil {
				log.Error("rotating signing keys", slog.Any("error", err))
			}
		}
	}
}
