// SPDX-License-Identifier: Apache-2.0

package vault

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"cofferdam.dev/internal/store"
)

const (
	// decisionLife is how long a decision can be explained.
	decisionLife = 90 * 24 * time.Hour
	// DefaultDecisionBytes bounds what is stored of decisions: whoever may ask for releases makes one with each request.
	DefaultDecisionBytes = 256 << 20
	// recountEvery is how often decisions of other instances are counted.
	recountEvery = time.Hour
)

// kept is what is known of the decisions in the store.
type kept struct {
	// bytes are about as many as there are.
	bytes atomic.Int64
	// sweeping is held by whoever counts, and counted says when that was last.
	sweeping sync.Mutex
	counted  time.Time
	// full tells Run that there are too many.
	full chan struct{}
}

// add notes a decision that was stored.
func (k *kept) add(n int, most int64) {
	if k.bytes.Add(int64(n)) <= most {
		return
	}
	select {
	case k.full <- struct{}{}:
	default: // it was told
	}
}

// sweepDecisions removes decisions that are old, and of the others the oldest when there are too many.
func (v *Vault) sweepDecisions(ctx context.Context) error {
	if err := v.sweepOldDecisions(ctx); err != nil {
		return err
	}
	v.kept.sweeping.Lock()
	defer v.kept.sweeping.Unlock()
	now := v.opts.Now()
	if v.kept.bytes.Load() <= v.opts.DecisionBytes && !v.kept.counted.IsZero() && now.Before(v.kept.counted.Add(recountEvery)) {
		return nil
	}
	total, err := v.countDecisions(ctx)
	if err != nil {
		return err
	}
	v.kept.counted = now
	v.kept.bytes.Store(total)
	if total <= v.opts.DecisionBytes {
		return nil
	}
	// A part more goes than must, so that not every release makes one go.
	return v.forgetDecisions(ctx, total, total-v.opts.DecisionBytes/8*7)
}

// countDecisions returns how many bytes the store has of decisions, those of other instances included.
func (v *Vault) countDecisions(ctx context.Context) (total int64, err error) {
	for after := ""; ; {
		var page []store.Entry
		err := v.opts.Store.View(ctx, func(r store.Reader) error {
			var err error
			page, err = r.List(v.decisionPath(""), after, store.MaxTracked)
			return err
		})
		if err != nil || len(page) == 0 {
			return total, err
		}
		for _, e := range page {
			total += int64(len(e.Key) + len(e.Value))
		}
		after = page[len(page)-1].Key
	}
}

// forgetDecisions removes the oldest decisions, this many bytes of the total. That they are gone is in the audit log, where
// what was decided stays.
func (v *Vault) forgetDecisions(ctx context.Context, total, excess int64) error {
	detail := fmt.Sprintf("the oldest reasons of releases: %d bytes are kept, and at most %d may be", total, v.opts.DecisionBytes)
	if _, err := v.Record(ctx, "release.forget", "vault/"+v.opts.Name, true, detail); err != nil {
		return err
	}
	v.opts.Log.Warn("forgetting the oldest reasons of releases", slog.String("vault", v.opts.Name), slog.Int64("kept", total), slog.Int64("most", v.opts.DecisionBytes))
	for excess > 0 {
		freed := int64(0)
		err := v.opts.Store.Update(ctx, func(tx store.Tx) error {
			freed = 0
			page, err := tx.List(v.decisionPath(""), "", store.MaxTracked/2)
			if err != nil {
				return err
			}
			for _, e := range page {
				if freed >= excess {
					break
				}
				if err := tx.Delete(e.Key); err != nil {
					return err
				}
				freed += int64(len(e.Key) + len(e.Value))
			}
			return nil
		})
		if err != nil || freed == 0 { // nothing is left: another instance was quicker
			return err
		}
		excess -= freed
		v.kept.bytes.Add(-freed)
	}
	return nil
}

// sweepOldDecisions removes old decisions, the oldest first, a few at a time.
func (v *Vault) sweepOldDecisions(ctx context.Context) error {
	first := v.decisionPath(newDecisionID(v.opts.Now().Add(-decisionLife)))
	for {
		var old []string
		err := v.opts.Store.View(ctx, func(r store.Reader) error {
			entries, err := r.List(v.decisionPath(""), "", store.MaxTracked/2)
			old = nil
			for _, e := range entries {
				if e.Key < first {
					old = append(old, e.Key)
				}
			}
			return err
		})
		if err != nil || len(old) == 0 {
			return err
		}
		err = v.opts.Store.Update(ctx, func(tx store.Tx) error {
			for _, key := range old {
				if err := tx.Delete(key); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
}
