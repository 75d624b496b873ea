// SPDX-License-Identifier: Apache-2.0

package workload

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"cofferdam.dev/attest"
	"cofferdam.dev/evidence"
	"cofferdam.dev/internal/evidencewire"
)

// Bounds of what one container gets.
const (
	maxConnections = 4                     // answered at once; more wait in the kernel
	pace           = 10 * time.Millisecond // from one connection to the next: at most 100 a second
	requestTime    = 10 * time.Second      // for a request to arrive whole
	turnTime       = 30 * time.Second      // for the container's earlier requests
	answerTime     = 10 * time.Second      // for an answer to be taken
)

// socket answers one container.
type socket struct {
	listener *net.UnixListener
	report   Report
	slots    chan struct{} // one token for each connection
	turn     chan struct{} // one token: whoever has it may get a report
	ended    context.Context
	end      func()
}

func serve(l *net.UnixListener, report Report) *socket {
	ctx, cancel := context.WithCancel(context.Background())
	s := &socket{
		listener: l, report: report, slots: make(chan struct{}, maxConnections), turn: make(chan struct{}, 1), ended: ctx,
	}
	s.end = func() {
		cancel()
		_ = l.Close() // what it listened on is removed next
	}
	go s.accept()
	return s
}

// accept answers connections until the end.
func (s *socket) accept() {
	for {
		select {
		case s.slots <- struct{}{}:
		case <-s.ended.Done():
			return
		}
		conn, err := s.listener.AcceptUnix()
		if err != nil {
			<-s.slots // for want of files, say; the next one may do better
		} else {
			go func() {
				defer func() { <-s.slots }()
				s.handle(conn)
			}()
		}
		select {
		case <-time.After(pace):
		case <-s.ended.Done():
			return
		}
	}
}

// handle answers the one request of a connection. What goes wrong with the connection is its other end's loss.
func (s *socket) handle(conn net.Conn) {
	defer func() { _ = conn.Close() }()
	stop := context.AfterFunc(s.ended, func() { _ = conn.Close() })
	defer stop()
	_ = conn.SetReadDeadline(time.Now().Add(requestTime))
	request, err := readRequest(conn)
	if errors.Is(err, errGone) {
		return
	}
	var answer []byte
	if err != nil {
		err = &evidencewire.Error{Code: evidencewire.CodeBadRequest, Message: err.Error()}
	} else {
		answer, err = s.answer(request)
	}
	if err != nil {
		answer = errorOf(err).Marshal()
	}
	_ = conn.SetWriteDeadline(time.Now().Add(answerTime))
	_, _ = conn.Write(answer)
}

// errGone says that there is nobody to answer.
var errGone = errors.New("the connection ended before the request did")

// readRequest reads one line and no more than a request may have.
func readRequest(r io.Reader) (*evidencewire.Request, error) {
	line, err := bufio.NewReaderSize(r, evidencewire.MaxRequest).ReadSlice('\n')
	switch {
	case errors.Is(err, bufio.ErrBufferFull):
		return nil, fmt.Errorf("no line ends within %d bytes", evidencewire.MaxRequest)
	case err != nil:
		return nil, errGone
	}
	return evidencewire.ParseRequest(line)
}

func errorOf(err error) *evidencewire.Error {
	var e *evidencewire.Error
	if errors.As(err, &e) {
		return e
	}
	return &evidencewire.Error{Code: evidencewire.CodeFailed, Message: err.Error()}
}

// answer gets the report that a request asks for.
func (s *socket) answer(r *evidencewire.Request) ([]byte, error) {
	data := evidence.ReportData(evidence.SourceWorkload, r.Nonce, r.RuntimeData)
	if r.ReportData != nil {
		data = *r.ReportData
	}
	result, err := s.turnTo(data)
	if err != nil {
		return nil, err
	}
	if r.ReportData != nil {
		raw := &evidencewire.Report{Type: result.Type, Report: result.Report, Certificates: result.Certificates}
		return raw.Marshal()
	}
	d, err := result.Document(evidence.SourceWorkload, r.Nonce, r.RuntimeData)
	if err != nil {
		return nil, err
	}
	return evidencewire.MarshalDocument(d)
}

// turnTo waits for the container's turn and gets a report: a container never has two under way, so those of others, and
// the host's, wait for one of it at most.
func (s *socket) turnTo(data [64]byte) (*attest.Result, error) {
	late := time.NewTimer(turnTime)
	defer late.Stop()
	select {
	case s.turn <- struct{}{}:
	case <-late.C:
		return nil, &evidencewire.Error{Code: evidencewire.CodeBusy, Message: fmt.Sprintf("earlier requests took more than %v", turnTime)}
	case <-s.ended.Done():
		return nil, s.ended.Err()
	}
	defer func() { <-s.turn }()
	return s.report(s.ended, data)
}
