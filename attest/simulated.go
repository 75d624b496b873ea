// SPDX-License-Identifier: Apache-2.0

package attest

import (
	"context"
	"errors"
	"fmt"
	"io"

	"cofferdam.dev/evidence/snp"
)

// Simulated obtains reports from a simulated secure processor through a port. Its reports prove nothing about hardware.
type Simulated struct {
	port io.ReadWriteCloser
	// turn holds one token; whoever has it may use the port.
	turn chan struct{}
	// broken is the error after which the port can not be used, guarded by turn.
	broken error
}

var _ Provider = (*Simulated)(nil)

// OpenSimulated returns a provider that speaks to a simulated secure processor at the other end of the port.
func OpenSimulated(port io.ReadWriteCloser) *Simulated {
	s := &Simulated{port: port, turn: make(chan struct{}, 1)}
	s.turn <- struct{}{}
	return s
}

// Kind returns "simulated".
func (s *Simulated) Kind() string { return "simulated" }

// Report returns a simulated report with its certificates.
func (s *Simulated) Report(ctx context.Context, reportData [64]byte) (*Result, error) {
	req := snp.ReportRequest{ReportData: reportData}
	body, err := s.exchange(ctx, snp.MessageReportRequest, req.Marshal(), snp.MessageReportResponse)
	if err != nil {
		return nil, fmt.Errorf("asking simulator for report: %w", err)
	}
	rsp, err := snp.ParseReportResponse(body)
	if err != nil {
		return nil, fmt.Errorf("asking simulator for report: %w", err)
	}
	if rsp.Status != snp.StatusSuccess {
		return nil, fmt.Errorf("asking simulator for report: %s", rsp.Status)
	}
	if err := checkSNP(rsp.Report, reportData); err != nil {
		return nil, fmt.Errorf("asking simulator for report: %w", err)
	}
	table, err := s.exchange(ctx, snp.MessageCertificatesRequest, nil, snp.MessageCertificatesResponse)
	if err != nil {
		return nil, fmt.Errorf("asking simulator for certificates: %w", err)
	}
	return &Result{Type: TypeSEVSNP, Report: rsp.Report, Certificates: table}, nil
}

// DeriveKey returns a key that the simulated processor derives for this guest.
func (s *Simulated) DeriveKey(ctx context.Context, req snp.KeyRequest) (snp.DerivedKey, error) {
	body, err := s.exchange(ctx, snp.MessageKeyRequest, req.Marshal(), snp.MessageKeyResponse)
	if err != nil {
		return snp.DerivedKey{}, fmt.Errorf("asking simulator for key: %w", err)
	}
	rsp, err := snp.ParseKeyResponse(body)
	if err != nil {
		return snp.DerivedKey{}, fmt.Errorf("asking simulator for key: %w", err)
	}
	if rsp.Status != snp.StatusSuccess {
		return snp.DerivedKey{}, fmt.Errorf("asking simulator for key: %s", rsp.Status)
	}
	return rsp.Key, nil
}

// Close closes the port.
func (s *Simulated) Close() error { return s.port.Close() }

// exchange sends a message and returns the answer's body. A caller whose ctx ends leaves at once; the exchange that it
// began still runs to its end before the next one starts, so that no answer is ever taken for another's.
func (s *Simulated) exchange(ctx context.Context, kind snp.MessageType, body []byte, want snp.MessageType) ([]byte, error) {
	select {
	case <-s.turn:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	type result struct {
		body []byte
		err  error
	}
	done := make(chan result, 1)
	go func() {
		b, err := s.roundTrip(kind, body, want)
		s.turn <- struct{}{}
		done <- result{b, err}
	}()
	select {
	case r := <-done:
		return r.body, r.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// roundTrip runs with the turn held.
func (s *Simulated) roundTrip(kind snp.MessageType, body []byte, want snp.MessageType) ([]byte, error) {
	if s.broken != nil {
		return nil, fmt.Errorf("port is unusable since: %w", s.broken)
	}
	if s.broken = snp.WriteFrame(s.port, kind, body); s.broken != nil {
		return nil, s.broken
	}
	got, answer, err := snp.ReadFrame(s.port)
	if errors.Is(err, io.EOF) {
		err = errors.New("simulator closed the port")
	}
	if s.broken = err; err != nil {
		return nil, err
	}
	if got != want {
		return nil, fmt.Errorf("answer has type %d, not %d", got, want)
	}
	return answer, nil
}
