// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"net"
	"net/netip"
	"strings"
	"testing"

	guestv1 "cofferdam.dev/api/guest/v1"
)

func probeOf(change func(*guestv1.ProbeRequest)) call {
	return func(ctx context.Context, r *rig) error {
		return done(r.Probe(ctx, with(&guestv1.ProbeRequest{
			Port: 80, TimeoutMs: 1000, Http: &guestv1.HTTPProbe{Path: "/", Headers: []*guestv1.HTTPHeader{{Name: "X-Y", Value: "z"}}},
		}, change)))
	}
}

// reachable is a rig whose group has the address on which a server listens, without answering, and the server's port.
func reachable(t *testing.T) (*rig, uint32) {
	t.Helper()
	r := ready(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	at := netip.MustParseAddrPort(l.Addr().String())
	r.network.Addresses = []netip.Addr{at.Addr()} // stands for one of the group's, which is no loopback address
	return r, uint32(at.Port())
}

func TestProbe(t *testing.T) {
	t.Parallel()
	r, port := reachable(t)
	q := &guestv1.ProbeRequest{Port: port, TimeoutMs: 60_000}
	a, err := r.Probe(t.Context(), q)
	if err != nil || !a.GetSuccess() || a.GetReason() != "" {
		t.Errorf("a connection: %v, %v", a, err)
	}
	q.Http, q.TimeoutMs = &guestv1.HTTPProbe{Path: "/"}, 100
	a, err = r.Probe(t.Context(), q)
	if err != nil || a.GetSuccess() || a.GetReason() != "there was no answer in time" {
		t.Errorf("a server that does not answer: %v, %v", a, err)
	}
	r.network.Addresses = nil
	_, err = r.Probe(t.Context(), q)
	if d := guestv1.DenialFrom(err); d.GetCode() != guestv1.CodeFailed {
		t.Errorf("a group without an address: %v, want %s", err, guestv1.CodeFailed)
	}
}

// TestProbesAreBounded has as many probes under way as there may be. Other calls are answered meanwhile.
func TestProbesAreBounded(t *testing.T) {
	t.Parallel()
	r, port := reachable(t)
	ctx, cancel := context.WithCancel(t.Context())
	q := &guestv1.ProbeRequest{Port: port, TimeoutMs: maxProbeMillis, Http: &guestv1.HTTPProbe{Path: "/"}}
	ended := make(chan error)
	for range maxProbes {
		go func() { ended <- done(r.Probe(ctx, q)) }()
	}
	for len(r.probes) < maxProbes {
		_, err := r.Properties(t.Context(), &guestv1.PropertiesRequest{})
		if err != nil {
			t.Fatal(err)
		}
	}
	_, err := r.Probe(t.Context(), q)
	if d := guestv1.DenialFrom(err); d.GetCode() != guestv1.CodeTooMany {
		t.Errorf("one more than %d: %v, want %s", maxProbes, err, guestv1.CodeTooMany)
	}
	cancel()
	for range maxProbes {
		if err := <-ended; err != nil {
			t.Errorf("a probe that was given up: %v", err)
		}
	}
}

func TestMalformedProbes(t *testing.T) {
	t.Parallel()
	type q = guestv1.ProbeRequest
	header := func(name, value string) func(*q) {
		return func(r *q) { r.Http.Headers = []*guestv1.HTTPHeader{{Name: name, Value: value}} }
	}
	tests := map[string]struct {
		field  string
		change func(*q)
	}{
		"port zero":              {"port", func(r *q) { r.Port = 0 }},
		"port beyond all":        {"port", func(r *q) { r.Port = 1 << 16 }},
		"no time":                {"timeout_ms", func(r *q) { r.TimeoutMs = 0 }},
		"too much time":          {"timeout_ms", func(r *q) { r.TimeoutMs = maxProbeMillis + 1 }},
		"path relative":          {"http.path", func(r *q) { r.Http.Path = "x" }},
		"path of another host":   {"http.path", func(r *q) { r.Http.Path = "http://192.0.2.1/" }},
		"path with a line end":   {"http.path", func(r *q) { r.Http.Path = "/ HTTP/1.1\r\nX: y" }},
		"path with a space":      {"http.path", func(r *q) { r.Http.Path = "/a b" }},
		"path too long":          {"http.path", func(r *q) { r.Http.Path = "/" + strings.Repeat("a", 2048) }},
		"header of no name":      {"http.headers[0].name", header("", "x")},
		"header name with colon": {"http.headers[0].name", header("X: y\r\nZ", "x")},
		"header value with CR":   {"http.headers[0].value", header("X", "a\rb")},
		"header value with LF":   {"http.headers[0].value", header("X", "a\nb")},
		"header value with NUL":  {"http.headers[0].value", header("X", "a\x00")},
		"header of the framing":  {"http.headers[0].name", header("Transfer-Encoding", "chunked")},
		"header of the length":   {"http.headers[0].name", header("content-length", "5")},
		"too many headers":       {"http.headers", func(r *q) { r.Http.Headers = make([]*guestv1.HTTPHeader, maxProbeHeaders+1) }},
		"too much in the headers": {"http.headers in bytes", func(r *q) {
			for range 5 {
				r.Http.Headers = append(r.Http.Headers, &guestv1.HTTPHeader{Name: "X", Value: strings.Repeat("a", 4096)})
			}
		}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r, _ := reachable(t)
			err := probeOf(tt.change)(t.Context(), r)
			d := guestv1.DenialFrom(err)
			if d.GetCode() != guestv1.CodeBadRequest || d.GetField() != tt.field {
				t.Errorf("got %v, want %s for the field %s", err, guestv1.CodeBadRequest, tt.field)
			}
		})
	}
}
