// SPDX-License-Identifier: Apache-2.0

// Package remote gets collateral from the servers that have it: AMD's key distribution service, Intel's provisioning
// certification service and caches of it, and the metadata service of an Azure machine. Each is a collateral.Source.
//
// The servers and the network are not trusted: what they send is bounded, must have the right form and be about what was
// asked for, and then still is judged by package verify as anything else is. They can withhold an item, delay it up to
// the caller's deadline, and see which chips and platforms a verifier meets. The package never follows a redirect, never
// sends credentials, never talks plain HTTP except to this machine and its link, and keeps nothing: caching is package
// cache's.
package remote

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"time"

	"cofferdam.dev/collateral"
	"cofferdam.dev/internal/retry"
)

// What a Fetcher does unless it is told otherwise.
const (
	// DefaultAttemptTimeout bounds one request with its answer.
	DefaultAttemptTimeout = 20 * time.Second
	// DefaultTimeout bounds all attempts together, if the caller's deadline does not come first.
	DefaultTimeout = 90 * time.Second
	// MaxAttempts is how often a server is asked that says it is busy.
	MaxAttempts = 5
	// FirstPause is the mean pause after the first attempt. It doubles with each further one.
	FirstPause = time.Second
	// MaxPause is the longest that a server may ask us to wait. One that asks for more has refused.
	MaxPause = 30 * time.Second
)

// maxHeaderBytes bounds an answer's header, in which Intel sends chains of certificates.
const maxHeaderBytes = 64 << 10

// NewHTTPClient returns a client for servers on the Internet: TLS 1.2 or later with the system's roots, proxies as the
// environment says, deadlines on every phase.
func NewHTTPClient() *http.Client {
	return &http.Client{Transport: newTransport(http.ProxyFromEnvironment)}
}

// NewLinkLocalHTTPClient returns a client for the metadata service of a cloud machine. It uses no proxy.
func NewLinkLocalHTTPClient() *http.Client { return &http.Client{Transport: newTransport(nil)} }

func newTransport(proxy func(*http.Request) (*url.URL, error)) *http.Transport {
	return &http.Transport{
		Proxy:                  proxy,
		DialContext:            (&net.Dialer{Timeout: 10 * time.Second}).DialContext,
		TLSClientConfig:        &tls.Config{MinVersion: tls.VersionTLS12},
		TLSHandshakeTimeout:    10 * time.Second,
		ResponseHeaderTimeout:  DefaultAttemptTimeout,
		MaxResponseHeaderBytes: maxHeaderBytes,
		MaxIdleConnsPerHost:    2,
		IdleConnTimeout:        30 * time.Second,
		ForceAttemptHTTP2:      true,
	}
}

// Fetcher makes requests. Its zero value refuses to: it needs a client.
type Fetcher struct {
	// HTTP makes the connections, and says whom to trust as a server. Its policy on redirects is ignored.
	HTTP *http.Client
	// AttemptTimeout and Timeout replace the defaults when they are not zero.
	AttemptTimeout, Timeout time.Duration

	// Now, Sleep and Jitter are the clock, a pause that ends early with its context, and a random duration below the
	// given one. Tests replace them; nil means the real ones.
	Now    func() time.Time
	Sleep  func(context.Context, time.Duration) error
	Jitter func(time.Duration) time.Duration
}

// answer is a good answer of a server.
type answer struct {
	url    string
	header http.Header
	body   []byte
}

// get asks for a URL until there is an answer that is not "busy", or no more time. Errors wrap ErrUnavailable.
func (f *Fetcher) get(ctx context.Context, target string, header http.Header) (*answer, error) {
	if f.HTTP == nil {
		return nil, fmt.Errorf("getting %s: no HTTP client is configured: %w", target, collateral.ErrUnavailable)
	}
	if err := checkURL(target); err != nil {
		return nil, fmt.Errorf("getting %s: %w: %w", target, collateral.ErrUnavailable, err)
	}
	ctx, cancel := context.WithTimeout(ctx, cmp.Or(f.Timeout, DefaultTimeout))
	defer cancel()
	for attempt := 1; ; attempt++ {
		a, err := f.once(ctx, target, header)
		refusal, busy := errors.AsType[*collateral.Refusal](err)
		if err == nil || !busy || !temporary(refusal.Status) || attempt == MaxAttempts || refusal.Wait > MaxPause {
			return a, err
		}
		pause := retry.Pause(FirstPause<<(attempt-1), refusal.Wait, f.Jitter)
		if deadline, ok := ctx.Deadline(); ok && f.now().Add(pause).After(deadline) {
			return nil, err // waiting could not help
		}
		if f.sleep(ctx, pause) != nil {
			return nil, fmt.Errorf("%w: %w", err, context.Cause(ctx))
		}
	}
}

