// SPDX-License-Identifier: Apache-2.0

package channel

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"sync/atomic"
	"testing"
	"time"

	"github.com/containerd/ttrpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"cofferdam.dev/internal/testcap"
)

func TestMain(m *testing.M) { os.Exit(testcap.NoLeaks(m)) }

const testService = "channel.test"

// patience is for what must happen: it only matters when something is broken.
const patience = 2 * time.Minute

// peer is a served channel with its client.
type peer struct {
	*Client
	broker  *Broker
	started atomic.Int32  // calls of "block" that began
	release chan struct{} // lets calls of "block" end
	served  chan error
}

func newServer(t testing.TB, p *peer) *ttrpc.Server {
	t.Helper()
	rpc, err := ttrpc.NewServer()
	if err != nil {
		t.Fatal(err)
	}
	rpc.Register(testService, map[string]ttrpc.Method{
		"echo": func(_ context.Context, unmarshal func(any) error) (any, error) {
			var m wrapperspb.BytesValue
			err := unmarshal(&m)
			return &m, err
		},
		"block": func(ctx context.Context, unmarshal func(any) error) (any, error) {
			var m wrapperspb.BytesValue
			err := unmarshal(&m)
			if err != nil {
				return nil, err
			}
			p.started.Add(1)
			select {
			case <-p.release:
			case <-ctx.Done():
			}
			return &m, ctx.Err()
		},
	})
	return rpc
}

// start serves one end of a pipe and returns the other, raw.
func start(t testing.TB) (*peer, net.Conn) {
	t.Helper()
	p := &peer{broker: &Broker{}, release: make(chan struct{}), served: make(chan error, 1)}
	server, client := net.Pipe()
	ctx, cancel := context.WithCancel(context.Background())
	rpc := newServer(t, p)
	go func() { p.served <- Serve(ctx, server, rpc, p.broker) }()
	t.Cleanup(func() {
		_ = client.Close()
		cancel()
		select {
		case err := <-p.served:
			t.Logf("serving ended with: %v", err)
		case <-time.After(patience):
			t.Error("Serve did not end with its context")
		}
	})
	return p, client
}

// TestChannelDone tells a served stream, which may be busy elsewhere, that the channel has ended.
func TestChannelDone(t *testing.T) {
	p := connect(t)
	served := make(chan Stream, 1)
	token, err := p.broker.Grant(func(c net.Conn) {
		s, ok := c.(Stream)
		if !ok {
			t.Error("what is served is no Stream")
			_ = c.Close()
			return
		}
		served <- s
		<-s.ChannelDone()
		_ = s.Close()
	})
	if err != nil {
		t.Fatal(err)
	}
	_, err = p.OpenStream(token)
	if err != nil {
		t.Fatal(err)
	}
	s := <-served
	select {
	case <-s.ChannelDone():
		t.Error("the channel counts as ended")
	case <-time.After(20 * time.Millisecond):
	}
	_ = p.Close() // the cleanup checks that Serve ends
}

func connect(t testing.TB) *peer {
	t.Helper()
	p, conn := start(t)
	c, err := NewClient(conn)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	p.Client = c
	return p
}

func (p *peer) call(t testing.TB, method string, payload []byte) ([]byte, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	var out wrapperspb.BytesValue
	err := p.RPC().Call(ctx, testService, method, wrapperspb.Bytes(payload), &out)
	return out.GetValue(), err
}

func (p *peer) mustEcho(t testing.TB) {
	t.Helper()
	got, err := p.call(t, "echo", []byte("still there"))
	if err != nil || string(got) != "still there" {
		t.Fatalf("echo on the RPC stream: %q, %v", got, err)
	}
}

// ended returns what Serve returned, and puts it back for the clean-up.
func (p *peer) ended(t testing.TB) error {
	t.Helper()
	select {
	case err := <-p.served:
		p.served <- err
		return err
	case <-time.After(patience):
		t.Fatal("Serve did not end")
		return nil
	}
}

func TestGrantedStream(t *testing.T) {
	p := connect(t)
	token, err := p.broker.Grant(func(c net.Conn) {
		got, err := io.ReadAll(c) // ends when the client closes its side
		if err == nil {
			_, err = c.Write(bytes.ToUpper(got))
		}
		if err != nil {
			t.Errorf("serving the stream: %v", err)
		}
		_ = c.Close()
	})
	if err != nil {
		t.Fatal(err)
	}
	s, err := p.OpenStream(token)
	if err != nil {
		t.Fatal(err)
	}
	_, err = s.Write([]byte("through the half-closed stream"))
	if err != nil {
		t.Fatal(err)
	}
	_ = s.Close() // half of it: reading goes on
	got, err := io.ReadAll(s)
	if err != nil || string(got) != "THROUGH THE HALF-CLOSED STREAM" {
		t.Fatalf("answer after closing the writing side: %q, %v", got, err)
	}
	p.mustEcho(t)
}

