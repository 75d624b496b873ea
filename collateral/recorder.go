// SPDX-License-Identifier: Apache-2.0

package collateral

import (
	"context"
	"fmt"
	"maps"
	"sync"
)

// Recorder passes requests on to a source and remembers what it answered, so that the same verdict can be reached again
// without that source. Each item is asked for once and is the same from then on: what is recorded is what was judged. A
// Recorder is for one appraisal, not a cache; it holds everything until it is dropped.
type Recorder struct {
	source Source

	mu   sync.Mutex
	used Embedded
}

var _ Source = (*Recorder)(nil)

// Record returns a recorder for a source, which may be nil: nothing is available then.
func Record(s Source) *Recorder { return &Recorder{source: s, used: Embedded{}} }

// Get returns the recorded item, or asks the source and records its answer. Errors are not recorded.
func (r *Recorder) Get(ctx context.Context, req Request) (Item, error) {
	if err := req.Validate(); err != nil {
		return Item{}, err
	}
	name := req.Name()
	r.mu.Lock()
	it, ok := r.used[name]
	r.mu.Unlock()
	if ok {
		return it, nil
	}
	if r.source == nil {
		return Item{}, fmt.Errorf("%s: there is no source of collateral: %w", name, ErrUnavailable)
	}
	it, err := r.source.Get(ctx, req)
	if err != nil {
		return Item{}, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if first, ok := r.used[name]; ok { // somebody else was faster
		return first, nil
	}
	r.used[name] = it
	return it, nil
}

// Used returns the items that were returned so far.
func (r *Recorder) Used() Embedded {
	r.mu.Lock()
	defer r.mu.Unlock()
	return maps.Clone(r.used)
}
