// SPDX-License-Identifier: Apache-2.0

package mount

import (
	"bytes"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"cofferdam.dev/internal/volume/attach"
	"cofferdam.dev/internal/volume/blob"
	"cofferdam.dev/internal/volume/blockcache"
	"cofferdam.dev/internal/volume/descriptor"
)

// TestStorageLoss takes the storage away below a mounted filesystem: reading ends in an error, not in a hang, and goes on
// when the storage is back.
func TestStorageLoss(t *testing.T) {
	t.Parallel()
	needs(t)
	i := newImage(t, descriptor.Shadow, 32<<20)
	i.format(t)
	dir := t.TempDir()
	v := i.open(t, true)
	m, err := Mount(t.Context(), v, dir, Options{Write: true})
	if err != nil {
		t.Fatal(err)
	}
	content := bytes.Repeat([]byte("the canary sings in the mine"), 200_000)
	err = os.WriteFile(filepath.Join(dir, "file"), content, 0o600)
	if err := errors.Join(err, m.Close(t.Context()), v.Close(t.Context())); err != nil {
		t.Fatal(err)
	}

	var gone atomic.Bool
	files := http.FileServer(http.Dir(filepath.Dir(i.path)))
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if gone.Load() {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		files.ServeHTTP(w, r)
	}))
	defer server.Close()
	src, err := attach.Storage(t.Context(), server.URL+"/image", blob.Options{}, blockcache.Options{Ahead: -1, Retry: blob.Backoff{Deadline: 8 * time.Second}})
	if err != nil {
		t.Fatal(err)
	}
	v, err = attach.Open(t.Context(), src, attach.Options{Descriptor: i.d, Key: i.key, Anchor: i.records})
	if err != nil {
		t.Fatal(err)
	}
	if m, err = Mount(t.Context(), v, dir, Options{}); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(filepath.Join(dir, "file"))
	if err != nil {
		t.Fatal(err)
	}
	gone.Store(true)
	p := make([]byte, 4096)
	at := int64(len(content) - len(p))
	if _, err := f.ReadAt(p, at); !errors.Is(err, unix.EIO) {
		t.Errorf("reading without storage: %v", err)
	}
	gone.Store(false)
	_, err = f.ReadAt(p, at)
	for begun := time.Now(); errors.Is(err, unix.EIO) && time.Since(begun) < time.Minute; _, err = f.ReadAt(p, at) {
		time.Sleep(10 * time.Millisecond) // a request that the kernel began during the loss may still fail
	}
	if err != nil || !bytes.Equal(p, content[at:]) {
		t.Errorf("reading when the storage is back: %v", err)
	}
	if err := errors.Join(f.Close(), m.Close(t.Context()), v.Close(t.Context())); err != nil {
		t.Fatal(err)
	}
}