func TestStreamsThatWereNotGranted(t *testing.T) {
	used := func(p *peer, t *testing.T) []byte {
		token, err := p.broker.Grant(func(c net.Conn) { _ = c.Close() })
		if err != nil {
			t.Fatal(err)
		}
		s, err := p.OpenStream(token)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.ReadAll(s)
		_ = s.Close()
		return append([]byte{preambleData}, token...)
	}
	revoked := func(p *peer, t *testing.T) []byte {
		token, err := p.broker.Grant(func(net.Conn) { t.Error("a revoked token was served") })
		if err != nil {
			t.Fatal(err)
		}
		p.broker.Revoke(token)
		return append([]byte{preambleData}, token...)
	}
	tests := map[string]func(*peer, *testing.T) []byte{
		"token never granted": func(*peer, *testing.T) []byte { return append([]byte{preambleData}, make([]byte, TokenSize)...) },
		"token used before":   used,
		"token revoked":       revoked,
		"unknown preamble":    func(*peer, *testing.T) []byte { return []byte{0x7f} },
		"second RPC stream":   func(*peer, *testing.T) []byte { return []byte{preambleRPC} },
	}
	for name, preamble := range tests {
		t.Run(name, func(t *testing.T) {
			p := connect(t)
			p.mustEcho(t) // the RPC stream was admitted
			raw := preamble(p, t)
			s, err := p.mux.OpenStream()
			if err != nil {
				t.Fatal(err)
			}
			_, err = s.Write(raw)
			if err != nil {
				t.Fatal(err)
			}
			_ = s.SetReadDeadline(time.Now().Add(patience))
			got, err := io.ReadAll(s)
			if err != nil || len(got) != 0 {
				t.Errorf("reading the refused stream: %q, %v, want its end", got, err)
			}
			_ = s.Close()
			p.mustEcho(t)
		})
	}
}

func TestManyRefusedStreamsEndTheChannel(t *testing.T) {
	p := connect(t)
	for range maxRefused + 1 {
		s, err := p.mux.OpenStream()
		if err != nil {
			break
		}
		_, err = s.Write([]byte{0x7f})
		if err != nil {
			break
		}
		_, _ = io.ReadAll(s) // wait, so that no more are open at once than may be
		_ = s.Close()
	}
	err := p.ended(t)
	if !errors.Is(err, ErrUnknownStream) || !errors.Is(err, ErrProtocol) {
		t.Fatalf("Serve = %v, want %v", err, ErrUnknownStream)
	}
}

func TestStalledReaderDoesNotBlockCalls(t *testing.T) {
	p := connect(t)
	blocked := make(chan struct{})
	token, err := p.broker.Grant(func(c net.Conn) {
		defer func() { _ = c.Close() }()
		buf := make([]byte, 64<<10)
		for sent := 0; ; sent += len(buf) {
			if sent > 2*streamWindow {
				t.Error("the writer was never stopped by flow control")
				return
			}
			_ = c.SetWriteDeadline(time.Now().Add(5 * time.Second))
			_, err := c.Write(buf)
			if err != nil { // the window is full
				close(blocked)
				return
			}
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	s, err := p.OpenStream(token)
	if err != nil {
		t.Fatal(err)
	}
	<-blocked
	p.mustEcho(t)
	got, err := io.Copy(io.Discard, s)
	if err != nil || got == 0 {
		t.Fatalf("reading the stalled stream at last: %d bytes, %v", got, err)
	}
	_ = s.Close()
}

func TestOversizedRequestIsRefusedAlone(t *testing.T) {
	p, conn := start(t)
	big, err := newRawClient(conn)
	if err != nil {
		t.Fatal(err)
	}
	big.send(t, 1, frameRequest, 5<<20, make([]byte, 5<<20))
	if got := big.status(t); got != codes.ResourceExhausted {
		t.Errorf("answer to a 5 MiB request: %v, want %v", got, codes.ResourceExhausted)
	}
	big.send(t, 3, frameRequest, 0, nil)
	if got := big.status(t); got != codes.Unimplemented {
		t.Errorf("answer to an empty request: %v, want %v", got, codes.Unimplemented)
	}
	select {
	case err := <-p.served:
		p.served <- err
		t.Fatalf("the channel ended: %v", err)
	default:
	}
}

func TestContextEndsServe(t *testing.T) {
	server, client := net.Pipe()
	defer func() { _ = client.Close() }()
	ctx, cancel := context.WithCancel(context.Background())
	rpc := newServer(t, &peer{})
	served := make(chan error, 1)
	go func() { served <- Serve(ctx, server, rpc, &Broker{}) }()
	cancel()
	err := <-served
	if !errors.Is(err, context.Canceled) {
		t.Fatalf("Serve = %v, want %v", err, context.Canceled)
	}
}

func TestUnknownMethod(t *testing.T) {
	p := connect(t)
	_, err := p.call(t, "nothing", nil)
	if status.Code(err) != codes.Unimplemented {
		t.Fatalf("calling an unknown method: %v, want %v", err, codes.Unimplemented)
	}
}

func TestBrokerBounds(t *testing.T) {
	var b Broker
	for i := range maxGrants {
		_, err := b.Grant(func(net.Conn) {})
		if err != nil {
			t.Fatalf("grant %d: %v", i, err)
		}
	}
	_, err := b.Grant(func(net.Conn) {})
	if !errors.Is(err, ErrTooManyGrants) {
		t.Fatalf("grant %d: %v, want %v", maxGrants, err, ErrTooManyGrants)
	}
	b.Revoke([]byte("short"))
	if (&Broker{}).take([TokenSize]byte{}) != nil {
		t.Error("the zero broker admits the zero token")
	}
}

func TestOpenStreamChecksTheToken(t *testing.T) {
	p := connect(t)
	_, err := p.OpenStream([]byte("short"))
	if err == nil {
		t.Fatal("a short token was presented")
	}
}
