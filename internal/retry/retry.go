// SPDX-License-Identifier: Apache-2.0

// Package retry has what clients need to come back to a server that is busy: how long it asks them to wait, how long they
// then do, and the wait. It decides neither whether to come back nor for how long altogether.
package retry

import (
	"context"
	"math/rand/v2"
	"net/http"
	"strconv"
	"time"
)

// After reads the header Retry-After: seconds or a date (RFC 9110, 10.2.3), in whole seconds. What it can not read counts as
// absent, and is zero.
func After(h http.Header, now time.Time) time.Duration {
	text := h.Get("Retry-After")
	if seconds, err := strconv.ParseUint(text, 10, 31); err == nil {
		return time.Duration(seconds) * time.Second
	}
	at, err := http.ParseTime(text)
	if err != nil {
		return 0
	}
	return max(0, at.Sub(now).Round(time.Second))
}

// Pause is how long to wait: what the server asked for, or half the mean if that is more, and a random time below the mean,
// so that those who were refused together do not come back together. Jitter gives a random duration below the given one;
// nil is the real one.
func Pause(mean, asked time.Duration, jitter func(time.Duration) time.Duration) time.Duration {
	if jitter == nil {
		jitter = rand.N[time.Duration] // spreads load; nothing secret depends on it
	}
	return max(asked, mean/2) + jitter(mean)
}

// Sleep waits, and returns the context's error as soon as it ends.
func Sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
