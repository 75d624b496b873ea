// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	guestv1 "cofferdam.dev/api/guest/v1"
	"cofferdam.dev/internal/agent/probe"
)

// Bounds of a probe.
const (
	maxProbes       = 8 // at once
	maxProbeMillis  = 600_000
	maxProbeHeaders = 32
	maxHeaderBytes  = 16 << 10 // all fields together
)

// The forms of what goes into an HTTP request (RFC 9110, section 5; RFC 3986, section 3.3): nothing that could end a line.
var (
	probePathForm   = formOf(1, 2048, `/[\x21-\x7e]*`)
	headerNameForm  = formOf(1, 256, "[!#$%&'*+.^_`|~0-9A-Za-z-]+")
	headerValueForm = formOf(0, 4096, `[^\x00-\x08\x0a-\x1f\x7f]*`)
)

// framing are the header fields that say where a request ends, which is the agent's to say.
var framing = []string{"connection", "content-length", "transfer-encoding", "upgrade"}

// Probe implements guestv1.GuestService. No policy is asked: whoever is on the network can ask the same. It holds nothing up
// while it waits.
func (s *Service) Probe(ctx context.Context, r *guestv1.ProbeRequest) (*guestv1.ProbeResponse, error) {
	const call = "Probe"
	err := checkProbe(call, r)
	if err != nil {
		return nil, err
	}
	err = s.enter(call)
	if err != nil {
		return nil, err
	}
	network := s.network
	s.mu.Unlock()
	if len(network.Addresses) == 0 {
		return nil, denial(guestv1.CodeFailed, call, "the group has no address")
	}
	select {
	case s.probes <- struct{}{}:
		defer func() { <-s.probes }()
	default:
		return nil, denial(guestv1.CodeTooMany, call, fmt.Sprintf("%d probes are under way", maxProbes))
	}
	q := probe.Request{
		Address: netip.AddrPortFrom(network.Addresses[0], uint16(r.GetPort())), // checked above
		Timeout: time.Duration(r.GetTimeoutMs()) * time.Millisecond,
	}
	if h := r.GetHttp(); h != nil {
		q.HTTP = &probe.HTTP{Path: h.GetPath(), TLS: h.GetTls()}
		for _, f := range h.GetHeaders() {
			q.HTTP.Headers = append(q.HTTP.Headers, probe.Header{Name: f.GetName(), Value: f.GetValue()})
		}
	}
	a := probe.Do(ctx, q)
	return &guestv1.ProbeResponse{Success: a.Success, Status: uint32(a.Status), Reason: a.Reason}, nil // three digits
}

func checkProbe(call string, r *guestv1.ProbeRequest) error {
	c := newCheck(call)
	c.number("port", uint64(r.GetPort()), 1, 1<<16-1)
	c.number("timeout_ms", uint64(r.GetTimeoutMs()), 1, maxProbeMillis)
	h := r.GetHttp()
	if h == nil {
		return c.err()
	}
	c.form("http.path", h.GetPath(), probePathForm)
	c.size("http.headers", len(h.GetHeaders()), 0, maxProbeHeaders)
	total := 0
	for i, f := range h.GetHeaders() {
		at := fmt.Sprintf("http.headers[%d].", i)
		c.form(at+"name", f.GetName(), headerNameForm)
		c.that(headerValueForm.match(f.GetValue()), at+"value", "no control characters, at most 4096 bytes", "another value")
		own := slices.Contains(framing, strings.ToLower(f.GetName()))
		c.that(!own, at+"name", "none of "+strings.Join(framing, ", "), quote(f.GetName()))
		total += len(f.GetName()) + len(f.GetValue())
	}
	c.size("http.headers in bytes", total, 0, maxHeaderBytes)
	return c.err()
}
