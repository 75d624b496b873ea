// SPDX-License-Identifier: Apache-2.0

package s3

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/xml"
	"fmt"
	"net/http"
	"strings"
	"time"

	"cofferdam.dev/internal/volume/blob/wire"
)

// Access is how an object is reached.
type Access struct {
	// HTTP makes the connections.
	HTTP *http.Client
	// Keys are the credentials; the zero value asks as anybody, or as the URL's signature says.
	Keys Keys
	// InsecurePlainHTTP lets credentials go over plain HTTP to other machines.
	InsecurePlainHTTP bool
	// Retry is how requests that fail for now are made again when an object is opened.
	Retry wire.Backoff
	// Now is the clock that requests are dated with; nil is the real one.
	Now func() time.Time
}

// Object is an object that is read only, pinned to the version that was found when it was opened.
type Object struct {
	client *wire.Client
	at     wire.Location
	retry  wire.Backoff
	size   int64
	pin    wire.Pin
}

// dial prepares requests to an object; it makes none.
func (a Access) dial(at wire.Location) (*Object, error) {
	bucket, key, _ := strings.Cut(strings.TrimPrefix(at.Path(), "/"), "/")
	switch {
	case bucket == "" || key == "":
		return nil, fmt.Errorf("%s does not name a bucket and an object", at)
	case !a.Keys.IsZero() && (a.Keys.ID == "" || a.Keys.Secret.IsZero()):
		return nil, fmt.Errorf("the credentials for %s lack the key's ID or the key", at)
	case !a.Keys.IsZero() && at.HasQuery():
		return nil, fmt.Errorf("for %s there are a signature in the URL and keys: give one", at)
	case (at.HasQuery() || !a.Keys.IsZero()) && !at.Encrypted() && !at.Nearby() && !a.InsecurePlainHTTP:
		return nil, fmt.Errorf("credentials for %s would go over plain HTTP: %w", at, wire.ErrDenied)
	}
	o := &Object{at: at.WithPath(at.Path(), escapePath(at.Path())), retry: a.Retry}
	o.client = &wire.Client{HTTP: a.HTTP, Code: code, Now: a.Now}
	if !a.Keys.IsZero() {
		o.client.Authorize = a.authorize
	}
	return o, nil
}

func (a Access) authorize(_ context.Context, req *http.Request, body []byte) error {
	now := time.Now
	if a.Now != nil {
		now = a.Now
	}
	sum := sha256.Sum256(body)
	a.Keys.sign(req, hex.EncodeToString(sum[:]), now())
	return nil
}

// code finds the service's error code in the XML of an answer.
func code(_ http.Header, body []byte) string {
	var e struct {
		Code string `xml:"Code"`
	}
	if xml.Unmarshal(body, &e) != nil {
		return ""
	}
	return e.Code
}

// Open opens an object to be read.
func Open(ctx context.Context, at wire.Location, a Access) (*Object, error) {
	o, err := a.dial(at)
	if err != nil {
		return nil, err
	}
	var header http.Header
	err = o.retry.Do(ctx, func(ctx context.Context) error {
		header, o.size, err = o.client.Probe(ctx, wire.Range{Location: o.at, Field: rangeField})
		return err
	})
	if err == nil {
		o.pin, err = wire.NewPin(header)
	}
	if err != nil {
		return nil, fmt.Errorf("opening %s: %w", at, err)
	}
	return o, nil
}

const rangeField = "Range"

// Size is the object's, in bytes.
func (o *Object) Size() int64 { return o.size }

// Identity names the pinned version.
func (o *Object) Identity() string { return o.pin.String() }

func (o *Object) all() wire.Range {
	return wire.Range{Location: o.at, Pin: o.pin, Size: o.size, Field: rangeField}
}

// ReadAt fills p, which must lie in the object, or fails. It makes one request.
func (o *Object) ReadAt(ctx context.Context, p []byte, off int64) (int, error) {
	if err := o.client.ReadAt(ctx, o.all(), p, off); err != nil {
		return 0, err
	}
	return len(p), nil
}

// ReadVectorAt fills buffers from off on by one request, and calls done for each.
func (o *Object) ReadVectorAt(ctx context.Context, buffers [][]byte, off int64, done func(int)) error {
	return o.client.ReadVectorAt(ctx, o.all(), buffers, off, done)
}

// Close does nothing: nothing is held.
func (o *Object) Close() error { return nil }
