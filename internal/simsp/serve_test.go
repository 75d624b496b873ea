// SPDX-License-Identifier: Apache-2.0

package simsp

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"testing"
	"time"

	"cofferdam.dev/evidence/snp"
)

// serve runs a guest's port and returns its guest side and Serve's result.
func serve(t testing.TB, ctx context.Context, g *Guest) (net.Conn, <-chan error) {
	t.Helper()
	host, guest := net.Pipe()
	done := make(chan error, 1)
	go func() { done <- g.Serve(ctx, host) }()
	t.Cleanup(func() { _ = guest.Close() })
	return guest, done
}

func ask(t *testing.T, port io.ReadWriter, kind snp.MessageType, body []byte) (snp.MessageType, []byte) {
	t.Helper()
	if err := snp.WriteFrame(port, kind, body); err != nil {
		t.Fatal(err)
	}
	got, answer, err := snp.ReadFrame(port)
	if err != nil {
		t.Fatal(err)
	}
	return got, answer
}

func TestReportRequests(t *testing.T) {
	t.Parallel()
	g := mustLaunch(t, processorForTest(t), launch(t))
	port, done := serve(t, t.Context(), g)
	bad := (&snp.ReportRequest{}).Marshal()
	bad[len(bad)-1] = 1
	for _, c := range []struct {
		name string
		body []byte
		want snp.Status
	}{
		{"plain", (&snp.ReportRequest{ReportData: [64]byte{7}}).Marshal(), snp.StatusSuccess},
		{"least privileged", (&snp.ReportRequest{VMPL: 3}).Marshal(), snp.StatusSuccess},
		{"key chosen", (&snp.ReportRequest{KeySelect: 1}).Marshal(), snp.StatusSuccess},
		{"level out of range", (&snp.ReportRequest{VMPL: 4}).Marshal(), snp.StatusInvalidParameter},
		{"level of the host", (&snp.ReportRequest{VMPL: 0xffffffff}).Marshal(), snp.StatusInvalidParameter},
		{"provider's key", (&snp.ReportRequest{KeySelect: 2}).Marshal(), snp.StatusInvalidKey},
		{"reserved byte", bad, snp.StatusInvalidParameter},
		{"short", bad[:10], snp.StatusInvalidParameter},
		{"empty", nil, snp.StatusInvalidParameter},
		{"long", make([]byte, snp.MaxFrameSize-1), snp.StatusInvalidParameter},
	} {
		kind, answer := ask(t, port, snp.MessageReportRequest, c.body)
		rsp, err := snp.ParseReportResponse(answer)
		if err != nil || kind != snp.MessageReportResponse || rsp.Status != c.want {
			t.Errorf("%s: type %d, %+v, %v", c.name, kind, rsp, err)
			continue
		}
		if c.want != snp.StatusSuccess {
			continue
		}
		r, err := snp.ParseReport(rsp.Report)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(r.ReportData[:], c.body[:64]) || r.VMPL != binary.LittleEndian.Uint32(c.body[64:]) ||
			r.HostData != g.HostData() {
			t.Errorf("%s: the report says %+v", c.name, r)
		}
	}
	_ = port.Close()
	if err := <-done; err != nil {
		t.Errorf("Serve returned %v after a clean end", err)
	}
}

func TestOtherMessagesAreInvalid(t *testing.T) {
	t.Parallel()
	port, _ := serve(t, t.Context(), mustLaunch(t, processorForTest(t), launch(t)))
	for kind := range 256 {
		switch m := snp.MessageType(kind); m {
		case snp.MessageReportRequest, snp.MessageKeyRequest, snp.MessageCertificatesRequest:
		default:
			if got, body := ask(t, port, m, []byte("anything")); got != snp.MessageInvalid || len(body) != 0 {
				t.Errorf("message %d is answered with %d and %d bytes", kind, got, len(body))
			}
		}
	}
	kind, table := ask(t, port, snp.MessageCertificatesRequest, nil)
	if entries, err := snp.ParseCertificateTable(table); kind != snp.MessageCertificatesResponse || err != nil || len(entries) != 3 {
		t.Errorf("certificates: type %d, %d entries, %v", kind, len(entries), err)
	}
}

