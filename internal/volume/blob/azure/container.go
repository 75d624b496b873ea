// SPDX-License-Identifier: Apache-2.0

package azure

import (
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"cofferdam.dev/internal/volume/blob/wire"
)

// Access is how a blob is reached. At most one credential may be given, the signature in the URL included; without one it is
// asked for as anybody.
type Access struct {
	// HTTP makes the connections.
	HTTP *http.Client
	// Key is the account's shared key.
	Key SharedKey
	// Token gets bearer tokens.
	Token TokenSource
	// InsecurePlainHTTP lets credentials go over plain HTTP to other machines.
	InsecurePlainHTTP bool
	// Retry is how requests that fail for now are made again when a blob is opened, and for its lease.
	Retry wire.Backoff
	// Lease is for how long a lease is taken: 15 to 60 seconds; zero is 60. It is renewed after a third of it.
	Lease time.Duration
	// LeaseWait is how long Open waits for the lease of another writer to end; zero does not wait.
	LeaseWait time.Duration
	// Now is the clock that requests are dated with; nil is the real one.
	Now func() time.Time
}

// endpoint is one blob and how it is asked for.
type endpoint struct {
	client *wire.Client
	at     wire.Location
	sas    signature
	tokens *tokens
	retry  wire.Backoff
}

// dial prepares requests to a blob; it makes none.
func (a Access) dial(at wire.Location, writes bool) (*endpoint, error) {
	sas, signed := parseSignature(at.Query())
	credentials := 0
	for _, given := range []bool{signed, !a.Key.IsZero(), a.Token != nil} {
		if given {
			credentials++
		}
	}
	switch {
	case credentials > 1:
		return nil, fmt.Errorf("for %s there are %d credentials (signature in the URL, account key, token): give one", at, credentials)
	case credentials > 0 && !at.Encrypted() && !at.Nearby() && !a.InsecurePlainHTTP:
		return nil, fmt.Errorf("credentials for %s would go over plain HTTP: %w", at, wire.ErrDenied)
	case strings.Count(strings.Trim(at.Path(), "/"), "/") < 1:
		return nil, fmt.Errorf("%s does not name a container and a blob", at)
	}
	if err := sas.check(at, writes); err != nil {
		return nil, err
	}
	e := &endpoint{at: at, sas: sas, retry: a.Retry}
	if a.Token != nil {
		e.tokens = newTokens(a.Token)
	}
	e.client = &wire.Client{HTTP: a.HTTP, Authorize: a.authorize(e.tokens), Code: code, Now: a.Now}
	return e, nil
}

// authorize completes requests: date, version, and who asks.
func (a Access) authorize(kept *tokens) func(context.Context, *http.Request, []byte) error {
	now := a.Now
	if now == nil {
		now = time.Now
	}
	return func(ctx context.Context, req *http.Request, _ []byte) error {
		req.Header.Set("X-Ms-Version", apiVersion)
		req.Header.Set("X-Ms-Date", now().UTC().Format(http.TimeFormat))
		switch {
		case kept != nil:
			token, err := kept.get(ctx)
			if err != nil {
				return err
			}
			req.Header.Set("Authorization", "Bearer "+token)
		case !a.Key.IsZero():
			a.Key.sign(req)
		}
		return nil
	}
}

// code finds the service's error code: in a header, or in the XML of older servers.
func code(h http.Header, body []byte) string {
	if c := h.Get("X-Ms-Error-Code"); c != "" {
		return c
	}
	var e struct {
		Code string `xml:"Code"`
	}
	if xml.Unmarshal(body, &e) != nil {
		return ""
	}
	return e.Code
}

// do makes a request once.
func (e *endpoint) do(ctx context.Context, r *wire.Request) (*wire.Answer, error) {
	r.Location = e.at
	answer, err := e.client.Do(ctx, r)
	return answer, e.explain(err)
}

// doAgain makes a request until there is an answer for good. It must be one that may be applied twice.
func (e *endpoint) doAgain(ctx context.Context, r *wire.Request) error {
	return e.retry.Do(ctx, func(ctx context.Context) error {
		_, err := e.do(ctx, r)
		return err
	})
}

// explain adds what the service leaves out of a denial, and has a token replaced that is not taken any more.
func (e *endpoint) explain(err error) error {
	if refusal, ok := errors.AsType[*wire.Error](err); ok && refusal.Status == http.StatusUnauthorized && e.tokens != nil {
		refusal.Temporary = e.tokens.forget()
	}
	if err != nil && errors.Is(err, wire.ErrDenied) && e.sas.expires != "" {
		return fmt.Errorf("%w (the shared access signature says that it is good until %s)", err, e.sas.expires)
	}
	return err
}

// properties are what an answer says about a blob.
type properties struct {
	kind       string // BlockBlob, PageBlob or AppendBlob
	size       int64
	pin        wire.Pin
	unfinished bool
	header     http.Header
}

// rangeField asks for a part of a blob, whatever the version of the protocol.
const rangeField = "X-Ms-Range"

// uploadMark is the metadata of a page blob whose upload is not complete.
const uploadMark = "X-Ms-Meta-Cofferdamupload"

// probe asks what a blob is. header may have a lease.
func (e *endpoint) probe(ctx context.Context, header http.Header) (p properties, err error) {
	err = e.retry.Do(ctx, func(ctx context.Context) error {
		p.header, p.size, err = e.client.Probe(ctx, wire.Range{Location: e.at, Header: header, Field: rangeField})
		return e.explain(err)
	})
	if err != nil {
		return p, err
	}
	p.kind, p.unfinished = p.header.Get("X-Ms-Blob-Type"), p.header.Get(uploadMark) != ""
	p.pin, err = wire.NewPin(p.header)
	if err != nil {
		return p, fmt.Errorf("opening %s: %w", e.at, err)
	}
	return p, nil
}
