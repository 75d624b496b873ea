// SPDX-License-Identifier: Apache-2.0

package attest

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"cofferdam.dev/evidence/snp"
)

// responder answers one message on the simulator's side of a port.
type responder func(kind snp.MessageType, body []byte) (snp.MessageType, []byte)

// report is a report with the report data of a request, unsigned: attest does not look at signatures.
func report(data [64]byte) []byte {
	return (&snp.Report{Version: 2, ReportData: data}).Marshal()
}

// honest answers as the simulator does.
func honest(kind snp.MessageType, body []byte) (snp.MessageType, []byte) {
	switch kind {
	case snp.MessageReportRequest:
		req, err := snp.ParseReportRequest(body)
		if err != nil {
			return snp.MessageInvalid, nil
		}
		return snp.MessageReportResponse, (&snp.ReportResponse{Report: report(req.ReportData)}).Marshal()
	case snp.MessageKeyRequest:
		return snp.MessageKeyResponse, (&snp.KeyResponse{Key: snp.DerivedKey{1}}).Marshal()
	case snp.MessageCertificatesRequest:
		return snp.MessageCertificatesResponse, []byte("table")
	}
	return snp.MessageInvalid, nil
}

func simulator(t *testing.T, r responder) *Simulated {
	t.Helper()
	host, guest := net.Pipe()
	go func() {
		for {
			kind, body, err := snp.ReadFrame(host)
			if err != nil {
				return
			}
			answer, b := r(kind, body)
			if err := snp.WriteFrame(host, answer, b); err != nil {
				return
			}
		}
	}()
	t.Cleanup(func() { _ = host.Close(); _ = guest.Close() })
	return OpenSimulated(guest)
}

func TestSimulatedReport(t *testing.T) {
	t.Parallel()
	s := simulator(t, honest)
	var wg sync.WaitGroup
	for i := range 16 {
		wg.Go(func() {
			data := [64]byte{byte(i)}
			r, err := s.Report(t.Context(), data)
			if err != nil || r.Type != TypeSEVSNP || !bytes.Equal(r.Report, report(data)) || string(r.Certificates) != "table" {
				t.Errorf("%+v, %v", r, err)
			}
		})
	}
	wg.Wait()
	key, err := s.DeriveKey(t.Context(), snp.KeyRequest{})
	if err != nil || key != (snp.DerivedKey{1}) {
		t.Errorf("key: %v", err)
	}
	if s.Kind() != "simulated" {
		t.Errorf("kind is %q", s.Kind())
	}
}

func TestSimulatedRefusesWrongAnswers(t *testing.T) {
	t.Parallel()
	for name, answer := range map[string]responder{
		"other message": func(snp.MessageType, []byte) (snp.MessageType, []byte) { return snp.MessageKeyResponse, nil },
		"invalid":       func(snp.MessageType, []byte) (snp.MessageType, []byte) { return snp.MessageInvalid, nil },
		"empty":         func(k snp.MessageType, _ []byte) (snp.MessageType, []byte) { return k + 1, nil },
		"refusal": func(k snp.MessageType, _ []byte) (snp.MessageType, []byte) {
			return k + 1, (&snp.ReportResponse{Status: snp.StatusInvalidParameter}).Marshal()
		},
		"other report data": func(k snp.MessageType, _ []byte) (snp.MessageType, []byte) {
			return k + 1, (&snp.ReportResponse{Report: report([64]byte{9})}).Marshal()
		},
		"no report": func(k snp.MessageType, _ []byte) (snp.MessageType, []byte) {
			return k + 1, (&snp.ReportResponse{Report: make([]byte, snp.ReportSize)}).Marshal()
		},
		"no certificates": func(k snp.MessageType, b []byte) (snp.MessageType, []byte) {
			if k == snp.MessageCertificatesRequest {
				return snp.MessageInvalid, nil
			}
			return honest(k, b)
		},
	} {
		if r, err := simulator(t, answer).Report(t.Context(), [64]byte{1}); err == nil || r != nil {
			t.Errorf("%s: %+v, %v", name, r, err)
		}
	}
	refusal := func(snp.MessageType, []byte) (snp.MessageType, []byte) {
		return snp.MessageKeyResponse, (&snp.KeyResponse{Status: snp.StatusInvalidParameter}).Marshal()
	}
	if _, err := simulator(t, refusal).DeriveKey(t.Context(), snp.KeyRequest{}); err == nil {
		t.Error("a refused key: no error")
	}
}

// TestLateAnswersAreNotMixedUp abandons a request whose answer comes late, and requires the next one to get its own.
func TestLateAnswersAreNotMixedUp(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	first := true
	s := simulator(t, func(k snp.MessageType, b []byte) (snp.MessageType, []byte) {
		if first {
			first = false
			<-release
		}
		return honest(k, b)
	})
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := s.Report(ctx, [64]byte{1}); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("error is %v", err)
	}
	if _, err := s.Report(ctx, [64]byte{1}); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("while the port is busy, error is %v", err)
	}
	close(release)
	if _, err := s.Report(t.Context(), [64]byte{2}); err != nil {
		t.Error(err)
	}
}

func TestBrokenPortStaysBroken(t *testing.T) {
	t.Parallel()
	for name, stream := range map[string][]byte{
		"closed": nil, "frame too large": {0xff, 0xff, 0xff, 0xff}, "cut": {9, 0, 0, 0, 6},
	} {
		s := OpenSimulated(&fakePort{Reader: bytes.NewReader(stream)})
		_, first := s.Report(t.Context(), [64]byte{})
		_, second := s.Report(t.Context(), [64]byte{})
		if first == nil || second == nil || !strings.Contains(second.Error(), "unusable") {
			t.Errorf("%s: %v, then %v", name, first, second)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
}

type fakePort struct{ io.Reader }

func (*fakePort) Write(b []byte) (int, error) { return len(b), nil }
func (*fakePort) Close() error                { return nil }