func TestBrokenFramesEndTheService(t *testing.T) {
	t.Parallel()
	g := mustLaunch(t, processorForTest(t), launch(t))
	for name, b := range map[string][]byte{
		"no type":        {0, 0, 0, 0},
		"one too long":   binary.LittleEndian.AppendUint32(nil, snp.MaxFrameSize+1),
		"four gigabytes": {0xff, 0xff, 0xff, 0xff},
		"cut length":     {1, 0},
		"cut message":    {100, 0, 0, 0, 5, 1, 2},
	} {
		port, done := serve(t, t.Context(), g)
		_, _ = port.Write(b) // the service may hang up before it has read all
		_ = port.Close()
		select {
		case err := <-done:
			if err == nil {
				t.Errorf("%s: Serve returned no error", name)
			}
		case <-time.After(time.Minute):
			t.Fatalf("%s: Serve goes on", name)
		}
	}
}

func TestServeEndsWithItsContext(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(context.Background())
	port, done := serve(t, ctx, mustLaunch(t, processorForTest(t), launch(t)))
	cancel()
	if err := <-done; err != nil {
		t.Errorf("Serve returned %v", err)
	}
	if _, err := port.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("the port is still open: %v", err)
	}
}

func TestDerivedKeys(t *testing.T) {
	t.Parallel()
	p := processorForTest(t)
	l := launch(t)
	first, again := mustLaunch(t, p, l), mustLaunch(t, p, l)
	l.Cmdline = "other"
	other := mustLaunch(t, p, l)
	derive := func(g *Guest, r snp.KeyRequest) snp.DerivedKey {
		t.Helper()
		rsp, err := g.answerKey(r.Marshal())
		if err != nil || rsp.Status != snp.StatusSuccess {
			t.Fatalf("%+v: %v, %v", r, rsp, err)
		}
		return rsp.Key
	}
	sealing := snp.KeyRequest{Fields: snp.FieldMeasurement | snp.FieldPolicy}
	if derive(first, sealing) != derive(again, sealing) {
		t.Error("a key does not outlive its guest")
	}
	if derive(first, sealing) == derive(other, sealing) {
		t.Error("a key does not depend on the measurement that was selected")
	}
	if derive(first, snp.KeyRequest{}) != derive(other, snp.KeyRequest{}) {
		t.Error("a key depends on the measurement that was not selected")
	}
	if r := (snp.KeyRequest{RootKey: snp.RootKeyVMRK}); derive(first, r) == derive(again, r) {
		t.Error("a key of the guest instance outlives it")
	}
	seen := map[snp.DerivedKey]snp.KeyRequest{}
	for _, r := range []snp.KeyRequest{
		{}, sealing, {VMPL: 1}, {Fields: snp.FieldTCB}, {Fields: snp.FieldTCB, TCB: defaultTCB},
		{Fields: snp.FieldGuestSVN}, {Fields: snp.FieldImageID}, {Fields: snp.FieldFamilyID},
		{RootKey: snp.RootKeyVMRK}, {Fields: snp.FieldMeasurement},
	} {
		k := derive(first, r)
		if o, ok := seen[k]; ok {
			t.Errorf("%+v and %+v give the same key", r, o)
		}
		seen[k] = r
	}
	for name, r := range map[string]snp.KeyRequest{
		"level out of range":      {VMPL: 4},
		"higher version":          {GuestSVN: 1},
		"TCB not committed":       {TCB: snp.TCB{7: 0xff}},
		"TCB with a strange byte": {TCB: snp.TCB{3: 1}},
		"unknown field":           {Fields: 1 << 6},
		"unknown root":            {RootKey: 2},
	} {
		rsp, err := first.answerKey(r.Marshal())
		if err != nil || rsp.Status != snp.StatusInvalidParameter || rsp.Key != (snp.DerivedKey{}) {
			t.Errorf("%s: %v, %v", name, rsp, err)
		}
	}
}

// FuzzAnswer throws messages at the simulator.
func FuzzAnswer(f *testing.F) {
	f.Add(byte(5), (&snp.ReportRequest{VMPL: 1}).Marshal())
	f.Add(byte(3), (&snp.KeyRequest{Fields: 3}).Marshal())
	f.Add(byte(0x80), []byte{})
	g := mustLaunch(f, processorForTest(f), launch(f))
	f.Fuzz(func(t *testing.T, kind byte, body []byte) {
		answer, b, err := g.answer(snp.MessageType(kind), body)
		if err != nil || len(b) >= snp.MaxFrameSize {
			t.Fatalf("%d bytes, %v", len(b), err)
		}
		if answer == snp.MessageReportResponse {
			if _, err := snp.ParseReportResponse(b); err != nil {
				t.Fatal(err)
			}
		}
	})
}
