// SPDX-License-Identifier: Apache-2.0

package wire

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"strconv"
	"strings"
)

// Pin is a version of an object. Exactly one field is set.
type Pin struct {
	// ETag is a strong entity tag with its quotation marks (RFC 9110, 8.8.3).
	ETag string
	// Modified is the header Last-Modified, of servers without strong tags. It tells versions apart by the second.
	Modified string
}

// NewPin takes the version out of an answer.
func NewPin(h http.Header) (Pin, error) {
	tag := h.Get("ETag")
	if len(tag) > 2 && len(tag) <= 1024 && tag[0] == '"' && strings.IndexByte(tag[1:], '"') == len(tag)-2 {
		return Pin{ETag: tag}, nil
	}
	if m := h.Get("Last-Modified"); m != "" {
		if _, err := http.ParseTime(m); err == nil {
			return Pin{Modified: m}, nil
		}
	}
	return Pin{}, fmt.Errorf("the server names no version of the object, by a strong ETag or Last-Modified: %w", ErrRefused)
}

// String names the version.
func (p Pin) String() string {
	if p.ETag != "" {
		return "etag " + p.ETag
	}
	return "modified " + p.Modified
}

// ask makes the server refuse another version.
func (p Pin) ask(h http.Header) {
	if p.ETag != "" {
		h.Set("If-Match", p.ETag)
	} else if p.Modified != "" {
		h.Set("If-Unmodified-Since", p.Modified)
	}
}

// check refuses an answer of another version: a server may ignore what it was asked.
func (p Pin) check(h http.Header) error {
	if p == (Pin{}) {
		return nil
	}
	got, err := NewPin(h)
	if err != nil || got != p {
		return fmt.Errorf("the answer is of version %q, not %q: %w", got, p, ErrFenced)
	}
	return nil
}

// Range is a request for bytes of an object of a known size. They must lie in it.
type Range struct {
	Location Location
	// Header is sent as well.
	Header http.Header
	// Pin is the version; the zero value takes any, which is for writers who hold a lease.
	Pin Pin
	// Size is the whole object's.
	Size int64
	// Field is the header that asks for the range: Range, or one that a service has for itself.
	Field string
}

// ReadAt fills p with the bytes at off, or fails. It makes one request.
func (c *Client) ReadAt(ctx context.Context, r Range, p []byte, off int64) error {
	return c.ReadVectorAt(ctx, r, [][]byte{p}, off, func(int) {})
}

// ReadVectorAt fills buffers, one after the other, with the bytes from off on. It makes one request, and calls done with the
// number of each buffer that is filled, in order.
func (c *Client) ReadVectorAt(ctx context.Context, r Range, buffers [][]byte, off int64, done func(int)) error {
	var want int64
	for _, p := range buffers {
		want += int64(len(p))
	}
	if want == 0 {
		return nil
	}
	if off < 0 || off > r.Size-want {
		return fmt.Errorf("reading %d bytes at %d of %s: the object has %d", want, off, r.Location, r.Size)
	}
	req := r.request(fmt.Sprintf("reading %d bytes at %d", want, off), off, off+want-1)
	r.Pin.ask(req.Header)
	resp, err := c.send(ctx, req)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }() // it was read from only
	if err := r.answers(resp.Header, off, off+want-1); err != nil {
		return &Error{Doing: req.Doing, Where: r.Location.String(), Status: resp.StatusCode, Temporary: !errors.Is(err, ErrFenced), Err: err}
	}
	for i, p := range buffers {
		if n, err := io.ReadFull(resp.Body, p); err != nil {
			return req.failed(ctx, fmt.Errorf("the answer ended after %d bytes of part %d, which has %d: %w", n, i, len(p), err))
		}
		if i+1 == len(buffers) {
			if err := ends(resp.Body); err != nil {
				return req.failed(ctx, err)
			}
		}
		done(i)
	}
	return nil
}

func (r Range) request(doing string, first, last int64) *Request {
	req := &Request{Doing: doing, Method: http.MethodGet, Location: r.Location, Header: r.Header.Clone(), Want: []int{http.StatusPartialContent}}
	if req.Header == nil {
		req.Header = http.Header{}
	}
	req.Header.Set(r.Field, fmt.Sprintf("bytes=%d-%d", first, last))
	return req
}

// answers checks that an answer is of the version, and of the bytes.
func (r Range) answers(h http.Header, off, last int64) error {
	if err := r.Pin.check(h); err != nil {
		return err
	}
	if e := h.Get("Content-Encoding"); e != "" && e != "identity" {
		return fmt.Errorf("the answer has Content-Encoding %.32q", e)
	}
	first, end, size, err := parseContentRange(h.Get("Content-Range"))
	switch {
	case err != nil:
		return err
	case size != r.Size:
		return fmt.Errorf("the object has %d bytes, not %d: %w", size, r.Size, ErrFenced)
	case first != off || end != last:
		return fmt.Errorf("the answer has bytes %d to %d, not %d to %d", first, end, off, last)
	}
	return nil
}

// ends fails unless a body is at its end.
func ends(body io.Reader) error {
	var more [1]byte
	n, err := io.ReadFull(body, more[:])
	if n != 0 {
		return errors.New("the answer has more than what was asked for")
	}
	if !errors.Is(err, io.EOF) {
		return fmt.Errorf("the answer did not end: %w", err)
	}
	return nil
}

// parseContentRange reads "bytes first-last/size" (RFC 9110, 14.4). The size must be known.
func parseContentRange(s string) (first, last, size int64, err error) {
	bad := fmt.Errorf("the answer's Content-Range is %.64q", s)
	text, ok := strings.CutPrefix(s, "bytes ")
	span, total, ok2 := strings.Cut(text, "/")
	from, to, ok3 := strings.Cut(span, "-")
	if !ok || !ok2 || !ok3 {
		return 0, 0, 0, bad
	}
	var n [3]int64
	for i, field := range []string{from, to, total} {
		v, err := strconv.ParseUint(field, 10, 64)
		if err != nil || v > math.MaxInt64 {
			return 0, 0, 0, bad
		}
		n[i] = int64(v)
	}
	if n[0] > n[1] || n[1] >= n[2] {
		return 0, 0, 0, bad
	}
	return n[0], n[1], n[2], nil
}

// Probe asks for an object's first byte: what its size and version are, and whether the server gives out ranges.
func (c *Client) Probe(ctx context.Context, r Range) (http.Header, int64, error) {
	req := r.request("opening", 0, 0)
	resp, err := c.send(ctx, req)
	if err != nil {
		if e, ok := errors.AsType[*Error](err); ok && e.Status == http.StatusRequestedRangeNotSatisfiable {
			e.Err = fmt.Errorf("the object is empty: %w", ErrRefused)
		}
		return nil, 0, err
	}
	defer func() { _ = resp.Body.Close() }() // it was read from only
	first, last, size, err := parseContentRange(resp.Header.Get("Content-Range"))
	if err == nil && (first != 0 || last != 0) {
		err = fmt.Errorf("the answer has bytes %d to %d, not the first", first, last)
	}
	if err == nil {
		_, err = io.ReadFull(resp.Body, make([]byte, 1))
	}
	if err == nil {
		err = ends(resp.Body)
	}
	if err != nil {
		return nil, 0, &Error{Doing: req.Doing, Where: r.Location.String(), Status: resp.StatusCode, Temporary: true, Err: err}
	}
	return resp.Header, size, nil
}
