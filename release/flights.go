// SPDX-License-Identifier: Apache-2.0

package release

import (
	"context"
	"errors"
	"sync"
)

// flights has one caller do what several want at the same time; the others wait, and share what came out, be it an error:
// when a server is down, nobody waits for more than one turn.
type flights[T any] struct {
	mu      sync.Mutex
	running map[string]*flight[T]
}

// flight is what is being done.
type flight[T any] struct {
	done chan struct{}
	out  T
	err  error
}

// do calls f for the key, or waits for who does. Own tells whether f was called here. When who called it gave up, and that
// is all that is wrong, one of those who wait calls it next.
func (g *flights[T]) do(ctx context.Context, key string, f func() (T, error)) (out T, own bool, err error) {
	for {
		g.mu.Lock()
		one, ok := g.running[key]
		if !ok {
			one = &flight[T]{done: make(chan struct{})}
			if g.running == nil {
				g.running = map[string]*flight[T]{}
			}
			g.running[key] = one
			g.mu.Unlock()
			g.lead(key, one, f)
			return one.out, true, one.err
		}
		g.mu.Unlock()
		select {
		case <-one.done:
		case <-ctx.Done():
			return out, false, ctx.Err()
		}
		if !errors.Is(one.err, context.Canceled) && !errors.Is(one.err, context.DeadlineExceeded) || ctx.Err() != nil {
			return one.out, false, one.err
		}
	}
}

// lead calls f, and lets the others go on whatever happens.
func (g *flights[T]) lead(key string, one *flight[T], f func() (T, error)) {
	one.err = errors.New("the call did not return") // should f panic
	defer func() {
		g.mu.Lock()
		delete(g.running, key)
		g.mu.Unlock()
		close(one.done)
	}()
	one.out, one.err = f()
}
