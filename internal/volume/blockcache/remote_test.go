// SPDX-License-Identifier: Apache-2.0

package blockcache_test

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"net/http"
	"sync"
	"testing"
	"time"

	"cofferdam.dev/internal/volume/blob"
	"cofferdam.dev/internal/volume/blobtest"
	"cofferdam.dev/internal/volume/blockcache"
)

const (
	webPath  = "/http/object"
	pagePath = "/account/container/page"
)

// remote starts a server with an object of a size, and opens it, to be written if it is a page blob.
func remote(t testing.TB, path string, size int, o blockcache.Options) (*blobtest.Server, *blockcache.Cache) {
	t.Helper()
	s := blobtest.New()
	t.Cleanup(s.Close)
	url, kind := s.URL+path, ""
	if path == pagePath {
		url, kind = "azure+"+url, "PageBlob"
	}
	s.Put(path, kind, pattern(size))
	client := blob.NewHTTPClient(nil)
	t.Cleanup(client.CloseIdleConnections)
	src, err := blob.Open(t.Context(), url, blob.Options{Write: kind != "", HTTP: client, Retry: quick(time.Minute)})
	if err != nil {
		t.Fatal(err)
	}
	return s, open(t, src, o)
}

// TestStorm reads and writes through a server that answers a third of the requests wrongly, in every way but those that end
// a volume. What is read is right, and what was flushed is there.
func TestStorm(t *testing.T) {
	t.Parallel()
	const size = 512 << 10
	s, c := remote(t, pagePath, size, small)
	faults := []blobtest.Fault{
		{Data: blobtest.Truncated}, {Data: blobtest.Cut}, {Data: blobtest.Longer}, {Data: blobtest.Shifted}, {Data: blobtest.NoContentRange}, {Data: blobtest.Encoded},
		{Kind: blobtest.Reset}, {Kind: blobtest.ApplyReset}, {Kind: blobtest.Late}, {Kind: blobtest.Apply, Status: 500},
		{Kind: blobtest.Refuse, Status: 429, RetryAfter: "0"}, {Kind: blobtest.Refuse, Status: 503},
	}
	var mu sync.Mutex
	r := rand.New(rand.NewPCG(5, 6))
	s.Misbehave(func(req *http.Request) blobtest.Fault {
		mu.Lock()
		defer mu.Unlock()
		if req.Header.Get("X-Ms-Lease-Action") != "" || r.IntN(3) != 0 {
			return blobtest.Fault{}
		}
		return faults[r.IntN(len(faults))]
	})
	model := pattern(size)
	mine := rand.New(rand.NewPCG(7, 8))
	for i := range 120 {
		off := mine.IntN(size - 9000)
		p := make([]byte, 1+mine.IntN(9000))
		if i%2 == 0 {
			for j := range p {
				p[j] = byte(i + j)
			}
			if err := c.WriteAt(t.Context(), p, int64(off)); err != nil {
				t.Fatal(err)
			}
			copy(model[off:], p)
		} else if _, err := c.ReadAt(t.Context(), p, int64(off)); err != nil || !bytes.Equal(p, model[off:off+len(p)]) {
			t.Fatalf("reading %d bytes at %d returned something else: %v", len(p), off, err)
		}
		if i%15 == 14 {
			if err := c.Flush(t.Context()); err != nil {
				t.Fatal(err)
			}
			s.Deliver() // writes that were given up arrive only now
			if !bytes.Equal(s.Content(pagePath), model) {
				t.Fatal("after a flush the storage has something else")
			}
		}
	}
	s.Misbehave(nil)
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestOtherVersionEnds changes what is being read.
func TestOtherVersionEnds(t *testing.T) {
	t.Parallel()
	s, c := remote(t, webPath, 1<<20, small)
	p := make([]byte, 100)
	if _, err := c.ReadAt(t.Context(), p, 0); err != nil {
		t.Fatal(err)
	}
	s.Put(webPath, "", bytes.Repeat([]byte("x"), 1<<20))
	for _, off := range []int64{512 << 10, 0} { // what is not in memory, and then what is
		if _, err := c.ReadAt(t.Context(), p, off); !errors.Is(err, blob.ErrFenced) {
			t.Errorf("reading at %d after a change: %v", off, err)
		}
	}
	if !errors.Is(c.Err(), blob.ErrFenced) || !c.Stats().Fenced {
		t.Errorf("the cache says %v, %+v", c.Err(), c.Stats())
	}
}

// TestStaleAnswer has a server send old content under the version that was pinned. Nothing in the protocol shows that; what
// was written through the cache is read from memory, and the rest is for the volume's format to notice.
func TestStaleAnswer(t *testing.T) {
	t.Parallel()
	s, c := remote(t, pagePath, 64<<10, small)
	if err := errors.Join(c.WriteAt(t.Context(), []byte("new"), 4096), c.Flush(t.Context())); err != nil {
		t.Fatal(err)
	}
	s.Misbehave(blobtest.Always(blobtest.Fault{Data: blobtest.Stale}, http.MethodGet))
	p := make([]byte, 3)
	if _, err := c.ReadAt(t.Context(), p, 4096); err != nil || string(p) != "new" {
		t.Errorf("what was written reads as %q, %v", p, err)
	}
}

// TestStolenLease has somebody else take the blob between a write and its flush.
func TestStolenLease(t *testing.T) {
	t.Parallel()
	o := small
	o.Delay = time.Hour
	s, c := remote(t, pagePath, 64<<10, o)
	if err := c.WriteAt(t.Context(), []byte("mine"), 0); err != nil {
		t.Fatal(err)
	}
	s.StealLease(pagePath)
	before := s.Content(pagePath)
	for range 2 {
		if err := c.Flush(t.Context()); !errors.Is(err, blob.ErrFenced) || errors.Is(err, blockcache.ErrStorage) {
			t.Errorf("flushing without the lease: %v", err)
		}
	}
	if _, err := c.ReadAt(t.Context(), make([]byte, 1), 0); !errors.Is(err, blob.ErrFenced) {
		t.Errorf("reading without the lease: %v", err)
	}
	if !bytes.Equal(s.Content(pagePath), before) {
		t.Error("the other writer's blob was changed")
	}
}

// TestOutage has the storage be away for longer than the deadline, and come back.
func TestOutage(t *testing.T) {
	t.Parallel()
	o := small
	o.Retry = quick(300 * time.Millisecond)
	s, c := remote(t, pagePath, 256<<10, o)
	for _, f := range []blobtest.Fault{{Kind: blobtest.Hang}, {Kind: blobtest.Reset}, {Kind: blobtest.Refuse, Status: 503, RetryAfter: "3600"}, {Data: blobtest.Slow}} {
		s.Misbehave(blobtest.Always(f, http.MethodGet, http.MethodPut))
		begun := time.Now()
		p := make([]byte, 200<<10)
		_, err := c.ReadAt(t.Context(), p, 4096)
		if !errors.Is(err, blockcache.ErrStorage) || time.Since(begun) > time.Minute {
			t.Errorf("%v: reading: %v after %v", f, err, time.Since(begun))
		}
		s.Misbehave(nil)
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		for _, err = c.ReadAt(ctx, p, 4096); err != nil && ctx.Err() == nil; _, err = c.ReadAt(ctx, p, 4096) {
			time.Sleep(time.Millisecond) // a request that began during the outage may still fail
		}
		cancel()
		if err != nil || !bytes.Equal(p, pattern(256 << 10)[4096:4096+len(p)]) {
			t.Errorf("%v: after the outage: %v", f, err)
		}
	}
}
