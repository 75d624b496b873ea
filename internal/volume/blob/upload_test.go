// SPDX-License-Identifier: Apache-2.0

package blob_test

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"cofferdam.dev/internal/volume/blob"
	"cofferdam.dev/internal/volume/blobtest"
)

// targets are where files are uploaded to.
var targets = []struct {
	name string
	to   place
	page bool
}{
	{"block blob", places[1], false},
	{"page blob", places[2], true},
	{"s3", places[4], false},
}

const uploadSize = 40<<20 + 512

func uploadOptions(t *testing.T, page bool) blob.UploadOptions {
	return blob.UploadOptions{Options: blob.Options{Retry: quick, HTTP: client(t)}, PageBlob: page, Parallel: 3}
}

// TestUpload goes on where it was interrupted, through a server that fails every fifth request.
func TestUpload(t *testing.T) {
	t.Parallel()
	path, content := sample(t, uploadSize)
	for _, c := range targets {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := server(t)
			o := uploadOptions(t, c.page)
			o.State = filepath.Join(t.TempDir(), "state")
			url := c.to.url(s)

			// The first attempt is given up in its middle.
			ctx, cancel := context.WithCancel(t.Context())
			var reported int64
			o.Progress = func(done, total int64) {
				if total != uploadSize || done < reported {
					t.Errorf("progress went from %d to %d of %d", reported, done, total)
				}
				if reported = done; done > total/3 {
					cancel()
				}
			}
			err := blob.Upload(ctx, path, url, o)
			if !errors.Is(err, context.Canceled) {
				t.Fatalf("an upload that was given up: %v", err)
			}
			state, err := os.ReadFile(o.State)
			if err != nil || bytes.Contains(state, []byte(secretText)) {
				t.Fatalf("the state: %v, %s", err, state)
			}
			if _, err := blob.Open(t.Context(), url, o.Options); err == nil {
				t.Error("what is not complete was opened")
			}

			// The second goes on, and comes through.
			var count atomic.Int64
			s.Misbehave(func(r *http.Request) blobtest.Fault {
				if count.Add(1)%5 == 0 && r.Header.Get("X-Ms-Lease-Action") == "" {
					return blobtest.Fault{Kind: blobtest.ApplyReset}
				}
				return blobtest.Fault{}
			})
			reported, o.Progress = 0, func(done, _ int64) { reported = done }
			if err := blob.Upload(t.Context(), path, url, o); err != nil {
				t.Fatal(err)
			}
			if reported != uploadSize {
				t.Errorf("at the end %d bytes are reported", reported)
			}
			if _, err := os.Stat(o.State); err == nil {
				t.Error("the state is still there")
			}
			if !bytes.Equal(s.Content(c.to.path), content) {
				t.Error("the storage has something else than the file")
			}
		})
	}
}

// TestUploadSends counts what goes over the wire: the second attempt does not send again what is there, and no zeros go to a
// page blob.
func TestUploadSends(t *testing.T) {
	t.Parallel()
	path, content := sample(t, uploadSize)
	for _, c := range targets {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := server(t)
			var sent atomic.Int64
			s.Misbehave(func(r *http.Request) blobtest.Fault {
				sent.Add(max(0, r.ContentLength))
				return blobtest.Fault{}
			})
			o := uploadOptions(t, c.page)
			o.State = filepath.Join(t.TempDir(), "state")
			ctx, cancel := context.WithCancel(t.Context())
			o.Progress = func(done, total int64) {
				if done > total/3 {
					cancel()
				}
			}
			if err := blob.Upload(ctx, path, c.to.url(s), o); !errors.Is(err, context.Canceled) {
				t.Fatal(err)
			}
			o.Progress = nil
			if err := blob.Upload(t.Context(), path, c.to.url(s), o); err != nil {
				t.Fatal(err)
			}
			limit := int64(uploadSize) * 3 / 2 // pieces that were under way when the first was given up go twice
			if c.page {
				limit = uploadSize * 3 / 4 // half of it is zero
			}
			if sent.Load() > limit || !bytes.Equal(s.Content(c.to.path), content) {
				t.Errorf("%d bytes were sent for %d", sent.Load(), uploadSize)
			}
		})
	}
}

