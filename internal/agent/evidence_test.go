// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"errors"
	"testing"
	"time"

	"pgregory.net/rapid"

	guestv1 "cofferdam.dev/api/guest/v1"
	"cofferdam.dev/evidence"
	"cofferdam.dev/evidence/snp"
	"cofferdam.dev/policy/engine"
)

// TestEvidenceSocketFollowsTheContainer looks when a container has its socket: from the policy's yes to the container's
// end, and not otherwise.
func TestEvidenceSocketFollowsTheContainer(t *testing.T) {
	t.Parallel()
	r := ready(t)
	mounted(t, r)
	r.decider.decide = func(p engine.Point, _ string) engine.Decision { return engine.Decision{Point: p} }
	_, err := r.CreateContainer(t.Context(), createRequest(idA))
	if guestv1.DenialFrom(err).GetCode() != guestv1.CodePolicyDenied || len(r.sockets.open) != 0 {
		t.Fatalf("after a denial (%v) there are %d sockets", err, len(r.sockets.open))
	}
	r.decider.decide = allowAll
	r.runtime.fail = func(doing string) error {
		if doing == "Create" {
			return errors.New("no")
		}
		return nil
	}
	_, err = r.CreateContainer(t.Context(), createRequest(idA))
	if err == nil || len(r.sockets.open) != 0 {
		t.Fatalf("after a failure (%v) there are %d sockets", err, len(r.sockets.open))
	}
	r.runtime.fail = nil
	r.sockets.err = errors.New("no socket")
	r.log.take()
	_, err = r.CreateContainer(t.Context(), createRequest(idA))
	if err == nil || len(acts(r.log.take())) != 0 {
		t.Fatalf("without a socket a container was made: %v", err)
	}
	r.sockets.err = nil
	_, err = r.CreateContainer(t.Context(), createRequest(idA))
	if err != nil || r.sockets.open[idA] == nil || r.sockets.text != string(policyText) {
		t.Fatalf("%v; there are %d sockets, with the policy %q", err, len(r.sockets.open), r.sockets.text)
	}
	if got := r.runtime.specs[idA].Evidence; got != "/sockets/"+idA {
		t.Errorf("the container gets %q", got)
	}
	if err = shutdown(t.Context(), r); err != nil || len(r.sockets.open) != 0 {
		t.Errorf("after shutdown (%v) there are %d sockets", err, len(r.sockets.open))
	}
}

func TestPowerOffClosesEvidenceSockets(t *testing.T) {
	t.Parallel()
	r := running(t)
	_, err := r.PowerOff(t.Context(), &guestv1.PowerOffRequest{})
	if err != nil || len(r.sockets.open) != 0 {
		t.Errorf("after power-off (%v) there are %d sockets", err, len(r.sockets.open))
	}
}

// TestHostCanNotSpeakForAWorkload draws requests of a host that tries to get a workload's report: what the processor is
// asked to sign always says that the host asked. A workload may choose every byte.
func TestHostCanNotSpeakForAWorkload(t *testing.T) {
	t.Parallel()
	r := running(t)
	marks := []byte("workload\x00\x00\x00\x00\x00\x00\x00\x08cofferdam.dev/report-data/v1")
	rapid.Check(t, func(t *rapid.T) {
		piece := rapid.SliceOfN(rapid.SampledFrom(marks), minNonce, maxNonce)
		nonce, data := piece.Draw(t, "nonce"), piece.Draw(t, "data")
		resp, err := r.Evidence(t.Context(), &guestv1.EvidenceRequest{Nonce: nonce, RuntimeData: data})
		if err != nil {
			t.Fatal(err)
		}
		report, err := snp.ParseReport(resp.GetReport())
		if err != nil {
			t.Fatal(err)
		}
		if report.ReportData != evidence.ReportData(evidence.SourceHost, nonce, data) {
			t.Fatalf("report data is %x, not what marks the host's", report.ReportData)
		}
		if report.ReportData == evidence.ReportData(evidence.SourceWorkload, nonce, data) {
			t.Fatal("the host's report says that it is a workload's")
		}
	})
	want := evidence.ReportData(evidence.SourceHost, []byte("12345678"), nil)
	result, err := r.sockets.open[idA](t.Context(), want)
	if err != nil {
		t.Fatal(err)
	}
	report, err := snp.ParseReport(result.Report)
	if err != nil || report.ReportData != want {
		t.Errorf("a workload that names its report data gets %x, %v", report.ReportData, err)
	}
}

// TestSlowProcessorHoldsUpReportsAlone has a container wait for a report that does not come. The host's other calls go on.
func TestSlowProcessorHoldsUpReportsAlone(t *testing.T) {
	t.Parallel()
	r := running(t)
	r.reports.Lock() // the processor is at it
	ask, asked := r.sockets.open[idA], make(chan error, 2)
	for range cap(asked) {
		go func() {
			_, err := ask(t.Context(), [64]byte{1})
			asked <- err
		}()
	}
	for call, send := range everyCall() {
		if call == "Evidence" || call == "WaitProcess" { // which waits for something else
			continue
		}
		done := make(chan struct{})
		go func() {
			defer close(done)
			_ = send(t.Context(), r) // how it ends is another test's
		}()
		select {
		case <-done:
		case <-time.After(patience):
			t.Fatalf("%s waits for a report", call)
		}
	}
	r.reports.Unlock()
	for range cap(asked) {
		if err := <-asked; err != nil {
			t.Error(err)
		}
	}
}
