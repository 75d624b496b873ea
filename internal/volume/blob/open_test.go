// SPDX-License-Identifier: Apache-2.0

package blob_test

import (
	"bytes"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
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
	"time"

	"cofferdam.dev/internal/volume/blob"
	"cofferdam.dev/internal/volume/blob/azure"
	"cofferdam.dev/internal/volume/blob/s3"
	"cofferdam.dev/internal/volume/blobtest"
	"cofferdam.dev/release"
)

func TestRedact(t *testing.T) {
	t.Parallel()
	for raw, want := range map[string]string{
		"/a/file":        "/a/file",
		"file:///a/file": "/a/file",
		"https://acct.blob.core.windows.net/c/b?sv=1&sig=hush": "https://acct.blob.core.windows.net/c/b",
		"azure+http://127.0.0.1:10000/a/c/b?sig=hush":          "http://127.0.0.1:10000/a/c/b",
		"s3://bucket/key":                     "https://s3.us-east-1.amazonaws.com/bucket/key",
		"s3+https://host/b/k?X-Amz-Sign=hush": "https://host/b/k",
		"https://user:hush@host/x":            "an unreadable URL",
		"gopher://hush":                       "an unreadable URL",
		"file://host/hush":                    "an unreadable URL",
		"":                                    "an unreadable URL",
	} {
		if got := blob.Redact(raw); got != want {
			t.Errorf("%q: %q, want %q", raw, got, want)
		}
		if s, err := blob.Open(t.Context(), raw, blob.Options{HTTP: nowhere(), Retry: blob.Backoff{Deadline: time.Millisecond}}); err == nil || s != nil || strings.Contains(err.Error(), "hush") && !strings.HasPrefix(raw, "/") {
			t.Errorf("%q: opened, or %v", raw, err)
		}
	}
}

// nowhere returns a client that reaches nothing, and says so with the URL in its error.
func nowhere() *http.Client { return &http.Client{Transport: unreachable{}} }

type unreachable struct{}

func (unreachable) RoundTrip(*http.Request) (*http.Response, error) {
	return nil, errors.New("unreachable")
}

// TestCredentialsStayHome keeps credentials from going over plain HTTP to other machines, before anything is sent.
func TestCredentialsStayHome(t *testing.T) {
	t.Parallel()
	key, err := azure.NewSharedKey("account", blob.NewSecret("a2V5"))
	if err != nil {
		t.Fatal(err)
	}
	token := func(context.Context) (release.AccessToken, error) { return release.AccessToken{Value: secretText}, nil }
	keys := s3.Keys{ID: "id", Secret: blob.NewSecret(secretText)}
	for _, c := range []struct {
		name, url string
		options   blob.Options
		sent      bool
	}{
		{"nothing secret", "http://192.0.2.1/c/b", blob.Options{}, true},
		{"signature", "azure+http://192.0.2.1/c/b?sig=hush", blob.Options{}, false},
		{"key", "azure+http://192.0.2.1/c/b", blob.Options{AccountKey: key}, false},
		{"token", "azure+http://192.0.2.1/c/b", blob.Options{Token: token}, false},
		{"S3 keys", "s3+http://192.0.2.1/b/k", blob.Options{S3: keys}, false},
		{"S3 signature", "s3+http://192.0.2.1/b/k?X-Amz-Signature=hush", blob.Options{}, false},
		{"parameters", "http://192.0.2.1/b?token=hush", blob.Options{}, false},
		{"signature for https only", "azure+http://127.0.0.1/c/b?spr=https&sig=hush", blob.Options{}, false},
		{"as asked for", "azure+http://192.0.2.1/c/b", blob.Options{AccountKey: key, InsecurePlainHTTP: true}, true},
		{"to this machine", "s3+http://127.0.0.1/b/k", blob.Options{S3: keys}, true},
		{"over TLS", "azure+https://192.0.2.1/c/b", blob.Options{Token: token}, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			sent := false
			c.options.Retry.Deadline = time.Millisecond
			c.options.HTTP = &http.Client{Transport: counting{&sent}}
			if _, err := blob.Open(t.Context(), c.url, c.options); err == nil || sent != c.sent || !c.sent && !errors.Is(err, blob.ErrDenied) {
				t.Errorf("sent: %t, want %t; %v", sent, c.sent, err)
			}
		})
	}
}

type counting struct{ sent *bool }

func (c counting) RoundTrip(*http.Request) (*http.Response, error) {
	*c.sent = true
	return nil, errors.New("unreachable")
}

