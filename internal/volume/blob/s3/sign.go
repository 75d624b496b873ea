// SPDX-License-Identifier: Apache-2.0

package s3

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"cofferdam.dev/internal/volume/blob/wire"
)

// Keys are credentials for a server. They print without what is secret. The zero value is none, for public objects.
type Keys struct {
	// ID names the key.
	ID string
	// Secret is the key, and Session the token that temporary keys come with.
	Secret, Session wire.Secret
	// Region is part of what is signed; empty is us-east-1, which compatible servers take.
	Region string
}

// IsZero reports whether there are no credentials.
func (k Keys) IsZero() bool { return k.ID == "" && k.Secret.IsZero() }

// String names the key.
func (k Keys) String() string { return "S3 key " + k.ID }

// GoString is String.
func (k Keys) GoString() string { return k.String() }

// LogValue is String.
func (k Keys) LogValue() slog.Value { return slog.StringValue(k.String()) }

const (
	defaultRegion = "us-east-1"
	algorithm     = "AWS4-HMAC-SHA256"
	isoTime       = "20060102T150405Z"
	isoDate       = "20060102"
)

// sign adds the headers of Signature Version 4. digest is the hex SHA-256 of the body. The request must have all its other
// headers; all of them are signed but those that proxies may change.
func (k Keys) sign(req *http.Request, digest string, now time.Time) {
	region := k.Region
	if region == "" {
		region = defaultRegion
	}
	now = now.UTC()
	req.Header.Set("X-Amz-Content-Sha256", digest)
	req.Header.Set("X-Amz-Date", now.Format(isoTime))
	if !k.Session.IsZero() {
		req.Header.Set("X-Amz-Security-Token", k.Session.Reveal())
	}
	canonical, signed := canonicalRequest(req, digest)
	scope := now.Format(isoDate) + "/" + region + "/s3/aws4_request"
	sum := sha256.Sum256([]byte(canonical))
	toSign := algorithm + "\n" + now.Format(isoTime) + "\n" + scope + "\n" + hex.EncodeToString(sum[:])

	key := []byte("AWS4" + k.Secret.Reveal())
	for _, part := range []string{now.Format(isoDate), region, "s3", "aws4_request", toSign} {
		mac := hmac.New(sha256.New, key)
		mac.Write([]byte(part))
		key = mac.Sum(nil)
	}
	req.Header.Set("Authorization", algorithm+" Credential="+k.ID+"/"+scope+", SignedHeaders="+signed+", Signature="+hex.EncodeToString(key))
}

// canonicalRequest returns the text whose hash is signed, and the names of the signed headers.
func canonicalRequest(req *http.Request, digest string) (text, signed string) {
	values := map[string]string{"host": req.URL.Host}
	if req.Host != "" {
		values["host"] = req.Host
	}
	for name, v := range req.Header {
		switch low := strings.ToLower(name); low {
		case "authorization", "user-agent", "accept-encoding":
		default:
			values[low] = strings.Join(v, ",")
		}
	}
	names := []string{}
	for name := range values {
		names = append(names, name)
	}
	slices.Sort(names)
	var headers strings.Builder
	for _, name := range names {
		headers.WriteString(name + ":" + strings.Join(strings.Fields(values[name]), " ") + "\n")
	}
	signed = strings.Join(names, ";")
	return strings.Join([]string{req.Method, req.URL.EscapedPath(), canonicalQuery(req.URL), headers.String(), signed, digest}, "\n"), signed
}

func canonicalQuery(u *url.URL) string {
	pairs := []string{}
	for name, values := range u.Query() {
		for _, v := range values {
			pairs = append(pairs, escape(name)+"="+escape(v))
		}
	}
	slices.Sort(pairs)
	return strings.Join(pairs, "&")
}

// escape is the percent-encoding of Signature Version 4: everything but letters, digits and -._~
func escape(s string) string {
	const upper = "0123456789ABCDEF"
	var b strings.Builder
	for i := range len(s) {
		c := s[i]
		if c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.IndexByte("-._~", c) >= 0 {
			b.WriteByte(c)
			continue
		}
		b.WriteByte('%')
		b.WriteByte(upper[c>>4])
		b.WriteByte(upper[c&15])
	}
	return b.String()
}

// escapePath is escape for a path: its slashes stay.
func escapePath(path string) string {
	parts := strings.Split(path, "/")
	for i, p := range parts {
		parts[i] = escape(p)
	}
	return strings.Join(parts, "/")
}
