// SPDX-License-Identifier: Apache-2.0

package blob_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"cofferdam.dev/internal/volume/blob"
	"cofferdam.dev/internal/volume/blob/azure"
	"cofferdam.dev/internal/volume/blobtest"
)

// sharedKey is the credential for an emulator's account.
func sharedKey(t testing.TB, a *blobtest.Azurite) blob.Options {
	t.Helper()
	key, err := azure.NewSharedKey(a.Account, blob.NewSecret(a.Key))
	if err != nil {
		t.Fatal(err)
	}
	return blob.Options{AccountKey: key}
}

// sample is a file of a size with much zero in it, and its content.
func sample(t testing.TB, size int) (path string, content []byte) {
	t.Helper()
	content = make([]byte, size)
	r := rand.NewChaCha8([32]byte{1})
	for at := 0; at < size; at += 1 << 20 {
		_, _ = r.Read(content[at:min(at+300<<10, size)]) // never fails
	}
	path = filepath.Join(t.TempDir(), "sample")
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	return path, content
}

func readWhole(t testing.TB, s blob.Source) []byte {
	t.Helper()
	p := make([]byte, s.Size())
	for off := 0; off < len(p); off += 1 << 20 {
		if _, err := s.ReadAt(t.Context(), p[off:min(off+1<<20, len(p))], int64(off)); err != nil {
			t.Fatal(err)
		}
	}
	return p
}

// TestAzurite uploads, reads and writes at an independent server, with every kind of credential that it knows.
func TestAzurite(t *testing.T) {
	if testing.Short() {
		t.Skip("starts another program")
	}
	a := blobtest.StartAzurite(t)
	keyed := sharedKey(t, a)
	const size = 20<<20 + 512
	path, content := sample(t, size)
	for _, c := range []struct {
		name, to, from string
		page           bool
		options        blob.Options
	}{
		{"block blob, key", "/private/b k+%C3%A9/one", "/private/b k+%C3%A9/one", false, keyed},
		{"page blob, key", "/private/page", "/private/page", true, keyed},
		{"block blob, anonymous reader", "/public/block", "/public/block", false, blob.Options{}},
		{"page blob, anonymous reader", "/public/page", "/public/page", true, blob.Options{}},
		{"page blob, signature", "/private/signed", "/private/signed?" + a.SAS("private", "r", time.Now().Add(time.Hour)), true, blob.Options{}},
	} {
		t.Run(c.name, func(t *testing.T) {
			err := blob.Upload(t.Context(), path, a.URL+c.to, blob.UploadOptions{Options: keyed, PageBlob: c.page})
			if err != nil {
				t.Fatal(err)
			}
			s, err := blob.Open(t.Context(), a.URL+c.from, c.options)
			if err != nil {
				t.Fatal(err)
			}
			if s.Size() != size || !bytes.Equal(readWhole(t, s), content) {
				t.Errorf("%d bytes were read, and are not the %d that were uploaded", s.Size(), size)
			}
			if err := blob.Upload(t.Context(), path, a.URL+c.to, blob.UploadOptions{Options: keyed, PageBlob: c.page}); !errors.Is(err, blob.ErrExists) {
				t.Errorf("the second upload to the same place: %v", err)
			}
			if err := blob.Upload(t.Context(), path, a.URL+c.to, blob.UploadOptions{Options: keyed, PageBlob: c.page, Overwrite: true}); err != nil {
				t.Errorf("the second upload, which overwrites: %v", err)
			}
			if _, err := s.ReadAt(t.Context(), make([]byte, 10), 0); !errors.Is(err, blob.ErrFenced) {
				t.Errorf("reading after the blob was replaced: %v", err)
			}
		})
	}
	t.Run("refusals", func(t *testing.T) { azuriteRefusals(t, a, keyed) })
	t.Run("writing", func(t *testing.T) { azuriteWriting(t, a, keyed, content) })
	t.Run("late write", func(t *testing.T) { azuriteLateWrite(t, a, keyed) })
}

// lossy loses the answer to the first write of pages, and keeps the write.
type lossy struct {
	http.RoundTripper
	kept *http.Request
}

