// SPDX-License-Identifier: Apache-2.0

// Package probe asks a server of the group whether it answers.
//
// It trusts its caller to have checked the form of every part of a request and to give the group's own address. It does not
// trust the server: of an answer it reads the status line alone, with bounds on size and time, and quotes nothing of it. It
// never follows a redirect, never sends a body, and never verifies a certificate: what it learns is that something answers,
// not who.
package probe

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Request is one question.
type Request struct {
	Address netip.AddrPort
	Timeout time.Duration
	HTTP    *HTTP // nil: a connection is enough
}

// HTTP is a GET request.
type HTTP struct {
	Path    string
	Headers []Header
	TLS     bool
}

// Header is a header field.
type Header struct{ Name, Value string }

// Result is what was found.
type Result struct {
	Success bool
	Status  int    // of the HTTP answer; 0 if there was none
	Reason  string // why it is no success
}

// Do asks. It returns within the request's time.
func Do(ctx context.Context, r Request) Result {
	ctx, cancel := context.WithTimeout(ctx, r.Timeout)
	defer cancel()
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", r.Address.String())
	if err != nil {
		return Result{Reason: reason(ctx, err, "no connection could be made")}
	}
	defer func() { _ = conn.Close() }()
	if r.HTTP == nil {
		return Result{Success: true}
	}
	end, _ := ctx.Deadline() // it has one
	err = conn.SetDeadline(end)
	if err != nil {
		return Result{Reason: "no connection could be made"}
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) }) // the caller may give up before
	defer stop()
	if r.HTTP.TLS {
		t := tls.Client(conn, &tls.Config{InsecureSkipVerify: true}) //nolint:gosec // whether something answers is asked, not who
		err = t.HandshakeContext(ctx)
		if err != nil {
			return Result{Reason: reason(ctx, err, "no TLS connection could be made")}
		}
		conn = t
	}
	return r.HTTP.ask(ctx, conn, r.Address)
}

func (h *HTTP) ask(ctx context.Context, conn net.Conn, address netip.AddrPort) Result {
	_, err := conn.Write(h.request(address))
	if err != nil {
		return Result{Reason: reason(ctx, err, "the request could not be sent")}
	}
	status, err := readStatus(conn)
	switch {
	case errors.Is(err, errAnswer):
		return Result{Reason: "the answer is not HTTP"}
	case err != nil:
		return Result{Reason: reason(ctx, err, "the connection ended without an answer")}
	case status < 200 || status > 399:
		return Result{Status: status, Reason: "the status " + strconv.Itoa(status) + " is not 200 to 399"}
	}
	return Result{Success: true, Status: status}
}

// request is the text of the request. A header field replaces the usual one of the same name.
func (h *HTTP) request(address netip.AddrPort) []byte {
	var b strings.Builder
	b.WriteString("GET " + h.Path + " HTTP/1.1\r\n")
	fields := []Header{{"Host", address.String()}, {"User-Agent", "cofferdam-probe"}, {"Accept", "*/*"}}
	for _, f := range fields {
		if !slices.ContainsFunc(h.Headers, func(o Header) bool { return strings.EqualFold(o.Name, f.Name) }) {
			b.WriteString(f.Name + ": " + f.Value + "\r\n")
		}
	}
	for _, f := range h.Headers {
		b.WriteString(f.Name + ": " + f.Value + "\r\n")
	}
	b.WriteString("Connection: close\r\n\r\n")
	return []byte(b.String())
}

// reason is a text for an error, which may quote what the other side sent.
func reason(ctx context.Context, err error, otherwise string) string {
	var timeout net.Error
	switch {
	case errors.Is(err, unix.ECONNREFUSED):
		return "the connection was refused"
	case ctx.Err() != nil, errors.As(err, &timeout) && timeout.Timeout():
		return "there was no answer in time"
	}
	return otherwise
}
