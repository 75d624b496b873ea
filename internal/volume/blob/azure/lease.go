// SPDX-License-Identifier: Apache-2.0

package azure

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"cofferdam.dev/internal/volume/blob/wire"
)

const (
	// maxLease and minLease bound how long a lease lasts without being renewed; the service allows nothing else.
	maxLease, minLease = 60 * time.Second, 15 * time.Second
	// leasePoll is how often Open asks for a lease that another has.
	leasePoll = time.Second
)

// lease is the exclusive right to write a blob. While it is held, a goroutine renews it.
type lease struct {
	e        *endpoint
	id       string
	duration time.Duration
	lost     chan struct{}
	once     sync.Once
	cause    error // valid when lost is closed
	stop     context.CancelFunc
	done     chan struct{}
}

// acquire takes the lease of a blob.
func (a Access) acquire(ctx context.Context, e *endpoint) (*lease, error) {
	duration := a.Lease
	if duration == 0 {
		duration = maxLease
	}
	if duration < minLease || duration > maxLease {
		return nil, fmt.Errorf("a lease of %v is not one of 15 to 60 seconds", duration)
	}
	l := &lease{e: e, id: newID(), duration: duration, lost: make(chan struct{}), done: make(chan struct{})}
	err := l.take(ctx, a.LeaseWait)
	if err != nil {
		return nil, err
	}
	renewing, stop := context.WithCancel(context.WithoutCancel(ctx))
	l.stop = stop
	go l.keep(renewing)
	return l, nil
}

// take asks for the lease until it is free or the wait is over. Asking twice is harmless: the ID is ours.
func (l *lease) take(ctx context.Context, wait time.Duration) error {
	until := time.Now().Add(wait)
	for {
		err := l.e.doAgain(ctx, l.request("acquire", http.Header{
			"X-Ms-Lease-Duration": {strconv.Itoa(int(l.duration / time.Second))}, "X-Ms-Proposed-Lease-Id": {l.id},
		}, http.StatusCreated, http.StatusOK))
		refusal, ok := errors.AsType[*wire.Error](err)
		if !ok || refusal.Status != http.StatusConflict {
			return err
		}
		refusal.Err = wire.ErrBusy
		if time.Now().Add(leasePoll).After(until) {
			return err
		}
		select {
		case <-time.After(leasePoll):
		case <-ctx.Done():
			return fmt.Errorf("%w: %w", context.Cause(ctx), err)
		}
	}
}

func (l *lease) request(action string, more http.Header, want ...int) *wire.Request {
	h := http.Header{"X-Ms-Lease-Action": {action}}
	for name, values := range more {
		h[name] = values
	}
	return &wire.Request{
		Doing: action + " of the lease", Method: http.MethodPut, Query: url.Values{"comp": {"lease"}}, Header: h, Want: want,
	}
}

// keep renews the lease until it is stopped, or lost.
func (l *lease) keep(ctx context.Context) {
	defer close(l.done)
	tick := time.NewTicker(l.duration / 3)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-l.lost:
			return
		case <-ctx.Done():
			return
		}
		_ = l.renew(ctx) // what is lost is known by then; a server that is away may come back before the lease ends
	}
}

// renew extends the lease. The service also renews one that has ended, as long as nobody has changed or leased the blob
// since. If it refuses, the lease is lost for ever.
func (l *lease) renew(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, l.duration/3)
	defer cancel()
	_, err := l.e.do(ctx, l.request("renew", http.Header{"X-Ms-Lease-Id": {l.id}}, http.StatusOK))
	if refusal, ok := errors.AsType[*wire.Error](err); ok {
		switch refusal.Status {
		case http.StatusConflict, http.StatusPreconditionFailed, http.StatusNotFound:
			l.lose(fmt.Errorf("%w: %w", wire.ErrFenced, err))
		}
	}
	return err
}

// lose ends the lease for ever.
func (l *lease) lose(cause error) {
	l.once.Do(func() {
		l.cause = cause
		close(l.lost)
	})
}

// check fails once the lease is lost.
func (l *lease) check() error {
	select {
	case <-l.lost:
		return l.cause
	default:
		return nil
	}
}

// judge makes an error of a request that named the lease. If the service does not know the lease, that is asked about: a
// lease that ended unnoticed is renewed, and the request can be made again.
func (l *lease) judge(ctx context.Context, err error) error {
	refusal, ok := errors.AsType[*wire.Error](err)
	if !ok || refusal.Status != http.StatusPreconditionFailed && refusal.Status != http.StatusConflict {
		return err
	}
	if refusal.Code != "" && !strings.Contains(refusal.Code, "Lease") {
		return err // about something else
	}
	if renewErr := l.renew(ctx); renewErr != nil {
		if lost := l.check(); lost != nil {
			return lost
		}
		refusal.Temporary, refusal.Err = true, renewErr
		return err
	}
	refusal.Temporary, refusal.Err = true, errors.New("the lease had ended, and was renewed")
	return err
}

// release ends the renewing, and gives the lease back.
func (l *lease) release(ctx context.Context) error {
	l.stop()
	<-l.done
	if l.check() != nil {
		return nil // it is not ours to give back
	}
	err := l.e.doAgain(ctx, l.request("release", http.Header{"X-Ms-Lease-Id": {l.id}}, http.StatusOK))
	return err
}

// newID returns a random GUID (RFC 9562, 5.4), which a lease's ID must be.
func newID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}
