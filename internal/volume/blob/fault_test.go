// SPDX-License-Identifier: Apache-2.0

package blob_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"cofferdam.dev/internal/testcap"
	"cofferdam.dev/internal/volume/blob"
	"cofferdam.dev/internal/volume/blobtest"
)

func TestMain(m *testing.M) { os.Exit(testcap.NoLeaks(m)) }

// secretText is in every URL and credential of these tests, and in no error.
const secretText = "hush-hush"

// place is an object at a server, and how it is opened.
type place struct {
	name, path, kind, scheme, query string
	write                           bool
}

var places = []place{
	{name: "http", path: "/http/object", query: "?token=" + secretText},
	{name: "azure block blob", path: "/account/container/block", kind: "BlockBlob", scheme: "azure+", query: "?sig=" + secretText},
	{name: "azure page blob", path: "/account/container/page", kind: "PageBlob", scheme: "azure+", query: "?sig=" + secretText},
	{name: "azure page blob to write", path: "/account/container/written", kind: "PageBlob", scheme: "azure+", query: "?sig=" + secretText, write: true},
	{name: "s3", path: "/bucket/key", scheme: "s3+", query: "?X-Amz-Signature=" + secretText},
}

func (p place) url(s *blobtest.Server) string { return p.scheme + s.URL + p.path + p.query }

// quick is how tests try again.
var quick = blob.Backoff{Deadline: time.Minute, FirstPause: time.Millisecond, MaxPause: 2 * time.Millisecond}

// client returns a client whose connections end with the test.
func client(t testing.TB) *http.Client {
	c := blob.NewHTTPClient(nil)
	t.Cleanup(c.CloseIdleConnections)
	return c
}

func server(t testing.TB) *blobtest.Server {
	s := blobtest.New()
	t.Cleanup(s.Close)
	return s
}

func pattern(n int) []byte {
	p := make([]byte, n)
	for i := range p {
		p[i] = byte(i>>9) ^ byte(i*7)
	}
	return p
}

func openAt(t *testing.T, s *blobtest.Server, p place) blob.Source {
	t.Helper()
	src, err := blob.Open(t.Context(), p.url(s), blob.Options{Write: p.write, Retry: quick, HTTP: client(t)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = src.Close() }) // what is wrong with that is tested elsewhere
	return src
}

// TestWrongAnswers has one answer be wrong in each way: it is never used, and the next is.
func TestWrongAnswers(t *testing.T) {
	t.Parallel()
	refused := func(status int) blobtest.Fault { return blobtest.Fault{Kind: blobtest.Refuse, Status: status} }
	data := func(d blobtest.Data) blobtest.Fault { return blobtest.Fault{Data: d} }
	for _, c := range []struct {
		name      string
		fault     blobtest.Fault
		temporary bool
		is        error
		unpinned  bool // whoever holds a lease does not ask for a version
	}{
		{"truncated", data(blobtest.Truncated), true, nil, false},
		{"cut", data(blobtest.Cut), true, nil, false},
		{"longer", data(blobtest.Longer), true, nil, false},
		{"other bytes", data(blobtest.Shifted), true, nil, false},
		{"no Content-Range", data(blobtest.NoContentRange), true, nil, false},
		{"compressed", data(blobtest.Encoded), true, nil, false},
		{"other size", data(blobtest.OtherSize), false, blob.ErrFenced, false},
		{"other version", data(blobtest.OtherVersion), false, blob.ErrFenced, true},
		{"everything", data(blobtest.IgnoreRange), false, blob.ErrRefused, false},
		{"reset", blobtest.Fault{Kind: blobtest.Reset}, true, nil, false},
		{"429", refused(429), true, nil, false},
		{"500", refused(500), true, nil, false},
		{"503", refused(503), true, nil, false},
		{"403", refused(403), false, blob.ErrDenied, false},
		{"404", refused(404), false, blob.ErrNotFound, false},
		{"302", refused(302), false, blob.ErrRefused, false},
		{"200 without content", refused(200), false, blob.ErrRefused, false},
	} {
		for _, p := range places {
			if p.write && c.unpinned {
				continue
			}
			t.Run(p.name+"/"+c.name, func(t *testing.T) {
				t.Parallel()
				s := server(t)
				want := pattern(64 << 10)
				s.Put(p.path, p.kind, want)
				src := openAt(t, s, p)
				s.Misbehave(blobtest.First(1, c.fault, http.MethodGet))
				got := make([]byte, 5000)
				n, err := src.ReadAt(t.Context(), got, 1000)
				if c.fault.Kind == blobtest.Reset && err == nil && bytes.Equal(got, want[1000:6000]) {
					return // net/http itself asks again when a connection that it used before is cut
				}
				if err == nil || n != 0 {
					t.Fatalf("the answer was used: %d bytes", n)
				}
				if blob.Temporary(err) != c.temporary || c.is != nil && !errors.Is(err, c.is) {
					t.Errorf("error is %v (temporary: %t), want temporary: %t, %v", err, blob.Temporary(err), c.temporary, c.is)
				}
				if text := fmt.Sprintf("%v %+v %#v", err, err, err); strings.Contains(text, secretText) || strings.Contains(text, "secret details") {
					t.Errorf("the error has what is secret: %s", text)
				}
				if _, err = src.ReadAt(t.Context(), got, 1000); err != nil || !bytes.Equal(got, want[1000:6000]) {
					t.Errorf("the next answer: %v", err)
				}
			})
		}
	}
}

