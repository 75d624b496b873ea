// SPDX-License-Identifier: Apache-2.0

package storageclients

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	signer "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/johannesboyne/gofakes3"
	"github.com/johannesboyne/gofakes3/backend/s3mem"

	"cofferdam.dev/internal/volume/blob"
	"cofferdam.dev/internal/volume/blob/s3"
)

const (
	keyID  = "AKIDEXAMPLE"
	secret = "a key for tests only"
	token  = "a session for tests only"
)

// recorder keeps a copy of each request.
type recorder struct {
	http.RoundTripper
	mu   sync.Mutex
	seen []*http.Request
}

func (r *recorder) RoundTrip(req *http.Request) (*http.Response, error) {
	r.mu.Lock()
	r.seen = append(r.seen, req.Clone(context.Background()))
	r.mu.Unlock()
	return r.RoundTripper.RoundTrip(req)
}

// TestS3 uploads to another's server and reads from it, with names that want escaping. Amazon's signer, asked to sign the
// same requests, must come to the same signatures.
func TestS3(t *testing.T) {
	backend := s3mem.New()
	fake := httptest.NewServer(gofakes3.New(backend).Server())
	t.Cleanup(fake.Close)
	if err := backend.CreateBucket("bucket"); err != nil {
		t.Fatal(err)
	}
	at := time.Now().UTC().Truncate(time.Second)
	rec := &recorder{RoundTripper: blob.NewHTTPClient(nil).Transport}
	o := blob.Options{
		S3:   s3.Keys{ID: keyID, Secret: blob.NewSecret(secret), Session: blob.NewSecret(token), Region: "eu-central-1"},
		HTTP: &http.Client{Transport: rec}, Now: func() time.Time { return at },
	}
	want := content(20 << 20)
	for _, name := range []string{"plain", "with%20space/and+plus", "%C3%A9t%C3%A9/a~b_c-d.e", "a%26b%3Dc%25d"} {
		url := "s3+" + fake.URL + "/bucket/" + name
		if err := blob.Upload(t.Context(), file(t, want), url, blob.UploadOptions{Options: o}); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		s, err := blob.Open(t.Context(), url, o)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(all(t, s), want) {
			t.Errorf("%s: something else was read", name)
		}
		if err := blob.Upload(t.Context(), file(t, want), url, blob.UploadOptions{Options: o}); !errors.Is(err, blob.ErrExists) {
			t.Errorf("%s: a second upload: %v", name, err)
		}
	}
	for _, name := range []string{"plain", "with space/and+plus", "été/a~b_c-d.e", "a&b=c%d"} {
		object, err := backend.GetObject("bucket", name, nil)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		got, err := io.ReadAll(object.Contents)
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s: the server has something else, %v", name, err)
		}
	}
	if len(rec.seen) < 20 {
		t.Fatalf("%d requests were seen", len(rec.seen))
	}
	for _, req := range rec.seen {
		compareSignature(t, req, at)
	}
}

// compareSignature signs a request again with Amazon's signer.
func compareSignature(t *testing.T, req *http.Request, at time.Time) {
	t.Helper()
	ours := req.Header.Get("Authorization")
	digest := req.Header.Get("X-Amz-Content-Sha256")
	for _, name := range []string{"Authorization", "X-Amz-Date", "X-Amz-Security-Token", "User-Agent", "Accept-Encoding"} {
		req.Header.Del(name)
	}
	req.ContentLength = 0 // ours does not sign it
	theirs := signer.NewSigner(func(o *signer.SignerOptions) { o.DisableURIPathEscaping = true })
	credentials := aws.Credentials{AccessKeyID: keyID, SecretAccessKey: secret, SessionToken: token}
	if err := theirs.SignHTTP(t.Context(), credentials, req, digest, "s3", "eu-central-1", at); err != nil {
		t.Fatal(err)
	}
	if got := req.Header.Get("Authorization"); got != ours {
		t.Errorf("%s %s:\nours   %s\ntheirs %s", req.Method, req.URL, ours, got)
	}
}
