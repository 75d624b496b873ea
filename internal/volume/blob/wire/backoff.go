// SPDX-License-Identifier: Apache-2.0

package wire

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"cofferdam.dev/internal/retry"
)

// What a Backoff does unless it is told otherwise.
const (
	// DefaultAttempt bounds one request with its answer.
	DefaultAttempt = 15 * time.Second
	// DefaultDeadline bounds all attempts together, with the pauses.
	DefaultDeadline = 60 * time.Second
	// DefaultFirstPause is the mean pause after the first attempt. It doubles with each further one.
	DefaultFirstPause = 100 * time.Millisecond
	// DefaultMaxPause bounds the mean pause.
	DefaultMaxPause = 5 * time.Second
)

// ErrDeadline says that a request got no good answer before its deadline.
var ErrDeadline = errors.New("storage gave no good answer in time")

// Backoff is how something is tried again that failed for now. Its zero value has the defaults.
type Backoff struct {
	// Attempt, Deadline, FirstPause and MaxPause replace the defaults when they are not zero.
	Attempt, Deadline, FirstPause, MaxPause time.Duration
	// Sleep is a pause that ends early with its context, and Jitter a random duration below the given one. Tests replace
	// them; nil means the real ones.
	Sleep  func(context.Context, time.Duration) error
	Jitter func(time.Duration) time.Duration
	// Retried, if it is set, is told of each attempt that failed and is followed by another.
	Retried func(error)
}

// Do calls try until it succeeds, fails for good, or the deadline comes: then the error wraps ErrDeadline and the last one.
// The error of a caller who gives up wraps the cause of that.
func (b Backoff) Do(ctx context.Context, try func(context.Context) error) error {
	whole, cancel := context.WithTimeout(ctx, cmp.Or(b.Deadline, DefaultDeadline))
	defer cancel()
	for attempt := 0; ; attempt++ {
		err := b.once(whole, try)
		if err == nil || !Temporary(err) {
			return b.ended(ctx, whole, err)
		}
		pause := b.pause(attempt, err)
		if end, ok := whole.Deadline(); ok && time.Now().Add(pause).After(end) {
			return fmt.Errorf("%w: %w", ErrDeadline, err) // waiting could not help
		}
		if b.Retried != nil {
			b.Retried(err)
		}
		if b.sleep(whole, pause) != nil {
			return b.ended(ctx, whole, err)
		}
	}
}

func (b Backoff) once(ctx context.Context, try func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, cmp.Or(b.Attempt, DefaultAttempt))
	defer cancel()
	return try(ctx)
}

// ended names who ended the attempts: the caller or the deadline.
func (b Backoff) ended(ctx, whole context.Context, err error) error {
	switch {
	case err == nil || !Temporary(err):
		return err
	case ctx.Err() != nil:
		return fmt.Errorf("%w: %w", context.Cause(ctx), err)
	case whole.Err() != nil:
		return fmt.Errorf("%w: %w", ErrDeadline, err)
	}
	return err
}

func (b Backoff) pause(attempt int, err error) time.Duration {
	mean := min(cmp.Or(b.FirstPause, DefaultFirstPause)<<min(attempt, 16), cmp.Or(b.MaxPause, DefaultMaxPause))
	asked := time.Duration(0)
	if e, ok := errors.AsType[*Error](err); ok {
		asked = e.Wait
	}
	return retry.Pause(mean, asked, b.Jitter)
}

func (b Backoff) sleep(ctx context.Context, d time.Duration) error {
	if b.Sleep != nil {
		return b.Sleep(ctx, d)
	}
	return retry.Sleep(ctx, d)
}
