// SPDX-License-Identifier: Apache-2.0

package workload

import (
	"context"
	"errors"
	"io"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"cofferdam.dev/attest"
	"cofferdam.dev/internal/evidencewire"
)

// idleSocket is a socket without a listener.
func idleSocket(report Report) *socket {
	ctx, cancel := context.WithCancel(context.Background())
	return &socket{report: report, turn: make(chan struct{}, 1), ended: ctx, end: cancel}
}

// connect gives the socket a connection and returns its other end, and a channel that is closed when it was handled.
func connect(s *socket) (net.Conn, <-chan struct{}) {
	ours, theirs := net.Pipe()
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.handle(theirs)
	}()
	return ours, done
}

// TestNobodyHoldsAConnectionForLong runs on a clock of its own: who sends nothing, half a request, or takes no answer is
// gone when the time is up.
func TestNobodyHoldsAConnectionForLong(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		send  string
		after time.Duration
	}{
		"nothing":   {"", requestTime},
		"half":      {`{"nonce":`, requestTime},
		"no taking": {request, answerTime},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				s := idleSocket(report)
				defer s.end()
				conn, done := connect(s)
				if _, err := io.WriteString(conn, c.send); err != nil {
					t.Fatal(err)
				}
				began := time.Now()
				<-done
				if took := time.Since(began); took != c.after {
					t.Errorf("it was held for %v, want %v", took, c.after)
				}
				_ = conn.Close()
			})
		})
	}
}

// TestBusy has a container's report take too long for its next request.
func TestBusy(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		s := idleSocket(func(ctx context.Context, data [64]byte) (*attest.Result, error) {
			<-release
			return report(ctx, data)
		})
		defer s.end()
		first, firstDone := connect(s)
		_, _ = io.WriteString(first, request)
		synctest.Wait() // it has the turn
		second, secondDone := connect(s)
		_, _ = io.WriteString(second, request)
		answer, err := io.ReadAll(second)
		if err != nil {
			t.Fatal(err)
		}
		var e *evidencewire.Error
		if _, err = evidencewire.ParseDocument(answer); !errors.As(err, &e) || e.Code != evidencewire.CodeBusy {
			t.Errorf("the second request gets %v, want %s", err, evidencewire.CodeBusy)
		}
		close(release)
		answer, err = io.ReadAll(first)
		if err != nil {
			t.Fatal(err)
		}
		if _, err = evidencewire.ParseDocument(answer); err != nil {
			t.Errorf("the first request gets %v", err)
		}
		<-firstDone
		<-secondDone
		_, _ = first.Close(), second.Close()
	})
}

// TestCloseDoesNotWaitForTheProcessor ends a socket whose report never comes: who waits for a turn is let go.
func TestCloseDoesNotWaitForTheProcessor(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		s := idleSocket(func(context.Context, [64]byte) (*attest.Result, error) {
			<-release
			return nil, errors.New("late")
		})
		first, firstDone := connect(s)
		_, _ = io.WriteString(first, request)
		synctest.Wait()
		second, secondDone := connect(s)
		_, _ = io.WriteString(second, request)
		synctest.Wait()
		s.end()
		<-secondDone
		for _, conn := range []net.Conn{first, second} {
			if b, _ := io.ReadAll(conn); len(b) != 0 {
				t.Errorf("after the end it gets %q", b)
			}
		}
		close(release)
		<-firstDone
	})
}
