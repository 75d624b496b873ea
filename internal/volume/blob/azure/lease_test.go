// SPDX-License-Identifier: Apache-2.0

package azure

import (
	"context"
	"errors"
	"net/http"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"cofferdam.dev/internal/testcap"
	"cofferdam.dev/internal/volume/blob/wire"
	"cofferdam.dev/internal/volume/blobtest"
)

func TestMain(m *testing.M) { os.Exit(testcap.NoLeaks(m)) }

const path = "/account/container/blob"

// begin starts a server with a blob, and takes its lease, which is renewed far more often than those of a service are.
func begin(t *testing.T) (*blobtest.Server, *lease) {
	t.Helper()
	s := blobtest.New()
	t.Cleanup(s.Close)
	s.Put(path, "PageBlob", make([]byte, 4096))
	at, err := wire.ParseLocation(s.URL + path)
	if err != nil {
		t.Fatal(err)
	}
	client := wire.NewHTTPClient(nil)
	t.Cleanup(client.CloseIdleConnections)
	e, err := Access{HTTP: client}.dial(at, true)
	if err != nil {
		t.Fatal(err)
	}
	l := &lease{e: e, id: newID(), duration: 30 * time.Second, lost: make(chan struct{}), done: make(chan struct{})}
	if err := l.take(t.Context(), 0); err != nil {
		t.Fatal(err)
	}
	l.duration = 300 * time.Millisecond
	ctx, stop := context.WithCancel(t.Context())
	l.stop = stop
	go l.keep(ctx)
	t.Cleanup(func() { stop(); <-l.done })
	return s, l
}

func renewals(s *blobtest.Server) (n int) {
	for _, r := range s.Requests() {
		if strings.HasSuffix(r, "renew") {
			n++
		}
	}
	return n
}

// TestLeaseIsRenewed keeps the lease through a time when the server is busy.
func TestLeaseIsRenewed(t *testing.T) {
	t.Parallel()
	s, l := begin(t)
	for until := 3; until <= 9; until += 3 {
		for renewals(s) < until {
			time.Sleep(time.Millisecond)
		}
		busy := until%2 != 0
		s.Misbehave(func(*http.Request) blobtest.Fault {
			if busy {
				return blobtest.Fault{Kind: blobtest.Refuse, Status: http.StatusServiceUnavailable}
			}
			return blobtest.Fault{}
		})
	}
	s.Misbehave(nil)
	if err := l.check(); err != nil {
		t.Errorf("the lease is lost: %v", err)
	}
	if err := l.release(t.Context()); err != nil {
		t.Errorf("giving it back: %v", err)
	}
}

// TestLossIsNoticed learns of the loss of the lease without being asked for anything.
func TestLossIsNoticed(t *testing.T) {
	t.Parallel()
	s, l := begin(t)
	s.StealLease(path)
	<-l.lost // the test's own deadline bounds it
	if err := l.check(); !errors.Is(err, wire.ErrFenced) {
		t.Errorf("the loss is %v", err)
	}
	if err := l.release(t.Context()); err != nil {
		t.Errorf("giving back what is lost: %v", err)
	}
	if n := len(s.Requests()); strings.HasSuffix(s.Requests()[n-1], "release") {
		t.Error("another's lease was released")
	}
}

// TestLeaseWait takes a lease when the writer before has gone.
func TestLeaseWait(t *testing.T) {
	t.Parallel()
	s, l := begin(t)
	l.stop()
	<-l.done
	other := &lease{e: l.e, id: newID(), duration: 30 * time.Second}
	if err := other.take(t.Context(), 0); !errors.Is(err, wire.ErrBusy) {
		t.Fatalf("without waiting: %v", err)
	}
	time.AfterFunc(50*time.Millisecond, func() { s.EndLease(path) })
	if err := other.take(t.Context(), time.Hour); err != nil {
		t.Errorf("after waiting: %v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	third := &lease{e: l.e, id: newID(), duration: 30 * time.Second}
	if err := third.take(ctx, time.Hour); err == nil {
		t.Error("two leases at a time")
	}
	for _, d := range []time.Duration{time.Second, time.Minute + 1, -1} {
		if _, err := (Access{Lease: d}).acquire(t.Context(), l.e); err == nil {
			t.Errorf("a lease of %v was taken", d)
		}
	}
}

func TestNewID(t *testing.T) {
	t.Parallel()
	form := regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`)
	if a, b := newID(), newID(); a == b || !form.MatchString(a) {
		t.Errorf("IDs are %s and %s", a, b)
	}
}
