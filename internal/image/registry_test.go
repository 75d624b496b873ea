// SPDX-License-Identifier: Apache-2.0

package image

import (
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	"github.com/google/go-containerregistry/pkg/v1/remote"
)

// server is a registry that counts and may tamper.
type server struct {
	host   string
	blobs  atomic.Int64
	tamper func(w http.ResponseWriter, r *http.Request) bool // answers instead if it returns true
	mu     sync.Mutex
}

func newServer(t *testing.T) *server {
	t.Helper()
	s := &server{}
	inner := registry.New(registry.Logger(slog.NewLogLogger(slog.DiscardHandler, slog.LevelInfo)))
	h := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodGet && strings.Contains(r.URL.Path, "/blobs/") {
			s.blobs.Add(1)
		}
		s.mu.Lock()
		tamper := s.tamper
		s.mu.Unlock()
		if tamper != nil && tamper(w, r) {
			return
		}
		inner.ServeHTTP(w, r)
	}))
	t.Cleanup(h.Close)
	s.host = strings.TrimPrefix(h.URL, "http://")
	return s
}

func (s *server) setTamper(f func(w http.ResponseWriter, r *http.Request) bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tamper = f
}

func TestRegistry(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	index, img := multiPlatform()
	for _, tag := range []string{"1", "2"} {
		err := remote.WriteIndex(must(name.ParseReference(s.host+"/app:"+tag)), index)
		if err != nil {
			t.Fatal(err)
		}
	}
	o := Options{Dir: filepath.Join(t.TempDir(), "images"), PlainHTTP: true}
	s.blobs.Store(0)
	check(t, s.host+"/app:1", o, "ours", img)
	if n := s.blobs.Load(); n != 3 {
		t.Errorf("%d blobs were pulled, want 3", n)
	}
	check(t, s.host+"/app:1", o, "ours", img)
	check(t, s.host+"/app:2", o, "ours", img)
	byDigest := s.host + "/app@" + must(img.Digest()).String()
	check(t, byDigest, o, "ours", img)
	if n := s.blobs.Load(); n != 3 {
		t.Errorf("%d blobs were pulled in all, want 3", n)
	}
	check(t, "oci:"+o.Dir+":"+s.host+"/app:2", Options{}, "ours", img)
	t.Run("offline", func(t *testing.T) {
		s.setTamper(func(w http.ResponseWriter, _ *http.Request) bool {
			http.Error(w, "off", http.StatusTeapot)
			return true
		})
		defer s.setTamper(nil)
		offline := o
		offline.Offline = true
		check(t, s.host+"/app:1", offline, "ours", img)
		check(t, byDigest, o, "ours", img) // needs no question either
		_, err := Open(t.Context(), s.host+"/app:3", offline)
		if !errors.Is(err, ErrNotFound) {
			t.Errorf("error is %v, want one that wraps %v", err, ErrNotFound)
		}
		_, err = Open(t.Context(), s.host+"/app:1", o)
		if err == nil {
			t.Error("a registry that fails was passed over in silence")
		}
	})
	t.Run("unknown tag", func(t *testing.T) {
		_, err := Open(t.Context(), s.host+"/app:3", o)
		if !errors.Is(err, ErrNotFound) || !strings.Contains(err.Error(), `the repository has the tags: "1", "2"`) {
			t.Errorf("error is %v, want one that names the tags", err)
		}
	})
	t.Run("log in", func(t *testing.T) {
		s.setTamper(func(w http.ResponseWriter, _ *http.Request) bool {
			http.Error(w, `{"errors":[{"code":"UNAUTHORIZED"}]}`, http.StatusUnauthorized)
			return true
		})
		defer s.setTamper(nil)
		_, err := Open(t.Context(), s.host+"/app:1", o)
		if err == nil || !strings.Contains(err.Error(), "docker login "+s.host) {
			t.Errorf("error is %v, want one that says how to log in", err)
		}
	})
}

// TestRegistryParallel pulls the same image several times at once into one cache.
func TestRegistryParallel(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	img := testImage("x", ours)
	err := remote.Write(must(name.ParseReference(s.host+"/app:1")), img)
	if err != nil {
		t.Fatal(err)
	}
	o := Options{Dir: t.TempDir(), PlainHTTP: true}
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			_, err := Open(t.Context(), s.host+"/app:1", o)
			if err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	check(t, s.host+"/app:1", o, "x", img)
	left := must(os.ReadDir(filepath.Join(o.Dir, "tmp")))
	if len(left) > 0 {
		t.Errorf("%d temporary files are left", len(left))
	}
}

// TestLyingRegistry serves other bytes than the digests say.
func TestLyingRegistry(t *testing.T) {
	t.Parallel()
	answer := func(part, body string) func(http.ResponseWriter, *http.Request) bool {
		return func(w http.ResponseWriter, r *http.Request) bool {
			if r.Method != http.MethodGet || !strings.Contains(r.URL.Path, part) {
				return false
			}
			_, _ = io.WriteString(w, body) // the client may hang up
			return true
		}
	}
	img := testImage("x", ours)
	layer := must(must(img.Layers())[0].Digest()).String()
	tests := []struct {
		name   string
		tamper func(http.ResponseWriter, *http.Request) bool
	}{
		{"layer", answer(layer, "other")},
		{"endless layer", answer(layer, strings.Repeat("x", 1<<20))},
		{"configuration", answer(must(img.ConfigName()).String(), "{}")},
		{"manifest by digest", answer("/manifests/sha256:", `{"schemaVersion":2}`)},
		{"huge manifest", answer("/manifests/", strings.Repeat(" ", maxManifest+1))},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := newServer(t)
			err := remote.Write(must(name.ParseReference(s.host+"/app:1")), img)
			if err != nil {
				t.Fatal(err)
			}
			s.setTamper(tt.tamper)
			o := Options{Dir: t.TempDir(), PlainHTTP: true}
			_, err = Open(t.Context(), s.host+"/app@"+must(img.Digest()).String(), o)
			if err == nil {
				t.Fatal("the lie was believed")
			}
			s.setTamper(nil)
			check(t, s.host+"/app:1", o, "x", img)
		})
	}
}

func TestProgress(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	img := testImage("x", ours)
	err := remote.Write(must(name.ParseReference(s.host+"/app:1")), img)
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	done := map[string]bool{}
	_, err = Open(t.Context(), s.host+"/app:1", Options{Dir: t.TempDir(), PlainHTTP: true, Progress: func(digest string, n, total int64) {
		mu.Lock()
		defer mu.Unlock()
		done[digest] = n == total
	}})
	if err != nil {
		t.Fatal(err)
	}
	if len(done) != 3 {
		t.Errorf("%d blobs were reported, want 3", len(done))
	}
	for digest, complete := range done {
		if !complete {
			t.Errorf("blob %s was not reported as complete", digest)
		}
	}
}