// TestUploadRefuses does not replace what is there, nor mix two files.
func TestUploadRefuses(t *testing.T) {
	t.Parallel()
	path, content := sample(t, 1<<20)
	for _, c := range targets {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := server(t)
			s.Put(c.to.path, c.to.kind, pattern(4096))
			o := uploadOptions(t, c.page)
			if err := blob.Upload(t.Context(), path, c.to.url(s), o); !errors.Is(err, blob.ErrExists) || strings.Contains(err.Error(), secretText) {
				t.Errorf("over something else: %v", err)
			}
			if !bytes.Equal(s.Content(c.to.path), pattern(4096)) {
				t.Error("what was there has changed")
			}
			o.Overwrite = true
			if err := blob.Upload(t.Context(), path, c.to.url(s), o); err != nil || !bytes.Equal(s.Content(c.to.path), content) {
				t.Errorf("over something else, as asked for: %v", err)
			}
		})
	}
	for _, c := range []struct{ name, path, url string }{
		{"to a web server", path, "http://127.0.0.1:1/x"},
		{"to a file", path, "/tmp/x"},
		{"no such file", path + "x", "azure+http://127.0.0.1:1/account/container/blob"},
	} {
		o := uploadOptions(t, false)
		o.Retry.Deadline = time.Second
		if err := blob.Upload(t.Context(), c.path, c.url, o); err == nil {
			t.Errorf("%s: uploaded", c.name)
		}
	}
}

// TestUploadOfOtherFile starts anew when the file is not the one that the state is about.
func TestUploadOfOtherFile(t *testing.T) {
	t.Parallel()
	path, _ := sample(t, uploadSize)
	s := server(t)
	o := uploadOptions(t, false)
	o.State = filepath.Join(t.TempDir(), "state")
	ctx, cancel := context.WithCancel(t.Context())
	o.Progress = func(int64, int64) { cancel() }
	if err := blob.Upload(ctx, path, places[1].url(s), o); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	other := bytes.Repeat([]byte("other"), uploadSize/5+1)[:uploadSize]
	if err := os.WriteFile(path, other, 0o600); err != nil {
		t.Fatal(err)
	}
	later := time.Now().Add(time.Hour)
	if err := os.Chtimes(path, later, later); err != nil {
		t.Fatal(err)
	}
	o.Progress = nil
	if err := blob.Upload(t.Context(), path, places[1].url(s), o); err != nil || !bytes.Equal(s.Content(places[1].path), other) {
		t.Errorf("uploaded: %v, %t", err, bytes.Equal(s.Content(places[1].path), other))
	}
}

// TestUploadOfChangingFile notices that the file is another one at the end.
func TestUploadOfChangingFile(t *testing.T) {
	t.Parallel()
	path, _ := sample(t, 1<<20)
	s := server(t)
	o := uploadOptions(t, false)
	o.Progress = func(int64, int64) {
		later := time.Now().Add(time.Hour)
		if err := os.Chtimes(path, later, later); err != nil {
			t.Error(err)
		}
	}
	if err := blob.Upload(t.Context(), path, places[1].url(s), o); err == nil || s.Content(places[1].path) != nil {
		t.Errorf("a file that changed was uploaded: %v", err)
	}
}

// TestUploadToSimpleServer comes through at a server that knows no conditions.
func TestUploadToSimpleServer(t *testing.T) {
	t.Parallel()
	path, content := sample(t, 1<<20)
	s := server(t)
	s.Misbehave(func(r *http.Request) blobtest.Fault {
		if r.Header.Get("If-None-Match") != "" {
			return blobtest.Fault{Kind: blobtest.Refuse, Status: http.StatusNotImplemented}
		}
		return blobtest.Fault{}
	})
	s3 := places[4]
	if err := blob.Upload(t.Context(), path, s3.url(s), uploadOptions(t, false)); err != nil || !bytes.Equal(s.Content(s3.path), content) {
		t.Errorf("uploaded: %v", err)
	}
}
