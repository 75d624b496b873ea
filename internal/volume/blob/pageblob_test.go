// SPDX-License-Identifier: Apache-2.0

package blob_test

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"testing"

	"cofferdam.dev/internal/volume/blob"
	"cofferdam.dev/internal/volume/blobtest"
)

var written = places[3]

func openWritten(t *testing.T, s *blobtest.Server, size int) blob.Writable {
	t.Helper()
	s.Put(written.path, written.kind, make([]byte, size))
	return openAt(t, s, written).(blob.Writable)
}

func page(b byte) []byte { return bytes.Repeat([]byte{b}, 512) }

// TestLateWrite gives up a write that then arrives after a newer one: it must not undo it.
func TestLateWrite(t *testing.T) {
	t.Parallel()
	s := server(t)
	w := openWritten(t, s, 4096)
	s.Misbehave(blobtest.First(1, blobtest.Fault{Kind: blobtest.Late}, http.MethodPut))
	if err := w.WriteAt(t.Context(), page('a'), 512); !blob.Temporary(err) {
		t.Fatalf("a write without an answer: %v", err)
	}
	for _, b := range []byte("ab") { // again, and then something newer
		if err := w.WriteAt(t.Context(), page(b), 512); err != nil {
			t.Fatal(err)
		}
	}
	if n, status := s.Deliver(); n != 1 || status != http.StatusPreconditionFailed {
		t.Errorf("%d late writes, the last answered with %d", n, status)
	}
	if got := s.Content(written.path)[512]; got != 'b' {
		t.Errorf("the storage has %q", got)
	}
	if err := w.WriteAt(t.Context(), page('c'), 0); err != nil {
		t.Errorf("the next write: %v", err)
	}
}

// TestLateWriteAfterFlush gives up a write and flushes: it must not arrive after that either.
func TestLateWriteAfterFlush(t *testing.T) {
	t.Parallel()
	s := server(t)
	w := openWritten(t, s, 4096)
	s.Misbehave(blobtest.First(1, blobtest.Fault{Kind: blobtest.Late}, http.MethodPut))
	if err := w.WriteAt(t.Context(), page('a'), 0); !blob.Temporary(err) {
		t.Fatalf("a write without an answer: %v", err)
	}
	if err := w.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n, status := s.Deliver(); n != 1 || status != http.StatusPreconditionFailed {
		t.Errorf("%d late writes, the last answered with %d", n, status)
	}
}

// TestDoubtIsSettled has each request fail once, after it took effect or not, those that settle doubts too.
func TestDoubtIsSettled(t *testing.T) {
	t.Parallel()
	for _, f := range []blobtest.Fault{
		{Kind: blobtest.Reset}, {Kind: blobtest.ApplyReset}, {Kind: blobtest.Apply, Status: 500}, {Kind: blobtest.Refuse, Status: 503}, {Kind: blobtest.Late},
	} {
		s := server(t)
		w := openWritten(t, s, 4096)
		for round := range 4 {
			s.Misbehave(blobtest.First(2, f, http.MethodPut))
			b := byte('a' + round)
			err := quick.Do(t.Context(), func(ctx context.Context) error { return w.WriteAt(ctx, page(b), 1024) })
			if err != nil {
				t.Fatalf("%v: %v", f, err)
			}
			s.Deliver()
			if got := s.Content(written.path)[1024]; got != b {
				t.Errorf("%v: the storage has %q, not %q", f, got, b)
			}
		}
	}
}

// TestLeases fences two writers from each other.
func TestLeases(t *testing.T) {
	t.Parallel()
	s := server(t)
	w := openWritten(t, s, 4096)
	if _, err := blob.Open(t.Context(), written.url(s), blob.Options{Write: true, Retry: quick, HTTP: client(t)}); !errors.Is(err, blob.ErrBusy) {
		t.Errorf("a second writer: %v", err)
	}

	// A lease that ended unnoticed is renewed, and the request is made again by whoever tries again.
	s.EndLease(written.path)
	err := w.WriteAt(t.Context(), page('a'), 0)
	if !blob.Temporary(err) {
		t.Fatalf("the first write after the lease ended: %v", err)
	}
	if err := w.WriteAt(t.Context(), page('a'), 0); err != nil {
		t.Fatalf("the second: %v", err)
	}

	// One that somebody else has by now is lost for ever.
	s.StealLease(written.path)
	before := s.Content(written.path)
	for range 2 {
		if err := w.WriteAt(t.Context(), page('b'), 0); !errors.Is(err, blob.ErrFenced) || blob.Temporary(err) {
			t.Errorf("writing without the lease: %v", err)
		}
	}
	if _, err := w.ReadAt(t.Context(), page(0), 0); !errors.Is(err, blob.ErrFenced) {
		t.Errorf("reading without the lease: %v", err)
	}
	if err := w.Flush(t.Context()); !errors.Is(err, blob.ErrFenced) {
		t.Errorf("flushing without the lease: %v", err)
	}
	select {
	case <-w.(blob.Fencer).Lost():
	default:
		t.Error("nobody is told that the lease is lost")
	}
	if !bytes.Equal(s.Content(written.path), before) {
		t.Error("something was written without the lease")
	}
	asked := len(s.Requests())
	if err := w.WriteAt(t.Context(), page('b'), 0); err == nil || len(s.Requests()) != asked {
		t.Error("asked again after the lease was lost")
	}
}

// TestReaderLosesLease notices by a read alone.
func TestReaderLosesLease(t *testing.T) {
	t.Parallel()
	s := server(t)
	w := openWritten(t, s, 4096)
	s.StealLease(written.path)
	if n, err := w.ReadAt(t.Context(), page(0), 0); n != 0 || !errors.Is(err, blob.ErrFenced) {
		t.Errorf("reading without the lease: %d, %v", n, err)
	}
}

// TestCloseGivesBack lets the next writer in at once.
func TestCloseGivesBack(t *testing.T) {
	t.Parallel()
	s := server(t)
	for range 3 {
		w := openWritten(t, s, 4096)
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
	}
	s.Put("/account/container/block", "BlockBlob", pattern(4096))
	_, err := blob.Open(t.Context(), places[1].url(s), blob.Options{Write: true, Retry: quick, HTTP: client(t)})
	if !errors.Is(err, blob.ErrRefused) {
		t.Errorf("writing a block blob: %v", err)
	}
}
