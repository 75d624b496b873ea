// SPDX-License-Identifier: Apache-2.0

package channel

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"testing"
	"time"

	"github.com/containerd/ttrpc"
	"github.com/hashicorp/yamux"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
)

// rawClient writes ttrpc frames of the test's making.
type rawClient struct {
	mux *yamux.Session
	rpc net.Conn
}

func newRawClient(conn net.Conn) (*rawClient, error) {
	mux, err := yamux.Client(conn, muxConfig())
	if err != nil {
		return nil, err
	}
	s, err := mux.OpenStream()
	if err != nil {
		return nil, err
	}
	_, err = s.Write([]byte{preambleRPC})
	return &rawClient{mux: mux, rpc: s}, err
}

func frame(id uint32, kind byte, size uint32, body []byte) []byte {
	b := binary.BigEndian.AppendUint32(nil, size)
	b = binary.BigEndian.AppendUint32(b, id)
	return append(append(b, kind, 0), body...)
}

func (c *rawClient) send(t *testing.T, id uint32, kind byte, size uint32, body []byte) {
	t.Helper()
	_ = c.rpc.SetWriteDeadline(time.Now().Add(patience))
	_, err := c.rpc.Write(frame(id, kind, size, body))
	if err != nil {
		t.Fatalf("sending a frame: %v", err)
	}
}

func (c *rawClient) status(t *testing.T) codes.Code {
	t.Helper()
	_ = c.rpc.SetReadDeadline(time.Now().Add(patience))
	var h [frameHeaderSize]byte
	_, err := io.ReadFull(c.rpc, h[:])
	if err != nil {
		t.Fatalf("reading an answer: %v", err)
	}
	body := make([]byte, binary.BigEndian.Uint32(h[:4]))
	_, err = io.ReadFull(c.rpc, body)
	if err != nil {
		t.Fatalf("reading an answer's body: %v", err)
	}
	var r ttrpc.Response
	err = proto.Unmarshal(body, &r)
	if err != nil {
		t.Fatalf("decoding an answer: %v", err)
	}
	return codes.Code(r.Status.GetCode()) // a gRPC code
}

func TestBrokenFramesEndTheChannel(t *testing.T) {
	tests := map[string][][]byte{
		"data frame for a unary call": {frame(1, frameRequest, 0, nil), frame(1, 0x03, 1, []byte{0})},
		"response from the client":    {frame(1, frameResponse, 0, nil)},
		"unknown frame type":          {frame(1, 0x55, 0, nil)},
		"even request number":         {frame(2, frameRequest, 0, nil)},
		"request number repeated":     {frame(3, frameRequest, 0, nil), frame(3, frameRequest, 0, nil)},
		"request number falling":      {frame(3, frameRequest, 0, nil), frame(1, frameRequest, 0, nil)},
	}
	for name, frames := range tests {
		t.Run(name, func(t *testing.T) {
			p, conn := start(t)
			c, err := newRawClient(conn)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = c.mux.Close() }()
			for _, f := range frames {
				_, err = c.rpc.Write(f)
				if err != nil {
					break // the server was quicker
				}
			}
			err = p.ended(t)
			if !errors.Is(err, ErrProtocol) {
				t.Fatalf("Serve = %v, want %v", err, ErrProtocol)
			}
		})
	}
}

func TestHalfAFrameEndsWithTheStream(t *testing.T) {
	p, conn := start(t)
	c, err := newRawClient(conn)
	if err != nil {
		t.Fatal(err)
	}
	_, err = c.rpc.Write(frame(1, frameRequest, 100, []byte("only a part"))[:12])
	if err != nil {
		t.Fatal(err)
	}
	_ = c.rpc.Close()
	_ = c.mux.Close()
	err = p.ended(t)
	if err != nil {
		t.Fatalf("Serve = %v, want nil: the peer went away", err)
	}
}

func TestCallsInFlightAreBounded(t *testing.T) {
	p := connect(t)
	const extra = 8
	answers := make(chan error, maxInFlight+extra)
	for range maxInFlight + extra {
		go func() {
			ctx, cancel := context.WithTimeout(context.Background(), 2*patience)
			defer cancel()
			answers <- p.RPC().Call(ctx, testService, "block", &ttrpc.Request{}, &ttrpc.Response{})
		}()
	}
	deadline := time.Now().Add(patience)
	for p.started.Load() < maxInFlight && time.Now().Before(deadline) {
		time.Sleep(time.Millisecond)
	}
	time.Sleep(100 * time.Millisecond) // give a missing bound the time to show
	if n := p.started.Load(); n != maxInFlight {
		t.Errorf("%d calls are in progress, want %d", n, maxInFlight)
	}
	close(p.release)
	for range maxInFlight + extra {
		err := <-answers
		if err != nil {
			t.Fatalf("a call that had to wait: %v", err)
		}
	}
}

// pipeConn is a connection whose peer sent in and reads nothing.
type pipeConn struct {
	in io.Reader
}

func (c pipeConn) Read(p []byte) (int, error)  { return c.in.Read(p) }
func (c pipeConn) Write(p []byte) (int, error) { return len(p), nil }
func (c pipeConn) Close() error                { return nil }

// mux builds a session's bytes: one stream with the given content.
func muxed(id uint32, content []byte) []byte {
	b := []byte{0, 1 /* window update */, 0, 1 /* SYN */}
	b = binary.BigEndian.AppendUint32(b, id)
	b = binary.BigEndian.AppendUint32(b, 0)
	b = append(b, 0, 0 /* data */, 0, 0)
	b = binary.BigEndian.AppendUint32(b, id)
	b = binary.BigEndian.AppendUint32(b, uint32(len(content))) // small
	return append(b, content...)
}

// FuzzServe feeds raw bytes to the serving side, as a hostile host can.
func FuzzServe(f *testing.F) {
	req, err := proto.Marshal(&ttrpc.Request{Service: testService, Method: "echo"})
	if err != nil {
		f.Fatal(err)
	}
	call := frame(1, frameRequest, uint32(len(req)), req) // small
	f.Add(muxed(1, append([]byte{preambleRPC}, call...)))
	f.Add(muxed(1, append(append([]byte{preambleRPC}, call...), frame(1, 0x03, 0, nil)...)))
	f.Add(muxed(1, append([]byte{preambleData}, make([]byte, TokenSize)...)))
	f.Add(append(muxed(1, []byte{preambleRPC}), muxed(3, []byte{preambleRPC})...))
	f.Add([]byte{0, 2, 0, 1, 0, 0, 0, 0, 0, 0, 0, 9})
	f.Fuzz(func(t *testing.T, in []byte) {
		p := &peer{release: make(chan struct{})}
		b := &Broker{}
		_, err := b.Grant(func(net.Conn) { t.Error("a stream was admitted without its token") })
		if err != nil {
			t.Fatal(err)
		}
		done := make(chan error, 1)
		go func() { done <- Serve(context.Background(), pipeConn{in: bytes.NewReader(in)}, newServer(t, p), b) }()
		select {
		case err := <-done:
			t.Logf("serving ended with: %v", err)
		case <-time.After(patience):
			t.Fatal("Serve did not end with its input")
		}
	})
}
