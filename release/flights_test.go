// SPDX-License-Identifier: Apache-2.0

package release

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// TestFlights has one of many do the work, and the next when that one gives up.
func TestFlights(t *testing.T) {
	t.Parallel()
	var g flights[int]
	begun, end := make(chan struct{}), make(chan struct{})
	leader, cancel := context.WithCancel(t.Context())
	first := make(chan error, 1)
	go func() {
		_, _, err := g.do(leader, "k", func() (int, error) {
			close(begun)
			<-leader.Done()
			return 0, leader.Err()
		})
		first <- err
	}()
	<-begun
	var calls, own atomic.Int32
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			out, mine, err := g.do(t.Context(), "k", func() (int, error) {
				calls.Add(1)
				<-end
				return 7, nil
			})
			if mine {
				own.Add(1)
			}
			if out != 7 || err != nil {
				t.Errorf("%d, %v", out, err)
			}
		})
	}
	impatient, stop := context.WithCancel(t.Context())
	stop()
	if _, _, err := g.do(impatient, "k", nil); !errors.Is(err, context.Canceled) {
		t.Errorf("who waits can not leave: %v", err)
	}
	cancel()
	if err := <-first; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	for calls.Load() == 0 {
		time.Sleep(time.Millisecond)
	}
	close(end)
	wg.Wait()
	if calls.Load() != own.Load() || calls.Load() > 16 || len(g.running) != 0 {
		t.Errorf("%d calls by %d, %d left", calls.Load(), own.Load(), len(g.running))
	}
	if out, mine, err := g.do(t.Context(), "k", func() (int, error) { return 1, nil }); out != 1 || !mine || err != nil {
		t.Errorf("%d, %v, %v", out, mine, err)
	}
}

// TestFlightPanics lets those who wait go on when the one who works falls over.
func TestFlightPanics(t *testing.T) {
	t.Parallel()
	var g flights[int]
	func() {
		defer func() { _ = recover() }()
		_, _, _ = g.do(t.Context(), "k", func() (int, error) { panic("x") })
	}()
	if len(g.running) != 0 {
		t.Error("it is still running")
	}
}

// TestOutage tells all that wait for the same of its refusal.
func TestOutage(t *testing.T) {
	t.Parallel()
	d := newDouble(t)
	var asked atomic.Int32
	waiting := make(chan struct{})
	d.intercept = func(w http.ResponseWriter, r *http.Request) bool {
		if !strings.HasPrefix(r.URL.Path, "/attest/") {
			return false
		}
		asked.Add(1)
		<-waiting
		w.WriteHeader(http.StatusBadRequest)
		return true
	}
	c := d.client(nil)
	var wg sync.WaitGroup
	for range 32 {
		wg.Go(func() {
			if _, err := c.Release(t.Context(), d.request("oct")); !errors.Is(err, ErrForbidden) {
				t.Error(err)
			}
		})
	}
	for asked.Load() == 0 {
		time.Sleep(time.Millisecond)
	}
	close(waiting)
	wg.Wait()
}
