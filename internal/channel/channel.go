// SPDX-License-Identifier: Apache-2.0

// Package channel multiplexes one byte stream into a remote-procedure channel and any number of standard streams.
//
// Both of cofferdam's local protocols use it: host to guest over a virtio port, command line to supervisor over a Unix
// socket. The client opens every stream. The first byte of a stream says what it is: the one RPC stream, or a data
// stream, followed by the 32-byte token that the server granted for it in an RPC answer.
//
// The package trusts nothing that its peer sends: an unknown preamble, a second RPC stream or a token that was not
// granted (or was used before) ends that stream, and the others go on; a broken frame on the RPC stream, or very many
// such streams, end the channel. It never logs stream contents and never opens a stream on the server's own account.
//
// By convention a data stream carries bytes one way. Whoever sends closes it at the end of the data; a receiver that
// closes it early says that it reads no more.
package channel

import (
	"errors"
	"io"
	"time"

	"github.com/hashicorp/yamux"
)

// TokenSize is the length of a stream token in bytes: 256 random bits, so that guessing one is out of reach.
const TokenSize = 32

const (
	preambleRPC  = 0x01 // the stream carries ttrpc
	preambleData = 0x02 // a token follows, then raw bytes
)

// preambleTimeout bounds how long an accepted stream may take to say what it is, so that idle streams of a hostile
// peer do not pile up.
const preambleTimeout = 30 * time.Second

// maxPending is the number of streams that may be in their preamble at once.
const maxPending = 64

// maxRefused is the number of streams without a valid preamble or token that ends the session.
const maxRefused = 256

// streamWindow is the flow-control window of a stream in bytes. A peer can make the other side buffer this much for
// each stream that it was granted.
const streamWindow = 1 << 20

// writeTimeout is how long the peer may leave the underlying stream unread before the session is given up. It is long
// because an emulated guest on a loaded machine can stall for many seconds.
const writeTimeout = 5 * time.Minute

// ErrUnknownStream says that a peer opened a stream without a valid preamble or token.
var ErrUnknownStream = errors.New("stream was not granted")

func muxConfig() *yamux.Config {
	c := yamux.DefaultConfig()
	c.AcceptBacklog = maxPending
	c.EnableKeepAlive = false // liveness is the caller's business (a Hello call): it knows what a stall means
	c.ConnectionWriteTimeout = writeTimeout
	c.MaxStreamWindowSize = streamWindow
	c.StreamOpenTimeout = writeTimeout
	c.StreamCloseTimeout = writeTimeout
	c.LogOutput = io.Discard // yamux would log peer-chosen values
	return c
}
