// SPDX-License-Identifier: Apache-2.0

package attest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"

	"cofferdam.dev/evidence"
	"cofferdam.dev/internal/evidencewire"
)

// SocketPath is where every container of a group has the agent's socket.
const SocketPath = evidencewire.Directory + "/" + evidencewire.SocketName

// Socket obtains evidence from the agent of the guest that a container runs in. It is safe for concurrent use; requests
// of one container are answered one after the other.
type Socket struct{ path string }

var _ Provider = (*Socket)(nil)

// OpenSocket returns a provider that speaks to the agent through its socket, normally SocketPath.
func OpenSocket(path string) (*Socket, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("opening the evidence socket: %w", err)
	}
	if info.Mode().Type() != fs.ModeSocket {
		return nil, fmt.Errorf("opening the evidence socket: %s is not a socket", path)
	}
	return &Socket{path: path}, nil
}

// Kind returns "socket".
func (s *Socket) Kind() string { return KindSocket }

// Report returns a report that carries the report data as they are. It is for protocols that fix their own; what commits
// to a nonce and to data is better asked of Evidence, which marks it as a workload's.
func (s *Socket) Report(ctx context.Context, reportData [64]byte) (*Result, error) {
	answer, err := s.ask(ctx, &evidencewire.Request{ReportData: &reportData})
	if err != nil {
		return nil, err
	}
	r, err := evidencewire.ParseReport(answer)
	if err == nil {
		err = checkReport(r.Type, r.Report, reportData)
	}
	if err != nil {
		return nil, s.failure(err)
	}
	return &Result{Type: r.Type, Report: r.Report, Certificates: r.Certificates}, nil
}

// Evidence returns a document with evidence.SourceWorkload that commits to the nonce and the runtime data. The nonce has
// 8 to 64 bytes, the runtime data at most 16384. The document holds the platform's certificates where there are some, and
// not the policy, which Policy reads.
func (s *Socket) Evidence(ctx context.Context, nonce, runtimeData []byte) (*evidence.Document, error) {
	answer, err := s.ask(ctx, &evidencewire.Request{Nonce: nonce, RuntimeData: runtimeData})
	if err != nil {
		return nil, err
	}
	d, err := evidencewire.ParseDocument(answer)
	if err == nil {
		err = checkReport(d.Type, d.Report, evidence.ReportData(evidence.SourceWorkload, nonce, runtimeData))
	}
	if err == nil && (d.Source != evidence.SourceWorkload || !bytes.Equal(d.Nonce, nonce) || !bytes.Equal(d.RuntimeData, runtimeData)) {
		err = errors.New("the document is for another request than the report in it")
	}
	if err != nil {
		return nil, s.failure(err)
	}
	return d, nil
}

// Policy returns the text of the policy in force, which the agent keeps beside its socket. Whoever is shown the text with
// evidence compares its hash with the report.
func (s *Socket) Policy() ([]byte, error) {
	f, err := os.Open(filepath.Join(filepath.Dir(s.path), evidencewire.PolicyName))
	if err != nil {
		return nil, fmt.Errorf("reading the policy in force: %w", err)
	}
	defer func() { _ = f.Close() }() // opened for reading only
	text, err := io.ReadAll(io.LimitReader(f, evidence.MaxPolicySize+1))
	if err == nil && len(text) > evidence.MaxPolicySize {
		err = fmt.Errorf("it has more than %d bytes", evidence.MaxPolicySize)
	}
	if err != nil {
		return nil, fmt.Errorf("reading the policy in force: %w", err)
	}
	return text, nil
}

func (s *Socket) failure(err error) error {
	return fmt.Errorf("asking the agent at %s for evidence: %w", s.path, err)
}

// ask sends a request on a connection of its own and returns the line of the answer.
func (s *Socket) ask(ctx context.Context, r *evidencewire.Request) ([]byte, error) {
	request, err := r.Marshal()
	if err != nil {
		return nil, s.failure(err)
	}
	conn, err := new(net.Dialer).DialContext(ctx, "unix", s.path)
	if err != nil {
		return nil, s.failure(err)
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer func() {
		stop()
		_ = conn.Close() // the answer is here, or there is none
	}()
	_, err = conn.Write(request)
	var answer []byte
	if err == nil {
		answer, err = io.ReadAll(io.LimitReader(conn, evidencewire.MaxAnswer+1))
	}
	switch {
	case ctx.Err() != nil:
		return nil, s.failure(ctx.Err())
	case err != nil:
		return nil, s.failure(err)
	case !bytes.HasSuffix(answer, []byte("\n")):
		return nil, s.failure(errors.New("the answer is cut off, or too long"))
	}
	return answer, nil
}

// checkReport requires a report of any type that a guest has to carry the report data.
func checkReport(kind string, report []byte, reportData [64]byte) error {
	switch kind {
	case TypeSEVSNP:
		return checkSNP(report, reportData)
	case TypeTDX:
		return checkQuote(report, quoteTDX, reportData)
	}
	return fmt.Errorf("report is of type %q, which no guest has", kind)
}
