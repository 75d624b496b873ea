// SPDX-License-Identifier: Apache-2.0

package wire

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"time"
)

const (
	// maxAnswer bounds the body of an answer that is not the data asked for, in bytes.
	maxAnswer = 4 << 20
	// maxHeader bounds the header of an answer, in bytes.
	maxHeader = 64 << 10
	// maxIdle is how many connections to a server are kept for the next request.
	maxIdle = 64
)

// NewHTTPClient returns a client for storage servers: TLS 1.2 or later with these roots, or the system's when they are nil,
// proxies as the environment says, no redirects, no compression, and a connection for each request that runs at a time.
func NewHTTPClient(roots *x509.CertPool) *http.Client {
	return &http.Client{CheckRedirect: stay, Transport: &http.Transport{
		Proxy:                  http.ProxyFromEnvironment,
		DialContext:            (&net.Dialer{Timeout: 10 * time.Second}).DialContext,
		TLSClientConfig:        &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots, NextProtos: []string{"http/1.1"}},
		TLSHandshakeTimeout:    10 * time.Second,
		MaxResponseHeaderBytes: maxHeader,
		MaxIdleConns:           4 * maxIdle,
		MaxIdleConnsPerHost:    maxIdle,
		IdleConnTimeout:        30 * time.Second,
		DisableCompression:     true,
		ReadBufferSize:         64 << 10,
		WriteBufferSize:        64 << 10,
	}}
}

// stay makes a redirect the answer, which then is none of the good ones.
func stay(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }

// Client makes requests. It needs an HTTP client.
type Client struct {
	// HTTP makes the connections. Its policy on redirects is ignored.
	HTTP *http.Client
	// Authorize adds what proves who asks, given the request with its other headers, and its body; nil asks as anybody.
	Authorize func(context.Context, *http.Request, []byte) error
	// Code finds the service's error code in an answer; nil finds none.
	Code func(http.Header, []byte) string
	// Now is the clock; nil is the real one.
	Now func() time.Time
}

// Request is one request.
type Request struct {
	// Doing says what for, in an error.
	Doing string
	// Method, Location, Query and Header make the request. Query is added to the location's.
	Method   string
	Location Location
	Query    url.Values
	Header   http.Header
	// Body is sent with every method but GET and HEAD.
	Body []byte
	// Want lists the statuses of a good answer.
	Want []int
}

// Answer is a good answer to a request that is not for data.
type Answer struct {
	// Status, Header and Body are the server's. Body has at most 4 MiB.
	Status int
	Header http.Header
	Body   []byte
}

// Do makes a request once and reads the answer.
func (c *Client) Do(ctx context.Context, r *Request) (*Answer, error) {
	resp, err := c.send(ctx, r)
	if err != nil {
		return nil, err
	}
	defer func() { _ = resp.Body.Close() }() // it was read from only
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	switch {
	case err != nil:
		return nil, r.failed(ctx, fmt.Errorf("reading the answer: %w", err))
	case len(body) > maxAnswer:
		return nil, &Error{Doing: r.Doing, Where: r.Location.String(), Status: resp.StatusCode, Applied: true, Err: fmt.Errorf("the answer has more than %d bytes", maxAnswer)}
	}
	return &Answer{Status: resp.StatusCode, Header: resp.Header, Body: body}, nil
}

// send makes a request and returns an answer of a wanted status, whose body is still to be read.
func (c *Client) send(ctx context.Context, r *Request) (*http.Response, error) {
	if c.HTTP == nil {
		return nil, &Error{Doing: r.Doing, Where: r.Location.String(), Err: errors.New("no HTTP client is configured")}
	}
	req, err := c.build(ctx, r)
	if err != nil {
		return nil, err
	}
	client := http.Client{Transport: c.HTTP.Transport, CheckRedirect: stay}
	resp, err := client.Do(req)
	if err != nil {
		return nil, r.failed(ctx, err)
	}
	if slices.Contains(r.Want, resp.StatusCode) {
		return resp, nil
	}
	defer func() { _ = resp.Body.Close() }() // it was read from only
	return nil, c.refused(r, resp)
}

func (c *Client) build(ctx context.Context, r *Request) (*http.Request, error) {
	req, err := http.NewRequestWithContext(ctx, r.Method, r.Location.url(r.Query).String(), nil)
	if err != nil {
		return nil, &Error{Doing: r.Doing, Where: r.Location.String(), Err: errors.New("the request can not be made")}
	}
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		req.Body, req.ContentLength = io.NopCloser(bytes.NewReader(r.Body)), int64(len(r.Body))
		if len(r.Body) == 0 {
			req.Body = http.NoBody
		}
		// Without GetBody the transport does not send a write a second time by itself.
	}
	for name, values := range r.Header {
		req.Header[name] = slices.Clone(values)
	}
	req.Header.Set("User-Agent", "cofferdam")
	req.Header.Set("Accept-Encoding", "identity")
	if c.Authorize == nil {
		return req, nil
	}
	if err := c.Authorize(ctx, req, r.Body); err != nil {
		return nil, &Error{Doing: r.Doing, Where: r.Location.String(), Temporary: ctx.Err() == nil, Err: fmt.Errorf("authorising: %w", err)}
	}
	return req, nil
}

// failed is the error of a request without a whole answer. Whether it took effect is not known.
func (r *Request) failed(ctx context.Context, err error) error {
	if named, ok := errors.AsType[*url.Error](err); ok {
		err = named.Err // its text has the whole URL
	}
	_, stranger := errors.AsType[*tls.CertificateVerificationError](err)
	if cause := context.Cause(ctx); cause != nil && !errors.Is(err, cause) {
		err = fmt.Errorf("%w: %w", err, cause)
	}
	return &Error{Doing: r.Doing, Where: r.Location.String(), Temporary: !stranger, Applied: true, Err: err}
}

// refused makes an error of an answer.
func (c *Client) refused(r *Request, resp *http.Response) *Error {
	body, _ := io.ReadAll(io.LimitReader(resp.Body, 64<<10)) // what is missing of it says nothing that is needed
	code := ""
	if c.Code != nil {
		code = PlainCode(c.Code(resp.Header, body))
	}
	now := time.Now
	if c.Now != nil {
		now = c.Now
	}
	return refuse(r.Doing, r.Location.String(), resp.StatusCode, code, resp.Header, now())
}