func (l *lossy) RoundTrip(r *http.Request) (*http.Response, error) {
	if l.kept != nil || r.URL.Query().Get("comp") != "page" {
		return l.RoundTripper.RoundTrip(r)
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	l.kept = r.Clone(context.Background())
	l.kept.Body = io.NopCloser(bytes.NewReader(body))
	return nil, errors.New("the answer was lost")
}

// azuriteLateWrite has a write arrive that was given up, after newer ones.
func azuriteLateWrite(t *testing.T, a *blobtest.Azurite, o blob.Options) {
	l := &lossy{RoundTripper: client(t).Transport}
	o.HTTP, o.Write = &http.Client{Transport: l}, true
	w, err := blob.OpenWritable(t.Context(), a.URL+"/private/page", o)
	if err != nil {
		t.Fatal(err)
	}
	if err := w.WriteAt(t.Context(), page('a'), 0); !blob.Temporary(err) {
		t.Fatalf("a write without an answer: %v", err)
	}
	if err := w.WriteAt(t.Context(), page('b'), 0); err != nil {
		t.Fatal(err)
	}
	resp, err := l.RoundTripper.RoundTrip(l.kept)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close() // the status says it all
	if resp.StatusCode != http.StatusPreconditionFailed {
		t.Errorf("the late write was answered with %s", resp.Status)
	}
	p := page(0)
	if _, err := w.ReadAt(t.Context(), p, 0); err != nil || !bytes.Equal(p, page('b')) {
		t.Errorf("after the late write: %q, %v", p[:8], err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
}

func azuriteRefusals(t *testing.T, a *blobtest.Azurite, keyed blob.Options) {
	sas := a.SAS("private", "r", time.Now().Add(time.Hour))
	bad := strings.Replace(sas, "sig=", "sig=A", 1)
	ended := a.SAS("private", "r", time.Now().Add(-time.Hour))
	other := keyed
	var err error
	other.AccountKey, err = azure.NewSharedKey(a.Account, blob.NewSecret("b3RoZXI="))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, url string
		options   blob.Options
		want      error
		text      string
	}{
		{"anonymous reader of a private blob", "/private/page", blob.Options{}, nil, ""}, // hidden or denied, as the service likes
		{"changed signature", "/private/page?" + bad, blob.Options{}, blob.ErrDenied, "good until"},
		{"signature that has ended", "/private/page?" + ended, blob.Options{}, blob.ErrDenied, "good until"},
		{"another key", "/private/page", other, blob.ErrDenied, ""},
		{"no such blob", "/private/nothing", keyed, blob.ErrNotFound, ""},
		{"writing by a signature to read", "/private/page?" + sas, blob.Options{Write: true}, blob.ErrDenied, "does not permit to write"},
		{"writing a block blob", "/public/block", blob.Options{Write: true, AccountKey: keyed.AccountKey}, blob.ErrRefused, "only page blobs"},
		{"two credentials", "/private/page?" + sas, keyed, nil, "give one"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, err := blob.Open(t.Context(), a.URL+c.url, c.options)
			if err == nil || s != nil {
				t.Fatal("it was opened")
			}
			if c.want != nil && !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.text) {
				t.Errorf("error is %v, want %v and %q", err, c.want, c.text)
			}
			if strings.Contains(err.Error(), "sig=") || strings.Contains(err.Error(), a.Key) {
				t.Errorf("the error has the credential: %v", err)
			}
		})
	}
}

func azuriteWriting(t *testing.T, a *blobtest.Azurite, keyed blob.Options, content []byte) {
	keyed.Write = true
	w, err := blob.OpenWritable(t.Context(), a.URL+"/private/page", keyed)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := blob.OpenWritable(t.Context(), a.URL+"/private/page", keyed); !errors.Is(err, blob.ErrBusy) {
		t.Errorf("a second writer: %v", err)
	}
	big := bytes.Repeat([]byte("cofferdam, "), 512*1000)
	if err := w.WriteAt(t.Context(), big, 1<<20); err != nil {
		t.Fatal(err)
	}
	copy(content[1<<20:], big)
	if err := errors.Join(w.Flush(t.Context()), w.WriteAt(t.Context(), big[:512], 0)); err != nil {
		t.Fatal(err)
	}
	copy(content, big[:512])
	if !bytes.Equal(readWhole(t, w), content) {
		t.Error("what was read is not what was written")
	}
	if err := w.WriteAt(t.Context(), big[:100], 0); err == nil {
		t.Error("a part of a page was written")
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	again, err := blob.OpenWritable(t.Context(), a.URL+"/private/page", keyed)
	if err != nil {
		t.Fatalf("opening after the first writer has closed: %v", err)
	}
	if !bytes.Equal(readWhole(t, again), content) {
		t.Error("the next writer reads something else")
	}
	if err := again.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := again.ReadAt(context.Background(), make([]byte, 512), 0); err == nil {
		t.Error("read under a lease that was given back")
	}
}
