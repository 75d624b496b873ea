// SPDX-License-Identifier: Apache-2.0

package serve_test

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"cofferdam.dev/internal/serve"
)

// TestReadinessIsLoggedOnce has a client ask until the service is ready, as whoever waits for it does: that it is not, and
// that it is, is in the log once each, whatever the number of questions.
func TestReadinessIsLoggedOnce(t *testing.T) {
	t.Parallel()
	var asked atomic.Int64
	ready := func(context.Context) error {
		if asked.Add(1) < 3 {
			return errors.New("the key is not made yet")
		}
		return nil
	}
	srv, log, _ := run(t, serve.Options{Name: "waited-for", Address: "127.0.0.1:0", Handler: http.NotFoundHandler(), Ready: ready})
	questions := 0
	for limit := time.Now().Add(time.Minute); ; questions++ {
		status, _, _ := do(t, http.MethodGet, "http://"+srv.Addr()+"/readyz", "")
		if status == http.StatusOK {
			break
		}
		if status != http.StatusServiceUnavailable || time.Now().After(limit) {
			t.Fatalf("the answer is %d after %d questions", status, questions)
		}
	}
	if questions < 2 {
		t.Errorf("it was ready after %d questions", questions)
	}
	text := log.String()
	for line, want := range map[string]int{"not ready": 1, "msg=ready": 1, "readyz": 0} {
		if got := strings.Count(text, line); got != want {
			t.Errorf("%q is in the log %d times, want %d:\n%s", line, got, want, text)
		}
	}
}