// once makes one request.
func (f *Fetcher) once(ctx context.Context, target string, header http.Header) (*answer, error) {
	ctx, cancel := context.WithTimeout(ctx, cmp.Or(f.AttemptTimeout, DefaultAttemptTimeout))
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, target, nil)
	if err != nil {
		return nil, fmt.Errorf("getting %s: %w: %w", target, collateral.ErrUnavailable, err)
	}
	req.Header = header.Clone()
	if req.Header == nil {
		req.Header = http.Header{}
	}
	req.Header.Set("User-Agent", "cofferdam")
	client := http.Client{Transport: f.HTTP.Transport, Timeout: f.HTTP.Timeout, CheckRedirect: stay}
	resp, err := client.Do(req)
	if err != nil {
		if named, ok := errors.AsType[*url.Error](err); ok {
			err = named.Err // its text would name the URL again
		}
		return nil, fmt.Errorf("getting %s: %w: %w", target, collateral.ErrUnavailable, err)
	}
	defer func() { _ = resp.Body.Close() }() // it was read from only
	if resp.StatusCode != http.StatusOK {
		return nil, &collateral.Refusal{URL: target, Status: resp.StatusCode, Wait: retry.After(resp.Header, f.now())}
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, collateral.MaxBodySize+1))
	if err != nil {
		return nil, fmt.Errorf("reading the answer of %s: %w: %w", target, collateral.ErrUnavailable, err)
	}
	if len(body) > collateral.MaxBodySize {
		return nil, fmt.Errorf("the answer of %s has more than %d bytes: %w", target, collateral.MaxBodySize, collateral.ErrUnavailable)
	}
	return &answer{url: target, header: resp.Header, body: body}, nil
}

// stay makes a redirect the answer, which then is none of the good ones.
func stay(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }

// temporary reports whether a status says that a later attempt may succeed.
func temporary(status int) bool {
	switch status {
	case http.StatusTooManyRequests, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return true
	}
	return false
}

func (f *Fetcher) now() time.Time {
	if f.Now == nil {
		return time.Now()
	}
	return f.Now()
}

func (f *Fetcher) sleep(ctx context.Context, d time.Duration) error {
	if f.Sleep != nil {
		return f.Sleep(ctx, d)
	}
	return retry.Sleep(ctx, d)
}

// checkURL requires HTTPS, but for addresses that never leave this machine or its link.
func checkURL(target string) error {
	u, err := url.Parse(target)
	if err != nil {
		return err
	}
	if u.Host == "" || u.User != nil {
		return errors.New("the URL has no host, or has credentials")
	}
	if u.Scheme == "https" {
		return nil
	}
	addr, err := netip.ParseAddr(u.Hostname())
	if u.Scheme == "http" && (err == nil && (addr.IsLoopback() || addr.IsLinkLocalUnicast()) || u.Hostname() == "localhost") {
		return nil
	}
	return errors.New("the URL is not of https, nor of http to an address of this machine or its link")
}

// checked returns an item after checking its form. A server that sends something else has not got the item.
func checked(a *answer, r collateral.Request, it collateral.Item) (collateral.Item, error) {
	if _, err := collateral.Inspect(r, it); err != nil {
		return collateral.Item{}, fmt.Errorf("%s sent something else: %w: %w", a.url, collateral.ErrUnavailable, err)
	}
	return it, nil
}

// without is the error for a request that a service never has an answer to.
func without(service string, r collateral.Request) error {
	return fmt.Errorf("asking %s for %q: %w", service, r.Kind, collateral.ErrNotOffered)
}
