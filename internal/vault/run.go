// SPDX-License-Identifier: Apache-2.0

package vault

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"time"

	"cofferdam.dev/internal/store"
)

const (
	// sweepEvery is how often Run looks for what has its time.
	sweepEvery = 5 * time.Minute
)

// Run does until ctx ends what has its time: it rotates keys by their policies, and removes what is over: deleted objects,
// what is left of purges that were interrupted, and old decisions. Several instances may run it on one store.
func (v *Vault) Run(ctx context.Context) {
	tick := time.NewTicker(sweepEvery)
	defer tick.Stop()
	do := v.Sweep
	for {
		if err := do(ctx); err != nil && ctx.Err() == nil {
			v.opts.Log.Warn("doing in the vault what has its time", slog.Any("error", err))
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			do = v.Sweep
		case <-v.kept.full:
			do = v.sweepDecisions
		}
	}
}

// Sweep does once what Run does again and again.
func (v *Vault) Sweep(ctx context.Context) error {
	var errs []error
	for _, c := range []class{keys, secrets} {
		errs = append(errs, v.sweepDeleted(ctx, c), v.sweepPurging(ctx, c))
	}
	return errors.Join(append(errs, v.sweepRotations(ctx), v.sweepDecisions(ctx))...)
}

// sweepDeleted purges what was deleted long enough ago.
func (v *Vault) sweepDeleted(ctx context.Context, c class) error {
	for after := ""; ; {
		page, next, err := v.list(ctx, c, deleted, after, MaxPage)
		if err != nil {
			return err
		}
		for _, o := range page {
			if d := o.head.Deleted; d == nil || v.opts.Now().Before(d.Purge) {
				continue
			}
			err := v.purge(ctx, c, o.head.Name)
			var refusal *Error
			if err != nil && !errors.As(err, &refusal) { // recovered or purged meanwhile
				return err
			}
		}
		if after = next; after == "" {
			return nil
		}
	}
}

// sweepPurging goes on with purges that were interrupted.
func (v *Vault) sweepPurging(ctx context.Context, c class) error {
	prefix := v.path(c, purging, "")
	var entries []store.Entry
	err := v.opts.Store.View(ctx, func(r store.Reader) error {
		var err error
		entries, err = r.List(prefix, "", store.MaxList)
		return err
	})
	for _, e := range entries {
		err = errors.Join(err, v.sweepVersions(ctx, c, strings.TrimPrefix(e.Key, prefix)))
	}
	return err
}