// TestManagedIdentity reads with tokens of a metadata service, and gets another when one is not taken any more.
func TestManagedIdentity(t *testing.T) {
	t.Parallel()
	var issued atomic.Int64
	metadata := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Metadata") != "true" || r.URL.Query().Get("resource") != azure.Resource {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		_, _ = fmt.Fprintf(w, `{"access_token":"%s%d","expires_in":"3600"}`, secretText, issued.Add(1))
	}))
	t.Cleanup(metadata.Close)
	var mu sync.Mutex
	var authorizations []string
	s := server(t)
	s.Put("/account/container/page", "PageBlob", pattern(4096))
	s.Misbehave(func(r *http.Request) blobtest.Fault {
		mu.Lock()
		defer mu.Unlock()
		authorizations = append(authorizations, r.Header.Get("Authorization"))
		if len(authorizations) == 3 {
			return blobtest.Fault{Kind: blobtest.Refuse, Status: http.StatusUnauthorized}
		}
		return blobtest.Fault{}
	})
	identity := &release.ManagedIdentity{URL: metadata.URL, HTTP: metadata.Client()}
	src, err := blob.Open(t.Context(), "azure+"+s.URL+"/account/container/page", blob.Options{Token: azure.Identity(identity), Retry: quick, HTTP: client(t)})
	if err != nil {
		t.Fatal(err)
	}
	p := make([]byte, 100)
	if _, err := src.ReadAt(t.Context(), p, 0); err != nil {
		t.Fatal(err)
	}
	_, err = src.ReadAt(t.Context(), p, 0)
	if !errors.Is(err, blob.ErrDenied) || strings.Contains(err.Error(), secretText) {
		t.Errorf("with a token that is not taken: %v", err)
	}
	if _, err := src.ReadAt(t.Context(), p, 0); err != nil {
		t.Errorf("with the next one: %v", err)
	}
	mu.Lock()
	defer mu.Unlock()
	want := "Bearer " + secretText
	if n := len(authorizations); n != 4 || authorizations[0] != want+"1" || authorizations[2] != want+"1" || authorizations[3] != want+"2" {
		t.Errorf("%d requests with %q", n, authorizations)
	}
}

func TestFile(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "volume")
	if err := os.WriteFile(path, pattern(10000), 0o600); err != nil {
		t.Fatal(err)
	}
	w, err := blob.OpenWritable(t.Context(), "file://"+path, blob.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := blob.OpenWritable(t.Context(), path, blob.Options{}); !errors.Is(err, blob.ErrBusy) {
		t.Errorf("a second writer: %v", err)
	}
	r, err := blob.Open(t.Context(), path, blob.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(w.WriteAt(t.Context(), []byte("hello"), 100), w.Flush(t.Context())); err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(io.NewSectionReader(blob.ReaderAt(t.Context(), r), 0, 20000))
	want := pattern(10000)
	copy(want[100:], "hello")
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("read %d bytes, %v", len(got), err)
	}
	for _, off := range []int64{-1, 9998, 1 << 62} {
		if w.WriteAt(t.Context(), []byte("xyz"), off) == nil {
			t.Errorf("wrote at %d", off)
		}
		if _, err := r.ReadAt(t.Context(), make([]byte, 3), off); err == nil {
			t.Errorf("read at %d", off)
		}
	}
	if err := os.Truncate(path, 5000); err != nil {
		t.Fatal(err)
	}
	if n, err := r.ReadAt(t.Context(), make([]byte, 100), 4950); n != 0 || !errors.Is(err, blob.ErrFenced) {
		t.Errorf("reading what was cut off: %d, %v", n, err)
	}
	if err := errors.Join(r.Close(), w.Close()); err != nil {
		t.Fatal(err)
	}
	again, err := blob.OpenWritable(t.Context(), path, blob.Options{})
	if err != nil {
		t.Fatalf("after the first writer has closed: %v", err)
	}
	_ = again.Close() // was only opened
	for _, bad := range []string{t.TempDir(), path + "x", "/dev/null"} {
		if _, err := blob.Open(t.Context(), bad, blob.Options{}); err == nil {
			t.Errorf("%s was opened", bad)
		}
	}
}

// TestStrangers refuses a server that nobody vouches for, at once.
func TestStrangers(t *testing.T) {
	t.Parallel()
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNotFound) }))
	s.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError) // it would say that clients go away
	s.StartTLS()
	t.Cleanup(s.Close)
	retried := false
	o := blob.Options{HTTP: client(t), Retry: blob.Backoff{Deadline: time.Hour, Retried: func(error) { retried = true }}}
	if _, err := blob.Open(t.Context(), s.URL+"/x?token="+secretText, o); err == nil || retried || strings.Contains(err.Error(), secretText) {
		t.Errorf("a server without a certificate that is trusted: retried: %t, %v", retried, err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(s.Certificate())
	o.HTTP = blob.NewHTTPClient(roots)
	t.Cleanup(o.HTTP.CloseIdleConnections)
	if _, err := blob.Open(t.Context(), s.URL+"/x", o); !errors.Is(err, blob.ErrNotFound) {
		t.Errorf("one that is trusted: %v", err)
	}
}
