// SPDX-License-Identifier: Apache-2.0

package s3

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"cofferdam.dev/internal/volume/blob/wire"
)

// emptyDigest is the SHA-256 of nothing.
const emptyDigest = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

// TestPublishedSignatures repeats the examples that Amazon publishes (S3 API reference, "Authenticating Requests: Using the
// Authorization Header").
func TestPublishedSignatures(t *testing.T) {
	t.Parallel()
	keys := Keys{ID: "AKIAIOSFODNN7EXAMPLE", Secret: wire.NewSecret("wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY")}
	for _, c := range []struct {
		name, method, target, digest string
		header                       http.Header
		want                         string
	}{
		{
			"GET object", http.MethodGet, "/test.txt", emptyDigest, http.Header{"Range": {"bytes=0-9"}},
			"SignedHeaders=host;range;x-amz-content-sha256;x-amz-date, Signature=f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41",
		},
		{
			"PUT object", http.MethodPut, "/test%24file.text", "44ce7dd67c959e0d3524ffac1771dfbba87d2b6b4b4e99e42034a8b803f8b072",
			http.Header{"Date": {"Fri, 24 May 2013 00:00:00 GMT"}, "X-Amz-Storage-Class": {"REDUCED_REDUNDANCY"}},
			"SignedHeaders=date;host;x-amz-content-sha256;x-amz-date;x-amz-storage-class, Signature=98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd",
		},
		{
			"GET lifecycle", http.MethodGet, "/?lifecycle", emptyDigest, http.Header{},
			"SignedHeaders=host;x-amz-content-sha256;x-amz-date, Signature=fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543",
		},
		{
			"list objects", http.MethodGet, "/?max-keys=2&prefix=J", emptyDigest, http.Header{},
			"SignedHeaders=host;x-amz-content-sha256;x-amz-date, Signature=34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7",
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			u, err := url.Parse("https://examplebucket.s3.amazonaws.com" + c.target)
			if err != nil {
				t.Fatal(err)
			}
			req := &http.Request{Method: c.method, URL: u, Header: c.header.Clone()}
			keys.sign(req, c.digest, time.Date(2013, 5, 24, 0, 0, 0, 0, time.UTC))
			want := "AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request, " + c.want
			if got := req.Header.Get("Authorization"); got != want {
				t.Errorf("got  %s\nwant %s", got, want)
			}
		})
	}
}

func TestKeysHide(t *testing.T) {
	t.Parallel()
	k := Keys{ID: "id", Secret: wire.NewSecret("hush"), Session: wire.NewSecret("hush")}
	if s := fmt.Sprintf("%v %+v %#v %s", k, k, k, k); strings.Contains(s, "hush") {
		t.Errorf("they print as %s", s)
	}
}