// TestSlowAnswer ends with the deadline of the request.
func TestSlowAnswer(t *testing.T) {
	t.Parallel()
	for _, f := range []blobtest.Fault{{Data: blobtest.Slow}, {Kind: blobtest.Hang}} {
		s := server(t)
		s.Put("/http/object", "", pattern(64<<10))
		src := openAt(t, s, places[0])
		s.Misbehave(blobtest.Always(f, http.MethodGet))
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		begun := time.Now()
		_, err := src.ReadAt(ctx, make([]byte, 64<<10), 0) // takes an hour at that pace
		cancel()
		if !errors.Is(err, context.DeadlineExceeded) || !blob.Temporary(err) || time.Since(begun) > time.Minute {
			t.Errorf("%v: after %v: %v", f, time.Since(begun), err)
		}
	}
}

// TestVersions pins what is read: a change by someone else ends it.
func TestVersions(t *testing.T) {
	t.Parallel()
	for _, p := range places {
		if p.write {
			continue
		}
		for _, weak := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/weak=%t", p.name, weak), func(t *testing.T) {
				t.Parallel()
				s := server(t)
				s.Put(p.path, p.kind, pattern(4096))
				s.Change(p.path, func(o *blobtest.Object) { o.Weak = weak })
				src := openAt(t, s, p)
				identity := src.Identity()
				s.Put(p.path, p.kind, bytes.Repeat([]byte("x"), 4096))
				if _, err := src.ReadAt(t.Context(), make([]byte, 100), 0); !errors.Is(err, blob.ErrFenced) || blob.Temporary(err) {
					t.Errorf("reading after a change: %v", err)
				}
				again := openAt(t, s, p)
				if _, err := again.ReadAt(t.Context(), make([]byte, 100), 0); err != nil || again.Identity() == identity {
					t.Errorf("opened again: %v, %s after %s", err, again.Identity(), identity)
				}
			})
		}
	}
}

// TestOpening tries again while a server is busy, and refuses what can not be a volume.
func TestOpening(t *testing.T) {
	t.Parallel()
	for _, p := range places {
		t.Run(p.name, func(t *testing.T) {
			t.Parallel()
			s := server(t)
			if _, err := blob.Open(t.Context(), p.url(s), blob.Options{Write: p.write, Retry: quick, HTTP: client(t)}); !errors.Is(err, blob.ErrNotFound) {
				t.Errorf("nothing there: %v", err)
			}
			s.Put(p.path, p.kind, nil)
			if _, err := blob.Open(t.Context(), p.url(s), blob.Options{Write: p.write, Retry: quick, HTTP: client(t)}); !errors.Is(err, blob.ErrRefused) {
				t.Errorf("an empty object: %v", err)
			}
			s.Put(p.path, p.kind, pattern(4096))
			s.Misbehave(blobtest.Always(blobtest.Fault{Data: blobtest.IgnoreRange}, http.MethodGet))
			if _, err := blob.Open(t.Context(), p.url(s), blob.Options{Write: p.write, Retry: quick, HTTP: client(t)}); !errors.Is(err, blob.ErrRefused) {
				t.Errorf("a server that ignores ranges: %v", err)
			}
			s.Misbehave(blobtest.First(3, blobtest.Fault{Kind: blobtest.Refuse, Status: 503, RetryAfter: "0"}, http.MethodGet))
			if src := openAt(t, s, p); src.Size() != 4096 {
				t.Errorf("after a busy time: %d bytes", src.Size())
			}
		})
	}
}
