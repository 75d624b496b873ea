// SPDX-License-Identifier: Apache-2.0

// Package cache keeps collateral on disk between a verifier and the vendors' servers, which answer rarely and slowly.
//
// Chip certificates and chains never change and are kept until there is no room. Revocation lists, TCB information and
// QE identities are kept until their next update or a maximum age, whichever comes first, and are never returned after
// it, even if nothing newer can be had: the verdict is then undecided, not wrong. Refusals of a server are remembered for
// a short while. One process, and all processes that share a directory, ask for the same item once at a time.
//
// The directory is not trusted more than the network is: an item from it is judged like any other, one that is damaged
// is dropped and asked for again, and whoever can write to it can at most withhold items or bring back one whose next
// update has not come. The package trusts the clock. It never decides anything, and opens no connection of its own.
package cache

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"cofferdam.dev/collateral"
)

// What a Cache does unless it is told otherwise.
const (
	// DefaultMaxAge bounds the age of what can change.
	DefaultMaxAge = 24 * time.Hour
	// DefaultMaxBytes bounds the files together. A chip certificate takes about three kilobytes.
	DefaultMaxBytes = 64 << 20
	// DefaultRefusalAge is how long a refusal is remembered, unless the server asks for more.
	DefaultRefusalAge = time.Minute
	// MaxRefusalAge is the longest that a refusal is remembered, whatever the server asks for.
	MaxRefusalAge = 10 * time.Minute
)

// clockSkew is how far in the future an item may have been stored. More means that the clock was set back, and that its
// age is unknown.
const clockSkew = 5 * time.Minute

// Options say what a Cache does. All but Dir may be zero.
type Options struct {
	// Dir is the directory, which is made when it does not exist.
	Dir string
	// Source is asked for what is not cached. Without one the cache has what it has.
	Source collateral.Source
	// MaxAge, MaxBytes and RefusalAge replace the defaults when they are not zero.
	MaxAge     time.Duration
	MaxBytes   int64
	RefusalAge time.Duration
	// Now is the clock; nil for the real one.
	Now func() time.Time
	// Log receives a warning when an item can not be stored, which fails no request; nil for none.
	Log *slog.Logger
}

// Cache is a source that remembers another one's items. It is safe for concurrent use, also of one directory by several
// processes, any of which may die at any time.
type Cache struct {
	opts Options

	mu      sync.Mutex
	flights map[string]*flight
}

var _ collateral.Source = (*Cache)(nil)

// Open returns the cache in a directory.
func Open(o Options) (*Cache, error) {
	if o.Dir == "" {
		return nil, errors.New("opening the cache of collateral: it has no directory")
	}
	for _, d := range []string{o.Dir, filepath.Join(o.Dir, tempDir), filepath.Join(o.Dir, lockDir)} {
		if err := os.MkdirAll(d, 0o700); err != nil {
			return nil, fmt.Errorf("opening the cache of collateral: %w", err)
		}
	}
	if o.MaxAge == 0 {
		o.MaxAge = DefaultMaxAge
	}
	if o.MaxBytes == 0 {
		o.MaxBytes = DefaultMaxBytes
	}
	if o.RefusalAge == 0 {
		o.RefusalAge = DefaultRefusalAge
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return &Cache{opts: o, flights: map[string]*flight{}}, nil
}

// flight is one request to the source that several callers wait for.
type flight struct {
	done chan struct{}
	it   collateral.Item
	err  error
	// left is set when the caller that made the request gave up. Its error says nothing about the item.
	left bool
}

// Get returns an item from disk, or asks the source and stores what it answers.
func (c *Cache) Get(ctx context.Context, r collateral.Request) (collateral.Item, error) {
	if err := r.Validate(); err != nil {
		return collateral.Item{}, err
	}
	if e, err := c.load(r); err == nil && c.fresh(r, e) {
		c.touch(r.Name())
		return e.item(), nil
	}
	for {
		f, first := c.join(r.Name())
		if first {
			c.fly(ctx, r, f)
			return f.it, f.err
		}
		select {
		case <-f.done:
			if !f.left {
				return f.it, f.err
			}
		case <-ctx.Done():
			return collateral.Item{}, c.gaveUp(ctx, r)
		}
	}
}

func (c *Cache) gaveUp(ctx context.Context, r collateral.Request) error {
	return fmt.Errorf("waiting for %s: %w: %w", r.Name(), collateral.ErrUnavailable, context.Cause(ctx))
}

// join returns the flight for a name, and whether the caller is the one who has to make it.
func (c *Cache) join(name string) (f *flight, first bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if f := c.flights[name]; f != nil {
		return f, false
	}
	f = &flight{done: make(chan struct{}), err: collateral.ErrUnavailable}
	c.flights[name] = f
	return f, true
}

// fly makes a flight. It lands even if the source panics.
func (c *Cache) fly(ctx context.Context, r collateral.Request, f *flight) {
	defer func() {
		c.mu.Lock()
		delete(c.flights, r.Name())
		c.mu.Unlock()
		close(f.done)
	}()
	f.it, f.err = c.refresh(ctx, r)
	f.left = f.err != nil && ctx.Err() != nil
}

// refresh asks the source, unless another process just did.
func (c *Cache) refresh(ctx context.Context, r collateral.Request) (collateral.Item, error) {
	unlock, err := c.lock(ctx, r.Name())
	if err != nil {
		return collateral.Item{}, fmt.Errorf("waiting for %s: %w: %w", r.Name(), collateral.ErrUnavailable, err)
	}
	defer unlock()
	e, err := c.load(r)
	switch {
	case err == nil && c.fresh(r, e):
		return e.item(), nil
	case !errors.Is(err, os.ErrNotExist): // damaged, or too old
		c.drop(entryPath(r.Name()))
	}
	if c.opts.Source == nil {
		return collateral.Item{}, fmt.Errorf("%s is not cached: %w", r.Name(), collateral.ErrUnavailable)
	}
	if refusal := c.refused(r); refusal != nil {
		return collateral.Item{}, refusal
	}
	it, err := c.opts.Source.Get(ctx, r)
	if err != nil {
		c.remember(r, err)
		return collateral.Item{}, err
	}
	w, err := collateral.Inspect(r, it)
	if err != nil {
		return collateral.Item{}, fmt.Errorf("a source of collateral sent something else: %w: %w", collateral.ErrUnavailable, err)
	}
	now := c.opts.Now()
	if !immutable(r) && now.After(w.Until) {
		return collateral.Item{}, fmt.Errorf("%s: the latest there is had to be updated until %s: %w", r.Name(),
			w.Until.UTC().Format(time.RFC3339), collateral.ErrUnavailable)
	}
	if err := c.store(newEntry(r, it, now)); err != nil {
		c.opts.Log.WarnContext(ctx, "writing the cache of collateral failed", slog.String("name", r.Name()), slog.Any("error", err))
	}
	return it, nil
}

// immutable reports whether a request has one answer for good.
func immutable(r collateral.Request) bool {
	return r.Kind == collateral.AMDVCEK || r.Kind == collateral.AMDChain
}

// fresh reports whether a stored item may be returned.
func (c *Cache) fresh(r collateral.Request, e *entry) bool {
	if immutable(r) {
		return true
	}
	age := c.opts.Now().Sub(e.Fetched)
	return !c.opts.Now().After(e.window.Until) && age < c.opts.MaxAge && age > -clockSkew
}
