// SPDX-License-Identifier: Apache-2.0

package release

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"regexp"
	"time"

	"cofferdam.dev/internal/retry"
)

// How servers are asked.
const (
	// attemptTimeout bounds one request with its answer.
	attemptTimeout = 20 * time.Second
	// maxAttempts is how often a server is asked that is busy or can not be reached.
	maxAttempts = 3
	// firstPause is the mean pause after the first attempt; it doubles with the next.
	firstPause = 300 * time.Millisecond
	// maxPause is the longest that a server may ask us to wait.
	maxPause = 5 * time.Second
	// maxAnswer bounds an answer, in bytes.
	maxAnswer = 1 << 20
)

// NewHTTPClient returns a client for the servers: TLS 1.2 or later with these roots, or the system's when they are nil,
// proxies as the environment says, deadlines on every phase, and no redirects.
func NewHTTPClient(roots *x509.CertPool) *http.Client {
	return &http.Client{CheckRedirect: stay, Transport: &http.Transport{
		Proxy:                  http.ProxyFromEnvironment,
		DialContext:            (&net.Dialer{Timeout: 10 * time.Second}).DialContext,
		TLSClientConfig:        &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots},
		TLSHandshakeTimeout:    10 * time.Second,
		ResponseHeaderTimeout:  attemptTimeout,
		MaxResponseHeaderBytes: 64 << 10,
		MaxIdleConnsPerHost:    16,
		IdleConnTimeout:        30 * time.Second,
		ForceAttemptHTTP2:      true,
	}}
}

// stay keeps a client from following redirects.
func stay(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }

// request is one request to a server.
type request struct {
	server  Server
	method  string
	url     string
	header  http.Header
	body    []byte
	attempt time.Duration
}

// ask sends a request until there is an answer that is not "busy", and returns the body of a good one. Errors are *Error,
// or wrap ErrUnavailable.
func ask(ctx context.Context, client *http.Client, r *request) ([]byte, error) {
	for attempt := 1; ; attempt++ {
		body, err := once(ctx, client, r)
		if err == nil || attempt == maxAttempts || !errors.Is(err, ErrUnavailable) || ctx.Err() != nil {
			return body, err
		}
		if _, stranger := errors.AsType[*tls.CertificateVerificationError](err); stranger {
			return nil, err // and will be one
		}
		asked := time.Duration(0)
		if e, ok := errors.AsType[*Error](err); ok {
			if e.wait > maxPause || e.Status == http.StatusInternalServerError {
				return nil, err
			}
			asked = e.wait
		}
		if retry.Sleep(ctx, retry.Pause(firstPause<<(attempt-1), asked, nil)) != nil {
			return nil, err
		}
	}
}

func once(ctx context.Context, client *http.Client, r *request) ([]byte, error) {
	limit := r.attempt
	if limit == 0 {
		limit = attemptTimeout
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, r.method, r.url, bytes.NewReader(r.body))
	if err != nil {
		return nil, malformed("asking %s: %v", r.server, err)
	}
	if r.header != nil {
		req.Header = r.header.Clone()
	}
	safe := http.Client{Transport: client.Transport, Timeout: client.Timeout, CheckRedirect: stay}
	resp, err := safe.Do(req)
	if err != nil {
		if named, ok := errors.AsType[*url.Error](err); ok {
			err = named.Err // its text would name the URL, whose query is nobody's business
		}
		return nil, fmt.Errorf("asking %s %s: %w: %w", r.server, req.URL.Host, ErrUnavailable, err)
	}
	defer func() { _ = resp.Body.Close() }() // it was read from only
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("asking %s %s: %w: the answer is cut off: %w", r.server, req.URL.Host, ErrUnavailable, err)
	case resp.StatusCode != http.StatusOK:
		return nil, refusal(r.server, req.URL.Host, resp, body)
	case len(body) > maxAnswer:
		return nil, fmt.Errorf("asking %s %s: %w", r.server, req.URL.Host, wrong("it has more than %d bytes", maxAnswer))
	}
	return body, nil
}

// releaseHeader is where the vault of this module says under which ID a release is in its audit log.
const releaseHeader = "X-Cofferdam-Release"

var releaseID = regexp.MustCompile(`^[0-9a-zA-Z-]{1,64}$`)

// refusal reads the body of an error: Azure's {"error":{code,message,innererror{code}}}, or an identity provider's
// {"error":"…","error_description":"…"}.
func refusal(server Server, host string, resp *http.Response, body []byte) *Error {
	e := &Error{Server: server, Host: host, Status: resp.StatusCode, wait: retry.After(resp.Header, time.Now())}
	if id := resp.Header.Get(releaseHeader); releaseID.MatchString(id) {
		e.Release = id
	}
	var outer struct {
		Error       json.RawMessage `json:"error"`
		Description string          `json:"error_description"`
	}
	if json.Unmarshal(body[:min(len(body), maxAnswer)], &outer) != nil {
		return e
	}
	var inner struct {
		Code    string `json:"code"`
		Message string `json:"message"`
		Inner   struct {
			Code string `json:"code"`
		} `json:"innererror"`
	}
	if json.Unmarshal(outer.Error, &inner) == nil {
		e.Code, e.Message, e.Inner = clean(inner.Code), clean(inner.Message), clean(inner.Inner.Code)
		return e
	}
	var text string
	if json.Unmarshal(outer.Error, &text) == nil {
		e.Code, e.Message = clean(text), clean(outer.Description)
	}
	return e
}
