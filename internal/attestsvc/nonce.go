// SPDX-License-Identifier: Apache-2.0

package attestsvc

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"time"

	"cofferdam.dev/internal/store"
)

// NonceLife is how long a nonce can be used.
const NonceLife = 5 * time.Minute

// A nonce is eight bytes of its expiry, 16 random bytes, and 16 bytes of an HMAC over both and the tenant. The service
// keeps nothing of a nonce that it hands out, so nobody can fill its store by asking; what it keeps is those that were
// used, until they expire. The key lies in the store for all instances: whoever reads it there can make nonces before
// their time, but can not use one twice.
const (
	nonceExpiry = 8
	nonceRandom = 16
	nonceMAC    = 16
	nonceSize   = nonceExpiry + nonceRandom + nonceMAC
)

const nonceKeyName = "nonce-key"

// loadNonceKey returns the key that all instances share, and makes it when there is none.
func (s *Service) loadNonceKey(ctx context.Context) ([]byte, error) {
	fresh := make([]byte, sha256.Size)
	_, _ = rand.Read(fresh) // never fails
	var key []byte
	err := s.opts.Store.Update(ctx, func(tx store.Tx) error {
		var err error
		key, err = tx.Get(nonceKeyName)
		if errors.Is(err, store.ErrNotFound) {
			key = fresh
			return tx.Put(nonceKeyName, fresh)
		}
		return err
	})
	if err == nil && len(key) != sha256.Size {
		err = fmt.Errorf("it has %d bytes, not %d", len(key), sha256.Size)
	}
	if err != nil {
		return nil, fmt.Errorf("reading the nonce key: %w", err)
	}
	return key, nil
}

// Challenge returns a fresh nonce for a tenant's guests and the time until which it can be used.
func (s *Service) Challenge(tenant string) (nonce string, until time.Time, err error) {
	if err := CheckTenant(tenant); err != nil {
		return "", time.Time{}, err
	}
	until = s.opts.Now().Add(NonceLife).Truncate(time.Second).UTC()
	b := binary.BigEndian.AppendUint64(nil, uint64(until.Unix()))
	b = append(b, make([]byte, nonceRandom)...)
	_, _ = rand.Read(b[nonceExpiry:]) // never fails
	return base64.RawURLEncoding.EncodeToString(append(b, s.nonceMAC(tenant, b)...)), until, nil
}

func (s *Service) nonceMAC(tenant string, b []byte) []byte {
	h := hmac.New(sha256.New, s.nonceKey)
	_, _ = fmt.Fprintf(h, "cofferdam.dev/nonce/v1\x00%s\x00", tenant) // a hash never fails
	_, _ = h.Write(b)
	return h.Sum(nil)[:nonceMAC]
}

// freshness is a nonce of ours that evidence is bound to, and that was not used up yet.
type freshness struct {
	key   string
	until time.Time
}

// fresh refuses a request without a good nonce when one is required. It returns nil when there is no nonce of ours. A draft
// needs none: its token is worth nothing.
func (s *Service) fresh(tenant string, r *Request, now time.Time) (*freshness, error) {
	f, err := s.checkNonce(tenant, r, now)
	if errors.Is(err, errForeignNonce) && (!s.opts.RequireNonce || r.Draft != nil) {
		f, err = nil, nil // it is the client's own, to be repeated in the token
	}
	return f, err
}

// unseen refuses evidence that was accepted before, when replays are refused. It comes before a nonce is used up, and is
// not what counts: remember is.
func (s *Service) unseen(ctx context.Context, tenant string, r *Request, a *appraisal) error {
	if !s.opts.RefuseReplays || r.Draft != nil {
		return nil
	}
	err := s.opts.Store.View(ctx, func(rd store.Reader) error {
		_, err := rd.Get(seenKey(tenant, a))
		return err
	})
	if errors.Is(err, store.ErrNotFound) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("looking for a replay: %w", err)
	}
	return badRequest("this evidence was accepted before: have the guest make new evidence for a new nonce")
}

var errForeignNonce = badRequest("the nonce is none that this service gave to this tenant: ask for one at /challenge")

