// SPDX-License-Identifier: Apache-2.0

package rest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"cofferdam.dev/attest"
	"cofferdam.dev/evidence"
	"cofferdam.dev/internal/attestsvc"
	"cofferdam.dev/internal/store"
	"cofferdam.dev/internal/store/boltstore"
)

// failing is a store that can be out of reach.
type failing struct {
	store.Store

	down atomic.Bool
}

var errDown = fmt.Errorf("dialling 10.1.2.3: %w", store.ErrUnavailable)

// View implements store.Store.
func (s *failing) View(ctx context.Context, fn func(store.Reader) error) error {
	if s.down.Load() {
		return errDown
	}
	return s.Store.View(ctx, fn)
}

// Update implements store.Store.
func (s *failing) Update(ctx context.Context, fn func(store.Tx) error) error {
	if s.down.Load() {
		return errDown
	}
	return s.Store.Update(ctx, fn)
}

// TestStoreDown has nothing answered from a store that is out of reach, and clients told that they may try again.
func TestStoreDown(t *testing.T) {
	t.Parallel()
	bolt, err := boltstore.Open(filepath.Join(t.TempDir(), "store"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := bolt.Close(); err != nil {
			t.Error(err)
		}
	})
	st := &failing{Store: bolt}
	f := newFixtureOver(t, st, nil)
	a, _ := twoSigners(t)
	st.down.Store(true)
	for path, c := range map[string]struct {
		method string
		body   any
	}{
		attestSNP: {http.MethodPost, theWorld(t).body(t, runtimeJSON)}, "/certs": {http.MethodGet, nil}, "/policies/TdxVm" + version: {http.MethodGet, nil},
		snpPolicy: {http.MethodPut, policyToken(permitAll)}, snpReset: {http.MethodPost, ""}, certificate: {http.MethodGet, nil},
		"/certificates:add" + version: {http.MethodPost, a.vouch(t, a)},
	} {
		got := f.do(t, c.method, path, adminToken, c.body)
		if e := got.failure(t); got.status != http.StatusServiceUnavailable || e.Code != codeUnavailable || got.header.Get("Retry-After") == "" ||
			strings.Contains(string(got.body), "10.1.2.3") {
			t.Errorf("%s %s: %d %s", c.method, path, got.status, got.body)
		}
	}
	st.down.Store(false)
	f.do(t, http.MethodPost, attestSNP, "", theWorld(t).body(t, runtimeJSON)).token(t)
}

// TestAuditDown has nothing signed that nobody can record.
func TestAuditDown(t *testing.T) {
	t.Parallel()
	f := newFixture(t, nil)
	if err := f.opts.Audit.Close(); err != nil {
		t.Fatal(err)
	}
	for _, body := range []map[string]any{theWorld(t).body(t, runtimeJSON), mixed(theWorld(t).body(t, runtimeJSON), "initTimeData", map[string]string{"data": "AAAA", "dataType": "JSON"})} {
		if got := f.do(t, http.MethodPost, attestSNP, "", body); got.status != http.StatusServiceUnavailable {
			t.Errorf("%d %s", got.status, got.body)
		}
	}
	if got := f.do(t, http.MethodPut, snpPolicy, adminToken, policyToken(permitAll)); got.status != http.StatusServiceUnavailable {
		t.Errorf("a policy: %d %s", got.status, got.body)
	}
}

// broken is a device that gives no reports.
type broken struct{}

// Kind implements attest.Provider.
func (broken) Kind() string { return "broken" }

// Report implements attest.Provider.
func (broken) Report(context.Context, [64]byte) (*attest.Result, error) {
	return nil, errors.New("ioctl on /dev/sev-guest")
}

// TestDeviceDown has the operator's log say what the client is not told.
func TestDeviceDown(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer
	f := newFixture(t, func(_ *attestsvc.Options, o *Options) {
		o.Self, o.Log = attester{broken{}}, slog.New(slog.NewTextHandler(&log, nil))
	})
	got := f.do(t, http.MethodGet, "/attest/self?nonce=AAAAAAAAAAAAAAAA", "", nil)
	if e := got.failure(t); got.status != http.StatusInternalServerError || strings.Contains(e.Message, "ioctl") || !strings.Contains(log.String(), "ioctl") {
		t.Errorf("%d %s; the log is %q", got.status, got.body, log.String())
	}
}

// attester makes evidence of what a provider reports.
type attester struct{ attest.Provider }

// Evidence implements Attester.
func (a attester) Evidence(ctx context.Context, nonce, runtimeData []byte) (*evidence.Document, error) {
	res, err := a.Report(ctx, evidence.ReportData(evidence.SourceWorkload, nonce, runtimeData))
	if err != nil {
		return nil, err
	}
	return res.Document(evidence.SourceWorkload, nonce, runtimeData)
}

// stuck is a device that does not answer.
type stuck struct{ free chan struct{} }

// Evidence implements Attester.
func (s stuck) Evidence(ctx context.Context, _, _ []byte) (*evidence.Document, error) {
	select {
	case <-s.free:
	case <-ctx.Done():
	}
	return nil, errors.New("no evidence")
}

// TestDeviceStuck has no crowd wait for the device: the places are for those who want evidence appraised.
func TestDeviceStuck(t *testing.T) {
	t.Parallel()
	s := stuck{make(chan struct{})}
	f := newFixture(t, func(_ *attestsvc.Options, o *Options) { o.Self = s })
	const self = "/attest/self?nonce=AAAAAAAAAAAAAAAA"
	h, ok := f.Handler.(*Handler)
	if !ok {
		t.Fatalf("the handler is a %T", f.Handler)
	}
	var asked sync.WaitGroup
	for _, full := range []chan struct{}{h.reporting, h.waiting} { // the device is at the first, and the second waits
		asked.Go(func() { f.do(t, http.MethodGet, self, "", nil) })
		for len(full) == 0 {
			time.Sleep(time.Millisecond)
		}
	}
	for range selfWaiting - 1 { // as others do
		h.waiting <- struct{}{}
	}
	const crowd = 20
	begin := time.Now()
	for range crowd {
		if got := f.do(t, http.MethodGet, self, "", nil); got.status != http.StatusServiceUnavailable {
			t.Errorf("one more than may wait: %d %s", got.status, got.body)
		}
	}
	if took := time.Since(begin); took > crowd*selfWait/2 { // each would take selfWait if it waited
		t.Errorf("to refuse %d took %s", crowd, took)
	}
	f.do(t, http.MethodPost, attestSNP, "", theWorld(t).body(t, runtimeJSON)).token(t)
	close(s.free)
	asked.Wait()
}
