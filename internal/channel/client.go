// SPDX-License-Identifier: Apache-2.0

package channel

import (
	"fmt"
	"io"
	"net"

	"github.com/containerd/ttrpc"
	"github.com/hashicorp/yamux"
)

// Client is the opening side of a channel.
type Client struct {
	mux *yamux.Session
	rpc *ttrpc.Client
}

// NewClient starts a channel over conn, which it owns from then on. It returns after the RPC stream was announced,
// without waiting for the peer to answer.
func NewClient(conn io.ReadWriteCloser) (*Client, error) {
	mux, err := yamux.Client(conn, muxConfig())
	if err != nil {
		return nil, fmt.Errorf("starting the channel: %w", err)
	}
	s, err := mux.OpenStream()
	if err != nil {
		return nil, closeWith(mux, "opening the RPC stream", err)
	}
	_, err = s.Write([]byte{preambleRPC})
	if err != nil {
		return nil, closeWith(mux, "announcing the RPC stream", err)
	}
	return &Client{mux: mux, rpc: ttrpc.NewClient(s)}, nil
}

func closeWith(mux *yamux.Session, doing string, err error) error {
	_ = mux.Close() // the first error is the telling one
	return fmt.Errorf("%s: %w", doing, err)
}

// RPC returns the client for generated service stubs. It lives as long as the channel.
func (c *Client) RPC() *ttrpc.Client { return c.rpc }

// OpenStream opens the stream that token admits. Closing the returned connection ends the writing direction at once
// and the whole stream when the peer has closed its side too; reads go on until then.
func (c *Client) OpenStream(token []byte) (net.Conn, error) {
	if len(token) != TokenSize {
		return nil, fmt.Errorf("opening a stream: token has %d bytes, want %d", len(token), TokenSize)
	}
	s, err := c.mux.OpenStream()
	if err != nil {
		return nil, fmt.Errorf("opening a stream: %w", err)
	}
	_, err = s.Write(append([]byte{preambleData}, token...))
	if err != nil {
		_ = s.Close()
		return nil, fmt.Errorf("presenting the stream's token: %w", err)
	}
	return s, nil
}

// Done is closed when the channel has ended, for whatever reason.
func (c *Client) Done() <-chan struct{} { return c.mux.CloseChan() }

// Close ends the channel and every stream of it.
func (c *Client) Close() error {
	_ = c.rpc.Close()
	return c.mux.Close()
}