// checkNonce requires the request's nonce to be one of ours, in its time, and the evidence to be bound to it. Without the
// last, whoever holds somebody else's evidence could put a fresh nonce beside it.
func (s *Service) checkNonce(tenant string, r *Request, now time.Time) (*freshness, error) {
	b, err := base64.RawURLEncoding.Strict().DecodeString(r.Nonce)
	if err != nil || len(b) != nonceSize || !hmac.Equal(b[nonceExpiry+nonceRandom:], s.nonceMAC(tenant, b[:nonceExpiry+nonceRandom])) {
		return nil, errForeignNonce
	}
	until := time.Unix(int64(binary.BigEndian.Uint64(b)), 0)
	if now.After(until) {
		return nil, badRequest("the nonce expired at %s: ask for another", until.UTC().Format(time.RFC3339))
	}
	if !r.Runtime.holds(r.Nonce) {
		return nil, badRequest("the runtime data do not have the nonce: have the guest make its report for runtime data that hold it, in JSON as the member nonce")
	}
	return &freshness{"used/" + tenant + "/" + r.Nonce, until}, nil
}

// holds reports whether the data have the nonce: in JSON as the member of that name, otherwise anywhere.
func (d *Data) holds(nonce string) bool {
	if d == nil {
		return false
	}
	if !d.JSON {
		return bytes.Contains(d.Bytes, []byte(nonce))
	}
	var o map[string]json.RawMessage
	var text string
	return json.Unmarshal(d.Bytes, &o) == nil && json.Unmarshal(o["nonce"], &text) == nil && text == nonce
}

// use uses up a nonce. It comes after the appraisal, so that nobody writes to the store without genuine evidence.
func (s *Service) use(ctx context.Context, r *Request, f *freshness) error {
	if r.Draft != nil {
		return nil
	}
	return s.once(ctx, f.key, f.until, "the nonce was used before: ask for another")
}

// once stores a key that must not be there yet.
func (s *Service) once(ctx context.Context, key string, until time.Time, otherwise string) error {
	err := s.opts.Store.Update(ctx, func(tx store.Tx) error {
		_, err := tx.Get(key)
		switch {
		case err == nil:
			return badRequest("%s", otherwise)
		case errors.Is(err, store.ErrNotFound):
			return tx.Put(key, strconv.AppendInt(nil, until.Unix(), 10))
		}
		return err
	})
	var bad *RequestError
	if err != nil && !errors.As(err, &bad) {
		return fmt.Errorf("using a nonce: %w", err)
	}
	return err
}

// seenKey names evidence by what of it is signed.
func seenKey(tenant string, a *appraisal) string { return "seen/" + tenant + "/" + digest(a.identity) }

// remember stores that evidence was accepted, when replays are refused.
func (s *Service) remember(ctx context.Context, tenant string, a *appraisal, until time.Time) error {
	if !s.opts.RefuseReplays {
		return nil
	}
	return s.once(ctx, seenKey(tenant, a), until, "this evidence was accepted before: have the guest make new evidence for a new nonce")
}

// sweepEvery is how often what has expired is removed.
const sweepEvery = time.Minute

func (s *Service) sweep(ctx context.Context) {
	tick := time.NewTicker(sweepEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			for _, prefix := range []string{"used/", "seen/"} {
				if err := s.sweepPrefix(ctx, prefix); err != nil && ctx.Err() == nil {
					s.opts.Log.Warn("removing what has expired", slog.Any("error", err))
				}
			}
			if err := s.sweepKeys(ctx); err != nil && ctx.Err() == nil {
				s.opts.Log.Warn("removing keys that have expired", slog.Any("error", err))
			}
		}
	}
}

// sweepLater is how long after their time entries are kept: an instance whose clock is behind may still take a nonce that
// is over by another's clock, and must find that it was used.
const sweepLater = time.Hour

// sweepPrefix removes entries whose time is over.
func (s *Service) sweepPrefix(ctx context.Context, prefix string) error {
	now := s.opts.Now().Add(-sweepLater).Unix()
	return store.Sweep(ctx, s.opts.Store, prefix, func(e store.Entry) bool {
		until, err := strconv.ParseInt(string(e.Value), 10, 64)
		return err == nil && until < now
	})
}
