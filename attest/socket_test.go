// SPDX-License-Identifier: Apache-2.0

package attest_test

import (
	"bufio"
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"cofferdam.dev/attest"
	"cofferdam.dev/evidence"
	"cofferdam.dev/evidence/snp"
	"cofferdam.dev/internal/agent/workload"
	"cofferdam.dev/internal/evidencewire"
)

// shortDir is a directory whose sockets' paths are short enough for the kernel.
func shortDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "s")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

func snpReport(data [64]byte) []byte { return (&snp.Report{Version: 3, ReportData: data}).Marshal() }

// agentSocket serves one container as the guest's agent does.
func agentSocket(t *testing.T, report workload.Report) *attest.Socket {
	t.Helper()
	s := &workload.Server{Root: shortDir(t)}
	dir, err := s.Open("c", []byte("package policy\n"), report)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close("c") })
	socket, err := attest.OpenSocket(filepath.Join(dir, evidencewire.SocketName))
	if err != nil {
		t.Fatal(err)
	}
	return socket
}

func TestSocket(t *testing.T) {
	t.Parallel()
	s := agentSocket(t, func(_ context.Context, data [64]byte) (*attest.Result, error) {
		return &attest.Result{Type: attest.TypeSEVSNP, Report: snpReport(data)}, nil
	})
	if s.Kind() != attest.KindSocket {
		t.Errorf("kind is %q", s.Kind())
	}
	nonce, data := []byte("0123456789"), []byte("key")
	d, err := s.Evidence(t.Context(), nonce, data)
	if err != nil {
		t.Fatal(err)
	}
	r, err := snp.ParseReport(d.Report)
	if err != nil || d.Source != evidence.SourceWorkload || r.ReportData != evidence.ReportData(evidence.SourceWorkload, nonce, data) {
		t.Errorf("document is %+v, %v", d, err)
	}
	fixed := [64]byte{5}
	raw, err := s.Report(t.Context(), fixed)
	if err != nil || raw.Type != attest.TypeSEVSNP || string(raw.Report) != string(snpReport(fixed)) {
		t.Errorf("report is %+v, %v", raw, err)
	}
	policy, err := s.Policy()
	if err != nil || string(policy) != "package policy\n" {
		t.Errorf("policy is %q, %v", policy, err)
	}
	if _, err = s.Evidence(t.Context(), []byte("short"), nil); err == nil || !strings.Contains(err.Error(), "nonce") {
		t.Errorf("a short nonce: %v", err)
	}
}

func TestSocketFailure(t *testing.T) {
	t.Parallel()
	s := agentSocket(t, func(context.Context, [64]byte) (*attest.Result, error) { return nil, errors.New("no processor") })
	if _, err := s.Report(t.Context(), [64]byte{}); err == nil || !strings.Contains(err.Error(), "no processor") {
		t.Errorf("got %v", err)
	}
	waits := make(chan struct{})
	t.Cleanup(func() { close(waits) })
	s = agentSocket(t, func(context.Context, [64]byte) (*attest.Result, error) {
		<-waits
		return nil, errors.New("late")
	})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.Evidence(ctx, []byte("0123456789"), nil); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

// TestSocketDoesNotBelieveEverything has the other end answer with what was not asked for.
func TestSocketDoesNotBelieveEverything(t *testing.T) {
	t.Parallel()
	nonce := []byte("0123456789")
	document := func(change func(*evidence.Document)) string {
		d := &evidence.Document{
			Type: evidence.TypeSEVSNP, Report: snpReport(evidence.ReportData(evidence.SourceWorkload, nonce, nil)),
			Source: evidence.SourceWorkload, Nonce: nonce,
		}
		change(d)
		b, err := evidencewire.MarshalDocument(d)
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	for name, answer := range map[string]string{
		"honest":       document(func(*evidence.Document) {}),
		"nothing":      "",
		"no line":      strings.TrimSpace(document(func(*evidence.Document) {})),
		"two lines":    "{}\n{}\n",
		"other source": document(func(d *evidence.Document) { d.Source = evidence.SourceHost }),
		"other nonce":  document(func(d *evidence.Document) { d.Nonce = []byte("9876543210") }),
		"other data":   document(func(d *evidence.Document) { d.RuntimeData = []byte("x") }),
		"host's report": document(func(d *evidence.Document) {
			d.Report = snpReport(evidence.ReportData(evidence.SourceHost, nonce, nil))
		}),
		"no SNP report": document(func(d *evidence.Document) { d.Report = []byte{1} }),
		"other type":    document(func(d *evidence.Document) { d.Type = evidence.TypeSGX }),
		"endless":       strings.Repeat(" ", evidencewire.MaxAnswer+2),
	} {
		s, err := attest.OpenSocket(liar(t, answer))
		if err != nil {
			t.Fatal(err)
		}
		_, err = s.Evidence(t.Context(), nonce, nil)
		if (err == nil) != (name == "honest") {
			t.Errorf("%s: %v", name, err)
		}
		if _, err = s.Report(t.Context(), [64]byte{1}); err == nil {
			t.Errorf("%s: it is taken for a report", name)
		}
	}
}

// liar answers every request with the same, and returns its socket's path.
func liar(t *testing.T, answer string) string {
	t.Helper()
	path := filepath.Join(shortDir(t), "l")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = bufio.NewReader(c).ReadString('\n')
			_, _ = c.Write([]byte(answer))
			_ = c.Close()
		}
	}()
	return path
}

// TestSocketIsOneOfTheKinds looks for it where containers have it, and for nothing else in its place.
func TestSocketIsOneOfTheKinds(t *testing.T) {
	t.Parallel()
	if attest.Kinds()[0] != attest.KindSocket {
		t.Errorf("kinds are %v: in a container the agent knows best", attest.Kinds())
	}
	file := filepath.Join(t.TempDir(), "evidence.sock")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := attest.OpenSocket(file); err == nil || !strings.Contains(err.Error(), "not a socket") {
		t.Errorf("a file: %v", err)
	}
	if attest.SocketPath != "/run/cofferdam/evidence.sock" {
		t.Errorf("path is %s", attest.SocketPath)
	}
}
